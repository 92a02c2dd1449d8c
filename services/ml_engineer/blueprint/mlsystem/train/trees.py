"""The LightGBM family: a few configurations, each fitted fold by fold with early stopping.

All folds of a configuration stop at the same round, the best of their mean curve, so that out-of-fold scores do not
profit from each fold's own stopping. The fold models are the member (a bag, no refit) unless the folds go along time
and the first ones learnt from little, or the bag would be too large: then the member is refitted on all rows.
Folds run side by side, one thread each, `threads` at a time: the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any

import lightgbm as lgb
import numpy as np

from mlsystem.compile.members import Trees
from mlsystem.compile.model import Kind, link
from mlsystem.features.arrays import Floats, Ints, Singles
from mlsystem.train.candidate import Candidate, predicted_rows
from mlsystem.train.clock import Clock
from mlsystem.train.matrices import Matrices
from mlsystem.train.plan import NOWHERE, UNCUT, Cuts
from mlsystem.train.problem import Problem

MOST_ROUNDS = 1500
PATIENCE = 40
MANY_CELLS = 5_000_000
"""Below this size threads wait for each other longer than they work, on a busy machine a hundred times longer."""

SHARE_OF_BUDGET = 0.75
"""Share of what is left of the budget that one configuration may take; the rest is for ensemble and compilation."""

MOST_STEPS = 6000
"""Comparisons that a row may go through in a bag; with more the member is refitted as one booster.

They take about 0.03 ms a row; five times that would cost more than a bag gains.
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named configuration: LightGBM's parameters where they differ from BASE."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=dict[str, object])


BASE: Mapping[str, object] = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "feature_fraction": 0.8,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}

SMALL = Recipe(
    "lightgbm_small",
    {"num_leaves": 5, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0},
)
PLAIN = Recipe("lightgbm")
RANDOM = Recipe("lightgbm_random", {"extra_trees": True, "feature_fraction": 0.7})

MEDIAN = Recipe("lightgbm_median", {**SMALL.parameters, "objective": "regression_l1"})
"""Learns the absolute error, which it is judged by: a few huge values of the target pull a mean, and no median."""

MANY_ROWS = 50_000


def recipes(kind: Kind, rows: int) -> tuple[Recipe, ...]:
    """Return the configurations in the order of trying: small trees win on few rows, and cannot on many."""
    found = (SMALL, MEDIAN, PLAIN, RANDOM) if rows < MANY_ROWS else (PLAIN, RANDOM, MEDIAN, SMALL)
    return tuple(recipe for recipe in found if recipe is not MEDIAN or kind == "regression")


@dataclass(frozen=True, slots=True)
class _Work:
    """One configuration on its way: what is fitted, until when each fold may take, and where a replay cuts."""

    problem: Problem
    matrices: Matrices
    parameters: dict[str, Any]
    clock: Clock
    fold_s: float
    cuts: Cuts
    stop: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True)
class _Run:
    """A fitted fold: the booster with all its rounds, its validation curve, the matrix it has to predict."""

    booster: Any
    curve: list[float]
    valid: Singles
    cut: int
    """Rounds after which the clock ended the fit, UNCUT if it did not."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long fits may take: until the clock says so, or up to the rounds at which an earlier run was cut."""

    clock: Clock
    threads: int
    cuts: Cuts = NOWHERE


def fit_trees(problem: Problem, matrices: Matrices, recipe: Recipe, pace: Pace) -> Candidate | None:
    """Fit one configuration; None if the budget ends before every fold has a model."""
    clock, threads = pace.clock, pace.threads
    began = clock.spent
    refit = problem.time is not None  # as good as another turn of all threads
    shifts = -(-len(problem.folds) // threads) + refit
    parameters = {**_parameters(problem, recipe), "num_threads": max(1, threads // len(problem.folds))}
    work = _Work(problem, matrices, parameters, clock, clock.left * SHARE_OF_BUDGET / shifts, pace.cuts)
    runs = _fit_folds(work, threads)
    if runs is None:
        return None
    rounds = _best_round([run.curve for run in runs])
    bag = _bag(work, runs, rounds)
    kept = bag or [_refit(work, rounds, threads)]
    member = Trees(tuple(run.booster.model_to_string(num_iteration=rounds) for run in kept), problem.margins)
    oof = _out_of_fold(problem, runs, rounds)
    rows = predicted_rows(oof)
    score = problem.score(problem.deciding, oof[rows], rows)
    cuts = Cuts(tuple(run.cut for run in runs), UNCUT if bag else kept[0].cut)
    notes: dict[str, object] = {"rounds": rounds, "boosters": len(kept), "cut": cuts.any}
    return Candidate(recipe.name, "lightgbm", member, oof, score, clock.spent - began, notes, cuts)


def _best_round(curves: list[list[float]]) -> int:
    """Return the round with the best mean over the folds; a fold that stopped early stays where it stopped."""
    length = max(map(len, curves))
    padded = [np.pad(curve, (0, length - len(curve)), mode="edge") for curve in curves]
    return 1 + int(np.argmin(np.mean(padded, axis=0)))


def _parameters(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    by_kind: dict[str, dict[str, Any]] = {
        "binary": {"objective": "binary", "metric": "binary_logloss"},
        "multiclass": {
            "objective": "multiclass",
            "metric": "multi_logloss",
            "num_class": problem.classes,
            "learning_rate": 0.1,
        },
        "regression": {"objective": "regression", "metric": "l1"},
    }
    leaf = {"min_data_in_leaf": int(np.clip(len(problem.weight) // 100, 3, 20))}
    return {**BASE, **by_kind[problem.kind], **leaf, "seed": problem.seed, **recipe.parameters}


def _fit_folds(work: _Work, threads: int) -> list[_Run] | None:
    """Fit all folds; whatever ends this early also ends the fits that are still running, at their next round."""
    pool = ThreadPoolExecutor(threads)
    try:
        runs = list(pool.map(partial(_fit_fold, work), range(len(work.problem.folds))))
    finally:
        work.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    fitted = [run for run in runs if run is not None]
    return fitted if len(fitted) == len(runs) else None


def _fit_fold(work: _Work, place: int) -> _Run | None:
    if work.clock.left <= 0 or work.stop.is_set():
        return None
    fold = work.problem.folds[place]
    fit, valid = work.matrices.fold(fold)
    data = _dataset(work.problem, fit, fold.fit)
    held = _dataset(work.problem, valid, fold.valid, data)
    record: dict[str, dict[str, list[float]]] = {}
    guard = _Guard(work.clock, work.clock.spent + work.fold_s, work.stop, most=work.cuts.of_fold(place))
    callbacks: list[Any] = [lgb.record_evaluation(record), lgb.early_stopping(PATIENCE, verbose=False), guard]
    booster = lgb.train(
        work.parameters, data, MOST_ROUNDS, valid_sets=[held], callbacks=callbacks, keep_training_booster=True
    )
    (curve,) = record["valid_0"].values()
    return _Run(booster, list(curve), valid, guard.cut)


@dataclass(eq=False)
class _Guard:
    """LightGBM callback that ends a fit when its time is up, where a replay has to, or when the stage is being ended.

    No slots, no equality: LightGBM orders callbacks through their `__dict__` and keeps them in sets.
    """

    clock: Clock
    until: float
    stop: Event
    most: int = UNCUT
    cut: int = UNCUT
    order: int = 100  # after recording and early stopping
    before_iteration: bool = False

    def __call__(self, env: Any) -> None:
        """End the fit by LightGBM's own exception; the rounds so far are kept."""
        rounds = env.iteration + 1
        if self.stop.is_set() or self.clock.spent > self.until or rounds == self.most:
            self.cut = rounds
            raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list)


def _out_of_fold(problem: Problem, runs: list[_Run], rounds: int) -> Floats:
    oof = np.full((len(problem.weight), problem.margins), np.nan)
    for run, fold in zip(runs, problem.folds, strict=True):
        margins = run.booster.predict(run.valid, raw_score=True, num_iteration=rounds, num_threads=1)
        oof[fold.valid] = link(problem.kind, np.reshape(margins, (-1, problem.margins)))
    return oof


def _bag(work: _Work, runs: list[_Run], rounds: int) -> list[_Run]:
    """Return the fold models if they can be the member, else none."""
    steps = rounds * work.problem.margins * len(runs) * np.log2(work.parameters["num_leaves"])
    return runs if work.problem.time is None and steps <= MOST_STEPS else []


def _refit(work: _Work, rounds: int, threads: int) -> _Run:
    """Fit all training rows in what is left of the budget."""
    rows: Ints = np.arange(len(work.problem.weight))
    tree = work.matrices.fit_tree(rows)
    guard = _Guard(work.clock, work.clock.budget_s, Event(), most=work.cuts.refit)
    parameters = {**work.parameters, "num_threads": threads if tree.size > MANY_CELLS else 1}
    callbacks: list[Any] = [guard]
    booster = lgb.train(parameters, _dataset(work.problem, tree, rows), rounds, callbacks=callbacks)
    return _Run(booster, [], tree[:0], guard.cut)


def _dataset(problem: Problem, tree: Singles, rows: Ints, reference: Any = None) -> Any:
    return lgb.Dataset(tree, problem.labels[rows], weight=problem.weight[rows], reference=reference)
