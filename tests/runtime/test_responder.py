"""Request/reply against a real server: whoever asks gets an answer."""

import asyncio

from contracts.briefing import Briefing, BriefingBody, ContextRequest, Query
from contracts.envelope import Metadata
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.responder import Responder
from services._runtime.service import Runtime
from services._runtime.settings import Settings

REQUEST = ContextRequest(requesting_agent="test", request_type="get_task_briefing", payload=Query(query="known?"))


def refusal(reason: str) -> Briefing:
    """An answer that says why there is none."""
    return Briefing(response_to="test", status="error", briefing=BriefingBody(summary=reason))


async def test_an_answer_that_is_too_large_to_send_is_refused_with_its_size(bus: Bus, settings: Settings) -> None:
    """Silence would be taken for a service that is away, and be asked again and again."""
    runtime = Runtime("test", settings, bus, telemetry.start("test", settings), asyncio.Event())

    async def answer(_request: ContextRequest, _metadata: Metadata) -> Briefing:
        return Briefing(response_to="test", status="success", briefing=BriefingBody(summary="x" * 1_100_000))

    responder = Responder(runtime, ["mesh.context.large"], ContextRequest, answer, refusal)
    running = asyncio.create_task(responder.run(runtime.stop))
    await runtime.ready.wait()
    briefing = Briefing.from_bytes((await bus.request("mesh.context.large", REQUEST.to_bytes(), timeout_s=5)).data)
    runtime.stop.set()
    await asyncio.wait_for(running, 5)
    assert briefing.status == "error"
    assert "the answer cannot be sent: a message on" in briefing.briefing.summary
    assert "over the limit of 1044480" in briefing.briefing.summary
