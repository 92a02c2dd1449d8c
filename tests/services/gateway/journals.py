"""Journals of tasks for pure tests: events in order, a second apart."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from contracts.briefing import Briefing, BriefingBody
from contracts.envelope import Metadata, TaskEvent
from contracts.events import (
    EVENTS,
    Completed,
    Delivered,
    DesignProposed,
    Gate,
    QuestionsAnswered,
    QuestionsAsked,
    Section,
    StepRecorded,
    TaskSubmitted,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from tests.fakes.services import FACT, LATENCY, TARGET

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"
METRICS: JsonValue = {"roc_auc": {"value": 0.84, "low": 0.82, "high": 0.86, "baseline": 0.5, "linear": 0.83}}
FINDINGS: JsonValue = [{"kind": "id_like", "columns": ["id"], "action": "dropped", "text": "id is an id"}]

SUBMITTED = TaskSubmitted(request="Predict churn", workspace="/work space")
WORKING = Working(executor="ml-engineer@here:1", event_seq=1, work_seq=1)
BRIEFED = Briefing(
    response_to="ml-engineer",
    status="success",
    briefing=BriefingBody(summary="A shop.", relevant_paths=("/README.md",), facts=(FACT,)),
)
ASKED = QuestionsAsked(known=("50 rps (/README.md:7)",), questions=(LATENCY, TARGET))
ANSWERED = QuestionsAnswered.model_validate({"answers": {"nfr.latency": "20 ms", "task.target": "Churn"}})
DESIGNED = DesignProposed(
    digest="d1",
    awaits_approval=False,
    sections=(Section(title="Goal", text="Predict."),),
    spec={"name": "churn"},
    assumptions=("scale.spikes = 3x",),
)
STEP = StepRecorded(
    name="train",
    attempt=1,
    input_digest="i",
    outcome="ok",
    started_at=BEGUN + timedelta(seconds=7),
    ended_at=BEGUN + timedelta(seconds=69),
)
DELIVERED = Delivered(
    system="churn",
    system_dir="/ml/churn",
    version=2,
    outcome="success",
    gates=(Gate(name="parity", value=0.0, threshold=1e-5, passed=True, text="scores agree"),),
    metrics=METRICS,
    findings=FINDINGS,
)
REPORTED = ActivityReport(reporting_agent="ml-engineer", summary="churn is built", files_modified=("/ml/churn/a",))
SUMMARISED = Summary(text="The model is there.", claims=(), outcome="success")
COMPLETED = Completed(reason="done")

WAITING = (SUBMITTED, WORKING, BRIEFED, ASKED)
WHOLE = (*WAITING, ANSWERED, WORKING, DESIGNED, STEP, DELIVERED, REPORTED, SUMMARISED, WORKING, COMPLETED)

_NAMES = {model: name for name, model in EVENTS.items()}


def journal(bodies: Sequence[Message]) -> list[TaskEvent]:
    """The events of task `t1` with these bodies."""
    return [event(seq, body) for seq, body in enumerate(bodies, start=1)]


def event(seq: int, body: Message, name: str = "") -> TaskEvent:
    """One event of task `t1`, `seq` seconds after it was submitted."""
    name = name or _NAMES[type(body)]
    metadata = Metadata(
        id=f"m{seq}",
        type=f"mlmesh.task.{name}",
        source="urn:mlmesh:test",
        time=BEGUN + timedelta(seconds=seq - 1),
        schema=body.data_schema(),
        task="t1",
        traceparent=f"00-{TRACE}-b7ad6b7169203331-01",
    )
    return TaskEvent(seq=seq, event=name, agent="ml-engineer", metadata=metadata, body=body)
