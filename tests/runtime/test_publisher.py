"""Publishing in a service's name, against a real server."""

import asyncio

import pytest
from nats.aio.msg import Msg

from contracts.briefing import ContextRequest, Query
from services._runtime.bus import Bus
from services._runtime.errors import NobodyAnswers
from services._runtime.publisher import About, Publisher

REQUEST = ContextRequest(
    requesting_agent="test", request_type="get_task_briefing", payload=Query(query="what is known?")
)


async def test_a_service_that_is_not_there_yet_is_waited_for(publisher: Publisher, bus: Bus) -> None:
    """A context-manager that restarts costs a task none of its deliveries."""

    async def heard(message: Msg) -> None:
        await bus.send(message.reply, b"here")

    asking = asyncio.create_task(publisher.request("mesh.context.late", REQUEST, About(task="t1"), timeout_s=20))
    with pytest.raises(NobodyAnswers):
        await bus.request("mesh.context.late", b"", timeout_s=20)
    await bus.subscribe("mesh.context.late", heard)
    assert (await asking).data == b"here"


async def test_a_service_that_does_not_come_is_named(publisher: Publisher) -> None:
    """With what to look at."""
    with pytest.raises(NobodyAnswers, match=r"nobody answers on 'mesh\.context\.never': is that service running\?"):
        await publisher.request("mesh.context.never", REQUEST, About(task="t1"), timeout_s=0.15)
