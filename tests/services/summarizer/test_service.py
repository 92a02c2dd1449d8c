"""The summarizer as a service on a real bus: one summary a task, by the template or by Claude under the same checks."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts import subjects
from contracts.events import TaskSubmitted
from contracts.report import ActivityReport
from contracts.summary import Summary
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import Misconfigured
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.summarizer.__main__ import claude_of, start
from services.summarizer.prose import Prose
from tests.fakes.anthropic_api import KEY, FakeAnthropic, says
from tests.following import history, is_event, until

REPORT = ActivityReport(reporting_agent="ml-engineer", status="partial", summary="Built shop version 1 in /ml/shop.")


@asynccontextmanager
async def summarizer(bus: Bus, settings: Settings) -> AsyncGenerator[None]:
    """The service while the block runs."""
    runtime = Runtime("summarizer", settings, bus, telemetry.start("summarizer", settings), asyncio.Event())
    running = asyncio.create_task(start(runtime))
    try:
        yield
    finally:
        runtime.stop.set()
        await asyncio.wait_for(running, 30)


async def reported(publisher: Publisher, workspace: Path, task: str = "t1") -> None:
    """A task that has reported."""
    request = TaskSubmitted(request="predict churn", workspace=str(workspace))
    await publisher.event("submitted", "ml-engineer", request, About(task=task))
    await publisher.event("reported", "ml-engineer", REPORT, About(task=task))


async def test_a_reported_task_gets_one_summary_however_often_the_doorbell_rings(
    bus: Bus, settings: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    """A doubled doorbell finds the summary and writes no second one."""
    async with summarizer(bus, settings):
        await reported(publisher, tmp_path)
        await until(bus, "t1", is_event("summarised"))
        await publisher.event("reported", "ml-engineer", REPORT, About(task="t1"))
        await reported(publisher, tmp_path, "t2")
        summary = (await until(bus, "t2", is_event("summarised"))).body
    assert isinstance(summary, Summary)
    assert summary.outcome == "partial"
    assert [event.event for event in await history(bus, "t1")].count("summarised") == 1


async def test_with_the_setting_and_a_key_claude_writes(
    bus: Bus, settings: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    """Prose that passes the checks is what people read."""
    text = "shop version 1 stands in /ml/shop, with something missing."
    (tmp_path / "ml" / "shop").mkdir(parents=True)
    with FakeAnthropic(says(Prose(text=text).model_dump_json())) as fake:
        given = {"prose": "claude", "anthropic_api_key": SecretStr(KEY), "anthropic_base_url": fake.url}
        async with summarizer(bus, settings.model_copy(update=given)):
            await reported(publisher, tmp_path)
            summary = (await until(bus, "t1", is_event("summarised"))).body
    assert isinstance(summary, Summary)
    assert summary.text == text


def test_a_key_alone_switches_nothing_on(settings: Settings) -> None:
    """The setting decides; without a key the setting is a clear error."""
    with_key = Settings.read(ANTHROPIC_API_KEY=KEY, NATS_URL=settings.nats_url)
    assert claude_of(with_key) is None
    with pytest.raises(Misconfigured, match="MLMESH_PROSE=claude needs ANTHROPIC_API_KEY"):
        claude_of(Settings.read(prose="claude"))


def test_work_for_the_summarizer_is_what_the_server_makes_of_reports() -> None:
    """One transform, no dual write."""
    assert ("mesh.task.*.reported.*", "mesh.work.summarizer.{{wildcard(1)}}") in subjects.waking_transforms()
