"""A task's life: the pure `transition(state, event)` that is the only definition of what events mean.

Status is replay and fold: nothing else stores it. States are A2A's (submitted, working, input-required,
completed, failed, canceled). What comes after the final event stays in the stream and changes nothing; so do
answers to a task that is over, timers of questions that were answered, and a second `submitted`.

The executor's rules (who may claim, what a doorbell means) read the same fold: `decide`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, cast

from contracts.briefing import Briefing
from contracts.envelope import TaskEvent, moment, root_span_id, split_traceparent, trace_id
from contracts.events import (
    AnswerValue,
    Approved,
    Canceled,
    CancelRequested,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Final,
    Progressed,
    Question,
    QuestionsAnswered,
    QuestionsAsked,
    Redriven,
    Released,
    StepRecorded,
    TaskSubmitted,
    TimedOut,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.subjects import WAKING
from contracts.summary import Summary

Status = Literal["unknown", "submitted", "working", "input-required", "completed", "failed", "canceled"]
Waiting = Literal["answers", "approval", "summary"]
Timer = Literal["answers", "approval", "summary", "deadline"]
Changes = dict[str, Any]
"""Fields of TaskState and their new values."""

FINAL_EVENTS = ("completed", "failed", "canceled")
_ADVANCES = frozenset({"briefed", "asked", "designed", "step", "delivered", "reported", "released"})
"""Events of the agent by which its task has got further."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An open activation: the `working` event that opened it."""

    seq: int
    """Its TASKS sequence: the fencing token."""
    executor: str
    event_seq: int
    work_seq: int


@dataclass(frozen=True, slots=True)
class TaskState:
    """The fold of a task's history."""

    task: str
    agent: str = ""
    first_seq: int = 0
    """Sequence of the first `submitted`, readable or not: the task begins there."""
    last_seq: int = 0
    """Sequence of the newest event, meaningful or not: what compare-and-set expects."""
    closed_seq: int = 0
    """Sequence of the last closing event: every earlier waking event has been taken in."""
    claim: Claim | None = None
    attempts: int = 0
    """Claims in a row that came to nothing: no event of the agent's followed, and nobody handed it over."""
    pending: tuple[int, ...] = ()
    """Waking events that no closing event has taken in."""
    request: TaskSubmitted | None = None
    workspace: str = ""
    trace_id: str = ""
    root_parent: str = ""
    """Span id of the submitter, when there was one."""
    submitted_at: datetime | None = None
    deadline: datetime | None = None
    """When the asker wants it to have ended: of the body, else of the header."""
    ended_at: datetime | None = None
    briefing: Briefing | None = None
    asked: QuestionsAsked | None = None
    answers: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])
    design: DesignProposed | None = None
    approval: Approved | None = None
    steps: Mapping[str, StepRecorded] = field(default_factory=dict[str, StepRecorded])
    progress: Progressed | None = None
    delivered: Delivered | None = None
    report: ActivityReport | None = None
    summary: Summary | None = None
    cancel: CancelRequested | None = None
    timeouts: frozenset[str] = frozenset()
    early: frozenset[str] = frozenset()
    """Timers of the open claim that fired before what they guard was written: its executor's clock was behind."""
    redriven: frozenset[int] = frozenset()
    """Sequences of `redriven` events: these doorbells take over whoever holds the task."""
    final: Final | None = None
    final_event: str = ""

    @property
    def root_span_id(self) -> str:
        """The span id reserved for the root span of the task."""
        return root_span_id(self.task)

    @property
    def open_questions(self) -> tuple[Question, ...]:
        """Questions that nobody has answered."""
        if self.asked is None:
            return ()
        return tuple(question for question in self.asked.questions if question.id not in self.answers)

    @property
    def waiting(self) -> Waiting | None:
        """What the task waits for, whoever holds it."""
        if self.final is not None:
            return None
        if self.report is not None:
            return None if self.summary is not None or "summary" in self.timeouts else "summary"
        if self.open_questions:
            return "answers"
        if self.design is not None and self.design.awaits_approval and self.approval is None:
            return "approval"
        return None

    @property
    def status(self) -> Status:
        """A2A's state."""
        if self.final is not None:
            return cast("Status", self.final_event)
        if self.request is None:
            return "unknown"
        if self.waiting in {"answers", "approval"} and self.claim is None:
            return "input-required"
        return "submitted" if self.closed_seq == 0 and self.claim is None else "working"

    @property
    def needs_doorbell(self) -> bool:
        """True when the task can only go on if an item for it stands in WORK."""
        going_on = self.request is not None and (self.waiting is None or self.waiting in self.timeouts)
        return self.final is None and (going_on or self.claim is not None or bool(self.pending))

    @property
    def overdue(self) -> bool:
        """True when nobody holds the task, and the timer of what it waits for fired before: that rings no more."""
        timer = "summary" if self.report is not None and self.summary is None else self.waiting
        return self.final is None and self.claim is None and not self.pending and timer in self.timeouts


def fold(task: str, events: Iterable[TaskEvent]) -> TaskState:
    """The state after these events, in the order of their sequences."""
    state = TaskState(task)
    for event in events:
        state = transition(state, event)
    return state


def transition(state: TaskState, event: TaskEvent) -> TaskState:
    """The state after one more event. An event at or before `last_seq` was seen already: nothing changes."""
    if event.seq <= state.last_seq:
        return state
    changes: Changes = {"last_seq": event.seq}
    if event.event == "submitted" and state.first_seq == 0:
        changes["first_seq"] = event.seq
        state = replace(state, first_seq=event.seq)
    if state.final is None and event.body is not None and _concerns(state, event):
        changes |= _meaning(state, event, event.body)
    return replace(state, **changes)


def _meaning(state: TaskState, event: TaskEvent, body: Message) -> Changes:
    """What an event that concerns the task changes of it."""
    changes = _apply(state, event)
    if closes(body):
        known = event.expected or event.seq
        changes |= {"closed_seq": event.seq, "claim": None, "pending": tuple(s for s in state.pending if s > known)}
    elif changes and event.event in WAKING and "early" not in changes:
        changes["pending"] = (*state.pending, event.seq)
    if event.event in _ADVANCES:
        changes["attempts"] = 0
    return changes


def _concerns(state: TaskState, event: TaskEvent) -> bool:
    """Whether the event can mean anything to the task as it is.

    Nothing counts before the first `submitted`, and only its end before one that can be read. The agent in the
    subject is whom the publisher may speak for, or to: another one's events are about another agent's task.
    """
    if state.request is None:
        return state.first_seq > 0 and event.event in {"submitted", *FINAL_EVENTS}
    return event.agent == state.agent


def lets_go(body: Message) -> bool:
    """True for events by which the agent leaves its task alone until something wakes it.

    They must be decided on everything that woke it before: whatever they overlook, nobody takes in.
    """
    return isinstance(body, QuestionsAsked | Released) or (isinstance(body, DesignProposed) and body.awaits_approval)


def closes(body: Message) -> bool:
    """Closing events end an activation: whatever woke the agent before them, and was known to it, has been taken in.

    In a cluster the server's compare-and-set does not see what is on its way: an event may stand before a closing one
    that did not know it.
    """
    return lets_go(body) or isinstance(body, ActivityReport | Completed | Failed | Canceled)


def _apply(state: TaskState, event: TaskEvent) -> Changes:  # noqa: C901, PLR0911, PLR0912 - the table of meanings
    match event.body:
        case TaskSubmitted() as body:
            return _submitted(state, event, body)
        case Working() as body:
            claim = Claim(event.seq, body.executor, body.event_seq, body.work_seq)
            return {"claim": claim, "attempts": state.attempts + 1, "early": frozenset[str]()}
        case Briefing() as body:
            return {"briefing": body}
        case QuestionsAsked() as body:
            return {"asked": body, "timeouts": _guarded(state, "answers")}
        case QuestionsAnswered(answers=answers):
            return {"answers": {**state.answers, **{a.question_id: a.value for a in answers}}}
        case DesignProposed() as body:
            return {"design": body, "approval": None, "timeouts": _guarded(state, "approval")}
        case Approved() as body:
            return _approved(state, body)
        case StepRecorded() as body:
            return {"steps": {**state.steps, body.name: body}}
        case Progressed() as body:
            return {"progress": body, "attempts": max(0, state.attempts - body.handed_over)}
        case Delivered() as body:
            return {"delivered": body}
        case ActivityReport() as body:
            return {"report": body}
        case Summary() as body:
            return {"summary": body} if state.report is not None and state.summary is None else {}
        case TimedOut(timer=timer):
            return _timed_out(state, event, timer)
        case CancelRequested() as body:
            return {"cancel": body}
        case Redriven():
            return {"redriven": state.redriven | {event.seq}}
        case Completed() | Failed() | Canceled() as body:
            return {"final": body, "final_event": event.event, "ended_at": event.metadata.time}
        case _:
            return {}


def _submitted(state: TaskState, event: TaskEvent, body: TaskSubmitted) -> Changes:
    """The first `submitted` opens the task; another one is refused by the gateway and means nothing here."""
    if state.request is not None:
        return {}
    spans = split_traceparent(event.metadata.traceparent)
    derived = (trace_id(state.task), root_span_id(state.task))
    return {
        "agent": event.agent,
        "request": body,
        "workspace": body.workspace or event.metadata.workspace,
        "submitted_at": event.metadata.time,
        "deadline": body.constraints.deadline or moment(event.metadata.deadline),
        "trace_id": spans[0] if spans else derived[0],
        "root_parent": spans[1] if spans and spans != derived else "",
        "answers": {answer.question_id: answer.value for answer in body.answers},
    }


def _approved(state: TaskState, body: Approved) -> Changes:
    """The first decision counts, and for the design that was read: another digest is about something else."""
    design = state.design
    if state.approval is not None or design is None or not design.awaits_approval:
        return {}
    if body.design_digest and body.design_digest != design.digest:
        return {}
    return {"approval": body}


def _timed_out(state: TaskState, event: TaskEvent, timer: str) -> Changes:
    """A timer counts while the task waits for what it guards; the deadline always counts.

    So does the summary's: set before `reported`, it may fire first when that is delayed, and nothing else would end
    the wait. Those of questions and designs count later when the open claim set them: nobody will set them again.
    """
    if timer in {"deadline", "summary", state.waiting}:
        return {"timeouts": state.timeouts | {timer}}
    if state.claim is not None and event.metadata.id == timer_id(state.task, state.claim.seq, timer):
        return {"early": state.early | {timer}}
    return {}


def timer_id(task: str, claim: int, timer: str) -> str:
    """Id of the `timeout` of a timer that an executor sets under its claim."""
    return f"{task}/{claim}/timer-{timer}"


def summary_id(task: str, known: int) -> str:
    """Id of the `summarised` that is published by compare-and-set on `known`, the newest event that it tells of."""
    return f"{task}/summary/{known}"


def _guarded(state: TaskState, timer: Timer) -> frozenset[str]:
    """What has timed out once a wait begins: this timer has only if it fired too early."""
    return (state.timeouts - {timer}) | (state.early & {timer})


Decision = Literal["done", "running", "claim"]


def decide(state: TaskState, *, event_seq: int, work_seq: int) -> Decision:
    """What a doorbell means for the executor that heard it.

    `done`: nothing to do, acknowledge. `running`: the open activation folds the event, acknowledge. `claim`:
    append `working` by compare-and-set; the same WORK sequence again is a takeover of an executor that died.
    """
    if state.request is None or state.final is not None:
        return "done"
    if event_seq < state.closed_seq and event_seq not in state.pending and not state.overdue:
        return "done"
    if state.claim is not None and state.claim.work_seq != work_seq and event_seq not in state.redriven:
        return "running"
    return "claim"
