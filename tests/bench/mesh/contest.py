"""The measurements that take turns: in every round each system runs once, so that a busy minute hits all alike.

Each run begins with new processes and an empty store. What is measured of a system is the same for all: overhead of
a task, one at a time; tasks a second with many in flight; processor time a task by process; start and memory.
"""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services._runtime.embedded import free_port
from tests.bench.mesh.cost import resident_mb
from tests.bench.mesh.figures import Figures, percentile
from tests.bench.mesh.ours import Mesh, folder, stored_at
from tests.bench.mesh.peer import PEERS, Peer
from tests.bench.mesh.program import Program, Run, clean_environment
from tests.environments import Environment
from tests.server import NatsServer

OURS: Final = "mlmesh"
ALWAYS: Final = "mlmesh, sync always"
TRACED: Final = "mlmesh, traces exported"
P50: Final = "overhead of a task, p50 (ms)"
P99: Final = "overhead of a task, p99 (ms)"
RATE: Final = "tasks a second"
CPU: Final = "processor time a task, all processes (ms)"
CPU_OF: Final = "processor time a task (ms), "
"""Followed by a process."""
READY: Final = "all processes, start to ready (s)"
RESIDENT_ALL: Final = "resident after the run, all processes (MB)"
IDLE: Final = "resident when ready (MB), "
RESIDENT: Final = "resident after the run (MB), "
BEGAN: Final = "stored to handler, p50 (ms)"
ONE_CALLER: Final = "requests a second, 1 caller"
CALLERS: Final = "requests a second, 64 callers"
CPU_OF_CALL: Final = "processor time a request, both sides (ms)"
INSTALLED: Final = "installed, whole (MB)"
LEAN: Final = "installed without the engine's libraries (MB)"
RECOVERY: Final = "kill -9 to the end of the task (s)"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is done in a run."""

    tasks: int = 100
    """One at a time."""
    burst: int = 400
    """Many in flight."""
    in_flight: int = 64
    calls: int = 1500
    many_calls: int = 6000


@dataclass(slots=True)
class Contest:
    """Runs rounds, and keeps what they told."""

    load: Load
    peers: Mapping[str, Environment]
    figures: Figures = field(default_factory=Figures)

    def systems(self) -> dict[str, Callable[[], None]]:
        """What takes turns in a round of tasks."""
        ours = {
            OURS: lambda: self._mesh(OURS),
            ALWAYS: lambda: self._mesh(ALWAYS, sync_always=True),
            TRACED: self._traced,
        }
        return {**ours, **{name: lambda name=name: self._peer(name) for name in self.peers}}

    def requests(self) -> dict[str, Callable[[], None]]:
        """What takes turns in a round of requests."""
        asking = [name for name in self.peers if PEERS[name].calls]
        return {OURS: self._our_calls, **{name: lambda name=name: self._calls_of(name) for name in asking}}

    def _mesh(self, name: str, *, sync_always: bool = False, environment: Mapping[str, str] | None = None) -> None:
        with folder("run") as directory:
            mesh = Mesh(directory, sync_always=sync_always, environment=dict(environment or {}))
            with running(mesh.start, mesh.stop):
                self.figures.add(READY, name, mesh.ready_s)
                for process, pid in mesh.pids.items():
                    self.figures.add(f"{IDLE}{process}", name, resident_mb(pid))
                self._tasks(name, mesh.submitter)
                submitted = stored_at(mesh.server.url)
            began = mesh.began()
            # The first ones warm up; the next were alone, the later ones stood in a queue.
            alone = list(submitted.items())[8 : 8 + self.load.tasks]
            waited = [(began[task] - at) / 1e6 for task, at in alone if task in began]
            self.figures.add(BEGAN, name, percentile(waited, 0.5))

    def _traced(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "tests.bench.mesh.sink", str(port)]
        with folder("sink") as directory:
            sink = Program.start_silent(command, log=directory / "log", environment=clean_environment())
            try:
                sink.heard()
                self._mesh(TRACED, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"})
            finally:
                sink.stop()

    def _peer(self, name: str) -> None:
        with folder("run") as directory:
            peer = Peer(PEERS[name], self.peers[name], directory)
            with running(peer.start, peer.stop):
                self.figures.add(READY, name, peer.ready_s)
                self._tasks(name, peer.driver, share=PEERS[name].share)

    def _tasks(self, name: str, driver: Program, *, share: float = 1.0) -> None:
        load = self.load
        one = driver.run("task", times=round(load.tasks * share))
        self.figures.add(P50, name, percentile(one.took, 0.5) * 1000)
        self.figures.add(P99, name, percentile(one.took, 0.99) * 1000)
        many = driver.run("task", times=round(load.burst * share), in_flight=load.in_flight)
        self.figures.add(RATE, name, many.per_second)
        self.figures.add(CPU, name, sum(many.cpu_ms.values()))
        for process, spent in many.cpu_ms.items():
            self.figures.add(f"{CPU_OF}{process}", name, spent)
        resident = {process: resident_mb(pid) for process, pid in driver.pids.items()}
        self.figures.add(RESIDENT_ALL, name, sum(resident.values()))
        for process, held in resident.items():
            self.figures.add(f"{RESIDENT}{process}", name, held)

    def _our_calls(self) -> None:
        with folder("run") as directory:
            server = NatsServer(directory / "nats")
            with running(server.start, server.stop):
                driver = asking_driver(server.url, directory / "driver.log")
                try:
                    self._calls(OURS, driver)
                finally:
                    driver.stop()

    def _calls_of(self, name: str) -> None:
        with folder("run") as directory:
            peer = Peer(PEERS[name], self.peers[name], directory)
            with running(peer.start, peer.stop):
                self._calls(name, peer.driver)

    def _calls(self, name: str, driver: Program) -> None:
        self.figures.add(ONE_CALLER, name, driver.run("call", times=self.load.calls).per_second)
        many: Run = driver.run("call", times=self.load.many_calls, in_flight=64)
        self.figures.add(CALLERS, name, many.per_second)
        sides = sum(spent for process, spent in many.cpu_ms.items() if process != "nats-server")
        self.figures.add(CPU_OF_CALL, name, sides)

    def recover(self, name: str) -> None:
        """One recovery of a peer."""
        with folder("run") as directory:
            peer = Peer(PEERS[name], self.peers[name], directory)
            self.figures.add(RECOVERY, name, peer.recovery_s())

    def recover_ours(self, name: str, **environment: str) -> None:
        """One recovery of the mesh: the busy ml-engineer is killed, another is started at once."""
        with folder("run") as directory:
            mesh = Mesh(directory, environment=environment)
            with running(mesh.start, mesh.stop):
                mesh.submitter.tell({"kind": "slow", "times": 1, "in_flight": 1})
                mesh.submitter.heard()
                mark = directory / "workspace" / "killed-here"
                while not mark.exists():
                    time.sleep(0.005)
                begun = time.perf_counter()
                mesh.kill("ml-engineer")
                mesh.start_service("ml-engineer")
                mesh.submitter.heard()
                self.figures.add(RECOVERY, name, time.perf_counter() - begun)


def asking_driver(url: str, log: Path) -> Program:
    """Request and reply by the mesh's own means, on a bus."""
    command = [sys.executable, "-m", "tests.bench.mesh.asking", "driver"]
    return Program.start(command, log=log, environment=clean_environment(NATS_URL=url))


@contextmanager
def running(start: Callable[[], None], stop: Callable[[], None]) -> Generator[None]:
    """Between a start and its stop. What did not start whole is stopped too."""
    try:
        start()
        yield
    finally:
        stop()
