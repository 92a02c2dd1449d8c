"""A weighted mean of few members, chosen greedily on out-of-fold outputs.

Caruana's selection with replacement: start from the best member, keep adding the one that helps the mean most, take
the best mean met. Each member costs latency, so few are kept and small weights are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsystem.features.arrays import Floats, Ints
from mlsystem.train.candidate import Candidate, predicted_rows
from mlsystem.train.problem import Problem

ROUNDS = 20
MOST_ROWS = 50_000
"""Rows that selection and calibration look at; a thousand scores over a million rows would take the whole budget."""

SMALLEST_WEIGHT = 0.1
WORTH = 1e-3
"""Share of the loss that an ensemble must save over its best member to be worth more members."""


def choose(problem: Problem, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Return weights by name, adding up to 1; a single member where an ensemble is not worth it."""
    rows = common_rows(problem, candidates)
    outputs = [candidate.oof[rows] for candidate in candidates]
    alone = [_loss(problem, output, rows) for output in outputs]
    first = int(np.argmin(alone))
    counts, loss = _greedy(problem, outputs, rows, first)
    if loss > alone[first] * (1.0 - WORTH):
        counts = np.eye(len(candidates))[first]
    weights = counts / counts.sum()
    weights = np.where(weights < SMALLEST_WEIGHT, 0.0, weights)
    weights /= weights.sum()
    return {c.name: float(weight) for c, weight in zip(candidates, weights, strict=True) if weight > 0}


def blend(candidates: Sequence[Candidate], weights: dict[str, float]) -> Floats:
    """Return the weighted out-of-fold outputs [N, T]."""
    by_name = {candidate.name: candidate for candidate in candidates}
    return np.sum([weight * by_name[name].oof for name, weight in weights.items()], axis=0)


def common_rows(problem: Problem, candidates: Sequence[Candidate]) -> Ints:
    """Return the rows that every candidate has predicted, a sample of them if they are very many."""
    rows = predicted_rows(np.concatenate([candidate.oof for candidate in candidates], axis=1))
    if len(rows) <= MOST_ROWS:
        return rows
    return np.sort(np.random.default_rng(problem.seed).choice(rows, MOST_ROWS, replace=False))


def _greedy(problem: Problem, outputs: list[Floats], rows: Ints, first: int) -> tuple[Floats, float]:
    counts = np.eye(len(outputs))[first]
    total = outputs[first].copy()
    best_loss, best = _loss(problem, total, rows), counts.copy()
    for size in range(2, ROUNDS + 1):
        losses = [_loss(problem, (total + output) / size, rows) for output in outputs]
        pick = int(np.argmin(losses))
        counts[pick] += 1
        total += outputs[pick]
        if losses[pick] < best_loss:
            best_loss, best = losses[pick], counts.copy()
    return best, best_loss


def _loss(problem: Problem, output: Floats, rows: Ints) -> float:
    """Return what selection minimises; ranking is joined by log loss, which does not jump with single pairs."""
    if problem.deciding == "roc_auc":
        ranking = 1.0 - problem.score("roc_auc", output, rows)
        return (ranking + problem.score("log_loss", output, rows)) / 2.0
    return problem.score(problem.deciding, output, rows)
