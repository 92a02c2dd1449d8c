"""Several server processes on one port: started, watched, started again when they die, and ended together.

Owns the parent. It listens, hands the socket to its workers, and answers nothing itself; a connection that waits while
a worker dies is taken by another. Every worker follows the registry and writes to the state as a single server does,
and counts on a board that its siblings read, so that any of them tells the numbers of all. Leaves serving to `server`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final, cast

import msgspec

from mlsystem.errors import ServingError
from mlsystem.serving.process import STOP_WITH_STDIN, python_path

if TYPE_CHECKING:
    from mlsystem.output import Reporter

WORKER: Final = "MLSYSTEM_WORKER"
"""In a worker's environment: the descriptor of the socket, and the file of its board."""

_LOOK_S: Final = 0.1
_START_S: Final = 60.0
_SOUND_S: Final = 5.0
"""A worker that has lived so long has started; one that ends before is waited with, longer each time."""

_TRIES: Final = 5
_END_S: Final = 40.0


class Post(msgspec.Struct, frozen=True):
    """What a worker is given by its parent."""

    descriptor: int
    board: str

    def socket(self) -> socket.socket:
        """Return the socket to accept from."""
        return socket.socket(fileno=self.descriptor)


def own_post() -> Post | None:
    """Return what this process was given as a worker, None if it is none."""
    told = os.environ.get(WORKER)
    return msgspec.json.decode(told, type=Post) if told else None


@dataclass(slots=True)
class _Worker:
    """One place among the workers, and the process that has it now."""

    board: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    line: dict[str, Any] | None = None
    """What the process said when it answered."""
    requests: int = 0
    ready: threading.Event = field(default_factory=threading.Event)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None


class Workers:
    """The workers of one port."""

    def __init__(self, command: Sequence[str], sock: socket.socket, count: int, reporter: Reporter) -> None:
        self._command = [sys.executable, "-m", "mlsystem", *command, "--jsonl"]
        self._sock = sock
        self._reporter = reporter
        self._signals = 0
        self._signalled = threading.Event()
        self._boards = tempfile.TemporaryDirectory(prefix="mlsystem-boards-")
        self._workers = [_Worker(Path(self._boards.name) / str(place)) for place in range(count)]

    def run(self, tell: Callable[[int | None], None], *, linger_s: float = 0.0) -> dict[str, object]:
        """Serve until a signal comes and return what was done; `tell` is given the version once all workers answer.

        Raises: ServingError if the workers cannot be started.
        """
        begun = time.monotonic()
        with self._boards, self._signals_noticed():
            try:
                for worker in self._workers:
                    self._start(worker)
                tell(self._await_ready())
                while not self._signals:
                    self._look()
                    self._signalled.wait(_LOOK_S)
            finally:
                self._end(linger_s)
        requests = sum(worker.requests for worker in self._workers)
        return {"requests": requests, "workers": len(self._workers), "seconds": round(time.monotonic() - begun, 3)}

    def _start(self, worker: _Worker) -> None:
        descriptor = self._sock.fileno()
        post = msgspec.json.encode(Post(descriptor, str(worker.board))).decode()
        environment = {**os.environ, WORKER: post, STOP_WITH_STDIN: "1", "PYTHONPATH": python_path()}
        process = subprocess.Popen(
            self._command, env=environment, pass_fds=(descriptor,), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        worker.process, worker.started = process, time.monotonic()
        threading.Thread(target=self._listen, args=(worker, process), daemon=True).start()

    def _listen(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a worker says, until it has ended."""
        for line in cast("IO[bytes]", process.stdout):
            event = _event(line)
            match event.get("event"):
                case "serving":
                    worker.line = event
                    worker.ready.set()
                case "progress":
                    self._reporter.progress("serve", None, f"worker {process.pid}: {event['message']}")
                case "result" if event.get("ok"):
                    worker.requests += int(event.get("requests", 0))
                case "result":
                    self._reporter.progress("serve", None, f"worker {process.pid}: {event['error']['message']}")
                case _:
                    continue
        process.wait()

    def _await_ready(self) -> int | None:
        """Wait until every worker answers; return the version that the first one tells."""
        deadline = time.monotonic() + _START_S
        for worker in self._workers:
            while not worker.ready.wait(_LOOK_S):
                if self._signals:
                    return None
                if worker.ended() or time.monotonic() > deadline:
                    raise ServingError("server_did_not_start", "a worker did not start; what it said stands above")
        line = self._workers[0].line
        return line["version"] if line else None

    def _look(self) -> None:
        """Start again what has ended; a worker that keeps ending is given more time between, and then given up."""
        for worker in self._workers:
            if not worker.ended() or worker.process is None:
                continue
            lived_s = time.monotonic() - worker.started
            if lived_s >= _SOUND_S:
                worker.failures = 0
            elif lived_s < _LOOK_S * 2**worker.failures:
                continue
            worker.failures += 1
            if worker.failures > _TRIES:
                raise ServingError("workers_failed", f"a worker ended {_TRIES} times in a row; its errors stand above")
            code = worker.process.returncode
            self._reporter.progress("serve", None, f"worker {worker.process.pid} ended with {code}; another one starts")
            self._start(worker)

    def _end(self, linger_s: float) -> None:
        """Let every worker end what it has begun; the second signal ends them at once."""
        self._sock.close()
        running = [worker.process for worker in self._workers if worker.process and not worker.ended()]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + linger_s + _END_S
        while any(process.poll() is None for process in running) and time.monotonic() < deadline and self._signals < 2:
            time.sleep(_LOOK_S / 5)
        for process in running:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def _signals_noticed(self) -> Generator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        if os.environ.get(STOP_WITH_STDIN):
            threading.Thread(target=self._read_stdin, daemon=True).start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _read_stdin(self) -> None:
        while os.read(0, 1024):
            pass
        self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self._signals += 1
        self._signalled.set()


def _event(line: bytes) -> dict[str, Any]:
    """Return what a line says; what is none of the engine's own is passed on as it is."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"event": "progress", "message": line.decode("utf-8", "replace").rstrip()}
