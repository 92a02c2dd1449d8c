"""The embedded mesh: from nothing to ready, to its end."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Generator
from pathlib import Path

import pytest
import structlog

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable, Misconfigured
from services._runtime.health import trouble
from services._runtime.home import Home
from services._runtime.settings import Settings
from services.gateway.mesh import Mesh
from tests.fakes.services import STARTS, start_broken


@pytest.fixture(autouse=True)
def _quiet() -> Generator[None]:
    """Log lines of the mesh are not the test's."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def mesh_in(directory: Path, **given: object) -> Mesh:
    settings = Settings.read(heartbeat_s=0.5, ack_wait_s=1, publish_timeout_s=1)
    return Mesh(Home(directory / "home"), settings, load=STARTS.__getitem__, **given)  # pyright: ignore[reportArgumentType]


def servers_of(home: Path) -> list[int]:
    """Process ids of nats-servers that run on this home."""
    wanted = f"{home}/nats.conf".encode()
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words:
            found.append(int(process.name))
    return found


async def test_a_mesh_is_ready_within_two_seconds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """All services say that they are ready; afterwards no server runs."""
    mesh = mesh_in(tmp_path)

    async def look(bus: Bus) -> list[str]:
        return [await trouble(bus, name) for name in subjects.SERVICES]

    assert await mesh.run(look) == ["", "", "", ""]
    assert 0 < mesh.started_s < 2
    assert servers_of(tmp_path / "home") == []


async def test_without_services_it_is_the_bus_with_its_streams(tmp_path: Path) -> None:
    """What a command needs to read or append."""

    async def look(bus: Bus) -> list[str]:
        return (await bus.api("STREAM.NAMES", {}))["streams"]

    assert set(await mesh_in(tmp_path, services=()).run(look)) >= set(subjects.STREAMS)


async def test_a_service_that_cannot_start_ends_the_mesh_with_its_reason(tmp_path: Path) -> None:
    """And the server is stopped."""
    starts = {**STARTS, subjects.SUMMARIZER: start_broken}
    mesh = Mesh(Home(tmp_path / "home"), Settings.read(), load=starts.__getitem__)
    with pytest.raises(Misconfigured, match=r"^summarizer: summarizer is broken on purpose$"):
        await mesh.run(lambda _: asyncio.sleep(60))
    assert servers_of(tmp_path / "home") == []


async def test_a_port_that_is_taken_is_an_error_that_names_it(tmp_path: Path) -> None:
    """With what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Misconfigured, match=rf"port {port} on 127\.0\.0\.1 is taken: .* choose another with --port"
        ):
            await mesh_in(tmp_path, port=port).run(lambda _: asyncio.sleep(0))


async def test_a_server_that_is_killed_comes_back_and_the_work_goes_on(tmp_path: Path) -> None:
    """On the same store and port."""

    async def survive(bus: Bus) -> int:
        await bus.publish("mesh.report.test", b"{}", {"Nats-Msg-Id": "before"})
        os.kill(servers_of(tmp_path / "home")[0], signal.SIGKILL)
        return (await bus.publish("mesh.report.test", b"{}", {"Nats-Msg-Id": "after"})).seq

    assert await mesh_in(tmp_path).run(survive) == 2


async def test_a_server_that_dies_again_and_again_ends_the_mesh(tmp_path: Path) -> None:
    """Whatever the work waits for: the message says where the server's last words are."""
    home = tmp_path / "home"

    async def kill_for_ever(_: Bus) -> None:
        while True:
            for pid in servers_of(home):
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)

    with pytest.raises(BusUnavailable, match=f"nats-server ended again and again: see {re.escape(str(home))}/nats.log"):
        await mesh_in(tmp_path).run(kill_for_ever)


async def test_what_the_work_raises_comes_out_and_the_mesh_is_stopped(tmp_path: Path) -> None:
    """As it was raised."""

    async def fail(_: Bus) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await mesh_in(tmp_path).run(fail)
    assert servers_of(tmp_path / "home") == []


async def test_a_store_at_its_limit_ends_the_mesh_with_what_to_do(tmp_path: Path) -> None:
    """The limit is one of this start: what runs would wait for room that only another start can give."""
    mesh = mesh_in(tmp_path, services=())
    mesh.settings = mesh.settings.model_copy(update={"store_max_bytes": 200_000})

    async def write(bus: Bus) -> None:
        for number in range(1_000):
            await bus.publish("mesh.report.a", b"x" * 1_000, {"Nats-Msg-Id": f"r{number}"})

    with pytest.raises(Misconfigured, match=r"file resource limits exceeded.*raise MLMESH_STORE_MAX_BYTES"):
        await mesh.run(write)
