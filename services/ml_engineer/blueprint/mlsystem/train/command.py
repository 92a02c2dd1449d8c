"""The command `train` and its stage: model.onnx, linear.onnx, native.json and train.json from the training rows.

Owns the way from a dataset to a `Problem`, the files and the result. Leaves the search to `search`. The budget is
the stage's wall time: loading, fitting and compiling all come out of it.
"""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from mlsystem.compile.model import compile_model
from mlsystem.compile.session import Rows, Session
from mlsystem.data.command import validate_stage
from mlsystem.data.dataset import Dataset, load
from mlsystem.errors import DataError
from mlsystem.evaluation.metrics import gain
from mlsystem.features.arrays import Floats, Ints
from mlsystem.output import Reporter
from mlsystem.spec import Search, Spec, seconds
from mlsystem.stages import Stage, Workspace, run_stage
from mlsystem.train.clock import Clock
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
_KEYS = ("task.metric", "search", "split.folds")
"""What the outcome of `train` depends on, besides the validated rows."""

_TIMED_RUNS = 200


def train(workspace: Workspace, _options: Namespace | None = None) -> dict[str, object]:
    """Command `train`: return the stage's result, running it if need be."""
    clock = Clock.start(seconds(workspace.spec.search.budget))

    def run(out: Path) -> dict[str, object]:
        workspace.reporter.progress(STEP, 0.0, "loading the training rows")
        dataset = load(workspace, validate_stage(workspace).digest(workspace))
        return fit(dataset, workspace.spec, out, clock=clock, reporter=workspace.reporter)

    return run_stage(workspace, train_stage(workspace), run)


def train_stage(workspace: Workspace) -> Stage:
    """Return the stage for the spec and the source as they are now."""
    return Stage("train", _KEYS, (validate_stage(workspace).digest(workspace),))


def fit(dataset: Dataset, spec: Spec, out: Path, *, clock: Clock, reporter: Reporter) -> dict[str, object]:
    """Train on a dataset's training rows, write the four files into `out`, return the result of the stage."""
    from mlsystem.train.search import Settings, search  # the fitting libraries load in seconds: only where one fits

    options = spec.search
    problem = as_problem(dataset, spec.task.metric, options.seed)
    found = search(problem, Settings(options.families, options.prefer, options.threads), clock, reporter)
    with reporter.span("train.compile"):
        compiled = {MODEL: compile_model(found.model), LINEAR: compile_model(found.linear)}
    for name, content in compiled.items():
        (out / name).write_bytes(content)
    (out / NATIVE).write_bytes(msgspec.json.encode(found.model))
    sizes = {name: _measured(content, problem.rows) for name, content in compiled.items()}
    record = _record(problem, found, dataset.schema.task.labels, options=options, clock=clock)
    record = msgspec.structs.replace(record, compiled=sizes)
    (out / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    reporter.progress(STEP, 1.0, f"{problem.deciding} {found.score:.4f} out of fold", **{problem.deciding: found.score})
    return _result(record)


def as_problem(dataset: Dataset, metric: str, seed: int) -> Problem:
    """Return a dataset's training rows as a problem; the holdout stays behind."""
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
        groups=None if dataset.method != "group" or dataset.groups is None else dataset.groups[rows],
        seed=seed,
    )


def weights_of(dataset: Dataset, rows: Ints) -> Floats:
    """Return the rows' weights: 1 where the data have none, 0 where one is missing or negative."""
    if dataset.weight is None:
        return np.ones(len(rows))
    return np.maximum(np.nan_to_num(dataset.weight[rows], nan=0.0), 0.0)


def _measured(model: bytes, rows: Rows) -> Compiled:
    """Return size and median single-row time of a compiled file."""
    session, one, times = Session(model), rows.pick(slice(0, 1)), list[float]()
    for _ in range(_TIMED_RUNS):
        began = time.perf_counter()
        session.run(one, "raw")
        times.append((time.perf_counter() - began) * 1000)
    return Compiled(mb=len(model) / 1e6, row_ms=float(np.median(times)))


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
