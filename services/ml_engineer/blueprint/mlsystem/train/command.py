"""The command `train` and its stage: model.onnx, linear.onnx, native.json and train.json from the training rows.

Owns the way from a dataset to a `Problem`, the files and the result. Leaves the search to `search`. The budget is
the stage's wall time once the libraries are there: loading, fitting and compiling all come out of it.
"""

from __future__ import annotations

import hashlib
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlsystem.compile.calibration import Calibration
from mlsystem.compile.derive import derived_model
from mlsystem.compile.model import compile_model
from mlsystem.compile.session import Rows, Session
from mlsystem.data.command import validate_stage
from mlsystem.data.dataset import Dataset, load
from mlsystem.errors import DataError
from mlsystem.evaluation.metrics import gain, scorer
from mlsystem.features.arrays import Floats, Ints
from mlsystem.features.derive import derive
from mlsystem.output import Reporter, readable
from mlsystem.spec import Search, Spec, seconds
from mlsystem.stages import Stage, Workspace, run_stage
from mlsystem.train.clock import Clock
from mlsystem.train.own import FED, OWN, Own, answered, fit_own, read_own
from mlsystem.train.own import NAME as OWNERS
from mlsystem.train.plan import Plan
from mlsystem.train.problem import Fold, Problem, affordable
from mlsystem.train.record import (
    LINEAR,
    MODEL,
    NATIVE,
    RECORD,
    STEP,
    Compiled,
    Left,
    Record,
    Tried,
    these_versions,
    this_platform,
)

if TYPE_CHECKING:
    from mlsystem.train.search import Outcome
_KEYS = ("task.metric", "search", "split.folds", "derive")
"""What the outcome of `train` depends on, besides the validated rows."""

_NO_EXPRESSIONS: Mapping[str, str] = {}

_TIMED_RUNS = 200


def train(workspace: Workspace, _options: Namespace | None = None) -> dict[str, object]:
    """Command `train`: return the stage's result, running it if need be."""

    def run(out: Path) -> dict[str, object]:
        import_module("mlsystem.train.search")  # the fitting libraries; from a cold disk they take as long as a search
        clock = Clock.start(seconds(workspace.spec.search.budget))
        workspace.reporter.progress(STEP, 0.0, "loading the training rows")
        dataset = load(workspace, validate_stage(workspace).digest(workspace))
        return fit(dataset, workspace.spec, out, Run(clock, workspace.reporter, own=_own_file(workspace)))

    return run_stage(workspace, train_stage(workspace), run)


def train_stage(workspace: Workspace) -> Stage:
    """Return the stage for the spec and the source as they are now."""
    own = _own_file(workspace)
    file = () if own is None else (hashlib.sha256(own).hexdigest(),)
    return Stage("train", _KEYS, (validate_stage(workspace).digest(workspace), *file))


def _own_file(workspace: Workspace) -> bytes | None:
    """Return the model that its owner brings along, None where one is to be trained."""
    return read_own(workspace.root, workspace.spec.search.model) if workspace.spec.search.model else None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the stage: its budget, whom it tells, and the plan that it has to follow, if it is a replay."""

    clock: Clock
    reporter: Reporter
    replay: Plan | None = None
    own: bytes | None = None
    """The file that is served in the place of a trained model."""


def replay(workspace: Workspace, dataset: Dataset, out: Path, plan: Plan) -> dict[str, object]:
    """Train as an earlier run did, for as long as it takes."""
    run = Run(Clock.start(math.inf), workspace.reporter, plan, _own_file(workspace))
    return fit(dataset, workspace.spec, out, run)


def fit(dataset: Dataset, spec: Spec, out: Path, run: Run) -> dict[str, object]:
    """Train on a dataset's training rows, write the four files into `out`, return the result of the stage."""
    from mlsystem.train.search import Settings, search  # the fitting libraries load in seconds: only where one fits

    options, clock, reporter = spec.search, run.clock, run.reporter
    problem = as_problem(dataset, spec.task.metric, options.seed, spec.derive)
    own = None if run.own is None else fit_own(run.own, options.model, dataset)
    families = options.families if own is None else ("linear",)
    found = search(problem, Settings(families, options.prefer, options.threads, run.replay), clock, reporter)
    with reporter.span("train.compile"):
        model = compile_model(found.model) if own is None else own.joined
        compiled = {MODEL: model, LINEAR: compile_model(found.linear)}
    for name, content in compiled.items():
        (out / name).write_bytes(content)
    if own is None:
        (out / NATIVE).write_bytes(msgspec.json.encode(found.model))
    else:
        (out / OWN).write_bytes(own.content)
        (out / FED).write_bytes(msgspec.json.encode(own.joint))
    derived_ms = _row_ms(derived_model(problem.derivation), problem.rows) if problem.derivation.features else 0.0
    sizes = {
        name: Compiled(len(content) / 1e6, _row_ms(content, problem.rows), derived_ms)
        for name, content in compiled.items()
    }
    record = _record(problem, found, dataset.schema.task.labels, options=options, clock=clock)
    record = msgspec.structs.replace(record, compiled=sizes)
    if own is not None:
        record = _owners(record, own, problem, dataset)
    (out / RECORD).write_bytes(readable(record))
    where = "out of fold" if own is None else "on rows that it may have seen"
    told = f"{problem.deciding} {record.score:.4f} {where}"
    reporter.progress(STEP, 1.0, told, **{problem.deciding: record.score})
    return _result(record)


def _owners(record: Record, own: Own, problem: Problem, dataset: Dataset) -> Record:
    """Return the record of a run in which the owner's file stands for what was fitted."""
    output = answered(own.joined, dataset)
    rows = np.flatnonzero(np.isfinite(output).all(axis=1))
    score = scorer(problem.deciding, problem.kind, problem.target[rows], output[rows])(problem.weight[rows])
    notes: dict[str, object] = {
        "sha256": own.joint.sha256,
        "columns": own.joint.inputs,
        "filled": own.joint.filled,
        "rows": "may have seen them",
    }
    tried = Tried(OWNERS, OWNERS, score, problem.deciding, 0.0, notes)
    return msgspec.structs.replace(
        record,
        candidates=(*record.candidates, tried),
        ensemble={OWNERS: 1.0},
        score=score,
        calibration=Calibration(),
        calibration_log_loss={},
    )


def as_problem(dataset: Dataset, metric: str, seed: int, expressions: Mapping[str, str] = _NO_EXPRESSIONS) -> Problem:
    """Return a dataset's training rows as a problem, with what is derived of them; the holdout stays behind."""
    rows = dataset.train
    position = np.full(len(dataset.target), -1)
    position[rows] = np.arange(len(rows))
    folds = [Fold(position[fit_rows], position[valid]) for fit_rows, valid in dataset.folds()]
    if not folds:
        raise DataError(
            "no_folds",
            "this split leaves no folds in the training rows; set split.method = 'random' or split.gap = '0d'",
        )
    task = dataset.schema.task
    numbers, strings = dataset.encoded.numbers, dataset.encoded.strings
    if numbers.shape[1] + strings.shape[1] == 0:
        raise DataError(
            "no_features", "no column is left to learn from; see the findings, and give columns the role 'feature'"
        )
    return Problem(
        kind=task.kind,
        classes=len(task.labels),
        metric=metric,
        rows=Rows(numbers[rows], strings[rows]),
        target=dataset.target[rows],
        weight=weights_of(dataset, rows),
        folds=affordable(folds, len(rows) * (numbers.shape[1] + strings.shape[1]), in_time=dataset.method == "time"),
        time=None if dataset.method != "time" or dataset.time is None else dataset.time[rows],
        groups=None if dataset.together is None else dataset.together[rows],
        seed=seed,
        derivation=derive(dataset.schema, expressions),
    )


def weights_of(dataset: Dataset, rows: Ints) -> Floats:
    """Return the rows' weights: 1 where the data have none, 0 where one is missing or negative."""
    if dataset.weight is None:
        return np.ones(len(rows))
    return np.maximum(np.nan_to_num(dataset.weight[rows], nan=0.0), 0.0)


def _row_ms(model: bytes, rows: Rows) -> float:
    """Return the median time of a single row through all outputs of a compiled file."""
    session, one, times = Session(model), rows.pick(slice(0, 1)), list[float]()
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        session.run(one, *session.outputs)
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times))


def _record(problem: Problem, found: Outcome, labels: tuple[str, ...], *, options: Search, clock: Clock) -> Record:
    return Record(
        kind=problem.kind,
        labels=labels,
        metric=problem.deciding,
        rows=len(problem.weight),
        seed=options.seed,
        threads=options.threads,
        budget_s=clock.budget_s,
        wall_s=round(clock.spent, 3),
        baselines=found.baselines,
        candidates=tuple(
            Tried(c.name, c.family, c.score, problem.deciding, round(c.wall_s, 3), c.notes) for c in found.candidates
        ),
        skipped=tuple(Left(item.name, item.family, item.reason) for item in found.skipped),
        ensemble={item.name: item.weight for item in found.model.members},
        score=found.score,
        calibration=found.model.calibration,
        calibration_log_loss=found.calibration,
        plan=Plan({c.name: c.cuts for c in found.candidates}),
        platform=this_platform(),
        versions=these_versions(),
    )


def _result(record: Record) -> dict[str, object]:
    shown = ("name", "family", "score", "metric", "wall_s")
    candidates: list[dict[str, Any]] = [{name: getattr(c, name) for name in shown} for c in record.candidates]
    return {
        "candidates": sorted(candidates, key=lambda candidate: -gain(record.metric, candidate["score"], 0.0)),
        "ensemble": record.ensemble,
        "calibration": record.calibration.method,
        "metric": record.metric,
        "trials": len(candidates),
        "wall_s": record.wall_s,
    }
