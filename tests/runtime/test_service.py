"""Services as processes of their own: start, health, stop, and what they say when they cannot start."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable
from services._runtime.health import replicas, trouble
from services._runtime.service import load
from tests.following import eventually
from tests.processes import MODULES, Services
from tests.server import NatsServer


@pytest.fixture
def services(server: NatsServer, tmp_path: Path) -> Generator[Services]:
    """No service runs yet."""
    found = Services(server.url, tmp_path)
    yield found
    found.stop()


async def health(bus: Bus, name: str) -> bool:
    """True when the service says that it is ready."""
    try:
        return not await trouble(bus, name)
    except BusUnavailable:
        return False


@pytest.mark.parametrize("name", subjects.SERVICES)
async def test_each_service_runs_alone_against_any_bus_and_ends_cleanly(
    services: Services, bus: Bus, name: str
) -> None:
    """`python -m services.<name>`: ready by its own word, SIGTERM ends it with 0."""
    services.start(name)

    async def ready() -> bool:
        return await health(bus, name)

    await eventually(ready, within_s=30)
    assert await asyncio.to_thread(services.terminate, name) == 0
    for line in services.log(name).read_text().splitlines():
        assert json.loads(line)["service"] == name


async def test_a_service_that_cannot_say_how_it_is_is_in_trouble(bus: Bus) -> None:
    """The answer of a check that failed is empty: the probe tells that, instead of failing itself."""

    async def fails(message: Msg) -> None:
        await bus.client.publish(message.reply, b"", headers={"Nats-Service-Error": "oh"})

    end = await bus.subscribe(subjects.ready("gateway"), fails)
    await bus.flush()
    found = await replicas(bus, "gateway", host="here")
    await end()
    assert [replica.trouble for replica in found] == ["it cannot say how it is: oh"]


async def test_the_probe_says_ready_and_then_why_not(services: Services, bus: Bus, server: NatsServer) -> None:
    """The container's health check is a command: exit 0, or 1 and the cause."""
    services.start(subjects.SUMMARIZER)

    async def ready() -> bool:
        return await health(bus, subjects.SUMMARIZER)

    await eventually(ready, within_s=30)
    assert await probe(server, subjects.SUMMARIZER) == (0, "ready")
    assert await probe(server, subjects.CONTEXT_MANAGER) == (1, "not running")
    services.freeze(subjects.SUMMARIZER)
    code, found = await probe(server, subjects.SUMMARIZER)
    assert (code, found.startswith("summarizer on this host does not answer: it is frozen")) == (1, True)


async def probe(server: NatsServer, name: str) -> tuple[int, str]:
    """Exit code and output of the probe."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services._runtime.health",
        name,
        env={"NATS_URL": server.url, "PATH": ""},
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode().strip()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "set NATS_URL"),
        ({"NATS_URL": "nats://127.0.0.1:1", "MLMESH_CONNECT_TIMEOUT_S": "0.5"}, "no NATS server answers"),
        ({"NATS_URL": "nats://127.0.0.1:1", "MLMESH_ACK_WAIT_S": "soon"}, "settings are wrong: ack_wait_s"),
    ],
)
def test_a_service_that_cannot_start_says_why_and_exits_with_1(environment: dict[str, str], reason: str) -> None:
    """Misconfigured: a clear line, no traceback, non-zero."""
    done = subprocess.run(
        [sys.executable, "-m", MODULES[subjects.SUMMARIZER]],
        env={"PATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert reason in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_every_service_is_found_by_its_name() -> None:
    """Services in one process are loaded by name, never imported by each other."""
    assert all(callable(load(name)) for name in subjects.SERVICES)
