"""The embedded server as a real child process: its life, its end, and what it refuses."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services._runtime.bus import Bus, check_level
from services._runtime.embedded import EmbeddedServer, find_server, free_port, version_of
from services._runtime.errors import Misconfigured
from services._runtime.home import Home, home_of
from services._runtime.provision import provision
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.following import eventually

PARENT = """
import asyncio, pathlib, sys
from services._runtime.embedded import EmbeddedServer
from services._runtime.settings import Settings

async def main():
    server = EmbeddedServer(pathlib.Path(sys.argv[1]), Settings.read())
    await server.start()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def settings_in(directory: Path) -> Settings:
    """Settings without a bus."""
    return fast_settings("", directory)


async def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Otherwise a second server would start on the same store without complaint."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()

    async def gone() -> bool:
        return not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]

    await eventually(gone)


async def test_a_server_that_dies_is_started_again_on_the_same_store(tmp_path: Path) -> None:
    """What was acknowledged is there after kill -9."""
    server = EmbeddedServer(tmp_path, settings_in(tmp_path))
    await server.start()
    bus = await Bus.connect(settings_in(tmp_path), "test", url=server.url)
    await provision(bus)
    await bus.publish("mesh.task.t1.submitted.ml-engineer", b"{}", {"Nats-Msg-Id": "m1"})
    first = server.pid
    os.kill(first, signal.SIGKILL)
    assert [stored.seq for stored in await bus.history("t1")] == [1]
    assert server.pid not in {0, first}
    await bus.close()
    await server.stop()


async def test_a_server_that_dies_once_too_often_is_given_up(tmp_path: Path) -> None:
    """Three restarts, then a clear end."""
    server = EmbeddedServer(tmp_path, settings_in(tmp_path))
    await server.start()

    killed = [0]

    async def another() -> int:
        return 0 if server.pid in killed else server.pid

    for _ in range(4):
        killed.append(await eventually(another))
        await asyncio.sleep(0.3)  # it has been seen to answer by then: one that dies before does not start at all
        os.kill(killed[-1], signal.SIGKILL)
    await asyncio.wait_for(server.failed.wait(), 30)
    await server.stop()


async def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    """The message says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = EmbeddedServer(tmp_path, settings_in(tmp_path), port=taken.getsockname()[1])
        with pytest.raises(Misconfigured, match=r"is taken: stop what listens there, or choose another with --port"):
            await server.start()
    assert server.pid == 0


async def test_its_configuration_pins_what_the_client_cannot_do(tmp_path: Path) -> None:
    """`js_ack_fc_v2` breaks ordered consumers and the object store in the client."""
    server = EmbeddedServer(tmp_path, settings_in(tmp_path).model_copy(update={"sync_always": True}))
    await server.start()
    config = (tmp_path / "nats.conf").read_text()
    assert "js_ack_fc_v2: false" in config
    assert "sync_interval: always" in config
    assert f"127.0.0.1:{server.port}" in config
    bus = await Bus.connect(settings_in(tmp_path), "test", url=server.url)
    await check_level(bus)
    await bus.close()
    await server.stop()


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older servers silently ignore schedules and atomic batches: the bundled one is taken."""
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version_of(str(old)) == (2, 9, 10)
    assert Path(find_server()) == Path(sys.executable).parent / "nats-server"


def test_a_home_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """The second is told where the first's bus is; a dead owner leaves nothing behind."""
    home = Home(tmp_path / ".mlmesh")
    with home.hold():
        home.tell("nats://127.0.0.1:7")
        assert Home(home.path).living_bus() == "nats://127.0.0.1:7"
        with pytest.raises(Misconfigured, match=r"another mesh lives in .*nats://127\.0\.0\.1:7"), home.hold():
            pass
    assert home.living_bus() == ""
    assert (home.path / ".gitignore").read_text() == "*\n"


def test_the_home_is_in_the_workspace_unless_it_is_named(tmp_path: Path) -> None:
    """MLMESH_HOME wins."""
    assert home_of(settings_in(tmp_path), tmp_path / "shop").path == tmp_path / "home"
    plain = settings_in(tmp_path).model_copy(update={"home": None})
    assert home_of(plain, tmp_path / "shop").path == tmp_path / "shop" / ".mlmesh"


def test_a_free_port_can_be_listened_on() -> None:
    """Free now; nobody promises later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
