"""Runs a service: connect, answer for health, provision, work until told to stop.

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
from contracts.envelope import MSG_ID
from services._runtime import telemetry
from services._runtime.bus import Bus, new_nonce
from services._runtime.consumer import unless_stopped
from services._runtime.errors import BusUnavailable, MeshError, Misconfigured
from services._runtime.executor import Executor
from services._runtime.provision import provided
from services._runtime.publisher import Publisher, new_id
from services._runtime.settings import Settings

ENTRY_POINTS: Final = "mlmesh.services"

log = structlog.get_logger()


class Listener(Protocol):
    """Something that must hear from the bus for the service to be of use."""

    @property
    def name(self) -> str:
        """What people know it by, such as `WORK/ml-engineer`."""
        ...

    @property
    def silent_s(self) -> float:
        """How long it has heard nothing although it should have."""
        ...

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
    lacking: str = ""
    """What somebody else must make on the bus before the service can start."""

    @property
    def publisher(self) -> Publisher:
        """Publishes in the service's name."""
        return Publisher(self.bus, self.telemetry)

    @property
    def executor(self) -> Executor:
        """This process as one that claims tasks."""
        return Executor(f"{self.name}@{socket.gethostname()}:{os.getpid()}", self.stop)

    def trouble(self) -> str:
        """Why the service is not ready; empty when it is."""
        if self.bus.no_room:
            return self.bus.no_room
        if not self.ready.is_set():
            return self.lacking or "starting"
        if not self.bus.client.is_connected:
            return "no connection to the bus"
        deaf = [f"{each.name} for {each.silent_s:.0f} s" for each in self.listeners if each.deaf]
        return f"hears nothing from the bus: {', '.join(deaf)}" if deaf else ""

    async def introduce(self, card: AgentCard) -> None:
        """Leaves the agent's card in the bucket of agents."""
        await self.bus.publish(subjects.card(card.name), card.to_bytes(), {MSG_ID: new_id()})

    def lacks(self, what: str) -> None:
        """Takes down what the service waits for."""
        self.lacking = what


Start = Callable[[Runtime], Awaitable[None]]


async def serve(name: str, start: Start, settings: Settings, stop: asyncio.Event, *, url: str = "") -> None:
    """Runs one service until `stop`. Raises MeshError when it cannot start or the bus is gone for good."""
    with structlog.contextvars.bound_contextvars(service=name):
        bus = await Bus.connect(settings, name, url=url)
        traces = telemetry.start(name, settings)
        runtime = Runtime(name, settings, bus, traces, stop)
        try:
            await _answer_health(runtime)
            await _until_closed(bus, _work(runtime, start))
        finally:
            await bus.close()
            await asyncio.to_thread(traces.close)


async def _work(runtime: Runtime, start: Start) -> None:
    if await unless_stopped(runtime.stop, _provided(runtime)):
        await start(runtime)


async def _provided(runtime: Runtime) -> bool:
    await provided(runtime.bus, runtime.lacks)
    return True


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
    """A micro service of the same name: `$SRV.PING.<name>` finds it, `mesh.ready.<name>` says how it is.

    In a queue group of its own, so that every replica answers: one that is well must not speak for one that is not.
    """
    host, pid = socket.gethostname(), os.getpid()

    async def ready(request: Request) -> None:
        trouble = runtime.trouble()
        told = {"ready": not trouble, "trouble": trouble, "host": host, "pid": pid}
        await request.respond(json.dumps(told).encode())

    service = await add_service(
        runtime.bus.client,
        ServiceConfig(
            name=runtime.name,
            version=version("mlmesh"),
            description=f"mlmesh {runtime.name}",
            metadata={"pid": str(pid), "host": host},
        ),
    )
    await service.add_endpoint(
        EndpointConfig(name="ready", subject=subjects.ready(runtime.name), handler=ready, queue_group=new_nonce())
    )


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
