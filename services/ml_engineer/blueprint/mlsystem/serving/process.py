"""A server as a child process: for measuring it, and for asking it something once.

Owns starting `python -m mlsystem serve` with the engine that is running now, learning its port, and ending it. The
child stops when its stdin ends, so it does not outlive a parent that is killed. Leaves talking to it to the caller.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

import mlsystem
from mlsystem.errors import ServingError
from mlsystem.serving.keys import client_headers, own_key
from mlsystem.spec import read_spec

STOP_WITH_STDIN: Final = "MLSYSTEM_STOP_WITH_STDIN"
"""Set in the environment of a server that must not outlive whoever started it: it stops when its stdin ends."""

_START_S = 60.0
_STOP_S = 35.0
_TAIL = 2000  # characters of the child's stderr that an error repeats


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    url: str
    host: str
    port: int
    start_s: float
    """Seconds from spawning to answering, the interpreter's start included."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """What a request must carry; empty if the server wants no keys."""

    def memory_mb(self) -> float:
        """Return the resident memory in MB, of the largest worker if there are several."""
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        workers = [int(child) for child in listed.read_text().split()] if listed.is_file() else []
        return max(map(resident_mb, workers or [pid]))


@contextlib.contextmanager
def serving(directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Generator[Listening]:
    """Run `mlsystem serve --port 0 ...` in `directory` for the time of the context, with more environment.

    A server that wants API keys gets one of its own, which `headers` carry, unless `environment` holds others.

    Raises: ServingError with the child's last words if it does not come up.
    """
    command = [sys.executable, "-m", "mlsystem", "serve", "--dir", str(directory), "--port", "0", *arguments]
    key, known = own_key(read_spec(directory).serving)
    headers = client_headers(key) if known.keys().isdisjoint(environment or {}) else {}
    inherited = {**os.environ, STOP_WITH_STDIN: "1", "PYTHONPATH": python_path(), **known, **(environment or {})}
    inherited.pop("TRACEPARENT", None)
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=directory, env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            line = _first_line(cast("IO[bytes]", process.stdout), started + _START_S)
            if line is None:
                raise ServingError("server_did_not_start", f"the server did not start: {_tail(errors)}")
            yield Listening(process, line["url"], line["host"], line["port"], time.monotonic() - started, headers)
        finally:
            _end(process)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(told.stdout) / 1024


def python_path() -> str:
    """Return a path on which the child finds the engine that is running now, be it a directory or a wheel."""
    engine = Path(mlsystem.__file__).parent.parent
    return os.pathsep.join([str(engine), *filter(None, [os.environ.get("PYTHONPATH")])])


def _first_line(stdout: IO[bytes], deadline: float) -> dict[str, Any] | None:
    """Return the line that says where the server listens; None if it ends before, or takes too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            return None
    try:
        return msgspec.json.decode(stdout.readline(), type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read().decode("utf-8", "replace")[-_TAIL:].strip() or "it said nothing"
