"""The other systems: each in an environment of its own, made once below `.bench/`, and driven as the mesh is.

What it takes to install one is in `peers/<name>.txt`, what it does in `peers/with_<name>.py`, whose docstring says what
the system guarantees and what it does not.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from tests.bench.mesh.place import BENCH
from tests.bench.mesh.program import Program, clean_environment
from tests.server import NatsServer

_LISTS: Final = Path(__file__).parent / "peers"
_INSTALL_S: Final = 600


@dataclass(frozen=True, slots=True)
class About:
    """What is to be known of a peer before it runs."""

    name: str
    durable: bool
    """Whether a task survives its process, by whatever the system itself does."""
    on_nats: bool
    share: float = 1.0
    """Of the load that it is given: what takes long is done less often."""
    calls: bool = False
    """Whether it has request and reply."""
    recovers: str = ""
    """How a task goes on after a kill -9; empty: it does not."""
    version_of: str = ""
    """The package whose version is told."""


PEERS: Final = {
    about.name: about
    for about in (
        About("raw", durable=False, on_nats=True, calls=True, version_of="nats-py"),
        About("faststream", durable=False, on_nats=True, calls=True, version_of="faststream"),
        About(
            "langgraph",
            durable=True,
            on_nats=False,
            share=0.4,
            recovers="when somebody invokes the thread again",
            version_of="langgraph",
        ),
        About("dbos", durable=True, on_nats=False, share=0.4, recovers="when a process starts", version_of="dbos"),
        About("taskiq", durable=True, on_nats=True, recovers="after the broker's ack wait", version_of="taskiq-nats"),
        About(
            "temporal",
            durable=True,
            on_nats=False,
            share=0.15,
            recovers="after a heartbeat timeout of 1 s",
            version_of="temporalio",
        ),
    )
}


class NotToBeHadError(Exception):
    """A peer that cannot be installed here; the text is why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer is installed."""

    python: Path
    versions: Mapping[str, str]
    size_mb: float
    """Of everything that is installed, the interpreter aside."""


def installed(name: str) -> Environment:
    """The peer's environment, made if it is not there or its list has changed. Raises NotToBeHadError."""
    wanted = _LISTS / f"{name}.txt"
    digest = blake2b(wanted.read_bytes(), digest_size=6).hexdigest()
    folder = BENCH / "envs" / f"{name}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--only-binary", ":all:", "--python", str(python), "--requirement", str(wanted))
        (folder / "complete").touch()
    listed = _uv("pip", "freeze", "--python", str(python)).splitlines()
    versions = dict(line.split("==", 1) for line in listed if "==" in line)
    return Environment(python, versions, _size_mb(folder))


def _uv(*arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "uv"), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode != 0:
        raise NotToBeHadError(done.stderr.strip()[-400:] or f"uv {arguments[0]} failed")
    return done.stdout


def _size_mb(folder: Path) -> float:
    """Bytes of what was installed, compiled files left out: they are made on the first run."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6


@dataclass(slots=True)
class Peer:
    """A running peer: a nats-server where it needs one, and a driver that has started the rest."""

    about: About
    environment: Environment
    directory: Path
    ready_s: float = 0.0
    _driver: Program | None = None
    _server: NatsServer | None = None

    @property
    def driver(self) -> Program:
        """What obeys, once it has started."""
        if self._driver is None:
            raise RuntimeError(f"{self.about.name} was not started")
        return self._driver

    def start(self) -> None:
        """Returns when a task could be submitted."""
        argument = self._store()
        begun = time.perf_counter()
        self._driver = Program.start(
            self._command("driver", argument), log=self.directory / "driver.log", environment=self._variables()
        )
        self.ready_s = time.perf_counter() - begun
        if self._server is not None:
            self._driver.pids["nats-server"] = self._server.pid

    def recovery_s(self) -> float:
        """Seconds from a kill -9 of the process that does the work to the end of the task."""
        argument = self._store()
        program = Program.start_silent(
            self._command("recovery", argument),
            log=self.directory / "recovery.log",
            environment=self._variables(),
        )
        try:
            return float(program.heard()["seconds"])
        finally:
            program.stop()
            if self._server is not None:
                self._server.stop()

    def stop(self) -> None:
        """Ends it."""
        if self._driver is not None:
            self._driver.stop()
        if self._server is not None:
            self._server.stop()

    def _store(self) -> str:
        """What the program is told: the bus, or where to keep its database."""
        if not self.about.on_nats:
            return str(self.directory)
        self._server = NatsServer(self.directory / "nats")
        self._server.start()
        return self._server.url

    def _command(self, role: str, argument: str) -> list[str]:
        return [str(self.environment.python), "-m", f"tests.bench.mesh.peers.with_{self.about.name}", role, argument]

    def _variables(self) -> dict[str, str]:
        return clean_environment(BENCH_MARK=str(self.directory / "mark"))
