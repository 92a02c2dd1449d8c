"""What the desk does with each message of TASKS and SYSTEMS: judge it, and say what must be written about it.

Pure: a stored message and the fold before it go in, verdicts come out. The supervisor carries them out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, decode, decode_event
from contracts.message import ContractError
from contracts.system import SystemEvent
from contracts.task import TaskState
from services._runtime.bus import SCHEDULE, SCHEDULE_TARGET


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a message."""

    kind: Literal["fine", "dead", "failed"]
    """`dead`: keep it as a dead letter. `failed`: a dead letter, and the task ends as failed."""
    reason: str = ""
    event: TaskEvent | None = None
    """The decoded event, where it could be read."""


def judge(stored: Stored, before: TaskState | None, agents: Collection[str]) -> Verdict:
    """The verdict on a message of TASKS. `before` is the fold up to it, needed for `submitted` only."""
    try:
        place = subjects.parse_task_event(stored.subject)
    except subjects.SubjectError as error:
        return Verdict("dead", str(error))
    first = before is None or before.request is None
    try:
        event = decode_event(stored)
    except ContractError as error:
        ends = place.event == "submitted" and first and _nothing_before(before, stored)
        return Verdict("failed" if ends else "dead", error.reason)
    if place.event == "submitted":
        return _judge_submitted(event, before, agents)
    if place.event in subjects.WAKING and place.agent not in agents:
        return Verdict("dead", _nobody(place.agent, agents), event)
    return Verdict("fine", event=event)


def judge_timer(stored: Stored) -> Verdict:
    """The verdict on a message of TIMERS: a schedule that wakes the task it is named for, or what came of one.

    What is due is judged once more as the event that the server makes of it.
    """
    try:
        if not subjects.is_timer(stored.subject):
            subjects.parse_due(stored.subject)
            return Verdict("fine")
        task, _ = subjects.parse_timer(stored.subject)
        if SCHEDULE not in stored.headers:
            return Verdict("dead", f"no schedule: without {SCHEDULE} nothing ever comes of a message here")
    except subjects.SubjectError as error:
        return Verdict("dead", str(error))
    if stored.headers.get(SCHEDULE_TARGET) != stored.subject.replace("timer", "due", 1):
        return Verdict("dead", f"a timer of task {task!r} may ring `timeout` of that task alone")
    return Verdict("fine")


def judge_system(stored: Stored) -> Verdict:
    """The verdict on a message of SYSTEMS: an event that can be read, of the system that its subject names."""
    try:
        place = subjects.parse_system_event(stored.subject)
        decode(stored, message=SystemEvent)
        event = SystemEvent.from_bytes(stored.data)
    except (subjects.SubjectError, ContractError) as error:
        return Verdict("dead", str(error))
    if (event.system, event.event) != place:
        told = f"the body tells of {event.event!r} of {event.system!r}"
        return Verdict("dead", f"{told}, the subject of {place[1]!r} of {place[0]!r}: they must agree")
    return Verdict("fine")


def needs_fold(stored: Stored) -> bool:
    """True when `judge` must know what came before."""
    return ".submitted." in stored.subject


def _judge_submitted(event: TaskEvent, before: TaskState | None, agents: Collection[str]) -> Verdict:
    if before is not None and before.request is not None:
        return Verdict("dead", "the id of this task is taken: submit with a new id; the first task goes on", event)
    if before is not None and before.final is not None:
        return Verdict("dead", "a task of this id has ended: submit with a new id", event)
    if event.agent not in agents:
        return Verdict("failed", _nobody(event.agent, agents), event)
    return Verdict("fine", event=event)


def _nobody(agent: str, agents: Collection[str]) -> str:
    return f"no agent is named {agent!r}: submit to one of {', '.join(sorted(agents))}"


def _nothing_before(before: TaskState | None, stored: Stored) -> bool:
    return before is None or (before.final is None and (before.first_seq in {0, stored.seq}))
