"""From a doorbell of a reported task to its `summarised` event: what stands around the pure handler.

Published by compare-and-set on the history that was summarised, under an id made from it, so that a
redelivery or a second replica writes no second summary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.envelope import TaskEvent, read_event
from contracts.task import TaskState, fold
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

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """`Worker.handle` of the summarizer."""

    runtime: Runtime
    claude: Claude | None

    async def __call__(self, delivery: Delivery) -> None:
        """Nothing to do when the task has its summary, or has ended without it."""
        doorbell = doorbell_of(delivery)
        history = [read_event(stored) for stored in await self.runtime.bus.history(doorbell.task)]
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
        summary = await summarise(state, history, workspace=workspace, writer=writer)
        about = About(
            task=state.task, id=f"{state.task}/summary/{state.last_seq}", causation=causation, workspace=state.workspace
        )
        expect = Expect(subjects.task_history(state.task), state.last_seq)
        try:
            await self.runtime.publisher.event("summarised", state.agent, summary, about, expect=expect)
        except WrongSequence:
            raise BusUnavailable(f"task {state.task!r} moved while it was summarised") from None
        log.info("summarizer.summarised", outcome=summary.outcome, claims=len(summary.claims))

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
