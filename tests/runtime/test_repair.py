"""What somebody took away from a running mesh, and that the supervisor's rounds bring it back without any restart."""

import asyncio
from dataclasses import dataclass, field

from contracts import subjects
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import Misconfigured
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.gateway.supervisor import Supervisor
from tests.following import eventually

LOST = (
    (subjects.WORK, subjects.ML_ENGINEER),
    (subjects.WORK, subjects.SUMMARIZER),
    (subjects.TASKS, subjects.GATEWAY),
    (subjects.TIMERS, subjects.GATEWAY),
)


def runtime_of(bus: Bus, settings: Settings) -> Runtime:
    """The gateway's, with a bus that is provisioned."""
    return Runtime(subjects.GATEWAY, settings, bus, telemetry.start("gateway", settings), asyncio.Event())


async def test_lost_durables_are_made_anew_by_the_next_round(bus: Bus, settings: Settings) -> None:
    """Who pulls from one hears nothing and knows no reason: without the round the mesh is deaf until a restart."""
    for stream, durable in LOST:
        await bus.api(f"CONSUMER.DELETE.{stream}.{durable}", {})
    runtime = runtime_of(bus, settings)
    rounds = asyncio.create_task(Supervisor(runtime).rounds())

    async def there() -> bool:
        return all([durable in await durables_of(bus, stream) for stream, durable in LOST])

    await eventually(there)
    runtime.stop.set()
    await rounds


async def durables_of(bus: Bus, stream: str) -> list[str]:
    """Names of the durables that the server has."""
    found = await bus.api(f"CONSUMER.NAMES.{stream}", {})
    return list(found.get("consumers") or [])


@dataclass(slots=True)
class Refused(Supervisor):
    """A supervisor whose first round the server refuses."""

    refusals: int = 1
    went_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def ring_missing(self) -> frozenset[str]:
        """Refused, and then not."""
        self.refusals -= 1
        if self.refusals >= 0:
            raise Misconfigured("the server refuses it")
        self.went_on.set()
        return frozenset()


async def test_a_round_that_is_refused_does_not_end_the_rounds(bus: Bus, settings: Settings) -> None:
    """A server without JetStream for a while is a Misconfigured too: the gateway looks again later."""
    runtime = runtime_of(bus, settings)
    refused = Refused(runtime)
    rounds = asyncio.create_task(refused.rounds())
    await asyncio.wait_for(refused.went_on.wait(), 30)
    runtime.stop.set()
    await rounds
