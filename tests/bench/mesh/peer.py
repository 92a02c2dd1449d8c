"""The other systems: each in an environment of its own, made once below `.bench/`, and driven as the mesh is.

What it takes to install one is in `peers/<name>.txt`, what it does in `peers/with_<name>.py`, whose docstring says what
the system guarantees and what it does not.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.mesh.program import Program, clean_environment
from tests.environments import Environment, environment
from tests.server import NatsServer

_LISTS: Final = Path(__file__).parent / "peers"


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


def installed(name: str) -> Environment:
    """The peer's environment. Raises NotToBeHadError."""
    return environment(_LISTS / f"{name}.txt")


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
