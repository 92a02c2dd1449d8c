"""The order of the train stage: encoders, linear, LightGBM, ensemble, calibration, inside one budget.

Deterministic for the same rows and seed on one platform: BLAS runs in one thread, LightGBM's folds in one thread
each. What does not fit into the budget is skipped or cut, named, and on record, so that a replay does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from threadpoolctl import threadpool_limits

from mlsystem.compile.calibration import Calibration
from mlsystem.compile.model import Model, Weighted
from mlsystem.evaluation.bootstrap import Resampling, paired_interval
from mlsystem.evaluation.metrics import SMALLER_IS_BETTER
from mlsystem.features.encoders import Features
from mlsystem.output import Reporter
from mlsystem.train.baselines import Baseline, fit_baselines
from mlsystem.train.calibrate import fit_calibration
from mlsystem.train.candidate import Candidate, Skipped
from mlsystem.train.clock import Clock
from mlsystem.train.ensemble import blend, choose, common_rows
from mlsystem.train.linear import NAME as LINEAR
from mlsystem.train.linear import fit_linear
from mlsystem.train.matrices import Matrices
from mlsystem.train.plan import NOWHERE, Plan
from mlsystem.train.problem import Problem
from mlsystem.train.record import STEP
from mlsystem.train.trees import Pace, fit_trees, recipes

MEMBERS = 5
"""Steps that progress is told in: linear, three configurations (four in regression), and what is made of them."""

OPTIMISM = 0.6
"""A configuration is started if this share of the time of the one before it is left."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the spec says about the search."""

    families: tuple[str, ...] = ()
    """Families to choose from; empty: all."""
    prefer: str = "quality"
    threads: int = 2
    replay: Plan | None = None
    """Fit what this plan says, and leave out what it does not name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the search found."""

    model: Model
    linear: Model
    baselines: tuple[Baseline, ...]
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]
    calibration: dict[str, float]
    """Out-of-fold log loss without and with calibration."""
    score: float
    """Deciding metric of the ensemble, out of fold."""


def search(problem: Problem, settings: Settings, clock: Clock, reporter: Reporter) -> Outcome:
    """Fit, choose and calibrate; at least the linear member is always fitted."""
    with threadpool_limits(limits=1, user_api="blas"):
        baselines = fit_baselines(problem)
        with reporter.span("train.features"):
            matrices = Matrices.of(problem)
        skipped: list[Skipped] = []
        candidates = list(_candidates(problem, matrices, settings, _Ledger(clock, reporter, skipped)))
        wanted = [item for item in candidates if not settings.families or item.family in settings.families]
        weights = _weights(problem, wanted or candidates, settings)
        output = blend(candidates, weights)
        rows = common_rows(problem, candidates)
        calibration, losses = fit_calibration(problem, output, rows)
    members = {item.name: item for item in candidates}
    picked = tuple(Weighted(name, weight, members[name].member) for name, weight in weights.items())
    alone = (Weighted(LINEAR, 1.0, members[LINEAR].member),)
    return Outcome(
        _model(problem, matrices.features, picked, calibration),
        _model(problem, matrices.features, alone, Calibration()),
        baselines,
        tuple(candidates),
        tuple(skipped),
        losses,
        problem.score(problem.deciding, output[rows], rows),
    )


@dataclass(frozen=True, slots=True)
class _Ledger:
    """Where the search notes what it does."""

    clock: Clock
    reporter: Reporter
    skipped: list[Skipped]
    done: list[str] = field(default_factory=list[str])

    def fit(self, problem: Problem, name: str, family: str, run: Callable[[], Candidate | None]) -> Candidate | None:
        """Fit one member in a span of its own and tell its score, or why there is none."""
        with self.reporter.span(f"train.{name}", family=family) as span:
            candidate = run()
            if candidate is not None:
                span.attributes["score"] = candidate.score
        if candidate is None:
            return self.skip(name, family, "the budget ended while it was fitted")
        message = f"{name}: {problem.deciding} {candidate.score:.4f} out of fold"
        self.done.append(name)
        self.reporter.progress(STEP, len(self.done) / MEMBERS, message, **{problem.deciding: candidate.score})
        return candidate

    def skip(self, name: str, family: str, reason: str) -> None:
        """Note a member that was not fitted."""
        self.skipped.append(Skipped(name, family, reason))
        self.reporter.progress(STEP, None, f"{name} skipped: {reason}")


def _candidates(problem: Problem, matrices: Matrices, settings: Settings, ledger: _Ledger) -> Iterator[Candidate]:
    clock = ledger.clock
    linear = ledger.fit(problem, LINEAR, "linear", lambda: fit_linear(problem, matrices, clock))
    if linear is not None:
        yield linear
    before_s = 0.0
    for recipe in recipes(problem.kind, len(problem.weight)):
        if settings.families and "lightgbm" not in settings.families:
            return
        if settings.replay is not None and recipe.name not in settings.replay.fitted:
            ledger.skip(recipe.name, "lightgbm", "the run that is repeated did not fit it")
            continue
        if clock.left < OPTIMISM * before_s or clock.left <= 0:
            ledger.skip(recipe.name, "lightgbm", f"{max(clock.left, 0.0):.1f} s of the budget left")
            continue
        cuts = settings.replay.fitted[recipe.name] if settings.replay else NOWHERE
        pace = Pace(clock, settings.threads, cuts)
        fit = lambda recipe=recipe, pace=pace: fit_trees(problem, matrices, recipe, pace)  # noqa: E731
        candidate = ledger.fit(problem, recipe.name, "lightgbm", fit)
        if candidate is not None:
            before_s = candidate.wall_s
            yield candidate


def _weights(problem: Problem, candidates: list[Candidate], settings: Settings) -> dict[str, float]:
    weights = choose(problem, candidates)
    linear = next((item for item in candidates if item.name == LINEAR), None)
    if settings.prefer == "simple" and linear is not None and not _pays(problem, candidates, weights, linear):
        return {LINEAR: 1.0}
    return weights


def _pays(problem: Problem, candidates: list[Candidate], weights: dict[str, float], linear: Candidate) -> bool:
    """Tell whether the ensemble is better than linear beyond doubt, out of fold."""
    rows = common_rows(problem, candidates)
    ours = problem.scorer(problem.deciding, blend(candidates, weights)[rows], rows)
    theirs = problem.scorer(problem.deciding, linear.oof[rows], rows)
    time = None if problem.time is None else problem.time[rows]
    groups = None if problem.groups is None else problem.groups[rows]
    low, high = paired_interval(ours, theirs, Resampling(problem.weight[rows], time, groups, problem.seed))
    return high < 0 if problem.deciding in SMALLER_IS_BETTER else low > 0


def _model(problem: Problem, features: Features, members: tuple[Weighted, ...], calibration: Calibration) -> Model:
    classes = 0 if problem.kind == "regression" else problem.classes
    return Model(problem.kind, classes, features, members, calibration, problem.centre, problem.scale)
