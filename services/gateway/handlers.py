"""What the desk does with each message of TASKS: judge it, and say what must be written about it.

Pure: a stored message and the fold before it go in, verdicts come out. The supervisor carries them out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, decode_event
from contracts.message import ContractError
from contracts.task import TaskState


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
    return Verdict("fine", event=event)


def needs_fold(stored: Stored) -> bool:
    """True when `judge` must know what came before."""
    return ".submitted." in stored.subject


def _judge_submitted(event: TaskEvent, before: TaskState | None, agents: Collection[str]) -> Verdict:
    if before is not None and before.request is not None:
        return Verdict("dead", "the id of this task is taken: submit with a new id; the first task goes on", event)
    if before is not None and before.final is not None:
        return Verdict("dead", "a task of this id has ended: submit with a new id", event)
    if event.agent not in agents:
        known = ", ".join(sorted(agents))
        return Verdict("failed", f"no agent is named {event.agent!r}: submit to one of {known}", event)
    return Verdict("fine", event=event)


def _nothing_before(before: TaskState | None, stored: Stored) -> bool:
    return before is None or (before.final is None and (before.first_seq in {0, stored.seq}))
