"""Request/reply against a real server: whoever asks gets an answer."""

import asyncio

from contracts import subjects
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
    await asyncio.wait_for(running, 30)
    assert briefing.status == "error"
    assert "the answer cannot be sent: a message on" in briefing.briefing.summary
    assert "over the limit of 1044480" in briefing.briefing.summary


async def test_nothing_is_answered_on_a_subject_of_the_mesh(bus: Bus, settings: Settings) -> None:
    """A request names where its answer goes: the service must not speak there for whoever may not."""
    runtime = Runtime("test", settings, bus, telemetry.start("test", settings), asyncio.Event())
    answered = asyncio.Event()

    async def answer(_request: ContextRequest, _metadata: Metadata) -> Briefing:
        answered.set()
        return Briefing(response_to="test", status="success", briefing=BriefingBody(summary="x"))

    responder = Responder(runtime, ["mesh.context.forged"], ContextRequest, answer, refusal)
    running = asyncio.create_task(responder.run(runtime.stop))
    await runtime.ready.wait()
    target = subjects.task_event("t1", "briefed", "ml-engineer")
    await bus.client.publish("mesh.context.forged", REQUEST.to_bytes(), reply=target)
    await asyncio.wait_for(answered.wait(), 30)
    runtime.stop.set()
    await asyncio.wait_for(running, 30)
    assert await bus.subjects_of(subjects.TASKS, ">") == {}
