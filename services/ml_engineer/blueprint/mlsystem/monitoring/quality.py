"""How good the answers were once outcomes came, and an estimate of it until they do.

Owns quality over windows of captured predictions with 95 % intervals, against the value on the holdout. Without
outcomes it is estimated from the probabilities alone: outcomes are drawn as the model says, which is right as long
as its probabilities are, and blind to a change in what the features mean. Values without probabilities cannot be
estimated. Leaves alerting to `verdict`.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from mlsystem.boundary import canonical
from mlsystem.evaluation.bootstrap import Resampling, intervals
from mlsystem.evaluation.metrics import Kind, scorer
from mlsystem.schema import TaskSchema
from mlsystem.state.port import Captured, Joined

Floats = npt.NDArray[np.float64]

MOST_ROWS: Final = 2000
"""Rows a window that quality is computed over; the interval of more would be no news."""

MOST_WINDOWS: Final = 48
"""Newest windows whose quality is computed."""

_DRAWS: Final = 200


@dataclass(frozen=True, slots=True)
class Quality:
    """The deciding metric over one window."""

    start: float
    end: float
    rows: int
    value: float
    low: float
    high: float
    estimate: bool
    """Whether no outcomes were known, so that this is what the probabilities promise."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What the captures of a stretch of time tell about quality."""

    metric: str
    windows: tuple[Quality, ...]
    estimates: tuple[Quality, ...]
    captured: int
    labelled: int
    unknown: int
    """Outcomes that are none of the labels."""
    due: int
    """Captures whose outcomes should be known, by `monitoring.label_delay`."""
    late: int
    """Those of them without one."""


@dataclass(slots=True)
class _Rows:
    """Captures of one window, or of several that were joined; at most MOST_ROWS of them, drawn at random."""

    start: float
    end: float
    count: int = 0
    scores: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])
    actual: list[float] = field(default_factory=list[float])
    entities: list[str] = field(default_factory=list[str])


class _Windows:
    """Windows of captures that come in the order of time; the newest ones with rows enough are kept."""

    def __init__(self, window_s: float, least: int) -> None:
        self._window_s, self._least = window_s, least
        self._gathering: _Rows | None = None
        self._random = random.Random(0)  # noqa: S311 - which rows are looked at is no secret
        self.ready: deque[_Rows] = deque(maxlen=MOST_WINDOWS)

    def add(self, captured: Captured, actual: float) -> None:
        """Add one answer; with more than MOST_ROWS in a window each has the same chance to stay."""
        start = captured.at // self._window_s * self._window_s
        rows = self._gathering
        if rows is None or (start >= rows.end and rows.count >= self._least):
            self._close()
            rows = self._gathering = _Rows(start, start + self._window_s)
        rows.end = max(rows.end, start + self._window_s)
        rows.count += 1
        if len(rows.scores) < MOST_ROWS:
            rows.scores.append(captured.scores)
            rows.actual.append(actual)
            rows.entities.append(captured.entity)
        elif (place := self._random.randrange(rows.count)) < MOST_ROWS:
            rows.scores[place], rows.actual[place], rows.entities[place] = captured.scores, actual, captured.entity

    def end(self) -> list[_Rows]:
        """Return the windows with rows enough, the oldest first."""
        self._close()
        return list(self.ready)

    def _close(self) -> None:
        if self._gathering is not None and self._gathering.count >= self._least:
            self.ready.append(self._gathering)


def measure(
    captures: Iterable[Joined], task: TaskSchema, metric: str, *, window_s: float, least: int, due: float
) -> Outcomes:
    """Return quality by window, of captures in the order of time.

    Windows with fewer than `least` outcomes are joined with the next. `due`: captures from before this time should
    have outcomes.
    """
    labels = {label: float(i) for i, label in enumerate(task.labels)}
    known, unlabelled = _Windows(window_s, least), _Windows(window_s, least)
    count: Counter[str] = Counter()
    for joined in captures:
        old = joined.captured.at < due
        actual = None if joined.actual is None else _number(joined.actual, labels, task.kind)
        told = "unknown" if joined.actual is not None and actual is None else "labelled" if actual is not None else ""
        count.update(("captured", told, "due" if old else "", "late" if old and joined.actual is None else ""))
        (unlabelled if actual is None else known).add(joined.captured, float("nan") if actual is None else actual)
    measured = [_measured(rows, metric, task.kind) for rows in known.end()]
    estimated = [] if task.kind == "regression" else [_estimated(rows, metric, task.kind) for rows in unlabelled.end()]
    names = ("captured", "labelled", "unknown", "due", "late")
    return Outcomes(metric, _defined(measured), _defined(estimated), *(count[name] for name in names))


def _number(actual: str | float, labels: Mapping[str, float], kind: str) -> float | None:
    """Return an outcome as the metrics take it: the label's index, or the value; None if it is neither."""
    if kind != "regression":
        text = actual if isinstance(actual, str) else repr(actual)
        return labels.get(canonical(text), labels.get(text))
    try:
        return float(actual)
    except ValueError:
        return None


def _measured(rows: _Rows, metric: str, kind: Kind) -> Quality:
    run = scorer(metric, kind, np.array(rows.actual), np.array(rows.scores))
    weight = np.ones(len(rows.actual))
    groups = np.array(rows.entities, dtype=object) if all(rows.entities) else None
    ((low, high),) = intervals([run], Resampling(weight, groups=groups))
    return Quality(rows.start, rows.end, rows.count, run(weight), low, high, estimate=False)


def _estimated(rows: _Rows, metric: str, kind: Kind) -> Quality:
    scores = np.array(rows.scores)
    weight = np.ones(len(scores))
    reached = scores.cumsum(axis=1)[:, :-1]
    generator = np.random.default_rng(len(scores))
    drawn = [(generator.random((len(scores), 1)) > reached).sum(axis=1) for _ in range(_DRAWS)]
    values = np.array([scorer(metric, kind, cast("Floats", labels), scores)(weight) for labels in drawn])
    known = values[~np.isnan(values)]
    if not len(known):
        nothing = float("nan")
        return Quality(rows.start, rows.end, rows.count, nothing, nothing, nothing, estimate=True)
    low, high = np.quantile(known, (0.025, 0.975))
    return Quality(rows.start, rows.end, rows.count, float(known.mean()), float(low), float(high), estimate=True)


def _defined(found: Iterable[Quality]) -> tuple[Quality, ...]:
    """Leave out windows in which the metric says nothing, as where only one class occurred."""
    return tuple(quality for quality in found if not np.isnan(quality.value))
