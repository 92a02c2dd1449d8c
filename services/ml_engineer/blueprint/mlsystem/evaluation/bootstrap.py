"""How sure a number is: percentile intervals over resampled rows.

Rows are drawn with replacement one by one; in blocks of neighbours when they follow each other in time, since
errors of neighbouring moments are alike; group by group when rows belong to groups. A resample is a vector of row
weights, the same for every model, so that differences between models are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlsystem.evaluation.metrics import Scorer
from mlsystem.features.arrays import Floats, Ints, Texts

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
WORK = 20_000_000
"""Rows times resamples that are worth their time; more rows need fewer resamples, their intervals are narrow."""

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Resampling:
    """Which rows are drawn together: `weight` [N], `time` [N] or `groups` [N] where they exist."""

    weight: Floats
    time: Floats | None = None
    groups: Texts | None = None
    seed: int = 0

    def draws(self) -> Iterator[Floats]:
        """Yield the row weights of one resample after the other; the same ones each time."""
        rows = len(self.weight)
        generator = np.random.default_rng(self.seed)
        units, count = self.units()
        for _ in range(int(np.clip(WORK // max(rows, 1), FEWEST_RESAMPLES, RESAMPLES))):
            drawn = _counts(generator, count)[units] if self.time is None else _blocks(generator, self.time)
            yield self.weight * drawn

    def units(self) -> tuple[Ints, int]:
        """Return each row's unit, of rows that are alike, and how many units there are; time is left aside."""
        if self.groups is None:
            return np.arange(len(self.weight)), len(self.weight)
        _, units = np.unique(self.groups.astype(str), return_inverse=True)
        return units.astype(np.int64), int(units.max()) + 1


def intervals(scorers: Sequence[Scorer], resampling: Resampling) -> list[tuple[float, float]]:
    """Return the 95 % interval of each scorer, over the same resamples."""
    values = _values(scorers, resampling)
    return [_interval(column) for column in values.T]


def paired_interval(better: Scorer, than: Scorer, resampling: Resampling) -> tuple[float, float]:
    """Return the 95 % interval of `better` minus `than`, both under the same resample each time."""
    values = _values([better, than], resampling)
    return _interval(values[:, 0] - values[:, 1])


def _values(scorers: Sequence[Scorer], resampling: Resampling) -> Floats:
    return np.array([[run(weight) for run in scorers] for weight in resampling.draws() if weight.sum() > 0])


def _interval(values: Floats) -> tuple[float, float]:
    """Return the middle 95 %, of the resamples in which the metric is defined."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0))
    return float(low), float(high)


def _counts(generator: np.random.Generator, count: int) -> Floats:
    return np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)


def _blocks(generator: np.random.Generator, time: Floats) -> Floats:
    """Draw stretches of sqrt(N) neighbours in time, the end joined to the start (circular block bootstrap)."""
    rows = len(time)
    length = int(np.ceil(np.sqrt(rows)))
    starts = generator.integers(rows, size=-(-rows // length))
    places = (starts[:, None] + np.arange(length)).ravel()[:rows] % rows
    order = np.argsort(time, kind="stable")
    return np.bincount(order[places], minlength=rows).astype(np.float64)
