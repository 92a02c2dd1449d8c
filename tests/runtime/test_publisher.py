"""Publishing in a service's name, against a real server on which nobody listens to everything."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from contracts.briefing import ContextRequest, Query
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import NobodyAnswers
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings

REQUEST = ContextRequest(
    requesting_agent="test", request_type="get_task_briefing", payload=Query(query="what is known?")
)


@pytest.fixture
async def quiet(settings: Settings) -> AsyncIterator[Bus]:
    """A connection without the wire log: its subscription to everything would count as somebody who answers."""
    found = await Bus.connect(settings, "test")
    yield found
    await found.close()


async def test_a_service_that_is_not_there_yet_is_waited_for(quiet: Bus, settings: Settings) -> None:
    """A context-manager that restarts costs a task none of its deliveries."""
    publisher = Publisher(quiet, telemetry.start("test", settings))

    async def heard(message: Msg) -> None:
        await quiet.send(message.reply, b"here")

    asking = asyncio.create_task(publisher.request("mesh.context.late", REQUEST, About(task="t1"), timeout_s=20))
    with pytest.raises(NobodyAnswers):
        await quiet.request("mesh.context.late", b"", timeout_s=20)
    assert not asking.done()
    await quiet.subscribe("mesh.context.late", heard)
    assert (await asking).data == b"here"


async def test_a_service_that_does_not_come_is_named(quiet: Bus, settings: Settings) -> None:
    """With what to look at."""
    publisher = Publisher(quiet, telemetry.start("test", settings))
    with pytest.raises(NobodyAnswers, match=r"nobody answers on 'mesh\.context\.never': is that service running\?"):
        await publisher.request("mesh.context.never", REQUEST, About(task="t1"), timeout_s=0.25)
