"""Services are replaced while tasks run and wait: what the version before began, the code of the day brings to its end.

Streams outlive processes. Journals of before (tests/contracts/journals) are put into a server as they were stored, and
the services of the day go on from there; then everything is restarted in turn in the middle of the work.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import MSG_ID, Stored, TaskEvent
from contracts.events import CancelRequested, QuestionsAnswered, TaskSubmitted
from contracts.message import Message
from services._runtime import telemetry
from services._runtime.bus import CLAIM_CHECK, Bus
from services._runtime.consumer import PullConsumer
from services._runtime.errors import BusUnavailable
from services._runtime.health import trouble
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.worker import Doorbells, Handle, Worker
from services.gateway.supervisor import Supervisor
from services.ml_engineer.engine import EngineShelf
from services.ml_engineer.handlers import Engineer
from services.ml_engineer.playbook import Playbook
from services.summarizer.desk import Desk
from tests.contracts.journals import folded, journal
from tests.contracts.test_journals import older, versioned
from tests.fakes.crashing import QUESTIONS, STEPS
from tests.following import FINAL, eventually, history, is_event, state, until
from tests.laws import violations
from tests.processes import Services
from tests.server import NatsServer

TASKS: Final = 20
_SET_BY_THE_PUBLISHER: Final = ("ce-", "mesh-", "traceparent", "content-type", MSG_ID)


async def restore(bus: Bus, told: Sequence[Stored]) -> None:
    """Stores messages again as their publishers sent them; what the server and compare-and-set added is left out."""
    for stored in told:
        headers = {
            name: value
            for name, value in stored.headers.items()
            if name.startswith(_SET_BY_THE_PUBLISHER) and name != CLAIM_CHECK
        }
        await bus.publish(stored.subject, stored.data, {MSG_ID: f"restored-{stored.seq}", **headers})


def until_event(told: Sequence[Stored], event: str) -> list[Stored]:
    """The journal up to its first event of that name."""
    names = [stored.subject.split(".")[3] for stored in told]
    return list(told[: names.index(event) + 1])


@asynccontextmanager
async def services_of_the_day(bus: Bus, directory: Path) -> AsyncGenerator[None]:
    """Engineer, summarizer and supervisor at work on the bus."""
    stop = asyncio.Event()

    def runtime(name: str) -> Runtime:
        return Runtime(name, bus.settings, bus, telemetry.start(name, bus.settings), stop)

    def worker(name: str, stream: str, handle: Handle) -> Worker:
        return Worker(Publisher(bus, telemetry.start(name, bus.settings)), PullConsumer(bus, stream, name), handle)

    engineer, agent = runtime(subjects.ML_ENGINEER), Engineer(bus.settings, Playbook(), EngineShelf(directory))
    doorbells = Doorbells(engineer.publisher, agent, engineer.executor)
    running = [
        asyncio.create_task(one.run(stop))
        for one in (
            worker(subjects.ML_ENGINEER, subjects.WORK, doorbells),
            worker(subjects.SUMMARIZER, subjects.WORK, Desk(runtime(subjects.SUMMARIZER), None)),
            worker(subjects.GATEWAY, subjects.TASKS, Supervisor(runtime(subjects.GATEWAY)).on_task_message),
        )
    ]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), 30)


async def say(publisher: Publisher, task: str, event: str, body: Message) -> None:
    """What a person says."""
    await publisher.event(event, subjects.ML_ENGINEER, body, About(task=task))


async def test_a_reported_task_of_the_version_before_is_brought_to_its_end(bus: Bus, tmp_path: Path) -> None:
    """Summary and final event are the ones that it would have had."""
    before = journal("success")
    await restore(bus, [older(stored) for stored in until_event(before, "reported")])
    async with services_of_the_day(bus, tmp_path):
        await until(bus, "success", FINAL, within_s=30)
    ended, would_have = await state(bus, "success"), folded(before)
    assert (ended.status, ended.report, ended.delivered) == ("completed", would_have.report, would_have.delivered)
    assert (ended.summary and ended.summary.outcome, ended.final and ended.final.reason) == (
        would_have.summary and would_have.summary.outcome,
        would_have.final and would_have.final.reason,
    )


async def test_a_waiting_task_of_the_version_before_can_be_cancelled(
    bus: Bus, publisher: Publisher, tmp_path: Path
) -> None:
    """It waited through the upgrade; what comes then wakes it."""
    await restore(bus, [older(stored) for stored in until_event(journal("canceled"), "asked")])
    async with services_of_the_day(bus, tmp_path):
        await say(publisher, "canceled", "cancel-requested", CancelRequested(reason="enough"))
        await until(bus, "canceled", FINAL, within_s=30)
    names = [event.event for event in await history(bus, "canceled")]
    assert names[names.index("asked") :] == ["asked", "cancel-requested", "working", "canceled"]


async def test_what_a_later_major_says_is_a_dead_letter_each(bus: Bus, tmp_path: Path) -> None:
    """Nothing of it counts, nothing of it is lost: one letter a message, and the task is as it was."""
    told = until_event(journal("canceled"), "asked")
    await restore(bus, told)
    before = await state(bus, "canceled")
    late = [versioned(stored, "2") for stored in journal("canceled") if ".submitted." not in stored.subject]
    async with services_of_the_day(bus, tmp_path):
        for number, stored in enumerate(late):
            await restore(bus, [replace(stored, headers={**stored.headers, MSG_ID: f"late-{number}"})])

        async def letters() -> list[DeadLetter] | None:
            found = await bus.read(subjects.DEAD, subjects.ALL_DEAD, 1)
            return [DeadLetter.from_bytes(one.data) for one in found] if len(found) >= len(late) else None

        found = await eventually(letters)
    assert Counter(letter.subject for letter in found) == Counter(stored.subject for stored in late)
    assert [letter.reason for letter in found if "upgrade the reader" not in letter.reason] == []
    after = await state(bus, "canceled")
    assert (after.status, after.answers, after.steps) == (before.status, before.answers, before.steps)


@pytest.fixture
def mesh(server: NatsServer, tmp_path: Path) -> Generator[Services]:
    """The services as processes; the ml-engineer is one whose steps are quick and whose effects are counted."""
    effects = tmp_path / "effects"
    effects.mkdir()
    found = Services(server.url, tmp_path)
    found.add(subjects.ML_ENGINEER, "-m", "tests.fakes.crashing", str(effects))
    found.start()
    yield found
    found.stop()


async def test_a_rolling_restart_loses_nothing_and_repeats_nothing(
    mesh: Services, bus: Bus, publisher: Publisher, tmp_path: Path
) -> None:
    """Some tasks are in the middle of a step at each restart, some wait through all; each service ends with 0."""
    tasks = [f"t{number}" for number in range(TASKS)]
    shares = [tasks[number::5] for number in range(5)]
    for task in tasks:
        await say(publisher, task, "submitted", TaskSubmitted(request="slow"))
    for task in tasks:
        await until(bus, task, is_event("asked"))
    codes: list[int] = []
    for name, share in zip(subjects.SERVICES, shares, strict=False):
        await eventually(partial(is_ready, bus, name))
        await answer(publisher, share)
        await until(bus, share[-1], is_event("progressed"))
        codes.append(await asyncio.to_thread(mesh.terminate, name))
        mesh.start(name)
    await answer(publisher, shares[-1])
    for task in tasks:
        await until(bus, task, FINAL)
    assert codes == [0] * len(subjects.SERVICES)
    told = {task: await history(bus, task) for task in tasks}
    assert {task: wrong for task, events in told.items() if (wrong := faults(events, tmp_path / "effects"))} == {}
    assert [task for task in shares[1] if taken_over(told[task])] != []


async def is_ready(bus: Bus, service: str) -> bool:
    """True once it would notice work."""
    try:
        return not await trouble(bus, service)
    except BusUnavailable:
        return False


async def answer(publisher: Publisher, tasks: Sequence[str]) -> None:
    """Both questions of each at once."""
    answers = QuestionsAnswered.model_validate({"answers": dict.fromkeys(QUESTIONS, "yes")})
    for task in tasks:
        await say(publisher, task, "answered", answers)


def taken_over(events: Sequence[TaskEvent]) -> bool:
    """Whether more executors were at work on the task than the three that it wakes: the restart met it at work."""
    return sum(event.event == "working" for event in events) > 3


def faults(events: Sequence[TaskEvent], effects: Path) -> list[str]:
    """What a journal and the effects of its task say against a restart."""
    task, names = events[0].metadata.task, Counter(event.event for event in events)
    found = violations(events, effects)
    found += [f"ended {names['completed']} times with completed"] if names["completed"] != 1 else []
    executed = Counter(line.split()[0] for line in (effects / f"{task}.executions").read_text().splitlines())
    once = {f"{task}/{step}": 1 for step in STEPS}
    return found + ([f"effects {dict(executed)}"] if executed != once else [])
