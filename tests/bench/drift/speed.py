"""How long it takes to compare 100,000 rows of 30 columns with training: ours, and evidently's in the same run.

Ours counts the rows into a sketch and judges every feature, as the server and `mlsystem monitor` do together; the
profile is from training, as it is in a package. Evidently's preset for drift gets both tables in memory.
"""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlsystem.compile.session import Rows
from mlsystem.monitoring.drift import drifts
from mlsystem.monitoring.reference import About, Scored, profile_of
from mlsystem.monitoring.sketch import Sketch
from mlsystem.schema import Column, Schema, TaskSchema
from mlsystem.spec import Monitoring
from tests.environments import environment

PEERS: Final = Path(__file__).parent / "peers"
ROWS: Final = 100_000
NUMBERS: Final = 22
STRINGS: Final = 8
LONGEST_S: Final = 0.2
LEAST_RATIO: Final = 20.0

_DRIFTED: Final = 5
"""Numbers that are shifted by one standard deviation."""


@dataclass(frozen=True, slots=True)
class Made:
    """A made table."""

    numbers: npt.NDArray[np.float64]
    strings: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds, and columns found to have drifted."""

    seconds: float
    drifted: int


@dataclass(frozen=True, slots=True)
class Speed:
    """Ours beside evidently's."""

    ours: Measured
    profile_s: float
    """Making the profile, once, in training."""
    evidently: Measured
    version: str

    @property
    def ratio(self) -> float:
        """How many times longer evidently takes."""
        return self.evidently.seconds / self.ours.seconds

    @property
    def holds(self) -> bool:
        """Whether what the project promises is so."""
        return self.ours.seconds <= LONGEST_S and self.ratio >= LEAST_RATIO


def measure(rounds: int = 9) -> Speed:
    """Measures both. Raises NotToBeHadError where evidently cannot be installed."""
    peer = environment(PEERS / "evidently.txt")
    before, now = make(1, 0.0), make(2, 1.0)
    ours, profile_s = measure_ours(before, now, rounds)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.npz"
        arrays: dict[str, Any] = {
            "before_numbers": before.numbers,
            "before_strings": before.strings.astype(str),
            "now_numbers": now.numbers,
            "now_strings": now.strings.astype(str),
        }
        np.savez(file, **arrays)
        command = [peer.python, PEERS / "with_evidently.py", file, str(max(1, rounds // 4))]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = json.loads(said.splitlines()[-1])
    return Speed(ours, profile_s, Measured(theirs["seconds"], int(theirs["drifted"])), peer.versions["evidently"])


def make(seed: int, shift: float) -> Made:
    """A table of numbers with gaps and categories of 5 to 47 levels."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(ROWS, NUMBERS))
    numbers[:, :_DRIFTED] += shift
    numbers[generator.random(numbers.shape) < 0.03] = np.nan
    levels = [[f"v{j}" for j in range(5 + 6 * i)] for i in range(STRINGS)]
    return Made(numbers, np.array([generator.choice(names, ROWS) for names in levels], dtype=object).T.copy())


def measure_ours(before: Made, now: Made, rounds: int) -> tuple[Measured, float]:
    """The seconds of a sketch and its verdict, best of the rounds; and of the profile."""
    columns = [Column(name=f"n{i}", type="number") for i in range(NUMBERS)]
    for i in range(STRINGS):
        levels = tuple(sorted(set(before.strings[:, i].tolist())))
        columns.append(Column(name=f"c{i}", type="category", levels=levels, distinct=len(levels)))
    columns.append(Column(name="y", type="category", role="target"))
    task = TaskSchema(kind="binary", target="y", labels=("no", "yes"), positive="yes")
    scores = np.full((ROWS, 2), 0.5)
    start = time.perf_counter()
    scored = Scored(Rows(before.numbers, before.strings), scores, np.zeros(ROWS, np.int64))
    shares = {column.name: 1 / 30 for column in columns}
    profile = profile_of(About(Schema(task=task, columns=tuple(columns)), importance=shares), scored, scored)
    profile_s = time.perf_counter() - start
    took: list[float] = []
    found = 0
    for _ in range(rounds):
        start = time.perf_counter()
        sketch = Sketch.empty(profile)
        sketch.update(now.numbers, now.strings, scores)
        told = drifts(profile, sketch, Monitoring(), start=0.0, end=3600.0)
        took.append(time.perf_counter() - start)
        found = sum(drift.level == "alert" for drift in told)
    return Measured(min(took), found), profile_s
