"""What goes wrong, carried out on a fleet. Faults overlap, but no process is hurt twice at a time.

Each leaves a record of when it began and ended and whom it met: what tasks did meanwhile is judged by it (judge.py).
"""

import asyncio
import random
import resource
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.errors import MeshError
from services._runtime.provision import provision
from tests.chaos.fleet import ACK_WAIT_S, Fleet, now
from tests.chaos.schedule import PROCESSES, Fault, Kind
from tests.server import NatsServer

AT_A_TIME: Final = 3
SERVERS: Final = "servers"
_BALLAST: Final = "BALLAST"
_BALLAST_BYTES: Final = 900_000
_HEALTHY_S: Final = 20.0
_UP_S: Final = 15.0
_AT_START: Final = 0.15
"""The share of restarted processes and servers that may be hurt while they start."""


@dataclass
class Met:
    """A fault that was carried out."""

    kind: Kind
    target: str
    began: float
    """Wall time, seconds."""
    ended: float = 0.0
    pids: list[int] = field(default_factory=list[int])
    """Processes that died or stood still."""
    hung: list[str] = field(default_factory=list[str])
    """Who did not end when it was told to."""
    trouble: str = ""
    """Why it could not be carried out in full, if it could not."""


@dataclass
class Faults:
    """Carries out a plan."""

    fleet: Fleet
    bus: Bus
    met: list[Met] = field(default_factory=list[Met])
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))

    async def run(self, plan: Sequence[Fault], told: Callable[[int, Met], None]) -> None:
        """All of them, each after its pause; returns when the last one is over."""
        async with asyncio.TaskGroup() as running:
            for number, fault in enumerate(plan, 1):
                await asyncio.sleep(fault.pause_s)
                await self._free.acquire()
                running.create_task(self._told(fault, number, told))

    async def _told(self, fault: Fault, number: int, told: Callable[[int, Met], None]) -> None:
        told(number, await self._one(fault))

    async def clear(self) -> None:
        """The store has room again."""
        with suppress(NotFoundError):
            await self.bus.api(f"STREAM.DELETE.{_BALLAST}", {})

    async def _one(self, fault: Fault) -> Met:
        met = Met(fault.kind, fault.target, now())
        self.met.append(met)
        try:
            await self._kinds[fault.kind](fault, met)
        except (MeshError, NotFoundError, NatsError, TimeoutError) as error:
            met.trouble = f"{type(error).__name__}: {error}"
        finally:
            met.ended = now()
            self._free.release()
        return met

    @property
    def _kinds(self) -> Mapping[Kind, Callable[[Fault, Met], Awaitable[None]]]:
        return {
            "kill-service": self._kill_service,
            "kill-all": self._kill_all,
            "kill-server": self._kill_server,
            "freeze-service": self._freeze,
            "terminate-service": self._terminate,
            "rolling-restart": self._rolling_restart,
            "cut": self._cut,
            "server-unheard": self._server_unheard,
            "client-unheard": self._client_unheard,
            "refused": self._refused,
            "freeze-server": self._freeze_server,
            "minority-frozen": self._freeze_server,
            "server-dies-while-frozen": self._server_dies_while_frozen,
            "durable-lost": self._durable_lost,
            "reader-lost": self._reader_lost,
            "doorbells-purged": self._doorbells_purged,
            "work-deleted": self._work_deleted,
            "work-rung-again": self._work_rung_again,
            "clock-jumps": self._clock_jumps,
            "store-full": self._store_full,
            "store-broken": self._store_broken,
            "rolling-upgrade": self._rolling_upgrade,
        }

    async def _kill_service(self, fault: Fault, met: Met) -> None:
        async with self.fleet.lock(fault.target):
            self._kill(fault.target, met)
            await asyncio.sleep(fault.choice / 2)
            await self._up([fault.target], fault)

    async def _kill_all(self, fault: Fault, met: Met) -> None:
        """Every service at once; every other time the bus with them."""
        names = [*PROCESSES, SERVERS] if fault.choice < 0.5 else [*PROCESSES]
        async with AsyncExitStack() as held:
            for name in sorted(names):
                await held.enter_async_context(self.fleet.lock(name))
            for name in PROCESSES:
                self._kill(name, met)
            if SERVERS in names:
                for server in self.fleet.servers:
                    server.kill()
                for server in self.fleet.servers:
                    server.start(wait=False)
            await self._up(PROCESSES, fault)

    async def _kill_server(self, fault: Fault, met: Met) -> None:
        async with self.fleet.lock(SERVERS):
            server = await self._server(fault)
            met.pids.append(server.pid)
            server.kill()
            await asyncio.sleep(fault.choice / 2)
            await self._back(server)
            if fault.choice > _AT_START and len(self.fleet.servers) == 1:  # of several, clients have found another
                await self._connected(lambda: [name for name in PROCESSES if not self.fleet.lock(name).locked()])

    async def _freeze(self, fault: Fault, met: Met) -> None:
        """For longer than the acknowledgement wait: another takes over, this one wakes up as a zombie."""
        async with self.fleet.lock(fault.target):
            met.pids.append(self.fleet.services.pid(fault.target))
            self.fleet.services.freeze(fault.target)
            await asyncio.sleep(ACK_WAIT_S * (1.1 + fault.lasts_s))
            self.fleet.services.thaw(fault.target)

    async def _terminate(self, fault: Fault, met: Met) -> None:
        async with self.fleet.lock(fault.target):
            met.pids.append(self.fleet.services.pid(fault.target))
            try:
                await asyncio.to_thread(self.fleet.services.terminate, fault.target)
            except subprocess.TimeoutExpired as error:
                met.hung.append(f"{fault.target} did not end within {error.timeout:g} s of SIGTERM")
            await self._up([fault.target], fault)

    async def _rolling_restart(self, fault: Fault, met: Met) -> None:
        for name in random.Random(fault.choice).sample(PROCESSES, len(PROCESSES)):
            await self._terminate(replace(fault, target=name), met)

    async def _cut(self, fault: Fault, met: Met) -> None:
        del met
        self.fleet.wires[fault.target].cut()

    async def _server_unheard(self, fault: Fault, met: Met) -> None:
        """Half open: for a while nothing that the server says arrives, then the connection is given up."""
        del met
        wire = self.fleet.wires[fault.target]
        async with self.fleet.lock(fault.target):
            wire.silent = True
            await asyncio.sleep(4 * fault.lasts_s)
            wire.silent = False
            wire.cut()

    async def _client_unheard(self, fault: Fault, met: Met) -> None:
        """Half open the other way."""
        del met
        wire = self.fleet.wires[fault.target]
        async with self.fleet.lock(fault.target):
            wire.mute = True
            await asyncio.sleep(4 * fault.lasts_s)
            wire.mute = False
            wire.cut()

    async def _refused(self, fault: Fault, met: Met) -> None:
        del met
        wire = self.fleet.wires[fault.target]
        async with self.fleet.lock(fault.target):
            wire.closed = True
            wire.cut()
            await asyncio.sleep(3 * fault.lasts_s)
            wire.closed = False

    async def _freeze_server(self, fault: Fault, met: Met) -> None:
        async with self.fleet.lock(SERVERS):
            server = await self._server(fault)
            met.pids.append(server.pid)
            await asyncio.to_thread(server.pause)
            await asyncio.sleep((5 if len(self.fleet.servers) > 1 else 3) * fault.lasts_s)
            server.resume()

    async def _server_dies_while_frozen(self, fault: Fault, met: Met) -> None:
        """A restarted server meets an old client: what that one believes to hold is long over."""
        async with self.fleet.lock(fault.target):
            met.pids.append(self.fleet.services.pid(fault.target))
            self.fleet.services.freeze(fault.target)
            await self._kill_server(fault, met)
            await asyncio.sleep(ACK_WAIT_S)
            self.fleet.services.thaw(fault.target)

    async def _durable_lost(self, fault: Fault, met: Met) -> None:
        """Nobody makes it anew but the mesh itself."""
        del met
        stream, _, durable = fault.target.partition("/")
        await self.bus.api(f"CONSUMER.DELETE.{stream}.{durable}", {})

    async def _reader_lost(self, fault: Fault, met: Met) -> None:
        """Whoever reads REPORTS, TASKS or DEAD in order loses its place at the server; the observer too."""
        del fault, met
        for stream in (subjects.REPORTS, subjects.TASKS, subjects.DEAD):
            listed: list[dict[str, Any]] = (await self.bus.api(f"CONSUMER.LIST.{stream}", {})).get("consumers") or []
            for consumer in listed:
                if not consumer["config"].get("durable_name"):
                    await self.bus.api(f"CONSUMER.DELETE.{stream}.{consumer['name']}", {})

    async def _doorbells_purged(self, fault: Fault, met: Met) -> None:
        del fault, met
        await self.bus.api(f"STREAM.PURGE.{subjects.WORK}", {})

    async def _work_deleted(self, fault: Fault, met: Met) -> None:
        """Made anew by an operator, or by the mesh; then every event that ever rang rings once more."""
        del met
        await self.bus.api(f"STREAM.DELETE.{subjects.WORK}", {})
        if fault.choice < 0.5:
            await provision(self.bus)

    async def _work_rung_again(self, fault: Fault, met: Met) -> None:
        """A clean restart and then kill -9: acknowledged items of a drained WORK come back under new sequences."""
        del fault
        async with self.fleet.lock(SERVERS):
            server = self.fleet.servers[0]
            await asyncio.to_thread(server.stop)
            await self._back(server)
            met.pids.append(server.pid)
            server.kill()
            await self._back(server)

    async def _clock_jumps(self, fault: Fault, met: Met) -> None:
        """From a minute and a half behind to 20 s ahead, for good."""
        del met
        self.fleet.clock(fault.target).write_text(str(round(110 * fault.choice - 90, 1)))

    async def _store_full(self, fault: Fault, met: Met) -> None:
        """Somebody else's stream fills the store, and is gone after a while."""
        js = self.bus.client.jetstream()
        await self.bus.api(f"STREAM.CREATE.{_BALLAST}", {"name": _BALLAST, "subjects": ["ballast"], "storage": "file"})
        try:
            with suppress(NatsError):
                while True:
                    await js.publish("ballast", bytes(_BALLAST_BYTES), timeout=2)
            met.trouble = ""
            await asyncio.sleep(3 * fault.lasts_s)
        finally:
            await self.clear()

    async def _store_broken(self, fault: Fault, met: Met) -> None:
        """The file system takes no more writes; then it is mended and the server started again, as one has to."""
        async with self.fleet.lock(SERVERS):
            server = self.fleet.servers[0]
            met.pids.append(server.pid)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            await asyncio.sleep(2 * fault.lasts_s)
            await asyncio.to_thread(server.stop)
            await self._back(server)

    async def _rolling_upgrade(self, fault: Fault, met: Met) -> None:
        del fault
        async with self.fleet.lock(SERVERS):
            for server in self.fleet.servers:
                met.pids.append(server.pid)
                await asyncio.to_thread(server.stop)
                await self._back(server)
                await self._whole()

    def _kill(self, name: str, met: Met) -> None:
        pid = self.fleet.services.pid(name)
        if pid:
            met.pids.append(pid)
            self.fleet.services.kill(name)

    async def _up(self, names: Sequence[str], fault: Fault) -> None:
        """Starts them, and mostly lets them find the bus before they may be hurt again: the machine may be slow."""
        for name in names:
            self.fleet.start(name)
        if fault.choice > _AT_START:
            await self._connected(lambda: names if not self.fleet.lock(SERVERS).locked() else ())

    async def _connected(self, names: Callable[[], Sequence[str]]) -> None:
        """Returns when all of them are connected to the bus, or time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_UP_S):
                while not all(self.fleet.wires[name].connected for name in names()):  # noqa: ASYNC110 - no events there
                    await asyncio.sleep(0.05)

    async def _server(self, fault: Fault) -> NatsServer:
        """The server a fault is about; of several the leader of TASKS, half of the time."""
        servers = self.fleet.servers
        if len(servers) > 1 and fault.choice < 0.5:
            with suppress(MeshError, NotFoundError):
                told: dict[str, Any] = await self.bus.api(f"STREAM.INFO.{subjects.TASKS}", {})
                return servers[int(told["cluster"]["leader"].removeprefix("n"))]
        return servers[int(fault.target) % len(servers) if fault.target.isdigit() else 0]

    async def _back(self, server: NatsServer) -> None:
        server.start(wait=False)
        await asyncio.to_thread(server.wait)

    async def _whole(self) -> None:
        """Every copy of TASKS has caught up, or time is up: then the next one goes nevertheless."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEALTHY_S):
                while not await self._caught_up():  # noqa: ASYNC110 - the server tells only who asks
                    await asyncio.sleep(0.2)

    async def _caught_up(self) -> bool:
        try:
            told: dict[str, Any] = await self.bus.api(f"STREAM.INFO.{subjects.TASKS}", {})
        except (MeshError, NotFoundError):
            return False
        about: dict[str, Any] = told.get("cluster") or {}
        copies: list[dict[str, Any]] = about.get("replicas") or []
        return bool(about.get("leader")) and all(copy.get("current") for copy in copies)
