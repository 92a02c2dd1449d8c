"""Journals of tasks as the bus would hold them, for the summarizer's tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts.briefing import Activity, Briefing, BriefingBody, Fact
from contracts.envelope import Metadata, TaskEvent
from contracts.events import (
    EVENTS,
    Answer,
    Artifact,
    Delivered,
    DesignProposed,
    Gate,
    QuestionsAnswered,
    Section,
    StepRecorded,
    TaskSubmitted,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.task import TaskState, fold

TASK = "01JTASK"
STARTED = datetime(2026, 4, 3, 9, 30, tzinfo=UTC)
NAMES = {model: name for name, model in EVENTS.items()}

REQUEST = TaskSubmitted(
    request="Predict which customers will churn from data/churn.csv; our web checkout calls it, p99 under 20 ms"
)
WORKING = Working(executor="ml-engineer-1", event_seq=1, work_seq=1)
BRIEFING = Briefing(
    response_to="ml-engineer",
    status="success",
    briefing=BriefingBody(
        summary="A web checkout in Python.",
        relevant_paths=("/README.md", "/data/churn.csv"),
        file_purposes={"/README.md": "what the project is"},
        related_activity=(Activity(agent="data-engineer", summary="Exported the customer table."),),
        facts=(
            Fact(slot="nfr", field="latency", value="20 ms p99", source="/README.md:14", confidence=0.8),
            Fact(slot="scale", field="rate", value="50 rps", source="/README.md:9", confidence=0.7),
            Fact(slot="scale", field="rate", value="5 rps", source="/docs/old.md:3", confidence=0.3),
            Fact(slot="stack", field="language", value="Python", source="/app/main.py:1", confidence=1),
        ),
    ),
)
ANSWERED = QuestionsAnswered(answers=(Answer(question_id="nfr.availability", value="99.9 %"),))
DESIGNED = DesignProposed(
    digest="d1",
    awaits_approval=False,
    sections=(Section(title="Goal", text="Keep customers."),),
    spec={"name": "checkout-churn", "task": {"kind": "binary", "target": "churned"}},
    assumptions=("A false alarm costs as much as a missed customer", "Rows are kept for 30 days"),
)
EVALUATED = StepRecorded(
    name="evaluate",
    attempt=1,
    input_digest="x",
    outcome="ok",
    result={"tie_with_linear": True},
    started_at=STARTED,
    ended_at=STARTED,
)
PROMOTED = EVALUATED.model_copy(update={"name": "promote", "result": {"version": 1}})
PACKAGED_AGAIN = EVALUATED.model_copy(update={"name": "package", "result": {"version": 2, "created": False}})
FILES = (
    "/ml/checkout_churn/README.md",
    "/ml/checkout_churn/docs/design.md",
    "/ml/checkout_churn/vendor/mlsystem-0.1.0-py3-none-any.whl",
)
DELIVERED = Delivered(
    system="checkout-churn",
    system_dir="/ml/checkout_churn",
    version=1,
    outcome="success",
    artifacts=tuple(
        Artifact(path=path, digest="0" * 64, kind=kind)
        for path, kind in zip(FILES, ("document", "document", "engine"), strict=True)
    ),
    gates=(
        Gate(name="beats_trivial", value=0.348, threshold=0.0, passed=True),
        Gate(name="latency_ms_p99", value=3.14159, threshold=20.0, passed=True),
    ),
    metrics={
        "roc_auc": {"value": 0.84761, "low": 0.8294, "high": 0.8661, "baseline": 0.5, "linear": 0.8459},
        "latency_ms_p99": {"value": 3.14159, "low": None, "high": None, "baseline": None, "linear": None},
    },
    findings=[
        {"kind": "id_like", "columns": ["customer_id"], "action": "dropped", "text": "customer_id names a row"},
        {"kind": "constant", "columns": ["country"], "action": "dropped", "text": ""},
    ],
)
REPORT = ActivityReport(
    reporting_agent="ml-engineer",
    status="success",
    summary="Built checkout-churn version 1: features, model, server, documents and tests.",
    files_modified=FILES,
)
SLOW = Gate(name="latency_ms_p99", value=31.4, threshold=20.0, passed=False)
PARTLY_DELIVERED = DELIVERED.model_copy(
    update={
        "outcome": "partial",
        "version": 2,
        "gates": (DELIVERED.gates[0], SLOW),
        "metrics": {"mae": {"value": 617.4, "low": 560.2, "high": 676.8, "baseline": 1590.3, "linear": 640.0}},
        "findings": [],
        "unmet": ("nfr.consistency = strong: serving.state on PostgreSQL is not supported yet",),
    }
)
NO_FILE = "There is no file data/chrun.csv in the workspace; did you mean data/churn.csv?"


@dataclass(frozen=True)
class Case:
    """A journal and its fold."""

    state: TaskState
    history: Sequence[TaskEvent]


def journal(*bodies: Message) -> Case:
    """The case of these messages, in this order; ids are `t/<n>`."""
    history = [_event(seq, body) for seq, body in enumerate(bodies, start=1)]
    return Case(fold(TASK, history), history)


def _event(seq: int, body: Message) -> TaskEvent:
    name = NAMES[type(body)]
    metadata = Metadata(
        id=f"t/{seq}",
        type=f"mlmesh.task.{name}",
        source="urn:mlmesh:ml-engineer",
        time=STARTED + timedelta(seconds=seq),
        schema=body.data_schema(),
        task=TASK,
    )
    return TaskEvent(seq=seq, event=name, agent="ml-engineer", metadata=metadata, body=body)


def success() -> Case:
    return journal(REQUEST, WORKING, BRIEFING, ANSWERED, DESIGNED, EVALUATED, PROMOTED, DELIVERED, REPORT)


def partial() -> Case:
    report = REPORT.model_copy(update={"status": "partial", "summary": "Built version 2; it is too slow."})
    return journal(REQUEST, WORKING, BRIEFING, DESIGNED, PARTLY_DELIVERED, report)


def failed() -> Case:
    report = ActivityReport(reporting_agent="ml-engineer", status="failed", summary=NO_FILE)
    return journal(REQUEST, WORKING, BRIEFING, report)


def failed_checks() -> Case:
    """A system that was built and is no better than guessing."""
    gate = Gate(name="beats_trivial", passed=False, text="the gain over guessing, 0.001, may be chance")
    delivered = DELIVERED.model_copy(update={"outcome": "failed", "gates": (gate,)})
    report = REPORT.model_copy(update={"status": "failed", "summary": "No model beats guessing on this data."})
    return journal(REQUEST, WORKING, DESIGNED, delivered, report)


CASES = {"success": success(), "partial": partial(), "failed": failed(), "failed checks": failed_checks()}


def workspace(directory: Path) -> Path:
    """A workspace with the files that the journals speak of."""
    for path in ("/README.md", "/data/churn.csv", "/app/main.py", "/docs/old.md", *FILES):
        file = directory / path.strip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return directory
