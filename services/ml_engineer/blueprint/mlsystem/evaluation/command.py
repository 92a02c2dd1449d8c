"""The command `evaluate` and its stage: the compiled model on the holdout, the real server, the gates.

Owns the order of things and the result. The holdout is opened once. Everything is measured on the same model.onnx
that will be packaged: quality in ONNX Runtime, parity against the native model, latency and memory over HTTP.
"""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from mlsystem.compile.model import Model
from mlsystem.compile.parity import Parity, compare
from mlsystem.compile.session import Rows, Session
from mlsystem.data.command import validate_stage
from mlsystem.data.dataset import Dataset, load
from mlsystem.errors import ServingError
from mlsystem.evaluation import gates
from mlsystem.evaluation.bootstrap import Resampling, intervals, paired_interval
from mlsystem.evaluation.gates import Gain, Gate
from mlsystem.evaluation.metrics import gain, metrics_of, scorer
from mlsystem.evaluation.own import Answered, own_parts
from mlsystem.features.arrays import Floats, Ints
from mlsystem.hooks import HOOKS_FILE, read_hooks
from mlsystem.monitoring.profile import PROFILE
from mlsystem.monitoring.reference import make_profile
from mlsystem.schema import encode_schema
from mlsystem.serving import load as server_load
from mlsystem.serving.package import REFERENCE, SCHEMA
from mlsystem.spec import SPEC_FILE, Spec
from mlsystem.stages import Stage, Workspace, read_result, run_stage, stage_dir
from mlsystem.train.baselines import Baseline
from mlsystem.train.command import train_stage, weights_of
from mlsystem.train.own import FED, OWN, Joint, compare_own
from mlsystem.train.record import LINEAR, MODEL, NATIVE, Record, read_record

STEP = "evaluate"
SENT_ROWS = 64
"""Rows of the source that the server is asked, taken from the training rows."""

_KEYS = (
    "capture",
    "columns",
    "data.snapshot",
    "gates",
    "governance",
    "monitoring.season",
    "objectives",
    "serving.api_keys",
)
"""What the outcome of `evaluate` depends on, besides the trained model."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The holdout: what is true, what each model says, and how rows are resampled."""

    target: Floats | Ints
    model: Floats
    linear: Floats
    baselines: Mapping[str, Floats]
    resampling: Resampling


def evaluate(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `evaluate`: return the stage's result, running it if need be; StageMissing if nothing was trained."""
    trained = train_stage(workspace).digest(workspace)
    read_result(workspace, "train", trained)
    stage = Stage("evaluate", _KEYS, (trained,))
    return run_stage(workspace, stage, lambda out: _evaluate(workspace, options.latency_seconds, out))


def _evaluate(workspace: Workspace, latency_s: float, out: Path) -> dict[str, object]:
    folder = stage_dir(workspace, "train", train_stage(workspace).digest(workspace))
    record = read_record(folder)
    dataset = load(workspace, validate_stage(workspace).digest(workspace))
    workspace.reporter.progress(STEP, 0.0, f"opening the holdout of {len(dataset.holdout):,} rows")
    holdout = dataset.open_holdout("evaluate")
    with workspace.reporter.span("evaluate.quality"):
        answers = _answers(folder, dataset, record, holdout.rows)
        best = _best_baseline(record, answers)
        metrics = _metrics(record, answers, best)
    workspace.reporter.progress(STEP, 0.3, "counting what monitoring compares with")
    with workspace.reporter.span("evaluate.profile"):
        season = workspace.spec.monitoring.season
        model = (folder / MODEL).read_bytes()
        profile = make_profile(dataset, model, holdout.rows, metric=record.metric, season=season)
        (out / PROFILE).write_bytes(msgspec.json.encode(profile))
    workspace.reporter.progress(STEP, 0.4, "comparing the compiled model with the native one")
    with workspace.reporter.span("evaluate.parity"):
        parity = _parity(folder, dataset, holdout.rows, workspace.spec.search.seed)
    workspace.reporter.progress(STEP, 0.5, f"measuring the server for up to {latency_s:g} s")
    with workspace.reporter.span("evaluate.latency"):
        latency, problem = _latency(workspace, folder, dataset, latency_s)
    model_mb = (folder / MODEL).stat().st_size / 1e6
    found = _Found(record, answers, best, metrics, parity, latency, problem, model_mb)
    decided = [*_gates(workspace.spec, found), *gates.governance_gates(workspace.spec, dataset.schema)]
    workspace.reporter.progress(STEP, 1.0, gates.outcome(decided))
    return {
        "metrics": {**metrics, **_served_metrics(latency)},
        "gates": [msgspec.to_builtins(gate) for gate in decided],
        "outcome": gates.outcome(decided),
        "best_baseline": best.name,
        "tie_with_linear": _ties(record, answers),
        "latency": {name: latency.get(name) for name in ("p50_ms", "p99_ms", "rate_rps", "seconds", "capacity_rps")},
        "memory_mb": latency.get("memory_mb"),
        "model_mb": model_mb,
        "holdout": {"rows": len(holdout.rows), "opened": holdout.opened},
        "own": _own(workspace, record, dataset, answers, holdout.rows),
    }


def _own(workspace: Workspace, record: Record, dataset: Dataset, answers: Answers, rows: Ints) -> dict[str, object]:
    """Return what derived features and hooks cost and say; empty where the owner added nothing."""
    best = _best_baseline(record, answers)
    given = {"value": answers.model, "baseline": answers.baselines[best.name], "linear": answers.linear}
    return own_parts(workspace.spec, record, dataset, read_hooks(workspace.root), Answered(given, rows))


@dataclass(frozen=True, slots=True)
class _Found:
    """All that the gates are decided from."""

    record: Record
    answers: Answers
    best: Baseline
    metrics: dict[str, dict[str, float]]
    parity: Parity
    latency: Mapping[str, float]
    """Empty if the server did not answer, for the reason `problem`."""
    problem: str
    model_mb: float


def _answers(folder: Path, dataset: Dataset, record: Record, rows: Ints) -> Answers:
    boundary = rows_of(dataset, rows)
    output = "value" if record.kind == "regression" else "probabilities"
    model, linear = (Session((folder / name).read_bytes()).run(boundary, output)[0] for name in (MODEL, LINEAR))
    together = dataset.together
    resampling = Resampling(
        weight=weights_of(dataset, rows),
        time=None if together is not None or dataset.time is None else np.nan_to_num(dataset.time[rows], nan=-np.inf),
        groups=None if together is None else together[rows],
        seed=record.seed,
    )
    baselines = {baseline.name: baseline.answers(len(rows)) for baseline in record.baselines}
    return Answers(dataset.target[rows], model, linear, baselines, resampling)


def rows_of(dataset: Dataset, rows: Ints) -> Rows:
    """Return the boundary tensors of some rows."""
    return Rows(dataset.encoded.numbers[rows], dataset.encoded.strings[rows])


def _best_baseline(record: Record, answers: Answers) -> Baseline:
    """Return the trivial answer that is hardest to beat on the holdout, of those that a caller could give."""

    def worth(baseline: Baseline) -> float:
        run = scorer(record.metric, record.kind, answers.target, answers.baselines[baseline.name])
        return gain(record.metric, run(answers.resampling.weight), 0.0)

    return max((baseline for baseline in record.baselines if baseline.gated), key=worth)


def _metrics(record: Record, answers: Answers, best: Baseline) -> dict[str, dict[str, float]]:
    """Return every metric of the kind with its interval, beside the best trivial answer and the linear model."""
    names = metrics_of(record.kind)
    models = {"value": answers.model, "baseline": answers.baselines[best.name], "linear": answers.linear}
    runs = {
        column: [scorer(name, record.kind, answers.target, outputs) for name in names]
        for column, outputs in models.items()
    }
    bounds = intervals(runs["value"], answers.resampling)
    weight = answers.resampling.weight
    rows: dict[str, dict[str, float]] = {}
    for place, (name, (low, high)) in enumerate(zip(names, bounds, strict=True)):
        found = {column: runs[column][place](weight) for column in models}
        # resampling adds noise that a calibration error counts as error: its interval leans away from the value
        spread = {"low": min(low, found["value"]), "high": max(high, found["value"])}
        rows[name] = {"value": found["value"], **spread, "baseline": found["baseline"], "linear": found["linear"]}
    return rows


def _served_metrics(latency: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    names = {"latency_ms_p50": "p50_ms", "latency_ms_p99": "p99_ms", "rows_per_s": "rows_per_s"}
    nothing = dict.fromkeys(("low", "high", "baseline", "linear"))
    return {name: {"value": latency[key], **nothing} for name, key in names.items() if key in latency}


def _gain(record: Record, answers: Answers, name: str) -> Gain:
    """Return the paired gain of the model over other answers in the deciding metric, positive when it is better."""
    other = answers.linear if name == "linear" else answers.baselines[name]
    ours, theirs = (scorer(record.metric, record.kind, answers.target, who) for who in (answers.model, other))
    weight = answers.resampling.weight
    low, high = paired_interval(ours, theirs, answers.resampling)
    bounds = sorted((gain(record.metric, low, 0.0), gain(record.metric, high, 0.0)))
    return Gain(record.metric, name, gain(record.metric, ours(weight), theirs(weight)), bounds[0], bounds[1])


def _ties(record: Record, answers: Answers) -> bool:
    """Tell whether the model cannot be told from the linear one beyond doubt."""
    against = _gain(record, answers, "linear")
    return against.low <= 0 <= against.high


def _parity(folder: Path, dataset: Dataset, rows: Ints, seed: int) -> Parity:
    if (folder / OWN).is_file():
        joint = msgspec.json.decode((folder / FED).read_bytes(), type=Joint)
        own, joined = (folder / OWN).read_bytes(), (folder / MODEL).read_bytes()
        return compare_own(own, joint, joined, rows_of(dataset, rows), dataset.schema)
    native = msgspec.json.decode((folder / NATIVE).read_bytes(), type=Model)
    return compare(native, (folder / MODEL).read_bytes(), rows_of(dataset, rows), seed=seed)


def _latency(workspace: Workspace, folder: Path, dataset: Dataset, seconds: float) -> tuple[Mapping[str, float], str]:
    """Drive the real server on the compiled file; nothing and a reason if it does not answer."""
    objectives = workspace.spec.objectives
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        package = Path(scratch)
        shutil.copy(folder / MODEL, package / MODEL)
        shutil.copy(workspace.root / SPEC_FILE, package / SPEC_FILE)
        (package / SCHEMA).write_bytes(encode_schema(dataset.schema))
        if (hooks := read_hooks(workspace.root)) is not None:
            (package / HOOKS_FILE).write_bytes(hooks)
        (package / REFERENCE).write_bytes(msgspec.json.encode(dataset.records(_sent(dataset))))
        try:
            return (
                server_load.measure(
                    package, rate_rps=objectives.rate_rps, seconds=seconds, objective=objectives.latency_ms_p99
                ),
                "",
            )
        except ServingError as error:
            return {}, error.message


def _sent(dataset: Dataset) -> Ints:
    """Return training rows evenly spread over the source."""
    return dataset.train[np.unique(np.linspace(0, len(dataset.train) - 1, SENT_ROWS).astype(np.int64))]


def _gates(spec: Spec, found: _Found) -> list[Gate]:
    record, answers = found.record, found.answers
    trivial = _gain(record, answers, found.best.name)
    others = [_gain(record, answers, baseline.name) for baseline in record.baselines if not baseline.gated]
    decided = [
        gates.parity_gate(found.parity, spec.gates.parity, labels=record.kind != "regression"),
        gates.trivial_gate(trivial, others, required=spec.gates.beats_trivial),
        gates.contract_gate(found.latency or None, found.problem),
        gates.latency_gate(found.latency or None, spec.objectives.latency_ms_p99),
        gates.size_gate(found.model_mb, spec.objectives.model_mb),
    ]
    if record.kind != "regression":
        labels = np.asarray(answers.target, np.int64)
        decided.append(gates.calibration_gate(labels, answers.model, answers.resampling, spec.gates.ece))
    values = {name: row["value"] for name, row in found.metrics.items()}
    return [*decided, *gates.floor_gates(values, spec.gates.floors)]
