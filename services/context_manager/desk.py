"""What stands around the handlers: which workspace a message means, and the reading of reports in order.

Every replica reads all reports (an ordered consumer from the sequence in its own database) and can answer any
request. A report that cannot be read is a dead letter; the reading goes on.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.briefing import Briefing, BriefingBody, ContextRequest
from contracts.envelope import Metadata, Stored, decode
from contracts.message import ContractError
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.consumer import OrderedConsumer
from services._runtime.errors import Permanent, Transient
from services._runtime.service import Runtime
from services._runtime.worker import bury, jittered
from services._runtime.workspace import resolve
from services.context_manager.handlers import ContextManager

_TRIES = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desk:
    """Binds the handlers to the bus."""

    runtime: Runtime
    manager: ContextManager

    async def answer(self, request: ContextRequest, metadata: Metadata) -> Briefing:
        """The briefing for a request. Raises Permanent for a workspace outside the roots."""
        return await self.manager.answer(request, self._workspace(metadata))

    async def read_reports(self, reports: OrderedConsumer, stop: asyncio.Event) -> None:
        """Takes in every report, oldest first."""
        async for stored in reports.run(stop):
            try:
                await self._record(stored)
            except (ContractError, Permanent, subjects.SubjectError) as error:
                await self._bury(stored, str(error))
            except Transient:
                raise
            except Exception as error:
                # It would meet every start again, and nobody would be answered any more.
                log.exception("context.report_refused", stream_seq=stored.seq)
                await self._bury(stored, f"it could not be taken in ({type(error).__name__}: {error}): see the log")

    async def _bury(self, stored: Stored, reason: str) -> None:
        await bury(self.runtime.publisher, stored, durable=subjects.CONTEXT_MANAGER, reason=reason, deliveries=1)

    async def _record(self, stored: Stored) -> None:
        metadata = decode(stored, message=ActivityReport)
        report = ActivityReport.from_bytes(stored.data)
        workspace = self._workspace(metadata)
        with self.runtime.telemetry.span(
            f"process {stored.subject}",
            parent=metadata.traceparent,
            kind=SpanKind.CONSUMER,
            links=(metadata.traceparent,),
            attributes=telemetry.received(stored.subject, message_id=metadata.id, task=metadata.task),
        ):
            settings = self.runtime.settings
            for attempt in range(1, _TRIES + 1):
                try:
                    await self.manager.record(report, workspace=workspace, seq=stored.seq, at=stored.time)
                except Transient as error:
                    log.warning("context.record_failed", attempt=attempt, error=str(error))
                    if attempt == _TRIES:
                        raise
                    await asyncio.sleep(jittered(settings.retry_delay_s, attempt, settings.retry_max_s))
                else:
                    log.info("context.reported", agent=report.reporting_agent, files=len(report.files_modified))
                    return

    def _workspace(self, metadata: Metadata) -> Path:
        """Header `mesh-workspace`, else MLMESH_WORKSPACE."""
        return resolve(metadata.workspace, self.runtime.settings)


def refusal(reason: str) -> Briefing:
    """The answer to a request that cannot be read or served."""
    return Briefing(response_to="unknown", status="error", briefing=BriefingBody(summary=reason))


def memories(runtime: Runtime) -> Path:
    """Where the databases lie."""
    return (runtime.settings.home or Path(".mlmesh")).absolute() / "context"
