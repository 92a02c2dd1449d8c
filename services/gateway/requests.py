"""What people ask of the mesh: builds each request from a command line, publishes it, reads tasks back.

Owns the rules of publishing from outside: an id is never used twice (compare-and-set on an empty history), and
what answers, approves or cancels joins the task's trace. Left out: which bus (attach.py), what follows
(following.py).
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from contracts import subjects
from contracts.envelope import TaskEvent, read_event
from contracts.events import (
    Answer,
    AnswerValue,
    Approved,
    CancelRequested,
    Constraints,
    QuestionsAnswered,
    TaskSubmitted,
)
from contracts.message import Message
from contracts.task import TaskState, fold
from services._runtime import workspace
from services._runtime.bus import Bus, Expect
from services._runtime.errors import Permanent, WrongSequence
from services._runtime.publisher import About, Publisher, new_id
from services._runtime.settings import Settings
from services.gateway.exits import Usage
from services.gateway.supervisor import unfinished_ids

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for work, as the command line gives it."""

    text: str
    workspace: str
    answers: Mapping[str, AnswerValue]
    accept_defaults: bool = False
    time_budget: str = ""
    approval: Literal["auto", "design"] = "auto"

    def message(self) -> TaskSubmitted:
        """The message that submits it. Raises Usage naming what is wrong."""
        if not self.text.strip():
            raise Usage("the request is blank: say in plain words what is wanted")
        try:
            return TaskSubmitted(
                request=self.text,
                workspace=self.workspace,
                answers=_answers(self.answers),
                accept_defaults=self.accept_defaults,
                constraints=Constraints(train_budget_s=seconds(self.time_budget) if self.time_budget else None),
                approval=self.approval,
            )
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            raise Usage(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error

    def is_same_as(self, other: TaskSubmitted) -> bool:
        """True when a task was submitted with these words for this workspace."""
        return (self.text.strip(), self.workspace) == (other.request.strip(), other.workspace)


def seconds(text: str) -> float:
    """`60s`, `2m` or `1h` in seconds. Raises Usage."""
    match = _DURATION.fullmatch(text.strip())
    found = float(match.group(1)) * _SECONDS[match.group(2)] if match else 0.0
    if not 0 < found <= 86_400:
        raise Usage(f"{text!r} is no duration between 1s and 24h: write it as 60s, 2m or 1h")
    return found


def checked_id(task: str) -> str:
    """The id itself. Raises Usage."""
    try:
        return subjects.checked_task_id(task)
    except subjects.SubjectError as error:
        raise Usage(str(error)) from error


def checked_workspace(given: str, settings: Settings, *, elsewhere: bool = False) -> str:
    """The absolute path of a workspace. `elsewhere`: the mesh runs on another bus, which alone knows what is there.

    Raises: Usage for a directory that is missing, outside the allowed roots, or told with `..`.
    """
    path = Path.cwd() / given
    if elsewhere and not path.exists() and ".." not in path.parts:
        return str(path)
    try:
        return str(workspace.resolve(str(path), settings))
    except Permanent as error:
        raise Usage(str(error)) from error


async def submit(publisher: Publisher, message: TaskSubmitted, task: str = "") -> str:
    """Publishes a request under `task` or a new id, which it returns.

    Raises: Usage for an id that is taken; StoreFull at once when the bus has no room.
    """
    task = task or new_id()
    about = About(task=task, id=new_id(), workspace=message.workspace)
    expect = Expect(subjects.task_history(task), 0)
    try:
        await _told_at_once(publisher).event("submitted", subjects.ML_ENGINEER, message, about, expect=expect)
    except WrongSequence as error:
        if await _first_id(publisher.bus, task) != about.id:
            raise Usage(f"task id {task!r} is taken: choose another, or follow it with: mlmesh watch {task}") from error
    return task


async def answer(publisher: Publisher, state: TaskState, answers: Mapping[str, AnswerValue]) -> None:
    """Answers questions of a task."""
    await _tell(publisher, state, "answered", QuestionsAnswered(answers=_answers(answers)))


async def approve(publisher: Publisher, state: TaskState, *, agreed: bool, comment: str = "") -> None:
    """Decides on the design that the state holds."""
    digest = state.design.digest if state.design else ""
    await _tell(publisher, state, "approved", Approved(design_digest=digest, approve=agreed, comment=comment))


async def cancel(publisher: Publisher, state: TaskState, reason: str) -> None:
    """Asks the agent to end a task."""
    await _tell(publisher, state, "cancel-requested", CancelRequested(reason=reason))


async def events_of(bus: Bus, task: str) -> list[TaskEvent]:
    """The journal of a task. Raises Usage when there is no such task."""
    found = [read_event(stored) for stored in await bus.history(checked_id(task))]
    if not found:
        raise Usage(f"there is no task {task!r} on this bus: see the tasks there are with: mlmesh tasks")
    return found


async def state_of(bus: Bus, task: str) -> TaskState:
    """The fold of a task. Raises Usage when there is no such task."""
    return fold(task, await events_of(bus, task))


async def open_state_of(bus: Bus, task: str) -> TaskState:
    """As `state_of`. Raises Usage also for a task that is over."""
    state = await state_of(bus, task)
    if state.final is not None:
        raise Usage(f"task {task!r} is over ({state.status}): nothing can be added; see: mlmesh show {task}")
    return state


async def all_tasks(bus: Bus) -> list[TaskState]:
    """Every task of the bus, newest first."""
    events: dict[str, list[TaskEvent]] = defaultdict(list)
    for stored in await bus.read(subjects.TASKS, subjects.ALL_TASKS, 1):
        place = _place(stored.subject)
        if place is not None:
            events[place.task].append(read_event(stored))
    states = [fold(task, found) for task, found in events.items()]
    return sorted((s for s in states if s.request or s.final), key=lambda state: state.first_seq, reverse=True)


async def unfinished(bus: Bus) -> list[TaskState]:
    """Tasks without an end, oldest first. Only their histories are read."""
    states = [await state_of(bus, task) for task in await unfinished_ids(bus)]
    return sorted((state for state in states if state.request), key=lambda state: state.first_seq)


async def twin(bus: Bus, request: Request) -> TaskState | None:
    """The newest unfinished task with the same words for the same workspace."""
    found = [s for s in await unfinished(bus) if s.request is not None and request.is_same_as(s.request)]
    return found[-1] if found else None


async def dead_letters(bus: Bus) -> int:
    """How many messages nobody could process, and nobody has settled since."""
    found = await bus.subjects_of(subjects.DEAD, subjects.ALL_DEAD)
    return sum(count for subject, count in found.items() if not subjects.is_settled(subject))


async def _tell(publisher: Publisher, state: TaskState, event: str, body: Message) -> None:
    root = f"00-{state.trace_id}-{state.root_span_id}-01"
    about = About(task=state.task, id=new_id(), workspace=state.workspace, parent=root)
    await _told_at_once(publisher).event(event, state.agent, body, about)


def _told_at_once(publisher: Publisher) -> Publisher:
    """Whoever waits at a command line is told that the bus has no room, instead of waiting for some."""
    return replace(publisher, patient=False)


def _place(subject: str) -> subjects.TaskSubject | None:
    """Task and event of a subject of TASKS; None for what no task can be."""
    try:
        return subjects.parse_task_event(subject)
    except subjects.SubjectError:
        return None


async def _first_id(bus: Bus, task: str) -> str:
    history = await bus.history(task)
    return read_event(history[0]).metadata.id if history else ""


def _answers(given: Mapping[str, AnswerValue]) -> tuple[Answer, ...]:
    return tuple(Answer(question_id=key, value=value) for key, value in given.items())
