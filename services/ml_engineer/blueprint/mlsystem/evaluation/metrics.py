"""The closed list of quality metrics, all with row weights.

A metric is prepared once for a set of answers and then scored under many weightings, which is what a bootstrap
does: `scorer(name, kind, target, answers)` returns a function from weights [N] to a number, NaN where the weighting
leaves the metric undefined (one class alone). Answers are probabilities [N, K], or values [N, 1] in regression.
Binary targets are 0 and 1, the positive label is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from mlsystem.features.arrays import Floats, Ints

Kind = Literal["binary", "multiclass", "regression"]
Scorer = Callable[[Floats], float]

CLASSIFICATION: Final = ("roc_auc", "average_precision", "log_loss", "brier", "ece", "accuracy", "f1_macro")
REGRESSION: Final = ("mae", "rmse", "r2")
SMALLER_IS_BETTER: Final = frozenset({"log_loss", "brier", "ece", "mae", "rmse"})

EDGE = 1e-12
"""Probabilities are held this far from 0 before their logarithm is taken."""

BINS = 10
"""Calibration error compares means in this many bins of equally many rows."""


def metrics_of(kind: Kind) -> tuple[str, ...]:
    """Return the metrics that are defined for a kind of task."""
    return REGRESSION if kind == "regression" else CLASSIFICATION


def primary(kind: Kind, metric: str) -> str:
    """Return the metric that decides: `metric` of the spec, or what "auto" means for the kind."""
    if metric != "auto":
        return metric
    return {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}[kind]


def gain(metric: str, better: float, than: float) -> float:
    """Return by how much `better` is better than `than`, positive for an improvement."""
    return than - better if metric in SMALLER_IS_BETTER else better - than


def score(metric: str, kind: Kind, target: Floats | Ints, answers: Floats, weight: Floats) -> float:
    """Score answers once."""
    return scorer(metric, kind, target, answers)(weight)


def scorer(metric: str, kind: Kind, target: Floats | Ints, answers: Floats) -> Scorer:
    """Prepare a metric of the closed list for one set of answers; KeyError for any other name."""
    if kind == "regression":
        return {"mae": _mae, "rmse": _rmse, "r2": _r2}[metric](np.asarray(target, np.float64), answers[:, 0])
    prepare = {
        "roc_auc": _one_against_rest(_roc_auc),
        "average_precision": _one_against_rest(_average_precision),
        "log_loss": _log_loss,
        "brier": _brier,
        "ece": _ece,
        "accuracy": _accuracy,
        "f1_macro": _f1_macro,
    }[metric]
    return prepare(np.asarray(target, np.int64), answers)


def _mae(target: Floats, value: Floats) -> Scorer:
    return _mean(np.abs(value - target))


def _rmse(target: Floats, value: Floats) -> Scorer:
    mean = _mean((value - target) ** 2)
    return lambda weight: float(np.sqrt(mean(weight)))


def _r2(target: Floats, value: Floats) -> Scorer:
    squares = (value - target) ** 2

    def run(weight: Floats) -> float:
        spread = np.dot(weight, (target - np.average(target, weights=weight)) ** 2)
        return float(1.0 - np.dot(weight, squares) / spread) if spread > 0 else float("nan")

    return run


def _log_loss(target: Ints, probabilities: Floats) -> Scorer:
    return _mean(-np.log(np.clip(probabilities[np.arange(len(target)), target], EDGE, 1.0)))


def _brier(target: Ints, probabilities: Floats) -> Scorer:
    """Mean squared error of the positive probability, or the sum over classes if there are more than two."""
    errors = (probabilities - np.eye(probabilities.shape[1])[target]) ** 2
    return _mean(errors[:, 1] if probabilities.shape[1] == 2 else errors.sum(axis=1))


def _accuracy(target: Ints, probabilities: Floats) -> Scorer:
    return _mean((probabilities.argmax(axis=1) == target).astype(np.float64))


def _f1_macro(target: Ints, probabilities: Floats) -> Scorer:
    classes = probabilities.shape[1]
    answer = probabilities.argmax(axis=1)
    hit = answer == target

    def run(weight: Floats) -> float:
        hits = np.bincount(target[hit], weight[hit], classes)
        both = np.bincount(target, weight, classes) + np.bincount(answer, weight, classes)
        seen = both > 0
        return float(np.mean(2.0 * hits[seen] / both[seen]))

    return run


def calibration_bins(target: Ints, probabilities: Floats) -> tuple[Floats, Floats, Ints]:
    """Return confidence, outcome and bin of each row: of the positive label, or of the predicted one among many."""
    if probabilities.shape[1] == 2:
        confidence, outcome = probabilities[:, 1], target.astype(np.float64)
    else:
        confidence = probabilities.max(axis=1)
        outcome = (probabilities.argmax(axis=1) == target).astype(np.float64)
    edges = np.unique(np.quantile(confidence, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    return confidence, outcome, np.searchsorted(edges, confidence, "left").astype(np.int64)


def _ece(target: Ints, probabilities: Floats) -> Scorer:
    """Return the expected calibration error: mean |confidence - outcome| of bins of equally many rows."""
    confidence, outcome, bins = calibration_bins(target, probabilities)
    gap = confidence - outcome
    return lambda weight: float(np.abs(np.bincount(bins, weight * gap)).sum() / weight.sum())


def _one_against_rest(curve: Callable[[Floats, Floats], Scorer]) -> Callable[[Ints, Floats], Scorer]:
    """Use a binary metric as it is, or as the mean over classes that occur."""

    def prepare(target: Ints, probabilities: Floats) -> Scorer:
        classes = probabilities.shape[1]
        picked = [1] if classes == 2 else range(classes)
        curves = [curve((target == label).astype(np.float64), probabilities[:, label]) for label in picked]
        if len(curves) == 1:
            return curves[0]
        return lambda weight: _mean_of_known([run(weight) for run in curves])

    return prepare


def _roc_auc(positive: Floats, value: Floats) -> Scorer:
    """Return the probability that a positive row scores above a negative one; ties count half."""
    order, starts = _tied_groups(value)

    def run(weight: Floats) -> float:
        ours, theirs = (np.add.reduceat((weight * label)[order], starts) for label in (positive, 1.0 - positive))
        total = ours.sum() * theirs.sum()
        below = np.cumsum(theirs) - theirs / 2.0
        return float(np.dot(ours, below) / total) if total > 0 else float("nan")

    return run


def _average_precision(positive: Floats, value: Floats) -> Scorer:
    """Return the sum of precision times gain in recall over all thresholds."""
    order, starts = _tied_groups(-value)

    def run(weight: Floats) -> float:
        ours, everyone = (np.add.reduceat(part[order], starts) for part in (weight * positive, weight))
        if ours.sum() <= 0:
            return float("nan")
        reached = np.cumsum(everyone)
        precision = np.divide(np.cumsum(ours), reached, out=np.zeros_like(reached), where=reached > 0)
        return float(np.dot(ours, precision) / ours.sum())

    return run


def _tied_groups(value: Floats) -> tuple[Ints, Ints]:
    """Return the ascending order of values and where each group of equal ones starts in it."""
    order = np.argsort(value, kind="stable")
    ordered = value[order]
    return order, np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _mean(values: Floats) -> Scorer:
    return lambda weight: float(np.dot(weight, values) / weight.sum())


def _mean_of_known(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
