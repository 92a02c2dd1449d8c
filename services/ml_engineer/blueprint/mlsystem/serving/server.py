"""The server process: a socket, uvicorn on uvloop, and an end that drops nobody.

Owns start and stop. One JSON line on stdout says where the server listens, when it does. SIGTERM and SIGINT stop
accepting, let the requests in flight end, and return; a second one ends at once. Leaves answering to `app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, cast

import uvicorn

from mlsystem.online.fill import Filler
from mlsystem.serving.app import PATHS, build
from mlsystem.serving.keys import Keys
from mlsystem.serving.limits import InFlight, Limits
from mlsystem.serving.live import Live, Source
from mlsystem.serving.metrics import Metrics
from mlsystem.serving.predictor import Predictor
from mlsystem.serving.process import STOP_WITH_STDIN
from mlsystem.serving.protocol import protocol_of
from mlsystem.serving.recorder import Recorder
from mlsystem.serving.service import Service
from mlsystem.spec import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mlsystem.output import Reporter
    from mlsystem.serving.protocol import Protocol
    from mlsystem.spec import Spec
    from mlsystem.state import State

_THREADS = 2
"""Large requests that are worked on at once; more wait, within their time limit."""

_SWITCH_INTERVAL_S = 0.0001
"""How long a thread may keep the interpreter from the event loop: less than a request takes, or requests would queue up
while the recorder writes. Python's own 5 ms would be seen in every percentile."""

_KEEP_ALIVE_S = 75
"""Longer than the idle time of common proxies and clients, so that it is they who close, not the server under them."""

_DRAIN_S = 30
"""Longest wait for requests in flight at the end."""

_SETTLE_S = 1.0
"""How long a connection that is open at the end may be silent before it is closed: a request may be on its way."""

_LOOK_S = 0.02

_GC_OBJECTS = 50_000
"""New objects after which cycles are looked for: more than the waiting rows hold, which would be walked
through time and again; they hold no cycles, and are freed when they are written."""

_SWEEP_TICKS = 10
"""Connections are looked through for idle ones once in so many tenths of a second."""


def assemble(
    spec: Spec, source: Source, reporter: Reporter, *, state: State | None = None, board: Path | None = None
) -> Service:
    """Return a server's parts with the wanted model loaded.

    `state` is where predictions are kept, None: nowhere; `board` the file for what this worker counts, if it has
    siblings. Raises: RegistryError, ServingError if the model cannot be loaded, StateError if the state is another's.
    """
    metrics = Metrics(PATHS, board)
    limits = Limits.of(spec.serving)
    in_flight = InFlight(limits, metrics.values, metrics.slot("http_requests_in_progress"))
    live = Live(source, name=spec.name, metrics=metrics, reporter=reporter)
    live.begin()
    recorder = Recorder(state, spec, live, metrics, reporter) if state is not None else None
    threads = ThreadPoolExecutor(_THREADS, "predict")
    filler = Filler(state, seconds(spec.monitoring.freshness)) if state is not None else None
    predictor = Predictor(limits, in_flight, metrics, threads, recorder=recorder, filler=filler)
    keys = Keys.of(spec.serving)
    return Service(spec.name, spec, live, limits, in_flight, metrics, threads, predictor, keys, state, recorder)


def run(service: Service, sock: socket.socket, tell: Callable[[], None], *, linger_s: float = 0.0) -> dict[str, object]:
    """Serve until a signal comes and return what was done; `tell` is called once requests are answered.

    After the signal new requests are taken for `linger_s` more: whoever routes them here may hear of the end later.
    """
    config = uvicorn.Config(
        build(service),
        http=protocol_of(service),
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
    server = _Server(config, service, tell, linger_s)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    if service.recorder is not None:
        service.recorder.start()
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections need not walk through it again and again
    gc.set_threshold(_GC_OBJECTS, 20, 50)
    try:
        server.run(sockets=[sock])
    finally:
        service.threads.shutdown(wait=False, cancel_futures=True)
        if service.recorder is not None:
            service.recorder.close()
    return {"requests": server.server_state.total_requests, "seconds": round(time.monotonic() - started, 3)}


class _Server(uvicorn.Server):
    """uvicorn's server with an end that drops nobody, and is a success: a stopped server is no failure.

    On the first signal readiness is false and every answer closes its connection. When `linger_s` have passed nobody
    is let in any more; whoever has come in by then is answered, and has a second to send what may be on its way.
    """

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None], linger_s: float) -> None:
        super().__init__(config)
        self._service = service
        self._on_start = started
        self._linger_s = linger_s
        self._stopped_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def on_tick(self, counter: int) -> bool:
        """Look after connections and the end, ten times a second."""
        if counter % _SWEEP_TICKS == 0:
            at = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast("Protocol", connection).sweep(at, _KEEP_ALIVE_S, self._service.limits.timeout_s)
        if time.monotonic() - self._stopped_at >= self._linger_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door, wait for those who are inside, and end."""
        for sock in sockets or []:
            await self._close_door(sock)
        deadline = time.monotonic() + _SETTLE_S
        while self.server_state.connections and time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(_LOOK_S)
        await super().shutdown(sockets)

    async def _close_door(self, sock: socket.socket) -> None:
        """Stop listening, and let in who stands in the queue by then: closing it would turn them away unanswered."""
        queue = sock.dup()
        queue.settimeout(0.0)
        for server in self.servers:
            server.close()
        sock.close()
        await asyncio.sleep(_LOOK_S)  # the loop closes its handle in a turn of its own; the queue is ours alone then
        waiting: list[socket.socket] = []
        with queue, contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(queue.accept()[0])
        made = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        protocol = partial(made, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        for connection in waiting:
            connection.settimeout(0.0)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)

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
        if self._service.ending.begun:
            self.force_exit = self.should_exit = True
        self._service.ending.begun = True
        self._stopped_at = time.monotonic()

    def _read_stdin(self) -> None:
        if not os.read(0, 1024):
            asyncio.get_running_loop().remove_reader(0)
            self._stop()
