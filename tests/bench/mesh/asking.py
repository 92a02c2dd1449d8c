"""Request and reply by the mesh's own means: `python -m tests.bench.mesh.asking driver`.

The Responder of a service in one process, the Publisher of another: decoded, checked by pydantic, in spans on both
sides. The answer itself takes no time, so that it is the same work as that of the peers.
"""

import asyncio
import sys

from contracts.briefing import Briefing, BriefingBody, ContextRequest
from contracts.envelope import Metadata
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.publisher import About, Publisher
from services._runtime.responder import Responder
from services._runtime.service import Runtime, run
from services._runtime.settings import Settings
from tests.bench.mesh.driver import Roles, drive, until_told
from tests.bench.mesh.peers import work

SUBJECT = "bench.context"


def _refusal(reason: str) -> Briefing:
    return Briefing(response_to="get_task_briefing", status="error", briefing=BriefingBody(summary=reason))


async def _answer(request: ContextRequest, metadata: Metadata) -> Briefing:
    del metadata
    return work.answer(request)


async def answering() -> None:
    """The service's side."""
    settings = Settings.read()
    bus = await Bus.connect(settings, "context-manager")
    stop = asyncio.Event()
    runtime = Runtime("context-manager", settings, bus, telemetry.start("context-manager", settings), stop)
    responding = asyncio.create_task(Responder(runtime, [SUBJECT], ContextRequest, _answer, _refusal).run(stop))
    await runtime.ready.wait()
    await until_told()
    stop.set()
    await responding
    await bus.close()


async def driver() -> None:
    """The caller's side, which obeys the benchmark."""
    settings = Settings.read()
    bus = await Bus.connect(settings, "ml-engineer")
    publisher = Publisher(bus, telemetry.start("ml-engineer", settings))
    about = About(task="bench")

    async def call() -> None:
        answer = await publisher.request(SUBJECT, work.asked(), about, timeout_s=10)
        Briefing.from_bytes(answer.data)

    roles = Roles("tests.bench.mesh.asking", ())
    pids = await asyncio.to_thread(roles.start, "answering")
    await drive({"call": call}, pids)
    await asyncio.to_thread(roles.stop)
    await bus.close()


if __name__ == "__main__":
    telemetry.configure_logs("info", sys.stderr)
    run({"driver": driver, "answering": answering}[sys.argv[1]]())
