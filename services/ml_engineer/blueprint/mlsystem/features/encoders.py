"""Encoders of the two boundary tensors and what is derived from them, learnt from training rows, as plain values.

Owns what is learnt: for a number a curve to a roughly normal score, for a string column its levels and, where
there are many, the target mean of each. They become two matrices, in this order of columns:

- tree: numbers as float32 with NaN kept, one ordinal code a string column, target means;
- dense: scores of the numbers, flags of missing numbers, one-hot columns of frequent levels.

Leaves out how they are applied: `features.native` does it in numpy, `compile.features` in ONNX.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist

import msgspec
import numpy as np

from mlsystem.features.arrays import Floats, Ints, Texts
from mlsystem.features.formula import NOTHING_DERIVED, Derivation

MANY_LEVELS = 10
"""A string column with more levels than this gets target means beside its code."""

MAX_LEVELS = 10_000
"""Levels a column keeps; the rest are treated like levels never seen."""

MAX_HOT = 30
"""One-hot columns that one string column may take in the dense matrix."""

MAX_KNOTS = 32
CURVE_ROWS = 100_000
"""Rows that curves are learnt from; quantiles do not get better with more."""

SMALL_SAMPLE = 500
"""Below this many rows a straight robust scale is steadier than a curve of quantiles."""

SCORE_LIMIT = 5.0
"""Straight scale: scores beyond this many robust deviations are held there."""

PRIOR_ROWS = 10.0
"""Target means behave as if each level had this many more rows of the average target."""


class Curve(msgspec.Struct, frozen=True):
    """A number's piecewise linear way to a score; flat beyond the outer knots, so that nothing explodes."""

    centre: float
    """What a missing value is replaced by."""
    knots: tuple[float, ...]
    scores: tuple[float, ...]
    flag: bool
    """Whether missing values occur, and get a column of their own."""


class Levels(msgspec.Struct, frozen=True):
    """A string column's levels, the most frequent first; a level that is not here counts as unseen."""

    names: tuple[str, ...]
    hot: int
    """How many leading levels get a one-hot column."""
    means: tuple[tuple[float, ...], ...]
    """Target means of each level, one value a target; empty when the column has few levels."""


class Features(msgspec.Struct, frozen=True):
    """All encoders of one model, in the order of the boundary's columns and then of the derived features."""

    curves: tuple[Curve, ...]
    levels: tuple[Levels, ...]
    prior: tuple[float, ...]
    """Target means of a level never seen."""
    derivation: Derivation = NOTHING_DERIVED
    """What is derived from the boundary before it is encoded."""

    @property
    def boundary(self) -> tuple[int, int]:
        """Numbers and strings that the boundary has, without what is derived."""
        derived = self.derivation
        numbers = len(self.curves) - len(derived.of_numbers) + len(derived.hidden)
        return numbers, len(self.levels) - len(derived.of_strings)

    @property
    def encoded(self) -> tuple[int, ...]:
        """String columns that carry target means."""
        return tuple(column for column, levels in enumerate(self.levels) if levels.means)


@dataclass(frozen=True, slots=True)
class Targets:
    """What target means are made of: `values` [N, T], `weight` [N]."""

    values: Floats
    weight: Floats


def fit_features(
    numbers: Floats, strings: Texts, targets: Targets, *, seed: int = 0, derivation: Derivation = NOTHING_DERIVED
) -> Features:
    """Learn all encoders from training rows: `numbers` [N, C1], `strings` [N, C2] with what is derived, N >= 1."""
    rows = len(targets.weight)
    some = np.random.default_rng(seed).permutation(rows)[:CURVE_ROWS]
    curves = tuple(
        fit_curve(numbers[some, column], flag=bool(np.isnan(numbers[:, column]).any()))
        for column in range(numbers.shape[1])
    )
    levels = tuple(_fit_levels(strings[:, column], targets) for column in range(strings.shape[1]))
    return Features(curves, levels, tuple(_prior(targets).tolist()), derivation)


def as_single(values: Floats) -> Floats:
    """Round to the nearest float32 and back, so that every reader of a value has the very same one."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32).astype(np.float64)


def fit_curve(values: Floats, *, flag: bool = False) -> Curve:
    """Learn the curve of one number from its finite values; a column without any scores 0 everywhere."""
    known = np.sort(values[np.isfinite(values)])
    if not len(known) or known[0] == known[-1]:
        centre = float(known[0]) if len(known) else 0.0
        return Curve(centre, (centre, centre + 1.0), (0.0, 0.0), flag)
    knots, scores = _scale(known) if len(known) < SMALL_SAMPLE else _quantile_curve(known)
    return Curve(float(np.median(known)), tuple(knots.tolist()), tuple(scores.tolist()), flag)


def _scale(known: Floats) -> tuple[Floats, Floats]:
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
    spread = (high - low) / 1.349 or float(np.std(known))
    ends = np.clip(known[[0, -1]], middle - SCORE_LIMIT * spread, middle + SCORE_LIMIT * spread)
    return ends, (ends - middle) / spread


def _quantile_curve(known: Floats) -> tuple[Floats, Floats]:
    """Map quantiles to those of a standard normal, ties to the middle of their ranks."""
    count = int(np.clip(len(known) // 50, 2, MAX_KNOTS))
    knots = np.unique(np.quantile(known, np.linspace(0.0, 1.0, count), method="nearest"))
    ranks = (np.searchsorted(known, knots, "left") + np.searchsorted(known, knots, "right")) / (2 * len(known))
    normal = NormalDist()
    return knots, np.array([normal.inv_cdf(rank) for rank in np.clip(ranks, 0.005, 0.995)])


def _fit_levels(column: Texts, targets: Targets) -> Levels:
    counts = Counter[str](column.tolist())
    rare, rows = _rare(len(column)), len(column)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    common = sum(count >= rare for count in counts.values())
    kept = names[: max(1, min(common, MAX_LEVELS))]
    hot = sum(counts[name] >= max(rare, rows // 100) for name in kept)
    means: tuple[tuple[float, ...], ...] = ()
    if len(kept) > MANY_LEVELS:
        places = {name: place for place, name in enumerate(kept, 1)}
        codes = np.array([places.get(value, 0) for value in column.tolist()], np.int64)
        means = tuple(map(tuple, target_means(codes, len(kept) + 1, targets)[1:].tolist()))
    return Levels(tuple(kept), min(max(1, hot), MAX_HOT), means)


def _rare(rows: int) -> int:
    """Rows that a level needs to be kept: rarer ones teach the model what an unseen level is like."""
    return int(np.clip(rows // 200, 2, 5))


def target_means(codes: Ints, count: int, targets: Targets) -> Floats:
    """Return the smoothed target mean of each of `count` codes, [count, T], as float32 values.

    Code 0 stands for unseen levels, whose mean is that of all rows. Micci-Barreca's estimate with a fixed weight of
    the prior: (sum + m * prior) / (rows + m).
    """
    prior = _prior(targets)
    weight = np.bincount(codes, targets.weight, count)
    sums = np.column_stack([np.bincount(codes, targets.weight * value, count) for value in targets.values.T])
    means = (sums + PRIOR_ROWS * prior) / (weight + PRIOR_ROWS)[:, None]
    means[0] = prior
    return as_single(means)


def _prior(targets: Targets) -> Floats:
    return as_single(np.average(targets.values, axis=0, weights=targets.weight))
