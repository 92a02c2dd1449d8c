"""The load generator and what it measures: open loop, nothing hidden, nothing lost unseen."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlsystem.errors import ServingError
from mlsystem.serving.load import Window, closed_loop, measure, open_loop, request, run
from mlsystem.serving.process import resident_mb
from tests.blueprint.small_system import classifier, write_package

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


@asynccontextmanager
async def listening(handle: Handler) -> AsyncGenerator[Address]:
    """Serve raw connections on a free port; each is closed when its handler is done with it."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except asyncio.IncompleteReadError:
            return  # the client is done
        finally:
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    port = int(server.sockets[0].getsockname()[1])
    async with server:
        yield Address("127.0.0.1", port)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


def test_a_quantile_is_the_nearest_rank_of_the_answers() -> None:
    window = Window()
    for latency in range(1, 101):
        window.add(200, float(latency))
    window.add(503, 0.1)
    assert (window.quantile_ms(0.5), window.quantile_ms(0.99), window.requests, window.errors) == (50, 99, 101, 1)


def test_a_window_without_answers_meets_no_objective() -> None:
    assert Window().quantile_ms(0.99) == float("inf")


def test_requests_are_sent_when_they_are_due_whatever_the_answers_do() -> None:
    """The server answers nobody before the fifth request is there: a loop that waits would never get that far."""
    arrived = 0
    enough = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await read_request(reader)
        arrived += 1
        if arrived == 5:
            enough.set()
        await enough.wait()
        writer.write(ANSWER)

    async def drive() -> Window:
        async with listening(handle) as server:
            return await open_loop(server, [request(server, "/predict", {})], rate_rps=50, seconds=0.1)

    window = run(drive())
    assert (window.requests, window.errors) == (5, 0)
    assert window.quantile_ms(1.0) >= 60  # the first one waited for four others, 20 ms apart


def test_connections_are_kept_and_used_again() -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(ANSWER)

    async def drive() -> Window:
        async with listening(handle) as server:
            return await closed_loop(server, [request(server, "/predict", {})], count=20)

    assert (run(drive()).errors, connections) == (0, 1)


def test_a_connection_that_breaks_is_an_error_not_a_gap() -> None:
    """Every second connection is closed instead of answered: exactly those requests count as lost."""
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        lost = count % 2 == 0
        await read_request(reader)
        if not lost:
            writer.write(ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))

    async def drive() -> Window:
        async with listening(handle) as server:
            return await closed_loop(server, [request(server, "/predict", {})], count=10)

    window = run(drive())
    assert dict(window.statuses) == {200: 5, 0: 5}


def test_a_server_that_is_not_there_is_an_error_for_every_request() -> None:
    async def nobody(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async def drive() -> Window:
        async with listening(nobody) as server:
            pass
        return await open_loop(server, [b"GET / HTTP/1.1\r\n\r\n"], rate_rps=100, seconds=0.05)

    window = run(drive())
    assert (window.requests, window.errors) == (5, 5)


def test_a_package_is_measured_on_the_real_server(tmp_path: Path) -> None:
    """Three windows share the time, every row is answered, and the figures are of that process."""
    package = write_package(tmp_path, classifier())
    seen = measure(package, rate_rps=60, seconds=1.5, warmup=20)
    answers = ["p50_ms", "p99_ms", "rate_rps", "seconds", "requests", "errors"]
    assert list(seen) == [*answers, "rows_per_s", "capacity_rps", "memory_mb"]
    assert (seen["rate_rps"], seen["seconds"], seen["requests"], seen["errors"]) == (60, 1.5, 90, 0)
    assert 0 < seen["p50_ms"] <= seen["p99_ms"] < 1000
    assert (seen["rows_per_s"] > 100, seen["capacity_rps"] > 100) == (True, True)
    assert 20 < seen["memory_mb"] < 400


def test_a_measurement_ends_when_a_window_meets_the_objective(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier())
    seen = measure(package, rate_rps=40, seconds=1.5, warmup=20, objective=10_000.0)
    assert (seen["requests"], seen["seconds"]) == (20, 0.5)


def test_a_package_without_rows_of_the_source_is_measured_with_made_ones(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier())
    (package / "reference.json").unlink()
    seen = measure(package, rate_rps=40, seconds=0.3, warmup=5)
    assert (seen["requests"], seen["errors"]) == (12, 0)


def test_a_package_that_does_not_answer_its_own_rows_is_an_error_that_says_why(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier())
    (package / "reference.json").write_text('[{"tenure": 1}]')
    with pytest.raises(ServingError, match=r"answered none of 4 requests: \{422: 4\}") as refused:
        measure(package, rate_rps=40, seconds=0.3, warmup=1)
    assert refused.value.code == "no_answers"


def test_a_package_whose_model_cannot_be_loaded_is_an_error_with_the_servers_last_words(tmp_path: Path) -> None:
    package = write_package(tmp_path, b"no model")
    with pytest.raises(ServingError, match=r"(?s)did not start.*model\.onnx of version 0 cannot be loaded") as refused:
        measure(package, rate_rps=40, seconds=0.3)
    assert refused.value.code == "server_did_not_start"


def test_resident_memory_is_that_of_the_process() -> None:
    code = "held = bytearray(80_000_000); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert 80 < resident_mb(process.pid) < 160
        process.communicate("\n")
