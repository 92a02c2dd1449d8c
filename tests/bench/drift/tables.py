"""Real tables, as a model would see them: features, a target, and a model's answers.

scikit-learn's own tables are in every environment and small: reference and windows are drawn from them with
replacement, so both come from the table as it is. Larger ones come with statsmodels and causaldata, from a throwaway
environment: their reference is one half of the rows, and windows are drawn from the other. Leaves judging to `trial`.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline  # pyright: ignore[reportUnknownVariableType]
from sklearn.preprocessing import StandardScaler

from mlsystem.schema import Column, Schema, TaskSchema
from tests.environments import environment

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]
Rows = npt.NDArray[np.intp]

PEERS: Final = Path(__file__).parent / "peers"
BUNDLED: Final = ("breast_cancer", "diabetes", "digits", "iris", "wine")
LARGER: Final = ("randhie", "fair", "cps_mixtape", "restaurant_inspections")


@dataclass(frozen=True, slots=True)
class Table:
    """A real table with the answers of a plain model: the probability of a target above its mean."""

    name: str
    numbers: Floats
    strings: Texts
    schema: Schema
    scores: Floats

    @property
    def large(self) -> bool:
        """Whether there are rows enough for a reference and windows without drawing a row twice."""
        return len(self.scores) >= 5000

    def halves(self, generator: np.random.Generator, reference: int) -> tuple[Rows, Rows]:
        """Rows of a reference, and rows that windows are drawn from."""
        count = len(self.scores)
        if not self.large:
            return generator.integers(count, size=reference), np.arange(count)
        order = generator.permutation(count)
        return order[: count // 2], order[count // 2 :]


def bundled() -> Iterator[Table]:
    """The tables that scikit-learn brings along."""
    for name in BUNDLED:
        found: Any = getattr(datasets, f"load_{name}")()
        yield _table(name, np.asarray(found.data, np.float64), np.empty((len(found.data), 0), object), found.target)


def larger() -> Iterator[Table]:
    """The tables of a throwaway environment. Raises NotToBeHadError where it cannot be made."""
    python = environment(PEERS / "tables.txt").python
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([python, PEERS / "tables.py", scratch], check=True, capture_output=True)
        for name in LARGER:
            with np.load(Path(scratch) / f"{name}.npz", allow_pickle=False) as found:
                yield _table(name, found["numbers"], found["strings"].astype(object), found["target"])


def _table(name: str, numbers: Floats, strings: Texts, target: npt.NDArray[Any]) -> Table:
    value = np.asarray(target, np.float64)
    high = value > value.mean()
    filled = np.nan_to_num(numbers)
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(filled, high)
    columns = [Column(name=f"n{i}", type="number") for i in range(numbers.shape[1])]
    for i in range(strings.shape[1]):
        levels, counts = np.unique(strings[:, i].astype(str), return_counts=True)
        ranked = [str(level) for level in levels[np.argsort(-counts)] if level]
        columns.append(Column(name=f"c{i}", type="category", levels=tuple(ranked[:1000]), distinct=len(ranked)))
    columns.append(Column(name="target", type="category", role="target"))
    task = TaskSchema(kind="binary", target="target", labels=("low", "high"), positive="high")
    return Table(name, numbers, strings, Schema(task=task, columns=tuple(columns)), model.predict_proba(filled))
