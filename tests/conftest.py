"""Fixtures that every test may use: a real nats-server on a free port, connected buses, telemetry in memory.

On failure the wire log (every event, report and dead letter on the test's server) is attached to the report.
"""

import time
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import hypothesis
import pytest
import structlog
from nats.aio.msg import Msg
from xdist.remote import Producer

from contracts import subjects
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.publisher import Publisher
from services._runtime.settings import Settings
from tests.scheduling import ModulesWhole
from tests.server import NatsServer

_TAPPED = (subjects.ALL_TASKS, subjects.ALL_REPORTS, subjects.ALL_SYSTEMS, subjects.ALL_DEAD, "mesh.live.>")
"""Not `>`: a tap on requests and pulls would be an interest that nobody answers, and change what is tested."""
_WIRE = pytest.StashKey[list[str]]()

# No deadline, since the machine is shared; in CI hypothesis itself takes the same examples each time.
hypothesis.settings.register_profile("mesh", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("mesh")


def pytest_runtest_setup() -> None:
    """Plain tracebacks: the default draws the variables of every frame, and the loop stands still for seconds."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.fixture
def server(tmp_path: Path) -> Generator[NatsServer]:
    """A running nats-server of the test's own; may be killed and started again."""
    found = NatsServer(tmp_path / "nats")
    found.start()
    yield found
    found.stop()


@pytest.fixture
def settings(server: NatsServer, tmp_path: Path) -> Settings:
    """Settings with short times, against the test's server."""
    return fast_settings(server.url, tmp_path)


@pytest.fixture
async def bus(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """A provisioned, connected bus."""
    found = await Bus.connect(settings, "test")
    await provision(found)
    wire: list[str] = []
    request.node.stash[_WIRE] = wire
    began = time.monotonic()

    async def heard(message: Msg) -> None:
        wire.append(f"{time.monotonic() - began:8.3f} {message.subject} {message.data[:300].decode(errors='replace')}")

    ends = [await found.subscribe(subject, heard) for subject in _TAPPED]
    yield found
    for end in ends:
        await end()
    await found.close()


@pytest.fixture
def publisher(bus: Bus, settings: Settings) -> Publisher:
    """Publishes as a test."""
    return Publisher(bus, telemetry.start("test", settings))


def fast_settings(url: str, tmp_path: Path, **given: object) -> Settings:
    """Settings whose waits are short enough for a test."""
    quick: dict[str, object] = {
        "nats_url": url,
        "home": tmp_path / "home",
        "workspace_roots": str(tmp_path),
        "ack_wait_s": 1.0,
        "retry_delay_s": 0.05,
        "stop_grace_s": 0.5,
        "heartbeat_s": 0.5,
        "publish_timeout_s": 1.0,
        "latency_s": 0.5,
        "train_budget_s": 5.0,
    }
    return Settings.read(**{**quick, **given})


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ModulesWhole | None:
    """The scheduler of a parallel run that asks for no other one."""
    return ModulesWhole(config, log) if config.getvalue("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attaches the wire log to a failed test."""
    report = yield
    wire: list[str] = item.stash.get(_WIRE, list[str]())
    if report.failed and wire:
        report.sections.append(("wire log", "\n".join(wire[-200:])))
    return report
