"""Which bus a command works on, and what it starts."""

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest
import structlog

from services._runtime.errors import BusUnavailable, Misconfigured
from services._runtime.home import Home
from services._runtime.settings import Settings
from services.gateway.attach import Desk, MeshGone, Place, at_desk
from tests.fakes.old_server import old_server
from tests.fakes.services import STARTS
from tests.server import NatsServer


@pytest.fixture(autouse=True)
def _logs() -> Generator[None]:
    """Attaching configures logs for the process: not for the next test."""
    yield
    structlog.reset_defaults()


def place_in(workspace: Path, **given: object) -> Place:
    quick = {"heartbeat_s": 0.5, "publish_timeout_s": 1, "connect_timeout_s": 1, "bus_patience_s": 1}
    return Place(Settings.read(**{**quick, **given}), workspace, STARTS.__getitem__)


async def mode(desk: Desk) -> tuple[str, bool]:
    return desk.how.mode, desk.works


async def test_where_nothing_runs_a_command_starts_what_it_needs(tmp_path: Path) -> None:
    """The mesh for work, the bus alone for reading."""
    place = place_in(tmp_path)
    assert await at_desk(place, "mesh", mode) == ("mesh", True)
    assert await at_desk(place, "bus", mode) == ("bus", False)
    assert await at_desk(place, "resume", mode) == ("mesh", True)


async def test_an_embedded_mesh_asks_nobody_for_a_key(tmp_path: Path) -> None:
    """Keys and certificates in the environment are for the bus at NATS_URL."""
    place = place_in(tmp_path, nkey_file=tmp_path / "gateway.nk", tls_ca=tmp_path / "ca.pem")

    async def beside(desk: Desk) -> tuple[str, str]:
        other = await at_desk(place, "live", mode)
        return desk.how.mode, other[0]

    assert await at_desk(place, "mesh", beside) == ("mesh", "client")


@pytest.mark.parametrize("need", ["bus", "resume"])
async def test_where_no_mesh_has_worked_there_is_nothing_to_read(need: str, tmp_path: Path) -> None:
    """A wrong directory gets no home."""
    with pytest.raises(BusUnavailable, match=f"no mesh has worked in {tmp_path}/.mlmesh yet: go to its workspace"):
        await at_desk(place_in(tmp_path), need, mode)  # pyright: ignore[reportArgumentType]
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a pathlib call would be a blocking one


async def test_what_needs_a_living_mesh_starts_none(tmp_path: Path) -> None:
    """The message says how to have one."""
    with pytest.raises(BusUnavailable, match=r"no mesh runs in .*: start one with `mlmesh up`"):
        await at_desk(place_in(tmp_path), "live", mode)


async def test_where_a_mesh_lives_every_command_is_its_client(tmp_path: Path) -> None:
    """And starts nothing."""
    place = place_in(tmp_path)

    async def inside(desk: Desk) -> list[tuple[tuple[str, bool], bool]]:
        found: list[tuple[tuple[str, bool], bool]] = []
        for need in ("mesh", "resume", "bus", "live"):

            async def look(other: Desk) -> tuple[tuple[str, bool], bool]:
                return await mode(other), other.how.url == desk.how.url

            found.append(await at_desk(place, need, look))
        return found

    assert await at_desk(place, "mesh", inside) == [(("client", True), True)] * 4


async def test_nats_url_makes_a_client_whatever_lives_in_the_home(settings: Settings, tmp_path: Path) -> None:
    """A mesh is there when its streams are."""
    place = Place(settings.model_copy(update={"bus_patience_s": 1}), tmp_path)
    with pytest.raises(Misconfigured, match=r"lacks the streams TASKS, TIMERS, WORK, .*: start the services there"):
        await at_desk(place, "mesh", mode)


async def test_a_client_finds_the_streams_of_a_mesh(server: NatsServer, bus: object, tmp_path: Path) -> None:
    """Here the fixture has made them."""
    assert bus is not None
    assert await at_desk(place_in(tmp_path, nats_url=server.url), "live", mode) == ("client", True)


async def test_a_bus_that_is_not_there_is_told_in_seconds(tmp_path: Path) -> None:
    """With the address, and what else one could do."""
    place = place_in(tmp_path, nats_url="nats://127.0.0.1:9", connect_timeout_s=0.3)
    with pytest.raises(BusUnavailable, match=r"no NATS server answers at nats://127\.0\.0\.1:9: start one, or unset"):
        await at_desk(place, "live", mode)


async def test_a_server_that_is_too_old_is_refused_with_its_version(tmp_path: Path) -> None:
    """It would silently ignore what the mesh stands on."""
    async with old_server() as url:
        with pytest.raises(Misconfigured, match=r"nats-server .*2\.9\.10.* has JetStream API level 1, .* upgrade"):
            await at_desk(place_in(tmp_path, nats_url=url), "live", mode)


async def test_a_command_waits_for_its_turn_at_a_home_that_tells_no_address(tmp_path: Path) -> None:
    """Another command holds it with the bus alone, for a moment."""
    place = place_in(tmp_path)
    held, free = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        with Home(tmp_path / ".mlmesh").hold():
            held.set()
            await free.wait()

    holding = asyncio.create_task(hold())
    await held.wait()
    waiting = asyncio.create_task(at_desk(place, "mesh", mode))
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    free.set()
    await holding
    assert (done, await waiting) == (set(), ("mesh", True))


async def test_a_client_notices_that_the_mesh_of_the_home_has_ended(tmp_path: Path) -> None:
    """At once: the home is free, so nothing is to be waited for."""
    place = place_in(tmp_path, bus_patience_s=60)
    end, attached = asyncio.Event(), asyncio.Event()

    async def live(_: Desk) -> None:
        await end.wait()

    async def follow(desk: Desk) -> None:
        attached.set()
        await desk.lost()

    async def look() -> None:
        await up.wait()
        await at_desk(place, "live", follow)

    up = asyncio.Event()

    async def announce(desk: Desk) -> None:
        up.set()
        await live(desk)

    mesh = asyncio.create_task(at_desk(place, "mesh", announce))
    client = asyncio.create_task(look())
    await attached.wait()
    end.set()
    await mesh
    with pytest.raises(MeshGone, match=f"the mesh in {tmp_path}/.mlmesh ended"):
        await asyncio.wait_for(client, 30)


async def test_a_client_bears_a_bus_that_comes_back(server: NatsServer, bus: object, tmp_path: Path) -> None:
    """Only one that stays away for longer than patience is lost."""
    assert bus is not None
    place = place_in(tmp_path, nats_url=server.url, bus_patience_s=3)

    async def outlive(desk: Desk) -> str:
        lost = asyncio.create_task(desk.lost())
        server.kill()
        await asyncio.wait({lost}, timeout=0.8)
        server.start()
        done, _ = await asyncio.wait({lost}, timeout=3)
        server.kill()
        with pytest.raises(BusUnavailable, match="was away for 3 s"):
            await lost
        server.start()
        return "borne" if not done else "lost"

    assert await at_desk(place, "live", outlive) == "borne"
