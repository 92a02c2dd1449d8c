"""A message's metadata in NATS headers: CloudEvents 1.0 binary mode, trace context and our own four.

`encode` and `decode` are pure and inverse. A stored message without headers is accepted: what is missing is
derived from the stored message itself, so that every reader derives the same (`id` = `<stream>-<sequence>`,
`time` = the server's, trace = blake2b of the task).

Sources: CloudEvents NATS protocol binding 1.0 (attributes as `ce-` headers), W3C Trace Context.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, unquote

from contracts import subjects
from contracts.events import EVENTS
from contracts.message import ContractError, Message

MSG_ID: Final = "Nats-Msg-Id"
EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
TIME: Final = "ce-time"
TRACEPARENT: Final = "traceparent"
WORKSPACE: Final = "mesh-workspace"
CORRELATION: Final = "mesh-correlation-id"
CAUSATION: Final = "mesh-causation-id"
DEADLINE: Final = "mesh-deadline"
BEGUN: Final = "mesh-begun"
"""Sequence of the task's first event, as its executor knows it: who reads the history begins there and checks it."""
REDRIVE: Final = "mesh-redrive"
"""How often a message was redriven. It keeps its `ce-id`; `Nats-Msg-Id` is new, the cause is the dead letter."""

READ_ANSWER: Final = "Nats-Sequence"
"""Header of the server's answer to a read. No stored message has it, unless the answer was sent to a stream."""
SCHEDULER: Final = "Nats-Scheduler"
"""Header of what a timer published: the subject of the timer. Set by the server."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
_PLAIN = re.compile(r"[!#$&-~]*")
"""What a header carries as it is: printable ASCII but blanks, quotes and the percent sign."""
_SCHEMA = re.compile(r"urn:mlmesh:([A-Za-z]+):(\d+)(?:\.\d+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Everything about a message that is not in its body."""

    id: str
    """Unique a message and the same in every retry; also Nats-Msg-Id."""
    type: str
    """`mlmesh.task.submitted`."""
    source: str
    """`urn:mlmesh:<service>`."""
    time: datetime
    """UTC."""
    schema: str
    """`urn:mlmesh:<Message>:<major>`."""
    task: str = ""
    """ce-subject and correlation id."""
    traceparent: str = ""
    """W3C trace context of the publisher."""
    causation: str = ""
    """Id of the message that led to this one."""
    workspace: str = ""
    """The workspace concerned."""
    deadline: str = ""
    """RFC 3339 UTC."""
    begun: int = 0
    """Where the task's history begins, by the publisher's word; 0: it said nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A message as a stream holds it."""

    stream: str
    seq: int
    subject: str
    time: datetime
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvent:
    """A decoded event of a task. `body` is None for an event that cannot be read: it changes nothing."""

    seq: int
    event: str
    agent: str
    metadata: Metadata
    body: Message | None
    problem: str = ""
    expected: int = 0
    """Sequence that its publisher took for the task's newest, when it said so: what it knew. 0: it said nothing."""


def encode(metadata: Metadata) -> dict[str, str]:
    """Headers for `metadata`. Values are percent-encoded where NATS headers could not carry them."""
    optional = {
        "ce-subject": metadata.task,
        CORRELATION: metadata.task,
        CAUSATION: metadata.causation,
        TRACEPARENT: metadata.traceparent,
        WORKSPACE: metadata.workspace,
        DEADLINE: metadata.deadline,
        BEGUN: str(metadata.begun or ""),
    }
    return {
        MSG_ID: _safe(metadata.id),
        "ce-specversion": "1.0",
        "ce-id": _safe(metadata.id),
        "ce-type": _safe(metadata.type),
        "ce-source": _safe(metadata.source),
        TIME: rfc3339(metadata.time),
        "ce-dataschema": metadata.schema,
        "content-type": "application/json",
        **{name: _safe(value) for name, value in optional.items() if value},
    }


def decode(stored: Stored, *, message: type[Message], task: str = "") -> Metadata:
    """Metadata of a stored message; ContractError for headers that contradict the mesh's contract.

    Raises: ContractError for another specversion, an unknown message or an unknown major version, and for what
    the server said in somebody's place.
    """
    headers = {name.lower(): value for name, value in stored.headers.items()}
    _check_said(stored, message)
    version = headers.get("ce-specversion", "1.0")
    if version != "1.0":
        raise ContractError(f"ce-specversion {version!r} is not 1.0")
    schema = headers.get("ce-dataschema", message.data_schema())
    _check_schema(schema, message)
    derived = f"{stored.stream}-{stored.seq}"
    return Metadata(
        id=unquote(headers.get("ce-id") or headers.get(MSG_ID.lower()) or derived),
        type=unquote(headers.get("ce-type", "")),
        source=unquote(headers.get("ce-source", "")),
        time=_time(headers.get(TIME), stored.time),
        schema=schema,
        task=task or unquote(headers.get("ce-subject", "")),
        traceparent=traceparent(headers.get(TRACEPARENT, ""), task or derived),
        causation=unquote(headers.get(CAUSATION, "")),
        workspace=unquote(headers.get(WORKSPACE, "")),
        deadline=unquote(headers.get(DEADLINE, "")),
        begun=_number(headers.get(BEGUN, "")),
    )


def decode_event(stored: Stored) -> TaskEvent:
    """The task event in a stored message of TASKS.

    Raises: SubjectError for a subject that is no task's; ContractError for an unknown event, headers or body.
    """
    place = subjects.parse_task_event(stored.subject)
    model = EVENTS.get(place.event)
    if model is None:
        raise ContractError(f"no event is named {place.event!r}; known are {', '.join(EVENTS)}")
    metadata = decode(stored, message=model, task=place.task)
    _check_scheduler(stored, place)
    return TaskEvent(
        seq=stored.seq,
        event=place.event,
        agent=place.agent,
        metadata=metadata,
        body=model.from_bytes(stored.data),
        expected=_number(stored.headers.get(EXPECTED_SEQUENCE, "")),
    )


def read_event(stored: Stored) -> TaskEvent:
    """As `decode_event`, but an event that cannot be read comes back with `body` None and its problem."""
    try:
        return decode_event(stored)
    except (ContractError, subjects.SubjectError) as error:
        parts = [*stored.subject.split("."), "", "", "", "", ""]
        metadata = Metadata(
            id=f"{stored.stream}-{stored.seq}", type="", source="", time=stored.time, schema="", task=parts[2]
        )
        return TaskEvent(
            seq=stored.seq, event=parts[3], agent=parts[4], metadata=metadata, body=None, problem=str(error)
        )


def concerns(stored: Stored) -> tuple[str, str]:
    """(task, traceparent) of any stored message, also of one that cannot be decoded; empty where it tells of no task.

    Read loosely: for logs, and for what is published about the message.
    """
    headers = {name.lower(): value for name, value in stored.headers.items()}
    task = subjects.task_in(stored.subject) or unquote(headers.get("ce-subject", ""))
    return task, traceparent(headers.get(TRACEPARENT, ""), task) if task else ""


def begun_by(stored: Stored) -> int:
    """Where the task's history begins by the word of whoever published the message; 0 where it says nothing."""
    return _number(stored.headers.get(BEGUN, ""))


def traceparent(header: str, task: str) -> str:
    """The header where it is valid, else one derived from the task, the same for every reader."""
    if _TRACEPARENT.fullmatch(header):
        return header
    return f"00-{trace_id(task)}-{root_span_id(task)}-01"


def trace_id(task: str) -> str:
    """32 hex digits: blake2b-128 of the task id."""
    return blake2b(task.encode(), digest_size=16).hexdigest()


def root_span_id(task: str) -> str:
    """16 hex digits reserved for the task's root span."""
    return blake2b(f"root/{task}".encode(), digest_size=8).hexdigest()


def split_traceparent(header: str) -> tuple[str, str] | None:
    """(trace id, span id) of a valid traceparent, else None."""
    match = _TRACEPARENT.fullmatch(header)
    return (match.group(1), match.group(2)) if match else None


def rfc3339(time: datetime) -> str:
    """A time as headers carry it: UTC, to the microsecond."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment(text: str) -> datetime | None:
    """The time in a header, UTC where it names no zone; None for one that cannot be read."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _check_schema(schema: str, message: type[Message]) -> None:
    match = _SCHEMA.fullmatch(schema)
    if match is None or match.group(1) != message.__name__:
        raise ContractError(f"ce-dataschema {schema!r} is not {message.data_schema()!r}")
    if int(match.group(2)) not in {message.major, message.major - 1}:
        raise ContractError(
            f"major version {match.group(2)} of {message.__name__} is unknown here; this reads {message.major}"
            f" and the one before: upgrade the reader"
        )


def _check_said(stored: Stored, message: type[Message]) -> None:
    """ContractError for an answer of the server's or of a service's that its asker had sent here.

    Permissions govern subjects, and a request names its reply subject freely: who may read or ask could have any
    event said by whoever answers. Answers to reads carry the server's headers. Other answers carry no envelope, and
    nothing that the message knows.
    """
    if READ_ANSWER in stored.headers:
        raise ContractError("the answer to a read, sent here by whoever read: publish the message itself")
    if any(name.lower().startswith("ce-") for name in stored.headers):
        return
    try:
        body: object = json.loads(stored.data)
    except (ValueError, RecursionError):
        return  # what is wrong with the body is told by its own check
    if isinstance(body, dict) and body and body.keys().isdisjoint(message.known_names()):
        raise ContractError(f"no field of {message.__name__}, and no envelope: an answer to somebody's request?")


def _check_scheduler(stored: Stored, place: subjects.TaskSubject) -> None:
    """ContractError for what a timer published elsewhere than as a timeout of its own task, to its own agent.

    The server checks who may set a timer, not what it will publish.
    """
    scheduler = stored.headers.get(SCHEDULER)
    if scheduler is None:
        return
    parts = scheduler.split(".")
    own = parts[:3] == ["mesh", "timer", place.task] and parts[4:] in ([], [subjects.token(place.agent)])
    if place.event != "timeout" or not own:
        raise ContractError(f"published by the timer {scheduler!r}: a timer may only say `timeout` on its own task")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _time(text: str | None, fallback: datetime) -> datetime:
    return moment(text or "") or fallback


def _safe(value: str) -> str:
    """Printable ASCII without blanks, which clients trim: anything else is percent-encoded, as CloudEvents says."""
    return value if _PLAIN.fullmatch(value) else quote(value, safe="/:._-@+=,;!$&'()*~#?[]|<>{}^`\\")
