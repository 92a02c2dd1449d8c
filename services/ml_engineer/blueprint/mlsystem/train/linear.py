"""The linear family: logistic regression (multinomial for several classes) or ridge, on the dense matrix.

The regularisation is chosen out of fold, the member is refitted once on all rows. Very many rows are sampled: a
linear function of a hundred columns is known long before its rows are used up.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from mlsystem.compile.members import Linear
from mlsystem.compile.model import link
from mlsystem.features.arrays import Floats, Ints
from mlsystem.train.candidate import Candidate, predicted_rows
from mlsystem.train.clock import Clock
from mlsystem.train.matrices import Matrices
from mlsystem.train.problem import Problem

NAME = "linear"
MOST_CELLS = 20_000_000
"""Rows times columns that one fit uses at most; more rows are sampled."""

CELLS_FOR_CHOICE = 3_000_000
"""Up to this size several strengths are compared, beyond it the middle one is taken."""

INVERSE_STRENGTHS = (0.03, 0.3, 3.0, 30.0)
"""C of logistic regression; scores are standardised, so the same values fit most data."""

STRENGTHS = (100.0, 10.0, 1.0, 0.1)
"""alpha of ridge."""

IMPOSSIBLE = 20.0
"""Margin of a class that did not occur: a probability of about 1e-9."""


def fit_linear(problem: Problem, matrices: Matrices, clock: Clock) -> Candidate:
    """Fit the linear member; it is always fitted, since every model is compared with it."""
    began = clock.spent
    strengths = STRENGTHS if problem.kind == "regression" else INVERSE_STRENGTHS
    if matrices.dense_columns * len(problem.weight) * problem.margins > CELLS_FOR_CHOICE:
        strengths = strengths[1:2]
    tried = _out_of_fold(problem, matrices, strengths)
    smooth = "mae" if problem.kind == "regression" else "log_loss"
    rows = predicted_rows(tried[strengths[0]])
    best = min(strengths, key=lambda strength: problem.score(smooth, tried[strength][rows], rows))
    used = _sample(np.arange(len(problem.weight)), matrices.dense_columns, problem.seed)
    member = _fit(problem, matrices.dense(used), used, best)
    score = problem.score(problem.deciding, tried[best][rows], rows)
    return Candidate(NAME, "linear", member, tried[best], score, clock.spent - began, {"strength": best})


def _out_of_fold(problem: Problem, matrices: Matrices, strengths: tuple[float, ...]) -> dict[float, Floats]:
    """Return the out-of-fold outputs [N, T] of each strength."""
    shape = len(problem.weight), problem.margins
    tried = {strength: np.full(shape, np.nan) for strength in strengths}
    for fold in problem.folds:
        used = _sample(fold.fit, matrices.dense_columns, problem.seed)
        dense, valid = matrices.dense(used), matrices.dense(fold.valid)
        for strength, oof in tried.items():
            margins = _fit(problem, dense, used, strength).predict(matrices.plain[:0], valid)
            oof[fold.valid] = link(problem.kind, margins)
    return tried


def _fit(problem: Problem, dense: Floats, rows: Ints, strength: float) -> Linear:
    """Fit on `dense`, the matrix of `rows`."""
    labels, weight = problem.labels[rows], problem.weight[rows]
    if problem.kind == "regression":
        ridge: Any = Ridge(alpha=strength).fit(dense, labels, sample_weight=weight)
        return _member(ridge.coef_[:, None], np.atleast_1d(ridge.intercept_))
    present = np.unique(labels).astype(np.int64)
    if len(present) == 1:
        return _only_class(problem, int(present[0]), dense.shape[1])
    model: Any = LogisticRegression(C=strength, max_iter=500)
    with warnings.catch_warnings():
        # a fit that has not quite converged is scored like any other and loses if that matters
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(dense, labels, sample_weight=weight)
    if problem.kind == "binary":
        return _member(model.coef_.T, model.intercept_)
    return _spread(problem, present, model.coef_.T, model.intercept_)


def _sample(rows: Ints, columns: int, seed: int) -> Ints:
    most = MOST_CELLS // max(columns, 1)
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _spread(problem: Problem, present: Ints, weights: Floats, bias: Floats) -> Linear:
    """Give every class a margin: classes that did not occur an impossible one, the first of two a margin of 0."""
    if len(present) == 2:
        weights = np.column_stack([np.zeros(len(weights)), weights])
        bias = np.array([0.0, bias[0]])
    all_weights, all_bias = np.zeros((len(weights), problem.classes)), np.full(problem.classes, -IMPOSSIBLE)
    all_weights[:, present], all_bias[present] = weights, bias
    return _member(all_weights, all_bias)


def _only_class(problem: Problem, label: int, columns: int) -> Linear:
    """Answer with the one class that occurred."""
    if problem.kind == "binary":
        return _member(np.zeros((columns, 1)), np.array([IMPOSSIBLE if label else -IMPOSSIBLE]))
    return _spread(problem, np.array([label]), np.zeros((columns, 1)), np.zeros(1))


def _member(weights: Floats, bias: Floats) -> Linear:
    return Linear(tuple(map(tuple, weights.tolist())), tuple(bias.tolist()))
