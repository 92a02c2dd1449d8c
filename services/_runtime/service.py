"""Runs a service: connect, provision, answer for health, work until told to stop.

The same `start(runtime)` runs alone (`python -m services.<name>`) and beside others in one process (`mlmesh
up`, `mlmesh run`): services are found by name through the entry points `mlmesh.services`, never imported.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points, version
from typing import Final, Protocol

import structlog
from nats.micro import add_service  # pyright: ignore[reportUnknownVariableType] - annotated in part
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig

from contracts import subjects
from contracts.agent import AgentCard
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable, MeshError, Misconfigured
from services._runtime.provision import provision
from services._runtime.publisher import Publisher
from services._runtime.settings import Settings

ENTRY_POINTS: Final = "mlmesh.services"

log = structlog.get_logger()


class Listener(Protocol):
    """Something that must hear from the bus for the service to be of use."""

    @property
    def deaf(self) -> bool:
        """True when it has heard nothing for too long."""
        ...


@dataclass(slots=True)
class Runtime:
    """What a service is given."""

    name: str
    settings: Settings
    bus: Bus
    telemetry: telemetry.Telemetry
    stop: asyncio.Event
    """Set when the service is to end."""
    listeners: list[Listener] = field(default_factory=list[Listener])
    """What `ready` asks."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by `start` once the service would notice work."""

    @property
    def publisher(self) -> Publisher:
        """Publishes in the service's name."""
        return Publisher(self.bus, self.telemetry)

    @property
    def executor(self) -> str:
        """Names this process in a claim."""
        return f"{self.name}@{socket.gethostname()}:{os.getpid()}"

    def trouble(self) -> str:
        """Why the service is not ready; empty when it is."""
        if not self.ready.is_set():
            return "starting"
        if not self.bus.client.is_connected:
            return "no connection to the bus"
        deaf = sum(listener.deaf for listener in self.listeners)
        return f"{deaf} of {len(self.listeners)} consumers hear nothing from the bus" if deaf else ""

    async def introduce(self, card: AgentCard) -> None:
        """Leaves the agent's card in the bucket of agents."""
        bucket = await self.bus.client.jetstream().key_value(subjects.AGENTS_BUCKET)
        await bucket.put(subjects.token(card.name).replace("%", "="), card.to_bytes())


Start = Callable[[Runtime], Awaitable[None]]


async def serve(name: str, start: Start, settings: Settings, stop: asyncio.Event, *, url: str = "") -> None:
    """Runs one service until `stop`. Raises MeshError when it cannot start or the bus is gone for good."""
    with structlog.contextvars.bound_contextvars(service=name):
        bus = await Bus.connect(settings, name, url=url)
        traces = telemetry.start(name, settings)
        runtime = Runtime(name, settings, bus, traces, stop)
        try:
            await provision(bus)
            await _answer_health(runtime)
            await _until_closed(bus, start(runtime))
        finally:
            await bus.close()
            await asyncio.to_thread(traces.close)


def load(name: str) -> Start:
    """The `start` of a service by its name. Raises Misconfigured for a name that is not installed."""
    found = [entry for entry in entry_points(group=ENTRY_POINTS) if entry.name == name]
    if not found:
        raise Misconfigured(f"no service is named {name!r}: install mlmesh again, its entry points are missing")
    return found[0].load()


def main(name: str, start: Start) -> None:
    """`python -m services.<name>`: one service against the bus at NATS_URL, JSON logs on stdout."""
    try:
        settings = Settings.read()
        telemetry.configure_logs(settings.log_level)
        if not settings.nats_url:
            raise Misconfigured("set NATS_URL to the bus this service is to work on, such as nats://127.0.0.1:4222")
        run(_until_signal(name, start, settings))
    except MeshError as error:
        structlog.get_logger().error("service.failed", service=name, error=str(error))
        sys.exit(1)


def run(work: Awaitable[None]) -> None:
    """Runs the event loop on uvloop where it is installed."""

    async def whole() -> None:
        await work

    try:
        import uvloop
    except ImportError:
        asyncio.run(whole())
    else:
        uvloop.run(whole())


async def _until_signal(name: str, start: Start, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(name, start, settings, stop)


async def _until_closed(bus: Bus, work: Awaitable[None]) -> None:
    """A connection that the client gave up ends the service, so that something outside starts it anew."""
    working = asyncio.ensure_future(work)
    closing = asyncio.create_task(bus.closed.wait())
    try:
        await asyncio.wait({working, closing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise BusUnavailable("the connection to the bus is closed for good")
        await working
    finally:
        for task in (working, closing):
            task.cancel()
        await asyncio.gather(working, closing, return_exceptions=True)


async def _answer_health(runtime: Runtime) -> None:
    """A micro service of the same name: `$SRV.PING.<name>` finds it, `mesh.ready.<name>` says how it is."""

    async def ready(request: Request) -> None:
        trouble = runtime.trouble()
        await request.respond(json.dumps({"ready": not trouble, "trouble": trouble}).encode())

    service = await add_service(
        runtime.bus.client,
        ServiceConfig(
            name=runtime.name,
            version=version("mlmesh"),
            description=f"mlmesh {runtime.name}",
            metadata={"pid": str(os.getpid()), "host": socket.gethostname()},
        ),
    )
    await service.add_endpoint(EndpointConfig(name="ready", subject=subjects.ready(runtime.name), handler=ready))


async def gather(*works: Awaitable[None]) -> None:
    """Runs parts of a service together; the first that fails ends the others."""
    async with contextlib.AsyncExitStack() as stack:
        tasks = [asyncio.ensure_future(work) for work in works]
        stack.push_async_callback(_end, tasks)
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()


async def _end(tasks: Sequence["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
