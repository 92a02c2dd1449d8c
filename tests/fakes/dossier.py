"""Dossiers of engagements as they end: three kinds of task, each with a good, a middling and a bad end.

The shapes and the sentences are the engine's; the numbers are made up and fit together.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from pydantic import JsonValue

from services.ml_engineer.dossier import Design, Dossier
from services.ml_engineer.engine import (
    ColumnProfile,
    Evaluation,
    Finding,
    GateResult,
    Packaged,
    Profile,
    Promotion,
    Split,
    Training,
    Validation,
)
from services.ml_engineer.slots import Known

Kind = Literal["binary", "multiclass", "regression"]
Outcome = Literal["success", "partial", "failed"]

WHEEL: Final = "mlsystem-0.1.0-py3-none-any.whl"
WHEEL_SHA256: Final = hashlib.sha256(b"the engine").hexdigest()
SNAPSHOT: Final = hashlib.sha256(b"the rows").hexdigest()

EXAMPLE: Final[Mapping[str, JsonValue]] = {
    "SeniorCitizen": 0,
    "tenure": 36,
    "plan": "monthly",
    "signed": "2024-02-29",
}
"""A row to try, as `package` tells it."""
_TARGETS: Final = {"binary": "Churn", "multiclass": "cultivar", "regression": "cnt"}
_METRICS: Final = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}
_GOAL: Final = "Predict which customers will churn from data/customers.csv, p99 under 20 ms"


def dossier(kind: Kind = "binary", outcome: Outcome = "success") -> Dossier:
    """An engagement of this kind that ended so."""
    return Dossier(
        request=_GOAL,
        task="01JD9Z",
        design=design(kind),
        known=known(),
        questions=(),
        profile=profile(kind),
        validation=validation(kind),
        training=training(kind),
        evaluation=evaluation(kind, outcome),
        packaged=packaged(outcome),
        promoted=None if outcome == "failed" else Promotion(version=1),
        wheel=WHEEL,
        wheel_sha256=WHEEL_SHA256,
    )


def with_column(name: str, label: str) -> Dossier:
    """A success whose data has a column and a goal that were called to do harm."""
    known_so_far = dossier()
    hostile = ColumnProfile(name=name, type="category", distinct=3, examples=(label,))
    found = Finding(kind="id_like", columns=(name,), action="kept", text=f"{name!r} has the value {label!r} at times.")
    columns = (*known_so_far.profile.columns, hostile)
    goal = Known("business.goal", f"Watch {name} and {label}", "request", "the request")
    latency = Known("nfr.latency", label, "workspace", f"/{name}:3")
    spec = {key: value for key, value in known_so_far.design.spec.items() if key != "goal"}
    return replace(
        known_so_far,
        request=f"Watch {name} and {label}",
        known={**known_so_far.known, "business.goal": goal, "nfr.latency": latency},
        profile=known_so_far.profile.model_copy(update={"columns": columns}),
        validation=known_so_far.validation.model_copy(update={"findings": (found,)}),
        design=known_so_far.design.model_copy(
            update={"spec": spec, "unmet": (f"watching {name}",), "assumptions": (f"{name}? Assumed: {label}.",)}
        ),
    )


def design(kind: Kind) -> Design:
    """What was to be built."""
    spec: dict[str, Any] = {
        "format": 1,
        "name": f"customers-{kind}",
        "goal": _GOAL,
        "task": {"kind": kind, "target": _TARGETS[kind]},
        "data": {"source": ["../../data/customers.csv"]},
        "search": {"budget": "60s"},
        "objectives": {"latency_ms_p99": 20.0},
    }
    assumptions = ("How many predictions a second are expected? Assumed: 50 rps.",)
    return Design(system=spec["name"], spec=spec, assumptions=assumptions, unmet=(), sections=())


def known() -> dict[str, Known]:
    """What was said, and one thing that nobody said."""
    found = (
        Known("task.data", ["/data/customers.csv"], "request", "the request"),
        Known("business.goal", _GOAL, "request", "the request"),
        Known("nfr.latency", "20 ms p99", "workspace", "/README.md:12"),
        Known("scale.rate", "50 rps", "default", "nobody said otherwise"),
    )
    return {item.id: item for item in found}


def profile(kind: Kind) -> Profile:
    """The data as they came."""
    columns = [
        ColumnProfile(name="customerID", type="category", distinct=2000, examples=("C-1", "C-2")),
        ColumnProfile(name="email", type="category", distinct=2000, examples=()),
        ColumnProfile(name="SeniorCitizen", type="integer", distinct=2, examples=("0", "1")),
        ColumnProfile(name="tenure", type="integer", missing=0.01, distinct=72, examples=("1", "72")),
        ColumnProfile(name="plan", type="category", distinct=3, examples=("monthly", "yearly")),
        ColumnProfile(name="signed", type="date", distinct=1500, examples=("2024-02-29",)),
        ColumnProfile(name=_TARGETS[kind], type="category", distinct=2, examples=("No", "Yes")),
    ]
    return Profile(rows=2000, columns=tuple(columns), time=("signed",), reader={"delimiter": ","})


def validation(kind: Kind) -> Validation:
    """What the audit found; a regression is split by time."""
    findings = (
        Finding(kind="id_like", columns=("customerID",), action="dropped", text="'customerID' names a row."),
        Finding(kind="pii", columns=("email",), action="masked", text="'email' looks like e-mail addresses."),
        Finding(kind="duplicate_rows", action="kept", text="12 of 2,000 rows repeat another one."),
    )
    method = "time" if kind == "regression" else "random"
    why = "the latest 20% are held out" if method == "time" else "rows are drawn at random"
    return Validation(
        digest="a" * 32,
        rows=2000,
        columns=7,
        findings=findings,
        split=Split(method=method, train=1600, holdout=400, why=why),
        snapshot={"digest": SNAPSHOT, "rows": 2000, "path": f"data/snapshots/{SNAPSHOT}"},
    )


def training(kind: Kind) -> Training:
    """Three candidates, two of them shipped."""
    metric = _METRICS[kind]
    scores = {"roc_auc": (0.846, 0.841, 0.839), "log_loss": (0.21, 0.24, 0.25), "mae": (602.5, 640.0, 655.0)}[metric]
    tried = zip(("lightgbm_wide", "linear", "lightgbm_small"), ("lightgbm", "linear", "lightgbm"), scores, strict=True)
    return Training(
        digest="b" * 32,
        candidates=tuple(
            {"name": name, "family": family, "score": score, "metric": metric, "wall_s": 2.5}
            for name, family, score in tried
        ),
        ensemble={"lightgbm_wide": 0.75, "linear": 0.25},
        metric=metric,
        calibration="platt" if kind == "binary" else "none",
        wall_s=11.2,
    )


def evaluation(kind: Kind, outcome: Outcome) -> Evaluation:
    """The holdout, the server, the gates: a partial end misses the latency, a failed one the trivial answer."""
    return Evaluation(
        digest="c" * 32,
        metrics=_metrics(kind) | (_served(31.0 if outcome == "partial" else 3.2)),
        gates=_gates(outcome),
        outcome=outcome,
        best_baseline="median" if kind == "regression" else "prior",
        tie_with_linear=False,
        latency={"p50_ms": 1.4, "p99_ms": 31.0 if outcome == "partial" else 3.2, "rate_rps": 50.0, "seconds": 10.0},
        memory_mb=96.5,
        model_mb=0.42,
        holdout={"rows": 400, "opened": 1},
    )


def packaged(outcome: Outcome) -> Packaged:
    """Version 1."""
    return Packaged(
        digest="d" * 64,
        version=1,
        created=True,
        path=f"work/package/{'e' * 32}",
        outcome=outcome,
        servable=outcome != "failed",
        example=dict(EXAMPLE),
    )


def _metrics(kind: Kind) -> dict[str, dict[str, float | None]]:
    rows = {
        "binary": {"roc_auc": (0.847, 0.826, 0.867, 0.5, 0.843), "ece": (0.021, 0.014, 0.047, 0.011, 0.023)},
        "multiclass": {"log_loss": (0.21, 0.15, 0.29, 1.09, 0.24), "accuracy": (0.94, 0.9, 0.97, 0.4, 0.93)},
        "regression": {"mae": (602.5, 541.0, 689.3, 1742.0, 640.1), "r2": (0.81, 0.74, 0.86, -0.4, 0.79)},
    }[kind]
    columns = ("value", "low", "high", "baseline", "linear")
    return {name: dict(zip(columns, values, strict=True)) for name, values in rows.items()}


def _served(p99_ms: float) -> dict[str, dict[str, float | None]]:
    nothing = dict.fromkeys(("low", "high", "baseline", "linear"))
    values = {"latency_ms_p50": 1.4, "latency_ms_p99": p99_ms, "rows_per_s": 41_250.0}
    return {name: {"value": value, **nothing} for name, value in values.items()}


def _gates(outcome: Outcome) -> tuple[GateResult, ...]:
    slow, worthless = outcome == "partial", outcome == "failed"
    return (
        GateResult(name="parity", value=3e-8, threshold=1e-5, passed=True, text="The compiled model differs by 3e-08."),
        GateResult(
            name="beats_trivial",
            value=-0.01 if worthless else 0.33,
            threshold=0.0,
            passed=not worthless,
            text=f"{'Not surely better' if worthless else 'Better'} than prior, the best trivial answer.",
        ),
        GateResult(
            name="latency_ms_p99",
            value=31.0 if slow else 3.2,
            threshold=20.0,
            passed=not slow,
            text=f"p99 {31 if slow else 3.2} ms at 50 requests a second; at most 20 ms are allowed.",
        ),
    )
