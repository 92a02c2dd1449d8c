"""From a doorbell of a reported task to its `summarised` event: what stands around the pure handler.

Published by compare-and-set on the history that was summarised, under an id made from it, so that a
redelivery or a second replica writes no second summary.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.envelope import TaskEvent, begun_by, read_event
from contracts.summary import Summary
from contracts.task import TaskState, fold, summary_id, transition
from services._runtime import telemetry
from services._runtime.bus import Expect
from services._runtime.consumer import Delivery
from services._runtime.errors import BusUnavailable, Permanent, WrongSequence
from services._runtime.llm import Claude, Limit, Writer
from services._runtime.publisher import About
from services._runtime.service import Runtime
from services._runtime.worker import doorbell_of
from services._runtime.workspace import resolve
from services.summarizer.handlers import summarise

_NOWHERE = Path("/nonexistent")
_LOOK_S: Final = 10.0
"""How often it is looked whether the task still needs its summary, without a hint: hints may be lost."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """`Worker.handle` of the summarizer."""

    runtime: Runtime
    claude: Claude | None

    async def __call__(self, delivery: Delivery) -> None:
        """Nothing to do when the task has its summary, or has ended without it."""
        doorbell = doorbell_of(delivery)
        agent, begun = delivery.stored.headers.get("ce-source", "").rpartition(":")[2], begun_by(delivery.stored)
        stored = await self.runtime.bus.history(doorbell.task, agent=agent, begun=begun)
        history = [read_event(one) for one in stored]
        state = fold(doorbell.task, history)
        if state.report is None or state.summary is not None or state.final is not None:
            return
        rang = next((event.metadata for event in history if event.seq == doorbell.event_seq), None)
        with self.runtime.telemetry.span(
            f"process {subjects.work_template(subjects.SUMMARIZER)}",
            parent=rang.traceparent if rang else "",
            kind=SpanKind.CONSUMER,
            links=(rang.traceparent,) if rang else (),
            attributes={
                **telemetry.received(
                    delivery.stored.subject,
                    template=subjects.work_template(subjects.SUMMARIZER),
                    group=subjects.SUMMARIZER,
                    message_id=rang.id if rang else "",
                    task=doorbell.task,
                ),
                telemetry.DELIVERY: delivery.deliveries,
            },
        ):
            await self._publish(state, history, rang.id if rang else "")

    async def _publish(self, state: TaskState, history: Sequence[TaskEvent], causation: str) -> None:
        try:
            workspace, writer = resolve(state.workspace, self.runtime.settings), self._writer(state)
        except Permanent:
            workspace, writer = _NOWHERE, None  # prose could not be checked there: the template needs no files
        summary = await self._unless_over(state, history, workspace=workspace, writer=writer)
        if summary is None:
            log.info("summarizer.task_over")
            return
        about = About(
            task=state.task,
            id=summary_id(state.task, state.last_seq),
            causation=causation,
            workspace=state.workspace,
            begun=state.first_seq,
        )
        expect = Expect(subjects.task_history(state.task), state.last_seq)
        try:
            await self.runtime.publisher.event("summarised", state.agent, summary, about, expect=expect)
        except WrongSequence:
            raise BusUnavailable(f"task {state.task!r} moved while it was summarised") from None
        log.info("summarizer.summarised", outcome=summary.outcome, claims=len(summary.claims))

    async def _unless_over(
        self, state: TaskState, history: Sequence[TaskEvent], *, workspace: Path, writer: Writer | None
    ) -> Summary | None:
        """The summary; None as soon as nobody needs it any more: a model call that runs then is cancelled."""
        if writer is None:
            return await summarise(state, history, workspace=workspace)
        writing = asyncio.ensure_future(summarise(state, history, workspace=workspace, writer=writer))
        watching = asyncio.create_task(self._over(state))
        try:
            await asyncio.wait({writing, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                watching.result()  # raises what kept it from watching
                return None
            return writing.result()
        finally:
            for task in (writing, watching):
                task.cancel()
            await asyncio.gather(writing, watching, return_exceptions=True)

    async def _over(self, state: TaskState) -> None:
        """Returns when the task was cancelled, has ended, or has its summary. Core messages are hints to look."""
        hint = asyncio.Event()

        async def heard(_: object) -> None:
            hint.set()

        told = [subjects.task_events_named(state.task, event) for event in subjects.ENDING_HINTS]
        ends = [await self.runtime.bus.subscribe(subject, heard) for subject in told]
        await self.runtime.bus.flush()
        self.runtime.bus.on_reconnect.append(hint.set)
        try:
            while True:
                for stored in await self.runtime.bus.history(state.task, after=state.last_seq):
                    state = transition(state, read_event(stored))
                if state.final is not None or state.cancel is not None or state.summary is not None:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await hint.wait()
                hint.clear()
        finally:
            self.runtime.bus.on_reconnect.remove(hint.set)
            for end in ends:
                await end()

    def _writer(self, state: TaskState) -> Writer | None:
        """Claude, with what the task may use."""
        if self.claude is None:
            return None
        settings, constraints = self.runtime.settings, state.request.constraints if state.request else None
        return self.claude.for_task(
            Limit(
                tokens=(constraints.max_tokens if constraints else None) or settings.max_tokens,
                cost_usd=(constraints.max_cost_usd if constraints else None) or settings.max_cost_usd,
            )
        )
