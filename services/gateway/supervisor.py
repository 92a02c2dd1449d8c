"""The supervisor at the desk: no message and no task is lost without a word.

- Every message of TASKS and SYSTEMS is judged: what cannot be routed or read is a dead letter with its reason, a
  task that cannot begin is `failed`.
- What used up its deliveries is a dead letter, whatever the stream; work's task is `failed`.
- A task that is neither final nor waiting has a doorbell in WORK: a missing one is rung again (`redriven`). Doorbells
  of agents that nobody is are taken away.
- A task that ended gets its root span.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
from opentelemetry.trace import SpanKind
from pydantic import AwareDatetime, Field

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, read_event
from contracts.events import Failed, Redriven, Totals
from contracts.message import Message
from contracts.task import FINAL_EVENTS, TaskState, fold
from services._runtime import telemetry
from services._runtime.bus import Bus, Expect
from services._runtime.consumer import Delivery, unless_stopped
from services._runtime.errors import BusUnavailable, Malformed, Misconfigured, NoStream, WrongSequence
from services._runtime.provision import repair
from services._runtime.publisher import About
from services._runtime.service import Runtime
from services._runtime.worker import bury
from services.gateway.handlers import Verdict, judge, judge_system, judge_timer, needs_fold

_ROUND_S: Final = 15.0
_FIRST_ROUND_S: Final = 2.0
_ANY: Final = ">"
_SEARCH_S: Final = 600.0
"""How often the whole stream is searched for tasks without an end: what moves is seen without."""

log = structlog.get_logger()


class MaxDeliveries(Message):
    """The server's advisory that a durable gave a message as often as it may, without an end."""

    stream: str
    consumer: str
    """The durable."""
    stream_seq: int = Field(gt=0, lt=2**63)
    deliveries: int = Field(ge=0, lt=2**63)
    timestamp: AwareDatetime


@dataclass(slots=True)
class Supervisor:
    """Carries out verdicts and keeps the invariants of the bus."""

    runtime: Runtime
    suspects: frozenset[str] = field(default_factory=frozenset[str])
    """Tasks that had no doorbell in the last round: two rounds in a row make it certain."""
    moving: dict[str, int] = field(default_factory=dict[str, int])
    """Tasks that neither ended nor were seen at rest since something was heard of them, and what that was."""
    _searched_at: float = float("-inf")

    async def on_task_message(self, delivery: Delivery) -> None:
        """Handle of the durable on TASKS."""
        self._heard(delivery.stored)
        verdict = await self._verdict(delivery.stored)
        match verdict.kind:
            case "fine":
                if verdict.event is not None and verdict.event.event in FINAL_EVENTS:
                    await self._emit_root(verdict.event)
            case "dead" | "failed":
                await self._refuse(delivery.stored, verdict, delivery.deliveries)

    def _heard(self, stored: Stored) -> None:
        task = subjects.task_in(stored.subject)
        if subjects.TASK_ID.fullmatch(task):
            self.moving[task] = max(stored.seq, self.moving.get(task, 0))

    def _at_rest(self, state: TaskState) -> None:
        if self.moving.get(state.task, 0) <= state.last_seq:
            self.moving.pop(state.task, None)

    async def on_advisory(self, delivery: Delivery) -> None:
        """Handle of the durable on ADVISORIES: a message was delivered as often as it may be, without an end."""
        told = MaxDeliveries.from_bytes(delivery.stored.data)
        if told.stream not in subjects.STREAMS:
            raise Malformed(f"an advisory about {told.stream!r}, which is no stream of the mesh")
        stored = await self.runtime.bus.get(told.stream, told.stream_seq)
        if stored is None or stored.time > told.timestamp:  # later: the stream was made anew, and so its sequences
            return
        is_work = told.stream == subjects.WORK
        tried = f"the {'work' if is_work else 'message'} was tried {told.deliveries} times without an end"
        reason = f"{tried}: look at the {told.consumer}'s log, then {'submit' if is_work else 'redrive'} it again"
        await bury(self.runtime.publisher, stored, durable=told.consumer, reason=reason, deliveries=told.deliveries)
        if is_work:
            await self._end_work(stored, reason)

    async def on_timer(self, delivery: Delivery) -> None:
        """Handle of the durable on TIMERS."""
        verdict = judge_timer(delivery.stored)
        if verdict.kind == "dead":
            await self._refuse(delivery.stored, verdict, delivery.deliveries)

    async def on_system_message(self, delivery: Delivery) -> None:
        """Handle of the durable on SYSTEMS. Raises Malformed for what is a dead letter."""
        verdict = judge_system(await self.runtime.bus.whole(delivery.stored))
        if verdict.kind != "fine":
            raise Malformed(verdict.reason)

    async def rounds(self) -> None:
        """Looks after doorbells until the service stops."""
        pause = _FIRST_ROUND_S
        while not self.runtime.stop.is_set():
            await unless_stopped(self.runtime.stop, asyncio.sleep(pause))
            try:
                self.suspects = await unless_stopped(self.runtime.stop, self._round()) or frozenset()
                pause = _FIRST_ROUND_S if self.suspects else _ROUND_S
            except (BusUnavailable, Misconfigured) as error:
                log.warning("supervisor.round_failed", error=str(error))

    async def _round(self) -> frozenset[str]:
        """Durables first: a lost one makes everybody deaf who pulls from it, and nothing else would make it anew."""
        await repair(self.runtime.bus)
        missing = await self.ring_missing()
        await self.clear_doorbells()
        return missing

    async def ring_missing(self) -> frozenset[str]:
        """One round. Rings for tasks that were without a doorbell in the last round too; the others are suspects.

        WORK itself may be lost: it is made anew, and every event of TASKS that ever rang rings once more. Where WORK is
        behind TASKS nothing is missing yet, and what rings would come no sooner.
        """
        await self._search()
        with contextlib.suppress(NoStream):
            if self.moving and not await self.runtime.bus.follows(subjects.WORK):
                return frozenset()
        missing: set[str] = set()
        rung = await self._rung()
        for task in sorted(self.moving.keys() - rung):
            try:
                state = await self._fold(task)
                if not state.needs_doorbell:
                    self._at_rest(state)
                elif not await self._has_doorbell(state):
                    if task in self.suspects:
                        await self._ring(state)
                    else:
                        missing.add(task)
            except NoStream as error:
                log.warning("supervisor.stream_lost", stream=error.stream)
                await repair(self.runtime.bus)
                return frozenset()
            except BusUnavailable as error:  # the other tasks have no part in it
                log.warning("supervisor.task_unread", task=task, error=str(error))
        return frozenset(missing)

    async def _rung(self) -> set[str]:
        """Tasks that have a doorbell, in one look: those need no other."""
        with contextlib.suppress(NoStream):
            standing = await self.runtime.bus.subjects_of(subjects.WORK, _ANY)
            return {subjects.task_in(subject) for subject in standing if _addressee(subject) != subjects.SUMMARIZER}
        return set()

    async def clear_doorbells(self) -> None:
        """Takes doorbells away that nobody will ever answer: what rang them is a dead letter already.

        By sequence, never by a filter: a subject may hold what a filter would read as a wildcard, and the server
        leaves such a one as it is when it makes doorbells of events.
        """
        answering = {subjects.token(agent) for agent in (*await self.agents(), subjects.SUMMARIZER)}
        standing = await self.runtime.bus.subjects_of(subjects.WORK, _ANY)
        if all(_addressee(subject) in answering for subject in standing):
            return
        async for page in self.runtime.bus.pages(subjects.WORK, _ANY):
            for stored in page:
                if _addressee(stored.subject) not in answering:
                    log.info("supervisor.doorbell_of_nobody", subject=stored.subject, stream_seq=stored.seq)
                    await self.runtime.bus.delete(subjects.WORK, stored.seq)

    async def _search(self) -> None:
        """What was not heard of: from before the start, or from a replica of the gateway that is no more."""
        now = asyncio.get_running_loop().time()
        if now - self._searched_at >= _SEARCH_S:
            self.moving = {**dict.fromkeys(await unfinished_ids(self.runtime.bus), 0), **self.moving}
            self._searched_at = now

    async def agents(self) -> frozenset[str]:
        """Names of the agents that take tasks."""
        return frozenset({subjects.ML_ENGINEER})

    async def _end_work(self, stored: Stored, reason: str) -> None:
        """Fails the task of a work item that nobody could finish, and takes the item away."""
        agent, task = subjects.parse_work_item(stored.subject)
        if agent != subjects.SUMMARIZER:
            await self._fail(task, reason)
        await self.runtime.bus.delete(subjects.WORK, stored.seq)

    async def _verdict(self, stored: Stored) -> Verdict:
        try:
            whole, lost = await self.runtime.bus.whole(stored), ""
        except Malformed as error:
            whole, lost = replace(stored, data=b""), str(error)
        before = await self._before(whole) if needs_fold(whole) else None
        verdict = judge(whole, before, await self.agents())
        return replace(verdict, reason=lost) if lost else verdict

    async def _has_doorbell(self, state: TaskState) -> bool:
        wanted = subjects.work_item(state.agent, state.task)
        return bool(await self.runtime.bus.subjects_of(subjects.WORK, wanted))

    async def _ring(self, state: TaskState) -> None:
        log.warning("supervisor.doorbell_was_missing", task=state.task, trace_id=state.trace_id)
        await self._append(state, "redriven", Redriven(reason="no doorbell stood in WORK for a task with work to do"))

    async def _refuse(self, stored: Stored, verdict: Verdict, deliveries: int) -> None:
        await bury(
            self.runtime.publisher,
            stored,
            durable=subjects.GATEWAY,
            reason=verdict.reason,
            deliveries=deliveries,
        )
        if verdict.kind == "failed":
            await self._fail(subjects.parse_task_event(stored.subject).task, verdict.reason)

    async def _fail(self, task: str, reason: str) -> None:
        """Ends a task that nobody else can end."""
        state = await self._fold(task)
        if state.final is None:
            agent = state.agent or await self._addressee(task)
            await self._append(state, "failed", Failed(reason=reason, totals=self._totals(state)), agent=agent)

    async def _append(self, state: TaskState, event: str, body: Message, *, agent: str = "") -> None:
        """By compare-and-set on the fold that was judged; refused means that the task moved: look again next time."""
        about = About(
            task=state.task,
            id=f"{state.task}/gateway/{event}/{state.last_seq}",
            workspace=state.workspace,
            parent=f"00-{state.trace_id}-{state.root_span_id}-01" if state.trace_id else "",
        )
        expect = Expect(subjects.task_history(state.task), state.last_seq)
        try:
            await self.runtime.publisher.event(event, agent or state.agent, body, about, expect=expect)
        except WrongSequence:
            log.info("supervisor.task_moved", task=state.task, trace_id=state.trace_id, event_name=event)
            if event == "failed":
                raise BusUnavailable(f"task {state.task!r} moved while it was being failed") from None

    async def _before(self, stored: Stored) -> TaskState:
        task = stored.subject.split(".")[2]
        if await self.runtime.bus.first_sequence(task) == stored.seq:
            return TaskState(task)
        history = await self._events(task)
        return fold(task, [event for event in history if event.seq < stored.seq])

    async def _fold(self, task: str) -> TaskState:
        return fold(task, await self._events(task))

    async def _events(self, task: str) -> Sequence[TaskEvent]:
        return [read_event(stored) for stored in await self.runtime.bus.history(task)]

    async def _addressee(self, task: str) -> str:
        stored = await self.runtime.bus.history(task)
        return subjects.parse_task_event(stored[0].subject).agent

    async def _emit_root(self, event: TaskEvent) -> None:
        state = await self._fold(event.metadata.task)
        if state.final is not None:
            self._at_rest(state)
        if state.final is None or state.submitted_at is None or state.ended_at is None:
            return
        outcome = state.final.outcome
        log.info("supervisor.task_ended", task=state.task, trace_id=state.trace_id, outcome=outcome)
        self.runtime.telemetry.emit(
            telemetry.SpanRecord(
                name=f"task {state.agent}",
                trace_id=state.trace_id,
                span_id=state.root_span_id,
                parent_id=state.root_parent,
                start_ns=telemetry.nanoseconds(state.submitted_at),
                end_ns=telemetry.nanoseconds(state.ended_at),
                attributes={telemetry.TASK: state.task, telemetry.OUTCOME: outcome},
                kind=SpanKind.SERVER,
                error=state.final.reason if state.final_event == "failed" else "",
            )
        )

    def _totals(self, state: TaskState) -> Totals:
        begun = state.submitted_at or self.runtime.publisher.clock()
        return Totals(wall_s=max(0.0, (self.runtime.publisher.clock() - begun).total_seconds()))


def _addressee(doorbell: str) -> str:
    """The agent's token in the subject of a doorbell; empty for what is none."""
    parts = doorbell.split(".")
    return parts[2] if parts[:2] == ["mesh", "work"] else ""


async def unfinished_ids(bus: Bus) -> tuple[str, ...]:
    """Ids of tasks that were submitted and have no final event, from the stream's index of subjects.

    A final event in another agent's name ends nothing. What is submitted under an id that is none is no task.
    """
    begun = await _told(bus, "submitted")
    ended = {place for event in FINAL_EVENTS for place in await _told(bus, event)}
    return tuple(sorted({task for task, _ in begun - ended if subjects.TASK_ID.fullmatch(task)}))


async def _told(bus: Bus, event: str) -> set[tuple[str, str]]:
    """(task, agent's token) of every event of that name."""
    found = await bus.subjects_of(subjects.TASKS, subjects.events_named(event))
    return {(subject.split(".")[2], subject.split(".")[4]) for subject in found}
