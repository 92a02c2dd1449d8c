"""Fitting the calibration of an ensemble, out of fold, and only where it pays.

A calibration is learnt on all folds but one and judged on that one; it is used if log loss over all rows is smaller
with it than without it. Slopes are bounded, see `compile.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import optimize

from mlsystem.compile.calibration import Calibration
from mlsystem.evaluation.metrics import score
from mlsystem.features.arrays import Floats, Ints
from mlsystem.train.problem import Fold, Problem

SLOPES = (0.2, 5.0)
SHIFTS = (-10.0, 10.0)
FEWEST_ROWS = 100
"""Below this many rows two more parameters are noise."""

WORTH = 1e-4
"""Share of the log loss that a calibration must save."""


def fit_calibration(problem: Problem, output: Floats, rows: Ints) -> tuple[Calibration, dict[str, float]]:
    """Return the calibration of outputs [N, T] at `rows`, and the out-of-fold log loss without and with it."""
    if problem.kind == "regression":
        return Calibration(), {}
    before = problem.score("log_loss", output[rows], rows)
    folds = _folds_of(problem.folds, rows, len(problem.weight))
    if len(rows) < FEWEST_ROWS or len(np.unique(folds)) < 2:
        return Calibration(), {"without": before}
    crossed = np.empty_like(output[rows])
    for fold in np.unique(folds):
        learnt = _fit(problem, output, rows[folds != fold])
        crossed[folds == fold] = learnt.apply(output[rows[folds == fold]])
    after = problem.score("log_loss", crossed, rows)
    losses = {"without": before, "with": after}
    return (_fit(problem, output, rows) if after < before * (1.0 - WORTH) else Calibration()), losses


def _folds_of(folds: Sequence[Fold], rows: Ints, count: int) -> Ints:
    numbers = np.full(count, -1)
    for number, fold in enumerate(folds):
        numbers[fold.valid] = number
    return numbers[rows]


def _fit(problem: Problem, output: Floats, rows: Ints) -> Calibration:
    """Minimise log loss over slope and shift (one slope for several classes) inside their bounds."""
    platt = problem.kind == "binary"

    def build(parameters: Floats) -> Calibration:
        shift = float(parameters[1]) if platt else 0.0
        return Calibration("platt" if platt else "temperature", float(parameters[0]), shift)

    def loss(parameters: Floats) -> float:
        answers = problem.answers(build(parameters).apply(output[rows]))
        return score("log_loss", problem.kind, problem.target[rows], answers, problem.weight[rows])

    start, bounds = (np.array([1.0, 0.0]), [SLOPES, SHIFTS]) if platt else (np.array([1.0]), [SLOPES])
    minimise = cast("Any", optimize.minimize)
    return build(minimise(loss, start, method="L-BFGS-B", bounds=bounds).x)
