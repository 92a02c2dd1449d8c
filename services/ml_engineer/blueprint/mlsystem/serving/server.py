"""The server process: a socket, uvicorn on uvloop, and an end that drops nobody.

Owns start and stop. One JSON line on stdout says where the server listens, when it does. SIGTERM and SIGINT stop
accepting, let the requests in flight end, and return; a second one ends at once. Leaves answering to `app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from mlsystem.errors import ServingError
from mlsystem.serving.app import PATHS, build
from mlsystem.serving.limits import InFlight, Limits
from mlsystem.serving.live import Live, Source
from mlsystem.serving.metrics import Metrics
from mlsystem.serving.process import STOP_WITH_STDIN
from mlsystem.serving.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mlsystem.output import Reporter
    from mlsystem.spec import Spec

_THREADS = 2
"""Large requests that are worked on at once; more wait, within their time limit."""

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread may keep the interpreter from the event loop; Python's 5 ms would be seen in the latency."""

_KEEP_ALIVE_S = 75
"""Longer than the idle time of common proxies and clients, so that it is they who close, not the server under them."""

_DRAIN_S = 30
"""Longest wait for requests in flight at the end."""


def assemble(spec: Spec, source: Source, reporter: Reporter) -> Service:
    """Return a server's parts with the wanted model loaded; RegistryError, ServingError if it cannot be."""
    metrics = Metrics(PATHS)
    limits = Limits.of(spec.serving)
    in_flight = InFlight(limits)
    metrics.watch(in_flight)
    live = Live(source, name=spec.name, metrics=metrics, reporter=reporter)
    live.refresh()
    return Service(spec.name, live, limits, in_flight, metrics, ThreadPoolExecutor(_THREADS, "predict"))


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; ServingError if the port is taken or the address is not this machine's."""
    try:
        return socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        raise ServingError(
            "cannot_listen", f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port or --host"
        ) from error


def run(service: Service, sock: socket.socket, tell: Callable[[str], None]) -> dict[str, object]:
    """Serve until a signal comes and return what was done; `tell` is given the URL once requests are answered."""
    config = uvicorn.Config(
        build(service),
        http="httptools",
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    started = time.monotonic()
    server = _Server(config, lambda: tell(_url(sock)))
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections need not walk through it again and again
    try:
        server.run(sockets=[sock])
    finally:
        service.threads.shutdown(wait=False, cancel_futures=True)
    return {"requests": server.server_state.total_requests, "seconds": round(time.monotonic() - started, 3)}


class _Server(uvicorn.Server):
    """uvicorn's server with an end that is a success: a stopped server is no failure of the command."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Turn the two signals into an orderly end, and give the handlers back afterwards."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        if os.environ.get(STOP_WITH_STDIN):
            asyncio.get_running_loop().add_reader(0, self._read_stdin)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True

    def _read_stdin(self) -> None:
        if not os.read(0, 1024):
            asyncio.get_running_loop().remove_reader(0)
            self._stop()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
