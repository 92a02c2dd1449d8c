"""Measures a server over HTTP: latency at a given rate, throughput of large requests, memory.

Owns the load generator: open loop, so that a slow answer does not slow the next question; latency counts from the
moment that a request was due, so that waiting is not hidden. It runs on one thread on raw sockets and select(),
whose timeouts are in microseconds where epoll's are in milliseconds. Leaves judging to `evaluation`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import httptools
import msgspec

from mlsystem.errors import ServingError
from mlsystem.serving.examples import Row, example_rows
from mlsystem.serving.package import Package
from mlsystem.serving.process import Listening, serving
from mlsystem.spec import Serving, read_spec, size_bytes

WINDOWS = 3
"""Windows of a measurement; the best one counts, since what a noisy machine adds is not the server's."""

_CONNECTIONS = 64
_PATIENCE_S = 10.0  # for answers, after the last request was sent
_BULK_ROWS = 1000
_BULK_SHARE = 0.1
"""Of the time of a measurement: how long large requests are sent, one after the other."""
_BULK_BODY_SHARE = 0.9  # of max_body
_CAPACITY_CLIENTS = 16
_CAPACITY_SHARE = 0.05
_LEAST_S = 0.15
_OK = 200
_LOST = 0  # status of a request whose connection broke, or that was never answered

_Result = TypeVar("_Result")


class Address(Protocol):
    """Where a server listens."""

    @property
    def host(self) -> str: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102


@dataclass(slots=True)
class Window:
    """What a stretch of load gave: latencies of answers in milliseconds, and how many requests ended with what."""

    latencies_ms: list[float] = field(default_factory=list[float])
    statuses: Counter[int] = field(default_factory=Counter[int])

    def add(self, status: int, latency_ms: float) -> None:
        """Count one request."""
        self.statuses[status] += 1
        if status == _OK:
            self.latencies_ms.append(latency_ms)

    @property
    def requests(self) -> int:
        """Requests sent."""
        return self.statuses.total()

    @property
    def errors(self) -> int:
        """Requests that were not answered with 200."""
        return self.requests - self.statuses[_OK]

    def quantile_ms(self, share: float) -> float:
        """Return the latency that `share` of the answers did not exceed (nearest rank); infinite without answers."""
        if not self.latencies_ms:
            return math.inf
        ordered = sorted(self.latencies_ms)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def measure(
    model_dir: Path, *, rate_rps: float, seconds: float, warmup: int = 200, objective: float = 0.0
) -> dict[str, float | int]:
    """Start the real server on the package in `model_dir`, drive it, and return what was seen.

    `seconds` is split into three windows and the best p99 of them is returned, errors are those of all; once a
    window meets `objective` (the p99 in ms; 0: none) the others are not run. The rows of reference.json are sent in
    turn, one a request; `rows_per_s` comes from requests of 1,000 rows, one after the other.

    Raises: ServingError if the server does not start, or does not answer.
    """
    limits, package = read_spec(model_dir).serving, Package.read(model_dir)
    rows = example_rows(package.schema(), package.reference())
    with serving(model_dir, "--package", str(model_dir)) as server:
        singles = [request(server, "/predict", {"rows": [row]}, server.headers) for row in rows]
        rate = run(_bulk(server, rows, limits, max(_LEAST_S, seconds * _BULK_SHARE)))
        capacity = run(_capacity(server, singles, max(_LEAST_S, seconds * _CAPACITY_SHARE)))
        windows = run(_windows(server, singles, rate_rps, (seconds / WINDOWS, objective, warmup)))
        memory_mb = server.memory_mb()
    best = min(windows, key=lambda window: window.quantile_ms(0.99))
    if not best.latencies_ms:
        raise ServingError("no_answers", f"the server answered none of {best.requests} requests: {dict(best.statuses)}")
    return {
        "p50_ms": round(best.quantile_ms(0.5), 3),
        "p99_ms": round(best.quantile_ms(0.99), 3),
        "rate_rps": rate_rps,
        "seconds": round(seconds / WINDOWS * len(windows), 3),
        "requests": sum(window.requests for window in windows),
        "errors": sum(window.errors for window in windows),
        "rows_per_s": round(rate, 1),
        "capacity_rps": round(capacity, 1),
        "memory_mb": round(memory_mb, 1),
    }


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine on a loop whose timers are exact to microseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(work)


def request(server: Address, path: str, content: object, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a POST request with a JSON body, and with further headers."""
    body = msgspec.json.encode(content)
    head = f"POST {path} HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def open_loop(server: Address, requests: Sequence[bytes], *, rate_rps: float, seconds: float) -> Window:
    """Send `requests` in turn at a fixed rate, whatever the answers do; return what came of them."""
    loop = asyncio.get_running_loop()
    window, client = Window(), Client(server.host, server.port)
    start = loop.time() + 0.01
    for number, payload in zip(range(max(1, round(rate_rps * seconds))), itertools.cycle(requests), strict=False):
        due = start + number / rate_rps
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        client.send(payload, lambda status, due=due: window.add(status, (loop.time() - due) * 1000))
    await client.close(_PATIENCE_S)
    return window


async def closed_loop(server: Address, requests: Sequence[bytes], *, count: int, seconds: float = math.inf) -> Window:
    """Send at most `count` requests one after the other, for at most `seconds`; return what came of them."""
    loop = asyncio.get_running_loop()
    window, client = Window(), Client(server.host, server.port)
    end = loop.time() + seconds
    for payload in itertools.islice(itertools.cycle(requests), count):
        sent = loop.time()
        window.add(await client.ask(payload), (loop.time() - sent) * 1000)
        if loop.time() > end:
            break
    await client.close(_PATIENCE_S)
    return window


class Client:
    """Keep-alive connections to one server, as many as requests wait for an answer; belongs to one event loop."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[_Connection] = []
        self._queue: deque[_Asked] = deque()
        self._open = 0
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: set[_Asked] = set()
        self._quiet = asyncio.Event()

    def send(self, payload: bytes, done: Callable[[int], None]) -> None:
        """Send a request now, or as soon as a connection is free; `done` is given the status, 0 if it is lost."""
        asked = _Asked(payload, done)
        self._waiting.add(asked)
        self._quiet.clear()
        if self._idle:
            self._idle.pop().ask(asked)
            return
        self._queue.append(asked)
        if self._open < _CONNECTIONS:
            self._open += 1
            task = asyncio.ensure_future(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def ask(self, payload: bytes) -> int:
        """Send a request and return its status."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.send(payload, answer.set_result)
        return await answer

    async def close(self, patience_s: float) -> None:
        """Wait for the answers that are still to come; those that do not come in time are lost."""
        if self._waiting:
            try:
                await asyncio.wait_for(self._quiet.wait(), patience_s)
            except TimeoutError:
                for asked in list(self._waiting):
                    self.answered(asked, _LOST)
        for connection in self._idle:
            connection.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def answered(self, asked: _Asked, status: int) -> None:
        """Note what became of a request."""
        if asked in self._waiting:
            self._waiting.discard(asked)
            asked.done(status)
        if not self._waiting:
            self._quiet.set()

    def free(self, connection: _Connection) -> None:
        """Take a connection back and give it the next request."""
        if self._queue:
            connection.ask(self._queue.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        """Forget a connection that the other side closed."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    async def _connect(self) -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), *self._address
            )
        except OSError:
            self._open -= 1
            if self._queue:
                self.answered(self._queue.popleft(), _LOST)
        else:
            self.free(connection)


@dataclass(slots=True, eq=False)
class _Asked:
    """A request, and whom to tell its status."""

    payload: bytes
    done: Callable[[int], None]


class _Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: _Asked | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport

    def ask(self, asked: _Asked) -> None:
        self._asked = asked
        self._transport.write(asked.payload)

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Parser's callback: the answer is complete."""
        asked, self._asked = self._asked, None
        keep = self._parser.should_keep_alive()
        if asked is not None:
            self._client.answered(asked, self._parser.get_status_code())
        if keep:
            self._client.free(self)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._asked is not None:
            self._client.answered(self._asked, _LOST)
        self._client.gone(self)


async def _windows(
    server: Address, requests: Sequence[bytes], rate_rps: float, plan: tuple[float, float, int]
) -> list[Window]:
    """Run windows of `plan` (seconds, objective in ms, warm-up requests) until one meets the objective."""
    seconds, objective, warmup = plan
    await closed_loop(server, requests, count=warmup)
    windows: list[Window] = []
    for _ in range(WINDOWS):
        windows.append(await open_loop(server, requests, rate_rps=rate_rps, seconds=seconds))
        if 0 < windows[-1].quantile_ms(0.99) <= objective and not windows[-1].errors:
            break
    return windows


async def _bulk(server: Listening, rows: Sequence[Row], limits: Serving, seconds: float) -> float:
    """Return the rows a second that one client gets with requests as large as the limits allow."""
    many = list(itertools.islice(itertools.cycle(rows), min(_BULK_ROWS, limits.max_rows)))
    body = len(msgspec.json.encode(many))
    share = min(1.0, _BULK_BODY_SHARE * size_bytes(limits.max_body) / body)
    many = many[: max(1, int(len(many) * share))]
    payload = request(server, "/predict", {"rows": many}, server.headers)
    await closed_loop(server, [payload], count=1)
    window = await closed_loop(server, [payload], count=1000, seconds=seconds)
    return len(many) * len(window.latencies_ms) / max(1e-9, sum(window.latencies_ms) / 1000)


async def _capacity(server: Address, requests: Sequence[bytes], seconds: float) -> float:
    """Return the requests a second that the server answers when some clients never let it rest."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    clients = [closed_loop(server, requests, count=10**6, seconds=seconds) for _ in range(_CAPACITY_CLIENTS)]
    answered = sum(len(window.latencies_ms) for window in await asyncio.gather(*clients))
    return answered / (loop.time() - started)
