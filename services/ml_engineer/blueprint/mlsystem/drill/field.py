"""The copy's server while it is asked: running, killed, started again, always on the same port.

Owns the server and the probe of one drill. Every scenario finds a server that answers with the live version and
leaves one behind.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsystem.drill.ground import LIVE, Ground
from mlsystem.drill.probe import Asked, Probe
from mlsystem.errors import ServingError
from mlsystem.serving.client import Client

if TYPE_CHECKING:
    from mlsystem.serving.process import Listening


class Field:
    """One server of the copy, and the load on it."""

    def __init__(self, ground: Ground, probe: Probe, running: contextlib.ExitStack) -> None:
        self.ground = ground
        self.probe = probe
        self._running = running
        self._server: Listening | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, ground: Ground) -> Generator[Field]:
        """Give a server that is asked; both are gone at the end."""
        with contextlib.ExitStack() as running, Probe(ground.url, ground.row, ground.headers) as probe:
            yield cls(ground, probe, running)
            running.close()

    def ready(self) -> None:
        """Return when the live version answers; the server is started if there is none."""
        if self._server is None:
            self.start()
        if self.probe.settled(by(LIVE), time.monotonic()) is None:
            raise ServingError("drill_not_ready", f"the copy's server does not answer with version {LIVE}")

    def pids(self) -> list[int]:
        """Return the server's processes: the one that was started, and its workers if it has some (Linux)."""
        first = self._listening().process.pid
        children = Path(f"/proc/{first}/task/{first}/children")
        return [first, *map(int, children.read_text().split())] if children.is_file() else [first]

    def start(self) -> None:
        """Start the server and return when it listens."""
        self._server = self._running.enter_context(self.ground.server())

    def stop(self) -> None:
        """End the server in order."""
        self._running.close()
        self._server = None

    def kill(self) -> None:
        """End the server without a chance to do anything about it."""
        process = self._listening().process
        process.kill()
        process.wait()
        self.stop()

    def get(self, path: str) -> dict[str, Any]:
        """Return what the server says at a path, nothing while it does not answer."""
        try:
            with Client.connected(self.ground.url, self.ground.headers) as client:
                return client.get(path)[1]
        except ServingError:
            return {}

    def _listening(self) -> Listening:
        if self._server is None:
            raise ServingError("drill_not_ready", "the copy's server does not run")
        return self._server


def by(version: int) -> Callable[[Asked], bool]:
    """Return what tells whether a request was answered by a version."""
    return lambda asked: asked.ok and asked.version == version
