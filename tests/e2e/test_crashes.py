"""Processes die in the middle of real work; the delivered system is the same and no step is done twice."""

import json
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from contracts import subjects
from contracts.envelope import TaskEvent
from contracts.events import QuestionsAnswered, TaskSubmitted
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from tests.following import FINAL, history, is_event, is_progress, is_step, state, until
from tests.laws import violations
from tests.processes import Services
from tests.server import NatsServer
from tests.workspaces import REQUEST, churn

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def services(server: NatsServer, tmp_path: Path) -> Generator[Services]:
    """All services as processes of their own."""
    found = Services(server.url, tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with churn data."""
    return churn(tmp_path / "shop")


async def submit(publisher: Publisher, workspace: Path, *, task: str = "t1", accept_defaults: bool = True) -> None:
    """The request, as an event."""
    body = TaskSubmitted(request=REQUEST, workspace=str(workspace), accept_defaults=accept_defaults)
    await publisher.event("submitted", "ml-engineer", body, About(task=task))


def steps(events: list[TaskEvent]) -> Counter[str]:
    """How often each step is recorded."""
    return Counter(getattr(event.body, "name", "") for event in events if event.event == "step")


async def assert_delivered_once(bus: Bus, workspace: Path, task: str = "t1") -> None:
    """The task ended well, broke no law, and left one version in the registry."""
    events = await history(bus, task)
    assert violations(events, workspace) == []
    names = Counter(event.event for event in events)
    assert [names[name] for name in ("completed", "failed", "canceled", "delivered", "reported")] == [1, 0, 0, 1, 1]
    assert set(steps(events).values()) == {1}
    final = (await state(bus, task)).final
    assert final is not None
    assert final.outcome == "success", final.reason
    entries = sorted((workspace / "ml" / "churn" / "registry" / "history").glob("*.json"))
    assert [json.loads(entry.read_text())["event"] for entry in entries] == ["registered", "promoted"]


async def test_killing_the_engineer_in_the_middle_of_training_loses_and_doubles_nothing(
    services: Services, bus: Bus, publisher: Publisher, workspace: Path
) -> None:
    """Kill -9 of the ml-engineer while its training runs; the next one takes the task over and completes it."""
    await submit(publisher, workspace)
    await until(bus, "t1", is_progress("train"))
    services.kill(subjects.ML_ENGINEER)
    services.start(subjects.ML_ENGINEER)
    await until(bus, "t1", FINAL, within_s=120)
    await assert_delivered_once(bus, workspace)
    executors = {getattr(event.body, "executor", "") for event in await history(bus, "t1") if event.event == "working"}
    assert len(executors) == 2


@pytest.mark.long
async def test_killing_the_bus_in_the_middle_of_a_task_loses_and_doubles_nothing(
    services: Services, bus: Bus, server: NatsServer, publisher: Publisher, workspace: Path
) -> None:
    """Kill -9 of nats-server while the data is validated; services reconnect and go on."""
    assert services is not None
    await submit(publisher, workspace)
    await until(bus, "t1", is_step("scaffold"))
    server.kill()
    server.start()
    await until(bus, "t1", FINAL, within_s=120)
    await assert_delivered_once(bus, workspace)


@pytest.mark.long
async def test_a_restarted_bus_does_not_wake_a_task_that_waits(
    services: Services, bus: Bus, server: NatsServer, publisher: Publisher, workspace: Path
) -> None:
    """Acked doorbells of a drained WORK come back after a restart; a waiting task is left alone, then answered."""
    assert services is not None
    await submit(publisher, workspace, accept_defaults=False)
    await until(bus, "t1", is_event("asked"))
    for how in (server.stop, server.kill):
        how()
        server.start()
        await provision(bus)
    probe = TaskSubmitted(request="predict", workspace=str(workspace / "nowhere"))
    await publisher.event("submitted", "ml-engineer", probe, About(task="probe"))
    await until(bus, "probe", FINAL)
    waiting = await state(bus, "t1")
    assert (waiting.status, [event.event for event in await history(bus, "t1")][-1]) == ("input-required", "asked")
    given = {question.id: question.default for question in waiting.open_questions}
    answers = QuestionsAnswered.model_validate({"answers": given})
    await publisher.event("answered", "ml-engineer", answers, About(task="t1"))
    await until(bus, "t1", FINAL, within_s=120)
    await assert_delivered_once(bus, workspace)
