"""The supervisor at the desk: no message and no task is lost without a word.

- Every message of TASKS is judged: what cannot be routed or read is a dead letter with its reason, a task that
  cannot begin is `failed`.
- Work that used up its deliveries is a dead letter, and its task `failed`.
- A task that is neither final nor waiting has a doorbell in WORK: a missing one is rung again (`redriven`).
- A task that ended gets its root span.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, read_event
from contracts.events import Failed, Redriven, Totals
from contracts.message import Message
from contracts.task import FINAL_EVENTS, TaskState, fold
from services._runtime import telemetry
from services._runtime.bus import Bus, Expect
from services._runtime.consumer import Delivery
from services._runtime.errors import BusUnavailable, Malformed, WrongSequence
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
        stored = await self.runtime.bus.whole(delivery.stored)
        before = await self._before(stored) if needs_fold(stored) else None
        verdict = judge(stored, before, await self.agents())
        match verdict.kind:
            case "fine":
                if verdict.event is not None and verdict.event.event in FINAL_EVENTS:
                    await self._emit_root(verdict.event)
            case "dead" | "failed":
                await self._refuse(stored, verdict, delivery.deliveries)

    async def on_advisory(self, delivery: Delivery) -> None:
        """Handle of the durable on ADVISORIES: a work item was delivered `max_deliver` times without an end."""
        try:
            told = json.loads(delivery.stored.data)
            seq, tries = int(told["stream_seq"]), int(told["deliveries"])
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed(f"not a max-deliveries advisory: {error}") from error
        stored = await self.runtime.bus.get(subjects.WORK, seq)
        if stored is None:
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.runtime.stop.wait(), pause)
                return
            try:
                self.suspects = await self.ring_missing()
                pause = _FIRST_ROUND_S if self.suspects else _ROUND_S
            except BusUnavailable as error:
                log.warning("supervisor.round_failed", error=str(error))

    async def ring_missing(self) -> frozenset[str]:
        """One round. Rings for tasks that were without a doorbell in the last round too; the others are suspects."""
        missing: set[str] = set()
        for task in await unfinished_ids(self.runtime.bus):
            state = await self._fold(task)
            if state.needs_doorbell and not await self._has_doorbell(state):
                if task in self.suspects:
                    await self._ring(state)
                else:
                    missing.add(task)
        return frozenset(missing)

    async def agents(self) -> frozenset[str]:
        """Names of the agents that take tasks."""
        return frozenset({subjects.ML_ENGINEER})

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
    """Ids of tasks that were submitted and have no final event, from the stream's index of subjects."""
    begun = await bus.subjects_of(subjects.TASKS, subjects.events_named("submitted"))
    ended: set[str] = set()
    for event in FINAL_EVENTS:
        found = await bus.subjects_of(subjects.TASKS, subjects.events_named(event))
        ended.update(subject.split(".")[2] for subject in found)
    tasks = {subject.split(".")[2] for subject in begun}
    return tuple(sorted(tasks - ended))
