"""Reports against a real server: what cannot be taken in is a dead letter, and the reading goes on."""

import asyncio
from pathlib import Path

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import MSG_ID
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.context_manager.desk import Desk
from services.context_manager.handlers import ContextManager
from tests.following import eventually


class Faulty(ContextManager):
    """Has a defect that one agent's reports meet."""

    taken: tuple[str, ...] = ()

    async def record(self, report: ActivityReport, **_: object) -> None:
        if report.reporting_agent == "unlucky":
            raise ZeroDivisionError("division by zero")
        self.taken = (*self.taken, report.reporting_agent)


async def test_a_report_that_meets_a_defect_is_a_dead_letter_and_the_next_is_read(
    bus: Bus, settings: Settings, tmp_path: Path
) -> None:
    """It would meet every start again: nobody would be answered any more because of one report."""
    runtime = Runtime("context-manager", settings, bus, telemetry.start("context-manager", settings), asyncio.Event())
    manager = Faulty(tmp_path / "context")
    reports = OrderedConsumer(bus, subjects.REPORTS, subjects.ALL_REPORTS)
    reading = asyncio.create_task(Desk(runtime, manager).read_reports(reports, runtime.stop))
    for agent in ("unlucky", "lucky"):
        report = ActivityReport(reporting_agent=agent, summary="done")
        headers = {MSG_ID: agent, "mesh-workspace": str(tmp_path)}
        await bus.publish(subjects.report(agent), report.to_bytes(), headers)

    async def taken() -> bool:
        return manager.taken == ("lucky",)

    await eventually(taken)
    runtime.stop.set()
    await asyncio.wait_for(reading, 30)
    [stored] = await bus.read(subjects.DEAD, subjects.ALL_DEAD, 1)
    letter = DeadLetter.from_bytes(stored.data)
    assert (letter.subject, letter.durable) == ("mesh.report.unlucky", "context-manager")
    assert letter.reason == "it could not be taken in (ZeroDivisionError: division by zero): see the log"
