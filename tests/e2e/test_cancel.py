"""A cancel and a deadline reach whatever runs, within two seconds, and nothing of it stays behind.

Two seconds are counted without the time that the machine kept from this process: a loaded one is no fault of the mesh.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import SecretStr

from contracts import subjects
from contracts.events import Canceled, CancelRequested, Failed, TaskSubmitted
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.fakes.anthropic_api import KEY, FakeAnthropic, Reply
from tests.following import FINAL, eventually, history, is_event, until
from tests.laws import violations
from tests.processes import Services
from tests.server import NatsServer
from tests.services.ml_engineer.house import House, opened
from tests.services.ml_engineer.pids import alive
from tests.workspaces import REQUEST, churn

pytestmark = pytest.mark.timeout(120)

WITHIN_S = 2.0
COMMANDS = os.environ.get("MLMESH_TEST_CANCELS", "train").split()
"""During what a task is cancelled. All of it: profile validate train evaluate serve package test."""
FROZEN = "train"
"""What is stopped before it is cancelled: it hears no SIGTERM."""
_TICK_S = 0.02


@dataclass(slots=True)
class Watch:
    """A stop watch that knows how long the machine did something else."""

    began: float
    lost_s: float = 0.0

    @property
    def passed_s(self) -> float:
        """Seconds since it was started in which this process could run."""
        return time.monotonic() - self.began - self.lost_s


@asynccontextmanager
async def stop_watch() -> AsyncGenerator[Watch]:
    """Runs while the block does."""
    watch = Watch(time.monotonic())

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK_S)
            watch.lost_s += max(0.0, time.monotonic() - before - 2 * _TICK_S)

    ticking = asyncio.create_task(tick())
    try:
        yield watch
    finally:
        ticking.cancel()


def descendants(pid: int) -> list[int]:
    """Every process below one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [*below, *(pid for child in below for pid in descendants(child))]


async def none_runs(pids: Sequence[int]) -> bool:
    """True when all of them have ended."""
    return not any(alive(pid) for pid in pids)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the services and all that they start put what they need for a while."""
    found = tmp_path / "scratch"
    found.mkdir()
    return found


@pytest.fixture
def services(server: NatsServer, tmp_path: Path, scratch: Path) -> Generator[Services]:
    """All services as processes of their own."""
    found = Services(
        server.url,
        tmp_path,
        TMPDIR=str(scratch),
        MLMESH_TRAIN_BUDGET_S="60",
        MLMESH_LATENCY_S="30",
        MLMESH_PROOFS="false",
    )
    found.start()
    yield found
    found.stop()


async def submit(publisher: Publisher, workspace: Path, task: str, *, train_budget_s: float = 60) -> None:
    """The request, as an event."""
    body = TaskSubmitted.model_validate(
        {
            "request": REQUEST,
            "workspace": str(workspace),
            "accept_defaults": True,
            "constraints": {"train_budget_s": train_budget_s},
        }
    )
    await publisher.event("submitted", subjects.ML_ENGINEER, body, About(task=task))


async def cancel_in_time(publisher: Publisher, task: str, pids: Sequence[int] = ()) -> None:
    """Cancels; the task has ended and none of the processes runs within two seconds."""
    async with stop_watch() as watch:
        body = CancelRequested(reason="enough")
        await publisher.event("cancel-requested", subjects.ML_ENGINEER, body, About(task=task))
        final = await until(publisher.bus, task, FINAL)
        await eventually(partial(none_runs, pids))
        assert watch.passed_s < WITHIN_S
    assert isinstance(final.body, Canceled)
    assert final.body.reason == "enough"


async def running(service: int, word: str) -> list[int]:
    """What a service has started, once the command line of one of them has this word."""
    found = descendants(service)
    return found if any(word in command_line(pid) for pid in found) else []


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; none once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


async def test_a_cancel_frees_everything_that_a_task_holds(
    services: Services, bus: Bus, publisher: Publisher, tmp_path: Path, scratch: Path
) -> None:
    """While it is briefed, and while a command runs: also one that is frozen, and a server that is measured.

    The next task gets the same place for training and the same system, so both were given back.
    """
    workspace = churn(tmp_path / "shop")
    services.freeze(subjects.CONTEXT_MANAGER)
    await submit(publisher, workspace, "briefing")
    await until(bus, "briefing", is_event("working"))
    await cancel_in_time(publisher, "briefing")
    services.thaw(subjects.CONTEXT_MANAGER)
    engineer = services.pid(subjects.ML_ENGINEER)
    for word in COMMANDS:
        await submit(publisher, workspace, word, train_budget_s=60 if word == "train" else 1)
        pids = await eventually(partial(running, engineer, word), within_s=60)
        for pid in pids if word == FROZEN else ():
            os.kill(pid, signal.SIGSTOP)
        await cancel_in_time(publisher, word, pids)
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("mlmesh-engine-")] == []
    for task in ("briefing", *COMMANDS):
        assert violations(await history(bus, task), workspace) == []


@asynccontextmanager
async def writing(
    bus: Bus, publisher: Publisher, settings: Settings, directory: Path, fake: FakeAnthropic
) -> AsyncGenerator[House]:
    """A house whose summarizer writes with a model."""
    given = {"prose": "claude", "anthropic_api_key": SecretStr(KEY), "anthropic_base_url": fake.url}
    async with opened(bus, publisher, settings.model_copy(update=given), directory) as house:
        yield house


HANGS = Reply(content=({"type": "text", "text": "The model"},), until="hang")


async def test_a_model_call_ends_with_its_task(
    bus: Bus, publisher: Publisher, settings: Settings, tmp_path: Path
) -> None:
    """A summary is being written when its task is cancelled, of another when its deadline passes: no call goes on.

    The work of the second is over by then: the deadline ends it with its own outcome, without the summary.
    """
    await asyncio.to_thread(import_module, "anthropic")  # on a busy machine it takes longer than a doorbell's ack_wait
    with FakeAnthropic(*[HANGS] * 8) as fake:
        async with writing(bus, publisher, settings, tmp_path, fake) as house:
            house.behave({"errors": {"profile": {"code": "header_only", "message": "no rows: give some"}}})
            await house.submit("cancelled")
            await calling(fake)
            await cancel_in_time(publisher, "cancelled")
            assert await asyncio.to_thread(fake.disconnected.wait, WITHIN_S)

            fake.disconnected.clear()
            await house.submit("late", constraints={"deadline": datetime.now(UTC) + timedelta(hours=1)})
            await calling(fake)
            await publisher.timer("deadline", subjects.ML_ENGINEER, 0, About(task="late"))
            await until(bus, "late", is_event("timeout"))
            async with stop_watch() as watch:
                final = await house.ended("late")
                assert await asyncio.to_thread(fake.disconnected.wait, 10)
                assert watch.passed_s < WITHIN_S
    assert isinstance(final.body, Failed)
    assert final.body.reason == "no rows: give some"
    for task in ("cancelled", "late"):
        assert "summarised" not in await house.events(task)


async def calling(fake: FakeAnthropic) -> None:
    """Returns when the model has begun to speak and says no more."""
    assert await asyncio.to_thread(fake.streaming.wait, 30)
    fake.streaming.clear()


@pytest.fixture
async def lasting(server: NatsServer, settings: Settings, tmp_path: Path) -> AsyncGenerator[House]:
    """A house on a server that is killed: nobody listens to `>`, which would keep dead pulls alive."""
    bus = await Bus.connect(settings, "test")
    await provision(bus)
    async with opened(bus, Publisher(bus, telemetry.start("test", settings)), settings, tmp_path) as found:
        assert server.pid
        yield found
    await bus.close()


async def test_a_deadline_passes_while_the_bus_is_dead(lasting: House, server: NatsServer) -> None:
    """The timer is the server's: it fires once after the start, and stops what ran on meanwhile."""
    lasting.behave({"holds": {"train": lasting.path("go")}})
    await lasting.submit(constraints={"deadline": datetime.now(UTC) + timedelta(hours=1)})
    await lasting.running("train")
    await lasting.publisher.timer("deadline", subjects.ML_ENGINEER, 0.5, About(task="t1"))
    server.kill()
    await asyncio.sleep(2)  # schedules are of whole seconds
    server.start()
    final = await lasting.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "the deadline passed: submit again with a later deadline"
    assert (await lasting.events()).count("timeout") == 1
    assert lasting.calls()[-1] == "train"
