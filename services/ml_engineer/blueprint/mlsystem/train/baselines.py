"""Trivial answers that a model must be worth more than.

Class shares; mean and median; with time also the last value seen. The last value is reported, never a gate: a row
that is asked about brings no history, so no caller could answer with it.
"""

from __future__ import annotations

import msgspec
import numpy as np

from mlsystem.evaluation.metrics import score
from mlsystem.features.arrays import Floats, Ints
from mlsystem.train.problem import Problem


class Baseline(msgspec.Struct, frozen=True):
    """The same answer for every row."""

    name: str
    values: tuple[float, ...]
    """Probabilities of the labels, or one value."""
    gated: bool
    """Whether `beats_trivial` compares with it."""
    score: float
    """Deciding metric over the training rows."""

    def answers(self, rows: int) -> Floats:
        """Return the answer for each of `rows` rows."""
        return np.tile(np.array(self.values), (rows, 1))


def fit_baselines(problem: Problem) -> tuple[Baseline, ...]:
    """Return the trivial answers of a problem."""
    if problem.kind != "regression":
        labels = np.asarray(problem.target, np.int64)
        shares = np.bincount(labels, problem.weight, problem.classes) / problem.weight.sum()
        return (_scored(problem, "prior", shares, gated=True),)
    target = np.asarray(problem.target, np.float64)
    found = [
        _scored(problem, "mean", np.array([problem.centre]), gated=True),
        _scored(problem, "median", np.array([_median(target, problem.weight)]), gated=True),
    ]
    if problem.time is not None:
        moments = np.nan_to_num(problem.time, nan=-np.inf)
        last = target[np.argsort(moments, kind="stable")[-1]]
        found.append(_scored(problem, "last", np.array([last]), gated=False))
    return tuple(found)


def _scored(problem: Problem, name: str, values: Floats, *, gated: bool) -> Baseline:
    answers = np.tile(values, (len(problem.weight), 1))
    reached = score(problem.deciding, problem.kind, problem.target, answers, problem.weight)
    return Baseline(name, tuple(values.tolist()), gated, reached)


def _median(values: Floats, weight: Floats) -> float:
    order: Ints = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][np.searchsorted(reached, 0.5)])
