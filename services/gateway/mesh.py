"""The embedded mesh: a nats-server child and every service, in this process, on one event loop.

`Mesh.run` is the whole life of one: it starts, is ready when every service says so, runs what it was given, and
stops in order. It ends with the reason when the server is gone for good or a service fails. Left out: who may own
the home (attach.py), what the services do.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

import structlog

from contracts import subjects
from services._runtime import service
from services._runtime.bus import Bus
from services._runtime.embedded import EmbeddedServer
from services._runtime.errors import BusUnavailable, MeshError, Misconfigured
from services._runtime.health import trouble
from services._runtime.home import Home
from services._runtime.provision import provision
from services._runtime.settings import Settings

_READY_S: Final = 30.0
"""Longest wait for the services; they take about one second."""
_SETTLE_S: Final = 2.0
"""Longest wait, once the work is done, for the gateway to have seen the last events: it writes the root spans."""
_STOP_S: Final = 10.0
"""Longest wait for the services to come to rest; then they are cancelled."""
_GRACE_S: Final = 1.0
"""Longest wait for steps that are being done when somebody ends the mesh: a person waits, and they are done again."""
_POLL_S: Final = 0.01
_LOOK_S: Final = 0.5
"""How often the server's log is looked at."""
_NO_ROOM: Final = re.compile(
    rb"(?:critical write error: |JetStream out of |JetStream (?=file resource limits exceeded))([^\n]+)", re.IGNORECASE
)
"""nats-server's words for a store that takes no more."""

log = structlog.get_logger()

T = TypeVar("T")
Guards = Sequence["asyncio.Task[NoReturn]"]


@dataclass(slots=True)
class Mesh:
    """A mesh in a home that this process holds."""

    home: Home
    settings: Settings
    services: tuple[str, ...] = subjects.SERVICES
    """None: the bus alone, with its streams."""
    port: int = 0
    """0: a free one."""
    load: Callable[[str], service.Start] = service.load
    url: str = ""
    """Where its bus is, once it runs."""
    started_s: float = 0.0
    """How long it took from nothing to ready."""

    async def run(self, work: Callable[[Bus], Awaitable[T]]) -> T:
        """The result of `work`, which is given a bus of its own.

        Raises: what `work` raises; Misconfigured, BusUnavailable when the mesh cannot start or does not last.
        """
        begun = time.monotonic()
        server = EmbeddedServer(self.home.path, self.settings, port=self.port)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(server.stop)
            await server.start()
            self.url = server.url
            bus = await Bus.connect(self.settings, "client", url=server.url)
            stack.push_async_callback(bus.close)
            await provision(bus)
            guards = self._start(server, stack)
            await _unless_ended(self._all_ready(bus), guards)
            self.started_s = time.monotonic() - begun
            log.info("mesh.ready", seconds=round(self.started_s, 3), url=server.url)
            done = await _unless_ended(work(bus), guards)
            await self._settled(bus)
            return done

    def _start(self, server: EmbeddedServer, stack: contextlib.AsyncExitStack) -> Guards:
        """Everything that must not end while the mesh runs. The stack ends it."""
        stop = asyncio.Event()
        running = [asyncio.create_task(self._serve(name, stop), name=name) for name in self.services]
        watches = [asyncio.create_task(self._server_lost(server)), asyncio.create_task(self._store_full())]
        stack.push_async_callback(_end, running, watches, stop)
        return [*running, *watches]

    async def _serve(self, name: str, stop: asyncio.Event) -> NoReturn:
        """One service; it ends only when told to."""
        try:
            await service.serve(name, self.load(name), self._hasty(), stop, url=self.url)
        except BusUnavailable as error:
            raise BusUnavailable(f"{name}: {error}") from error
        except MeshError as error:
            raise Misconfigured(f"{name}: {error}") from error
        if stop.is_set():
            raise asyncio.CancelledError
        raise Misconfigured(f"{name} ended on its own: see {self.home.logs}")

    def _hasty(self) -> Settings:
        return self.settings.model_copy(update={"stop_grace_s": min(self.settings.stop_grace_s, _GRACE_S)})

    async def _all_ready(self, bus: Bus) -> None:
        try:
            async with asyncio.timeout(_READY_S):
                await asyncio.gather(*(_ready(bus, name) for name in self.services))
        except TimeoutError:
            told = [f"{name}: {await _trouble(bus, name) or 'ready'}" for name in self.services]
            raise Misconfigured(
                f"the mesh is not ready after {_READY_S:g} s ({'; '.join(told)}): see {self.home.logs}"
            ) from None

    async def _settled(self, bus: Bus) -> None:
        if subjects.GATEWAY not in self.services:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while await _behind(bus):  # noqa: ASYNC110 - the server tells only who asks
                    await asyncio.sleep(_POLL_S)

    async def _server_lost(self, server: EmbeddedServer) -> NoReturn:
        await server.failed.wait()
        raise BusUnavailable(
            f"nats-server ended again and again: see {self.home.path / 'nats.log'}, and whether the disk has room"
        )

    async def _store_full(self) -> NoReturn:
        """A server that cannot write says so in its log alone: publishers just hear nothing."""
        told = self.home.path / "nats.log"
        seen = told.stat().st_size
        while True:
            await asyncio.sleep(_LOOK_S)
            with told.open("rb") as lines:
                lines.seek(seen)
                new = lines.read()
            seen += len(new)
            found = _NO_ROOM.search(new)
            if found is not None:
                raise Misconfigured(
                    f"the bus cannot write to {self.home.path}: {found[1].decode(errors='replace').strip()}: free space"
                    f" (or raise MLMESH_STORE_MAX_BYTES) and run the same command again; what was stored is kept"
                )


async def _ready(bus: Bus, name: str) -> None:
    while await _trouble(bus, name):  # noqa: ASYNC110 - as the probe of any other process
        await asyncio.sleep(_POLL_S)


async def _trouble(bus: Bus, name: str) -> str:
    try:
        return await trouble(bus, name)
    except BusUnavailable:
        return "not running"


async def _behind(bus: Bus) -> int:
    """How many events of tasks the gateway has not dealt with."""
    about = await bus.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.GATEWAY}", {})
    return int(about["num_pending"]) + int(about["num_ack_pending"])


async def _unless_ended(work: Awaitable[T], guards: Guards) -> T:
    """The result of `work`, or the error of the first guard that ends before it."""
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait({working, *guards}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            for guard in guards:
                if guard.done():
                    guard.result()
        return await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _end(running: Guards, watches: Guards, stop: asyncio.Event) -> None:
    """Tells the services to end and waits for them; what does not come to rest is cancelled."""
    for watch in watches:
        watch.cancel()
    stop.set()
    if running:
        await asyncio.wait(running, timeout=_STOP_S)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, *watches, return_exceptions=True)
