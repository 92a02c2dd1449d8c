"""The supervisor at the desk: no message and no task is lost without a word.

- Every message of TASKS is judged: what cannot be routed or read is a dead letter with its reason, a task that
  cannot begin is `failed`.
- Work that used up its deliveries is a dead letter, and its task `failed`.
- A task that is neither final nor waiting has a doorbell in WORK: a missing one is rung again (`redriven`).
- A task that ended gets its root span.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, read_event
from contracts.events import Failed, Redriven, Totals
from contracts.message import Message
from contracts.task import FINAL_EVENTS, TaskState, fold
from services._runtime import telemetry
from services._runtime.bus import Bus, Expect, moment
from services._runtime.consumer import Delivery, unless_stopped
from services._runtime.errors import BusUnavailable, Malformed, NoStream, WrongSequence
from services._runtime.provision import provision
from services._runtime.publisher import About
from services._runtime.service import Runtime
from services._runtime.worker import bury
from services.gateway.handlers import Verdict, judge, needs_fold

_ROUND_S: Final = 60.0
_FIRST_ROUND_S: Final = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class Supervisor:
    """Carries out verdicts and keeps the invariants of the bus."""

    runtime: Runtime
    suspects: frozenset[str] = field(default_factory=frozenset[str])
    """Tasks that had no doorbell in the last round: two rounds in a row make it certain."""

    async def on_task_message(self, delivery: Delivery) -> None:
        """Handle of the durable on TASKS."""
        verdict = await self._verdict(delivery.stored)
        match verdict.kind:
            case "fine":
                if verdict.event is not None and verdict.event.event in FINAL_EVENTS:
                    await self._emit_root(verdict.event)
            case "dead" | "failed":
                await self._refuse(delivery.stored, verdict, delivery.deliveries)

    async def on_advisory(self, delivery: Delivery) -> None:
        """Handle of the durable on ADVISORIES: a work item was delivered `max_deliver` times without an end."""
        try:
            told = json.loads(delivery.stored.data)
            seq, tries, at = int(told["stream_seq"]), int(told["deliveries"]), moment(told["timestamp"])
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed(f"not a max-deliveries advisory: {error}") from error
        stored = await self.runtime.bus.get(subjects.WORK, seq)
        if stored is None or stored.time > at:  # later: WORK was made anew, and its sequences began again
            return
        agent, task = subjects.parse_work_item(stored.subject)
        reason = f"the work was tried {tries} times without an end: look at the {agent}'s log, then submit it again"
        await bury(self.runtime.publisher, stored, durable=agent, reason=reason, deliveries=tries)
        if agent != subjects.SUMMARIZER:
            await self._fail(task, reason)
        await self.runtime.bus.api(f"STREAM.MSG.DELETE.{subjects.WORK}", {"seq": seq})

    async def rounds(self) -> None:
        """Looks after doorbells until the service stops."""
        pause = _FIRST_ROUND_S
        while not self.runtime.stop.is_set():
            await unless_stopped(self.runtime.stop, asyncio.sleep(pause))
            try:
                self.suspects = await unless_stopped(self.runtime.stop, self.ring_missing()) or frozenset()
                pause = _FIRST_ROUND_S if self.suspects else _ROUND_S
            except BusUnavailable as error:
                log.warning("supervisor.round_failed", error=str(error))

    async def ring_missing(self) -> frozenset[str]:
        """One round. Rings for tasks that were without a doorbell in the last round too; the others are suspects.

        WORK itself may be lost: it is made anew, and every event of TASKS that ever rang rings once more.
        """
        missing: set[str] = set()
        for task in await unfinished_ids(self.runtime.bus):
            try:
                state = await self._fold(task)
                if state.needs_doorbell and not await self._has_doorbell(state):
                    if task in self.suspects:
                        await self._ring(state)
                    else:
                        missing.add(task)
            except NoStream as error:
                log.warning("supervisor.stream_lost", stream=error.stream)
                await provision(self.runtime.bus)
                return frozenset()
            except BusUnavailable as error:  # the other tasks have no part in it
                log.warning("supervisor.task_unread", task=task, error=str(error))
        return frozenset(missing)

    async def agents(self) -> frozenset[str]:
        """Names of the agents that take tasks."""
        return frozenset({subjects.ML_ENGINEER})

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
