"""Who says what where: one row for each subject of the mesh.

The published AsyncAPI document and the README's table of subjects are made from `CHANNELS`; the names
themselves are `subjects`'s. The agent of a task is whoever its subjects address: in the table, ml-engineer.
"""

from dataclasses import dataclass
from typing import Final

from contracts import subjects
from contracts.agent import AgentCard
from contracts.briefing import Briefing, ContextRequest
from contracts.dead import DeadLetter, LetterSettled
from contracts.events import EVENTS, Progressed, TimedOut
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.subjects import CONTEXT_MANAGER, GATEWAY, ML_ENGINEER, SERVICES, SUMMARIZER
from contracts.system import SystemEvent

CLIENT: Final = "client"
"""Any program that talks to the mesh."""
OPERATOR: Final = "operator"
"""A person who settles dead letters: trusted to say again what others said."""
SERVER: Final = "nats-server"
"""What the server itself publishes: sourced copies, and timers that are due."""
SYSTEM: Final = "delivered-system"
"""A system that the mesh has delivered."""

PARAMETERS: Final = {
    "task": "Task id: 1 to 64 letters, digits, `_` or `-`.",
    "agent": "The addressed agent's name as one token; other characters are percent-encoded.",
    "system": "A delivered system's name as one token.",
    "event": "Name of the system's event.",
    "durable": "The consumer that refused the message.",
    "timer": "What the timer guards: answers, approval, summary or deadline.",
}
"""The variable tokens of the subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A subject, what travels on it, who publishes and who consumes."""

    name: str
    address: str
    """The subject, with `{parameter}` for each variable token."""
    summary: str
    messages: tuple[type[Message], ...]
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    stream: str = ""
    """The stream that keeps it; empty: not stored in one."""
    reply: type[Message] | None = None
    """What a request on this subject is answered with."""


# Who writes an event of a task, and who acts on it.
_ASKED = ((CLIENT,), (ML_ENGINEER, GATEWAY))
_DONE = ((ML_ENGINEER,), (GATEWAY,))
_PARTIES: Final = {
    **dict.fromkeys(("submitted", "answered", "approved", "cancel-requested"), _ASKED),
    **dict.fromkeys(("working", "released", "briefed", "asked", "designed", "step", "progressed"), _DONE),
    **dict.fromkeys(("delivered", "completed", "canceled"), _DONE),
    "reported": ((ML_ENGINEER,), (SUMMARIZER, GATEWAY)),
    "summarised": ((SUMMARIZER,), (ML_ENGINEER, GATEWAY)),
    "timeout": ((SERVER,), (ML_ENGINEER, GATEWAY)),
    "redriven": ((GATEWAY, OPERATOR), (ML_ENGINEER, GATEWAY)),
    "failed": ((ML_ENGINEER, GATEWAY), (GATEWAY,)),
}


def summary_of(model: type[Message]) -> str:
    """The first line of a message's docstring."""
    return (model.__doc__ or "").strip().splitlines()[0]


def _address(subject: str) -> str:
    """A subject built from upper-case stand-ins, with the stand-ins as parameters."""
    return ".".join(f"{{{part.lower()}}}" if part.isupper() else part for part in subject.split("."))


def _task_channel(event: str, body: type[Message]) -> Channel:
    senders, receivers = _PARTIES[event]
    return Channel(
        name=f"task-{event}",
        address=_address(subjects.task_event("TASK", event, "AGENT")),
        summary=summary_of(body),
        messages=(body,),
        senders=senders,
        receivers=receivers,
        stream=subjects.TASKS,
    )


def _context_channel(request_type: str, summary: str, *senders: str) -> Channel:
    return Channel(
        name=request_type.replace("_", "-"),
        address=subjects.context_request(request_type),
        summary=summary,
        messages=(ContextRequest,),
        senders=senders,
        receivers=(CONTEXT_MANAGER,),
        reply=Briefing,
    )


CHANNELS: Final = (
    *(_task_channel(event, body) for event, body in EVENTS.items()),
    Channel(
        name="timer",
        address=_address(subjects.timer("TASK", "TIMER", "AGENT")),
        summary="A timeout that the server publishes when it is due.",
        messages=(TimedOut,),
        senders=(ML_ENGINEER,),
        receivers=(SERVER, GATEWAY),
        stream=subjects.TIMERS,
    ),
    Channel(
        name="due",
        address=_address(subjects.due("TASK", "TIMER", "AGENT")),
        summary="A timer that is due: the server makes it `timeout` of its task.",
        messages=(TimedOut,),
        senders=(SERVER,),
        receivers=(SERVER,),
        stream=subjects.TIMERS,
    ),
    Channel(
        name="work",
        address=_address(subjects.work_item("AGENT", "TASK")),
        summary="The doorbell: look at this task. A copy of the event that rings it.",
        messages=(*(EVENTS[event] for event in subjects.WAKING), ActivityReport),
        senders=(SERVER,),
        receivers=(ML_ENGINEER, SUMMARIZER),
        stream=subjects.WORK,
    ),
    _context_channel(
        "get_task_briefing", "What the workspace says about a task, or about one facet of it.", ML_ENGINEER, CLIENT
    ),
    _context_channel("get_file_location", "Where a file is.", CLIENT),
    _context_channel("get_directory_purpose", "What a directory is for.", CLIENT),
    Channel(
        name="report",
        address=_address(subjects.report("AGENT")),
        summary="Activity reports: copies of `reported`, and the bare reports of outside agents.",
        messages=(ActivityReport,),
        senders=(SERVER, CLIENT),
        receivers=(CONTEXT_MANAGER,),
        stream=subjects.REPORTS,
    ),
    Channel(
        name="system",
        address=_address(subjects.system_event("SYSTEM", "EVENT")),
        summary=summary_of(SystemEvent),
        messages=(SystemEvent,),
        senders=(SYSTEM, ML_ENGINEER),
        receivers=(ML_ENGINEER, GATEWAY),
        stream=subjects.SYSTEMS,
    ),
    Channel(
        name="live",
        address=_address(subjects.live("TASK")),
        summary="Progress too fine to keep, for those who watch now.",
        messages=(Progressed,),
        senders=(ML_ENGINEER,),
        receivers=(CLIENT,),
    ),
    Channel(
        name="dead",
        address=_address(subjects.dead("DURABLE")),
        summary=summary_of(DeadLetter),
        messages=(DeadLetter,),
        senders=SERVICES,
        receivers=(GATEWAY,),
        stream=subjects.DEAD,
    ),
    Channel(
        name="settled",
        address=_address(subjects.settled("DURABLE")),
        summary=summary_of(LetterSettled),
        messages=(LetterSettled,),
        senders=(OPERATOR,),
        receivers=(OPERATOR,),
        stream=subjects.DEAD,
    ),
    Channel(
        name="agents",
        address=f"$KV.{subjects.AGENTS_BUCKET}.{{agent}}",
        summary=summary_of(AgentCard),
        messages=(AgentCard,),
        senders=SERVICES,
        receivers=(GATEWAY, CLIENT),
    ),
)
