"""What runs in a run: nats-servers, and the services as processes, each with a wire of its own; who ends is back soon.

Left out: what goes wrong with it (faults.py).
"""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contracts import subjects
from services._runtime.embedded import free_port
from services._runtime.settings import Settings
from tests.chaos.schedule import ENGINEERS, PROCESSES
from tests.fakes.wire import Wire, wire_to
from tests.processes import Services
from tests.server import NatsServer

ACK_WAIT_S: Final = 1.5
QUICK: Final[dict[str, float | int]] = {
    "ack_wait_s": ACK_WAIT_S,
    "heartbeat_s": 0.5,
    "publish_timeout_s": 1.0,
    "retry_delay_s": 0.05,
    "retry_max_s": 5.0,
    "stop_grace_s": 3.0,
    "briefing_timeout_s": 5.0,
    "summary_timeout_s": 5.0,
    "max_deliver": 50,
}
"""Shorter than in life; everything else is the default. `max_deliver`: a task is taken for what kills its executor when
that dies often in a row; here executors die often, and no task is why."""
MAX_STORE: Final = 256 * 1024 * 1024
_KEEP_S: Final = 0.1


@dataclass
class Fleet:
    """Everything that can be hurt."""

    directory: Path
    servers: Sequence[NatsServer]
    services: Services
    wires: dict[str, Wire]
    locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock])
    """One for each process, and one for the servers: who holds it may leave it dead for a while."""
    ended: list[str] = field(default_factory=list[str])
    """Processes that ended by themselves, in their order."""
    pids: dict[int, str] = field(default_factory=dict[int, str])
    """Every process that ever ran, and under which name."""

    @property
    def url(self) -> str:
        """Straight to the first server: the observer's way."""
        return self.servers[0].url

    def lock(self, name: str) -> asyncio.Lock:
        """Of a process, or of `servers`."""
        return self.locks.setdefault(name, asyncio.Lock())

    def start(self, name: str) -> None:
        """A process, now."""
        self.services.start(name)
        self.pids[self.services.pid(name)] = name

    async def keep(self) -> None:
        """Starts again what ended by itself, as compose and Kubernetes do; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_KEEP_S)
            for name in PROCESSES:
                if self.lock(name).locked() or self.services.pid(name):
                    continue
                self.ended.append(name)
                self.start(name)

    def heal(self) -> None:
        """Nobody stands still and every wire is whole, whatever a fault that was cut short left behind."""
        for wire in self.wires.values():
            wire.silent = wire.mute = wire.closed = False
        for name in PROCESSES:
            if self.services.pid(name):
                self.services.thaw(name)
        for server in self.servers:
            if server.pid:
                server.resume()
            else:
                server.start()

    def clock(self, name: str) -> Path:
        """By how many seconds the clock of this process is wrong."""
        return self.directory / f"{name}.clock"


@asynccontextmanager
async def running(directory: Path, endpoint: str, *, nodes: int, broken: str) -> AsyncGenerator[Fleet]:
    """A fleet at work in `directory`; ended when left."""
    (directory / "effects").mkdir(parents=True)
    servers = cluster(directory, nodes)
    for server in servers:
        server.start(wait=False)
    for server in servers:
        await asyncio.to_thread(server.wait)
    environment = {f"MLMESH_{name.upper()}": str(value) for name, value in QUICK.items()}
    services = Services(servers[0].url, directory, **environment, MLMESH_REPLICAS=str(nodes))
    async with AsyncExitStack() as stack:
        wires = {
            name: await stack.enter_async_context(wire_to(servers[i % nodes].port)) for i, name in enumerate(PROCESSES)
        }
        fleet = Fleet(directory, servers, services, wires)
        for name in PROCESSES:
            stepper = (
                "-m",
                "tests.chaos.stepper",
                str(directory / "effects"),
                endpoint,
                str(fleet.clock(name)),
                broken,
            )
            services.add(name, *(stepper if name in ENGINEERS else ()), url=wires[name].url)
        try:
            yield fleet
        finally:
            services.stop()
            for server in servers:
                server.resume()
                server.stop()


def settings(fleet: Fleet) -> Settings:
    """The observer's: it waits for the bus as long as it takes."""
    return Settings.read(
        nats_url=fleet.url,
        home=fleet.directory / "observer",
        replicas=len(fleet.servers),
        heartbeat_s=0.5,
        publish_timeout_s=1.0,
    )


def cluster(directory: Path, nodes: int) -> list[NatsServer]:
    """One server, or as many that know each other."""
    if nodes == 1:
        return [NatsServer(directory / "nats", max_store=MAX_STORE)]
    routes = [free_port() for _ in range(nodes)]
    told = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    return [
        NatsServer(
            directory / f"nats-{number}",
            config=f'server_name: n{number}\ncluster {{ name: chaos, listen: "127.0.0.1:{port}", routes: [{told}] }}\n',
        )
        for number, port in enumerate(routes)
    ]


def remove(directory: Path) -> None:
    """What a run left behind."""
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)


def now() -> float:
    """Wall time, as the server stamps what it stores: both are this machine's."""
    return time.time()


SERVICE_OF: Final = {**{name: name for name in subjects.SERVICES}, **dict.fromkeys(ENGINEERS, subjects.ML_ENGINEER)}
