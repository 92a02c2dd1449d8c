"""The shape of the bus: what it refuses, and what becomes of the shape of an earlier version."""

import json
from pathlib import Path

import pytest

from contracts import subjects
from contracts.envelope import MSG_ID, read_event
from contracts.events import TaskSubmitted, TimedOut
from services._runtime.bus import Bus
from services._runtime.errors import Misconfigured
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.following import eventually
from tests.server import NatsServer

SUBMITTED = subjects.task_event("t1", "submitted", "ml-engineer")


@pytest.mark.parametrize("header", [{"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}])
async def test_nobody_takes_history_away_with_a_header(publisher: Publisher, bus: Bus, header: dict[str, str]) -> None:
    """Permissions see subjects alone: the stream itself refuses to roll up and to forget."""
    sent = await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    forged = {MSG_ID: "forged", **header}
    answer = await bus.client.request(SUBMITTED, b"{}", headers=forged)
    assert "error" in json.loads(answer.data)
    assert [stored.seq for stored in await bus.history("t1")] == [sent.ack.seq]


async def test_a_timer_rings_timeout_of_its_own_task_and_nothing_else(publisher: Publisher, bus: Bus) -> None:
    """What is due comes on a subject of its own, and the server makes it the task's event."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    await publisher.timer("answers", "ml-engineer", 0.1, About(task="t1"))

    async def rang() -> bool:
        return len(await bus.history("t1")) == 2

    await eventually(rang)
    event = read_event((await bus.history("t1"))[1])
    assert (event.event, event.agent, event.body) == ("timeout", "ml-engineer", TimedOut(timer="answers"))


async def test_timers_of_a_task_that_is_over_are_taken_back(publisher: Publisher, bus: Bus) -> None:
    """Otherwise each would wake somebody for nothing."""
    for task in ("t1", "t2"):
        await publisher.timer("answers", "ml-engineer", 3600, About(task=task))
    await bus.unschedule("t1")
    assert list(await bus.subjects_of(subjects.TIMERS, ">")) == ["mesh.timer.t2.answers.ml-engineer"]


async def test_a_store_of_an_earlier_version_is_refused_with_what_to_do(server: NatsServer, tmp_path: Path) -> None:
    """The server cannot change such a stream; nothing of it is touched."""
    bus = await Bus.connect(fast_settings(server.url, tmp_path), "test")
    old = {"name": subjects.TASKS, "subjects": ["mesh.task.>", "mesh.timer.>"], "allow_msg_schedules": True}
    await bus.api(f"STREAM.CREATE.{subjects.TASKS}", {**old, "retention": "limits", "storage": "file"})
    with pytest.raises(Misconfigured, match=r"made by an earlier version of mlmesh.*give the mesh a new store"):
        await provision(bus)
    await bus.close()


async def test_a_full_journal_refuses_and_forgets_nothing(bus: Bus, publisher: Publisher, settings: Settings) -> None:
    """`MLMESH_TASKS_MAX_BYTES`: the newest is refused, the oldest stays."""
    small = await Bus.connect(settings.model_copy(update={"tasks_max_bytes": 4096, "bus_patience_s": 0.2}), "small")
    await provision(small)
    first = await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    answer = await bus.client.request(SUBMITTED, b"x" * 5000, headers={MSG_ID: "large"})
    assert json.loads(answer.data)["error"]["description"] == "maximum bytes exceeded"
    assert [stored.seq for stored in await bus.history("t1")] == [first.ack.seq]
    await small.close()
