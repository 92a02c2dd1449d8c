"""The mesh as it is measured: a real nats-server and the real services, each a process, with default settings.

The ml-engineer is `tests.bench.mesh.engineer`: the service with an engine that takes no time.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.embedded import die_with_parent
from services._runtime.errors import BusUnavailable
from services._runtime.health import trouble
from services._runtime.settings import Settings
from services._runtime.telemetry import nanoseconds
from tests.architecture.tree import ROOT
from tests.bench.mesh.program import Program, ProgramError, clean_environment
from tests.environments import BENCH
from tests.processes import MODULES
from tests.server import NatsServer

PROCESSES: Final = {**MODULES, subjects.ML_ENGINEER: "tests.bench.mesh.engineer"}
_READY_S: Final = 30.0
_README: Final = """# Checkout

A shop's checkout service in TypeScript. Fraud is checked by hand; an answer must come within 50 ms.
Data: `data/checkouts.csv`, one row a checkout; `fraud` says what it turned out to be. Peak: 40 requests a second.
"""


@dataclass(slots=True)
class Mesh:
    """Server, services and a submitter. `start` and `stop` come in pairs."""

    directory: Path
    sync_always: bool = False
    """fsync every write of the store."""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """Settings that differ from the defaults."""
    server: NatsServer = field(init=False)
    ready_s: float = 0.0
    """From the start of the first service until every one was ready."""
    _submitter: Program | None = None
    _services: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def __post_init__(self) -> None:
        """The server's store stays where it is until `remove`."""
        store = self.directory / "nats" / "js"
        always = f'jetstream {{ store_dir: "{store}", sync_interval: always }}\n' if self.sync_always else ""
        self.server = NatsServer(self.directory / "nats", config=always)

    @property
    def workspace(self) -> Path:
        """A small workspace."""
        return self.directory / "workspace"

    @property
    def submitter(self) -> Program:
        """Who submits, once it has started."""
        if self._submitter is None:
            raise RuntimeError("the mesh was not started")
        return self._submitter

    @property
    def engaged(self) -> Path:
        """Where the engineer leaves when it began with each task."""
        return self.directory / "engaged.json"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, nats-server included."""
        return {"nats-server": self.server.pid, **{name: process.pid for name, process in self._services.items()}}

    def start(self) -> None:
        """Everything, on the store as it stands; returns when a task could be submitted."""
        lay_out(self.workspace)
        if not self.server.pid:
            self.server.start()
        begun = time.perf_counter()
        for name in PROCESSES:
            self.start_service(name)
        try:
            asyncio.run(all_ready(self.server.url))
        except TimeoutError as error:
            raise ProgramError(f"the mesh is not ready after {_READY_S:g} s: {self._last_words()}") from error
        self.ready_s = time.perf_counter() - begun
        self._submitter = Program.start(
            [sys.executable, "-m", "tests.bench.mesh.submitter", str(self.workspace)],
            log=self.directory / "submitter.log",
            environment=self._environment(),
        )
        self._submitter.pids |= self.pids

    def start_service(self, name: str) -> None:
        """One service; a second process of that name when there is one already."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self._services[name] = subprocess.Popen(
                [sys.executable, "-m", PROCESSES[name]],
                cwd=ROOT,
                env=self._environment(),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    def kill(self, name: str) -> None:
        """Kill -9."""
        process = self._services.pop(name)
        process.kill()
        process.wait(10)

    def stop(self) -> None:
        """Ends the processes; the store stays."""
        self.rest()
        self.server.stop()

    def rest(self) -> None:
        """Ends all processes but the server's."""
        if self._submitter is not None:
            self._submitter.stop()
            self._submitter = None
        for process in self._services.values():
            process.terminate()
        for process in self._services.values():
            process.wait(20)
        self._services.clear()

    def began(self) -> dict[str, int]:
        """Task -> when its handler began, ns since 1970. Known after `stop`."""
        return json.loads(self.engaged.read_text(encoding="utf-8"))

    def _last_words(self) -> str:
        logs = {name: self.directory / f"{name}.log" for name in PROCESSES}
        return "\n".join(f"{name}: {log.read_text(encoding='utf-8')[-500:]}" for name, log in logs.items())

    def _environment(self) -> dict[str, str]:
        return clean_environment(
            NATS_URL=self.server.url,
            MLMESH_HOME=str(self.directory / "home"),
            MLMESH_WORKSPACE_ROOTS=str(self.directory),
            BENCH_ENGAGED=str(self.engaged),
            **self.environment,
        )


def lay_out(workspace: Path) -> None:
    """A small workspace: a README, a manifest, a table."""
    if workspace.is_dir():
        return
    (workspace / "data").mkdir(parents=True)
    (workspace / "README.md").write_text(_README, encoding="utf-8")
    (workspace / "package.json").write_text('{"name": "checkout", "dependencies": {"express": "^4"}}', encoding="utf-8")
    rows = "".join(f"{n},{n % 97}.5,{n % 7},{int(n % 31 == 0)}\n" for n in range(500))
    (workspace / "data" / "checkouts.csv").write_text(f"id,amount,items,fraud\n{rows}", encoding="utf-8")


async def all_ready(url: str) -> None:
    """Returns when every service says that it is ready. Raises TimeoutError."""
    bus = await Bus.connect(Settings(), "bench", url=url)
    try:
        async with asyncio.timeout(_READY_S):
            for name in subjects.SERVICES:
                while await _trouble(bus, name):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.01)
    finally:
        await bus.close()


async def _trouble(bus: Bus, name: str) -> str:
    try:
        return await trouble(bus, name)
    except (BusUnavailable, ValueError) as error:  # it is not there yet, or cannot say how it is
        return str(error)


def stored_at(url: str) -> dict[str, int]:
    """Task -> when its submission was stored, ns since 1970, in the order of the stream."""

    async def read() -> dict[str, int]:
        bus = await Bus.connect(Settings(), "bench", url=url)
        try:
            stored = await bus.read(subjects.TASKS, subjects.events_named("submitted"), 1)
        finally:
            await bus.close()
        return {subjects.task_in(one.subject): nanoseconds(one.time) for one in stored}

    return asyncio.run(read())


@contextlib.contextmanager
def folder(name: str) -> Generator[Path]:
    """An empty directory for the time of a run, this process's own."""
    path = BENCH / f"{name}-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep() -> None:
    """Removes the directories of runs that were killed."""
    for path in BENCH.glob("*-*"):
        pid = path.name.rpartition("-")[2]
        if path.is_dir() and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
