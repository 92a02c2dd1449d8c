"""Plays windows through the rule that alerts: stationary ones, and ones with a shift of a known size.

Every feature counts in full here, as if all were important: for false alarms that is the worst case. Owns drawing
windows and counting alerts as `mlsystem monitor` raises them: bad in two of three windows in a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlsystem.compile.session import Rows as Tensors
from mlsystem.monitoring.drift import drifts
from mlsystem.monitoring.findings import persistent
from mlsystem.monitoring.profile import Feature, Profile
from mlsystem.monitoring.reference import About, Scored, profile_of
from mlsystem.monitoring.sketch import Sketch
from mlsystem.spec import Monitoring
from tests.bench.drift.tables import Floats, Rows, Table

SETTINGS: Final = Monitoring()
REFERENCE_ROWS: Final = 2000
SIZES: Final = (500, 1000, 3000)
"""Rows a window; the first is the fewest that are judged."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Stationary windows of one table."""

    windows: int
    bad: int
    """Windows with drift of the size that alerts in any feature, before persistence."""
    alarms: int
    """Windows after which anything alerts."""


@dataclass(frozen=True, slots=True)
class Caught:
    """Shifts of a known size."""

    trials: int
    caught: int


def quiet(table: Table, windows: int, generator: np.random.Generator, references: int = 20) -> Quiet:
    """Draw windows from the rows that the reference stands for; every alarm is false."""
    bad = alarms = played = 0
    for _ in range(references):
        profile, pool = _reference(table, generator)
        history: list[frozenset[str]] = []
        for i in range(-(-windows // references)):
            rows = generator.choice(pool, _size(table, pool, i), replace=not table.large)
            history.append(_alerting(profile, table, rows))
            played += 1
            bad += bool(history[-1])
            alarms += bool(_alarms(history))
    return Quiet(played, bad, alarms)


def shifted(table: Table, size: float, trials: int, generator: np.random.Generator) -> Caught:
    """Shift one feature after the other by a PSI of `size`, in windows of the fewest rows that are judged."""
    caught = 0
    for trial in range(trials):
        profile, pool = _reference(table, generator)
        numbers = [i for i, feature in enumerate(profile.numbers) if len(feature.edges) >= 2]
        i = numbers[trial % len(numbers)]
        chances = _tilted(profile.numbers[i], table.numbers[pool, i], size)
        windows = [generator.choice(pool, SIZES[0], p=chances) for _ in range(3)]
        history = [_alerting(profile, table, rows) for rows in windows]
        caught += any(profile.numbers[i].name in _alarms(history[: end + 1]) for end in range(3))
    return Caught(trials, caught)


def _reference(table: Table, generator: np.random.Generator) -> tuple[Profile, Rows]:
    reference, pool = table.halves(generator, REFERENCE_ROWS)
    rows = Tensors(table.numbers[reference], table.strings[reference])
    scored = Scored(rows, table.scores[reference], np.zeros(len(reference), np.int64))
    names = [column.name for column in table.schema.columns if column.role == "feature"]
    about = About(table.schema, importance=dict.fromkeys(names, 1 / len(names)))
    return profile_of(about, scored, scored), pool


def _size(table: Table, pool: Rows, i: int) -> int:
    size = SIZES[i % len(SIZES)]
    return min(size, len(pool)) if table.large else size


def _alerting(profile: Profile, table: Table, rows: Rows) -> frozenset[str]:
    sketch = Sketch.empty(profile)
    sketch.update(table.numbers[rows], table.strings[rows], table.scores[rows])
    found = drifts(profile, sketch, SETTINGS, start=0.0, end=3600.0)
    return frozenset(drift.feature.name for drift in found if drift.level == "alert")


def _alarms(history: Sequence[frozenset[str]]) -> set[str]:
    recent = history[-SETTINGS.persistence[1] :]
    names = {name for window in recent for name in window}
    return {name for name in names if persistent([name in window for window in history], SETTINGS.persistence)}


def _tilted(feature: Feature, values: Floats, size: float) -> Floats:
    """Chances of drawing each row, by which the feature's distribution over its bins moves up by a PSI of `size`."""
    bins = np.where(np.isnan(values), len(feature.edges) + 1, np.searchsorted(feature.edges, values))
    shares = np.bincount(bins, minlength=feature.width) / len(values)
    used = shares > 0

    def moved(strength: float) -> Floats:
        tilted = shares * np.exp(strength * np.arange(len(shares)) / len(shares))
        return tilted / tilted.sum()

    def psi(strength: float) -> float:
        p, q = shares[used], moved(strength)[used]
        return float(((q - p) * np.log(q / p)).sum())

    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if psi(middle) < size else (low, middle)
    weight = (moved(low)[used] / shares[used])[np.cumsum(used)[bins] - 1]
    return weight / weight.sum()
