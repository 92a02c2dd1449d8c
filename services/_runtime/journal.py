"""Durable execution: one activation of a task, fenced by its claim.

`claim` applies the doorbell rules (contracts.task.decide) and opens an activation by appending `working` with
compare-and-set. The activation then appends events and records steps. What it promises:

- an executor whose task was claimed by another can write nothing more (`Fenced`);
- a step that is recorded is not run again; kill -9 repeats at most the step in flight;
- an append whose answer was lost is found again by its id (`<task>/<claim>/<n>`), never written twice;
- a cancel or a deadline that arrives meanwhile raises `Interrupted` at once, also in the middle of a step.

Left out: fetching and acknowledging doorbells (worker.py), what an engagement does (the service's handlers).
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, TypeVar

import structlog
from pydantic import BaseModel, JsonValue, TypeAdapter

from contracts import subjects
from contracts.envelope import REDRIVE, Stored, TaskEvent, read_event
from contracts.events import Progressed, StepRecorded, Working
from contracts.message import Message
from contracts.task import (
    FINAL_EVENTS,
    TaskState,
    Timer,
    closes,
    decide,
    fold,
    lets_go,
    summary_id,
    timer_id,
    transition,
)
from services._runtime import telemetry
from services._runtime.bus import CLAIM_CHECK, Expect
from services._runtime.errors import BusUnavailable, Fenced, HandsOver, Interrupted, MeshError, WrongSequence
from services._runtime.executor import Executor
from services._runtime.publisher import About, Publisher, Sent, new_id

R = TypeVar("R")

_LOOK_S: Final = 10.0
"""How often a running activation looks for news without a hint: hints are core messages and may be lost."""
_LATE_S: Final = 0.25
"""How soon after a deadline the timer's event is looked for, and again until it is there."""
_PROGRESS_S: Final = 1.0
"""Progress is stored at most once a second; what comes in between goes to `mesh.live` only."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A work item: look at this task."""

    task: str
    agent: str
    event_seq: int
    """TASKS sequence of the event that rang."""
    work_seq: int
    """WORK sequence of the item."""
    deliveries: int = 1
    rang: Stored | None = None
    """The event that rang, as far as the item carries it: not with the server's time, nor with its headers."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an activation hangs in the task's trace."""

    parent: str
    """traceparent: the event that woke it the first time; later the task's root, since what was before is over."""
    links: tuple[str, ...]
    """traceparents: the event that woke it, and the claim that it takes over from."""


@dataclass(slots=True)
class Activation:
    """An open claim on a task. Methods raise Fenced or Interrupted as soon as either is known."""

    publisher: Publisher
    doorbell: Doorbell
    state: TaskState
    claim: int
    """TASKS sequence of our `working` event."""
    history: list[TaskEvent]
    origin: Origin
    executor: Executor
    _hint: asyncio.Event
    """Set when others wrote about the task."""
    _claim_id: str
    _read_seq: int
    """Everything up to here was read. Above it are our own events, and in a cluster what they may have passed by."""
    _last_id: str = ""
    """Id of our newest event: what caused the next one."""
    _decided_on: frozenset[int] = frozenset()
    """Waking events that the handler knew when it began to decide."""
    _events: int = 0
    _progress_at: datetime | None = None
    _progress_step: str = ""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _held_at: float = 0.0
    """When the stream was last asked and said that the task is ours."""

    def __post_init__(self) -> None:
        """What the claim found is known to the handler."""
        self._last_id = self._claim_id
        self.decide_again()

    def decide_again(self) -> None:
        """The handler begins to decide, on the state as it is now."""
        self._decided_on = frozenset(self.state.pending)

    @property
    def task(self) -> str:
        """The task's id."""
        return self.state.task

    @property
    def waking_id(self) -> str:
        """Id of the event that woke it."""
        return _waking_id(self.history, self.doorbell)

    async def append(self, event: str, body: Message, *, ending: bool = False) -> int:
        """Stores an event of this agent; its sequence. What others wrote in between is taken in first.

        Raises: Fenced; Interrupted when a cancel or the deadline was found, unless `ending`: the event is part
        of how an interrupted task ends; WrongSequence for an event that lets go of the task, when another came that
        wakes it and that the handler has not decided on: nobody else would take it in.
        """
        self._events += 1
        message_id = f"{self.task}/{self.claim}/{self._events}"
        about = About(
            task=self.task,
            id=message_id,
            causation=self._last_id,
            workspace=self.state.workspace,
            begun=self.state.first_seq,
        )
        async with self._lock:
            if closes(body) and self.publisher.bus.clustered:
                await self._look()
            while True:
                self._check(ending=ending or event in FINAL_EVENTS)
                self._check_overlooked(body)
                asked_at, expect = time.monotonic(), Expect(self._filter, self.state.last_seq)
                try:
                    sent = await self.publisher.event(event, self.state.agent, body, about, expect=expect)
                except WrongSequence:
                    if self._take_in(await self.publisher.bus.news(self.task, after=self.state.last_seq), message_id):
                        break
                else:
                    # Nothing else was written since the fold: the compare-and-set proves it, but for a cluster's.
                    self._fold(_event(sent, event, body, expect, agent=self.state.agent))
                    self._held_at = asked_at
                    break
        self._last_id = message_id
        return self.state.last_seq

    async def step(self, name: str, run: Callable[[], Awaitable[R]], *, result: type[R], inputs: JsonValue = None) -> R:
        """The recorded result of the step if the task has one for these inputs, else `run`'s, recorded.

        `result` is a pydantic model or a JSON type. Effects outside the bus carry the key `effect_key(name)`.
        """
        adapter = _adapter(result)
        digest = digest_of(inputs)
        recorded = self.state.steps.get(name)
        if recorded is not None and recorded.input_digest == digest and recorded.outcome == "ok":
            return adapter.validate_python(recorded.result)
        if self.executor.stop.is_set():
            raise HandsOver(f"step {name!r} of task {self.task!r} is the next executor's: this one stops")
        await self._look_when_late()
        started_at = self.publisher.clock()
        with self.publisher.telemetry.span(
            f"step {name}", attributes={telemetry.TASK: self.task, telemetry.STEP: name}
        ):
            value = await run()
            body = StepRecorded(
                name=name,
                attempt=recorded.attempt + 1 if recorded else 1,
                input_digest=digest,
                outcome="ok",
                result=adapter.dump_python(value, mode="json"),
                started_at=started_at,
                ended_at=self.publisher.clock(),
            )
            await self.append("step", body)
        return value

    def effect_key(self, step: str) -> str:
        """The idempotency key of a step's effects outside the bus."""
        return f"{self.task}/{step}"

    async def progress(self, body: Progressed) -> None:
        """Tells watchers; stored on a change of step and then at most once a second."""
        now = self.publisher.clock()
        fresh = self._progress_at is None or (now - self._progress_at).total_seconds() >= _PROGRESS_S
        if body.step != self._progress_step and fresh:
            self._progress_at, self._progress_step = now, body.step
            await self.append("progressed", body)
        with contextlib.suppress(BusUnavailable):  # a hint: nobody needs to hear it
            await self.publisher.live(self.task, body)

    async def hand_over(self, why: str) -> None:
        """Says that the step in flight is left to another, in good order: this claim is no failed attempt."""
        if self.state.attempts:
            await self.append("progressed", Progressed(step=self._progress_step, message=why, handed_over=True))

    async def timer(self, name: Timer, after_s: float) -> None:
        """The server wakes the task with `timeout` after `after_s`, whoever lives then."""
        about = About(task=self.task, id=timer_id(self.task, self.claim, name), workspace=self.state.workspace)
        await self.publisher.timer(name, self.state.agent, after_s, about)

    def check(self) -> None:
        """Raises Fenced or Interrupted where the fold says either."""
        self._check(ending=False)

    async def refresh(self) -> None:
        """Takes in what others wrote. Raises Fenced or Interrupted."""
        asked_at = time.monotonic()
        async with self._lock:
            await self._look()
        self.check()
        self._held_at = asked_at

    async def _look(self) -> None:
        """Reads what is new. In a cluster also what may stand between our own events, which the server let pass."""
        after = self._read_seq if self.publisher.bus.clustered else self.state.last_seq
        self._take_in(await self.publisher.bus.history(self.task, after=after))
        self._read_seq = self.state.last_seq

    async def _look_when_late(self) -> None:
        """Looks, where this process may have stood still so long that another took over: no effect is begun then.

        An executor that beats is not taken for dead within half of the acknowledgement wait.
        """
        if time.monotonic() - self._held_at > self.publisher.bus.settings.ack_wait_s / 2:
            await self.refresh()

    async def watch(self) -> None:
        """Runs until the activation must stop: raises Fenced or Interrupted. Hints say when to look."""
        self.check()
        while True:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: it forgets a cancellation that comes together with the hint.
                async with asyncio.timeout(self._look_s()):
                    await self._hint.wait()
            self._hint.clear()
            await self.refresh()

    async def stop_timers(self) -> None:
        """The task is over: what its timers would say means nothing any more, and would only wake somebody."""
        with contextlib.suppress(MeshError):  # they ring in vain then
            await self.publisher.bus.unschedule(self.task)

    def rest(self) -> None:
        """The activation is over: nothing is heard about the task any more, and what was read of it is kept."""
        self.executor.leave(self.task, self._claim_id)
        self.executor.keep(self.publisher.bus, self.state, self.history)

    def _look_s(self) -> float:
        """How long to wait for a hint: what the server's timers publish never comes as one."""
        if self.state.deadline is None:
            return _LOOK_S
        left = (self.state.deadline - self.publisher.clock()).total_seconds()
        return min(_LOOK_S, max(_LATE_S, left + _LATE_S))

    @property
    def _filter(self) -> str:
        return subjects.task_history(self.task)

    def _check(self, *, ending: bool) -> None:
        claim = self.state.claim
        if self.state.final is not None or claim is None or claim.seq != self.claim:
            raise Fenced(task=self.task, claim=self.claim, by_work_seq=claim.work_seq if claim else None)
        if ending:
            return
        if self.state.cancel is not None:
            raise Interrupted("cancel", self.state.cancel.reason or "cancelled on request")
        if "deadline" in self.state.timeouts and self.state.report is None:
            raise Interrupted("deadline", "the deadline passed")

    def _check_overlooked(self, body: Message) -> None:
        if lets_go(body) and not self._decided_on.issuperset(self.state.pending):
            raise WrongSequence(f"task {self.task!r}: something came that was not decided on")

    def _take_in(self, news: list[Stored], message_id: str = "") -> bool:
        """Folds new events; True if our own `message_id` is among them."""
        found = False
        for stored in news:
            event = read_event(stored)
            self._fold(event)
            found = found or (bool(message_id) and event.metadata.id == message_id)
        return found

    def _fold(self, event: TaskEvent) -> None:
        if event.seq > self.state.last_seq:
            self.history.append(event)
            self.state = transition(self.state, event)
        elif all(event.seq != known.seq for known in reversed(self.history)):
            self.history.append(event)
            self.history.sort(key=lambda known: known.seq)
            self.state = fold(self.task, self.history)


async def claim(publisher: Publisher, doorbell: Doorbell, executor: Executor) -> Activation | None:
    """Opens an activation, or None when the doorbell means nothing (any more): acknowledge it.

    Whoever gets an activation calls its `rest` in the end.

    Raises: BusUnavailable; SubjectError for a task id that is none.
    """
    claim_id = f"{doorbell.task}/claim/{new_id()}"
    await executor.listen(publisher.bus, doorbell.agent)
    hint = executor.attend(doorbell.task, claim_id)
    try:
        opened = await _claim(publisher, doorbell, executor, claim_id, hint)
    except BaseException:
        executor.leave(doorbell.task, claim_id)
        executor.forget(doorbell.task)  # what was remembered may be what is wrong
        raise
    if opened is None:
        executor.leave(doorbell.task, claim_id)
    return opened


async def _claim(
    publisher: Publisher, doorbell: Doorbell, executor: Executor, claim_id: str, hint: asyncio.Event
) -> Activation | None:
    body = Working(executor=executor.name, event_seq=doorbell.event_seq, work_seq=doorbell.work_seq)
    state, history = executor.known(publisher.bus, doorbell.task)
    news = await _first_news(publisher, doorbell, state)
    origin, claimed, asked_at = Origin("", ()), 0, time.monotonic()
    while True:
        read = state.last_seq
        for event in news:
            history.append(event)
            state = transition(state, event)
            claimed = event.seq if event.metadata.id == claim_id else claimed
        if claimed:
            return Activation(
                publisher, doorbell, state, claimed, history, origin, executor, hint, claim_id, read, _held_at=asked_at
            )
        decision = decide(state, event_seq=doorbell.event_seq, work_seq=doorbell.work_seq)
        if state.agent != doorbell.agent or decision != "claim":
            return None
        origin = _origin(state, history, doorbell)
        about = About(
            task=doorbell.task,
            id=claim_id,
            causation=_waking_id(history, doorbell),
            workspace=state.workspace,
            parent=origin.parent,
        )
        expect = Expect(subjects.task_history(doorbell.task), state.last_seq)
        asked_at = time.monotonic()
        try:
            sent = await publisher.event("working", state.agent, body, about, expect=expect)
        except WrongSequence:
            log.debug("journal.claim_refused", task=doorbell.task)
            news = [read_event(stored) for stored in await publisher.bus.news(doorbell.task, after=state.last_seq)]
        else:
            news = [_event(sent, "working", body, expect, agent=state.agent)]


async def _first_news(publisher: Publisher, doorbell: Doorbell, state: TaskState) -> list[TaskEvent]:
    """What was written above the state that is remembered; nothing of a task whose newest events say that it is over.

    After a loss of WORK, doorbells of everything that ever was are rung again: one look must do.
    """
    bus = publisher.bus
    if summary := _summary_alone(doorbell, state):
        return [summary]
    if state.last_seq:
        return [read_event(stored) for stored in await bus.history(doorbell.task, after=state.last_seq)]
    newest, first = await bus.look(doorbell.task, agent=doorbell.agent)
    told = [read_event(stored) for stored in newest if stored.seq > first]
    if any(one.event in FINAL_EVENTS and one.agent == doorbell.agent and one.body is not None for one in told):
        return []
    return [read_event(stored) for stored in await bus.begun(doorbell.task, newest, first)]


def _summary_alone(doorbell: Doorbell, state: TaskState) -> TaskEvent | None:
    """The summary that rang, where nothing else was written since the state that is remembered: then it is known whole.

    Its id says on which event the summarizer published it by compare-and-set, and nobody else may publish one. One
    that was redriven came later, under the same id.
    """
    rang = doorbell.rang
    if rang is None or rang.seq <= state.last_seq or not rang.headers.keys().isdisjoint({CLAIM_CHECK, REDRIVE}):
        return None
    event = read_event(rang)
    place = (event.event, event.agent, event.metadata.task, event.metadata.id)
    alone = ("summarised", state.agent, state.task, summary_id(state.task, state.last_seq))
    return event if place == alone else None


def _event(sent: Sent, event: str, body: Message, expect: Expect, *, agent: str) -> TaskEvent:
    """The event as every reader will see it."""
    metadata = sent.metadata
    return TaskEvent(seq=sent.ack.seq, event=event, agent=agent, metadata=metadata, body=body, expected=expect.seq)


def _origin(state: TaskState, history: list[TaskEvent], doorbell: Doorbell) -> Origin:
    """Where the activation that this doorbell opens will hang, from the history before it."""
    waking = next((event.metadata.traceparent for event in history if event.seq == doorbell.event_seq), "")
    claims = [event for event in history if isinstance(event.body, Working)]
    if waking and not claims:
        return Origin(waking, (waking,))
    before = [claim.metadata.traceparent for claim in claims if claim.seq > state.closed_seq]
    return Origin(f"00-{state.trace_id}-{state.root_span_id}-01", (waking, *before[-1:]) if waking else (*before[-1:],))


def _waking_id(history: list[TaskEvent], doorbell: Doorbell) -> str:
    return next((event.metadata.id for event in history if event.seq == doorbell.event_seq), "")


_adapters: dict[object, TypeAdapter[Any]] = {}


def _adapter(result: type[R]) -> TypeAdapter[R]:
    """Making one is slow, and there are as many as kinds of results."""
    if result not in _adapters:
        _adapters[result] = TypeAdapter(result)
    return _adapters[result]


def digest_of(value: JsonValue | BaseModel) -> str:
    """blake2b-128 of canonical JSON: the identity of a step's inputs or of a design."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake2b(canonical.encode(), digest_size=16).hexdigest()
