"""Cancel, timeout, answers, completion and the supervisor's failure race: a task ends once, what comes late is late.

First every interleaving that hypothesis finds, against the fold alone; then many tasks on a real server, with two
executors, a summarizer and a supervisor at work and everybody speaking at once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import event as seen
from hypothesis import strategies as st

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import TaskEvent
from contracts.events import (
    Approved,
    CancelRequested,
    Completed,
    Failed,
    QuestionsAnswered,
    Redriven,
    TaskSubmitted,
    TimedOut,
)
from contracts.message import Message
from contracts.summary import Summary
from contracts.task import FINAL_EVENTS, fold
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import PullConsumer
from services._runtime.errors import BusUnavailable
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Handle, Worker
from services.gateway.supervisor import Supervisor
from services.summarizer.desk import Desk
from tests.contracts.test_doorbells import ASKERS, SPOKEN, World, activation
from tests.fakes.crashing import QUESTIONS, Craft
from tests.following import FINAL, eventually, history, is_event, until
from tests.laws import violations

TASKS: Final = 36
EXPIRE_S: Final = 1.0
"""Schedules are of whole seconds: the timer fires one to two seconds after the question."""
SUMMARY: Final = Summary(text="Done.", claims=(), outcome="success")

Racer = Generator[None, None, None]
"""Each `yield` is a point where anybody else may act."""


# Against the fold


def executor(world: World) -> Racer:
    """Takes doorbells as long as there are any."""
    while True:
        item = next((item for item in world.work if not item.held), None)
        if item is None:
            yield
            continue
        item.held = True
        if (yield from activation(world, item)):
            world.work = [other for other in world.work if other.work_seq != item.work_seq]
        item.held = False


def says(world: World, body: Message) -> Racer:
    """A person, a timer, the summarizer."""
    yield
    world.append(body)


def supervisor(world: World) -> Racer:
    """Fails the task, since its work is used up; looks again when it has moved."""
    while True:
        state = world.state()
        yield
        if state.final is not None or world.append(Failed(reason="used up"), expect=state.last_seq):
            return


SPEAKERS: Final[dict[str, Message]] = {
    **SPOKEN,
    "answers expire": TimedOut(timer="answers"),
    "approval expires": TimedOut(timer="approval"),
    "summary expires": TimedOut(timer="summary"),
    "summary": SUMMARY,
    "ring": Redriven(),
}
STORIES: Final = (("both", "approve", "summary"), ("both", "approve"), ("both",), ())
"""What was said before the race: the task concludes, reports, waits for an approval, waits for answers."""


def told(story: Sequence[str]) -> World:
    """A task that has come so far, undisturbed; what was said last has just been said."""
    world = World()
    world.append(TaskSubmitted(request="predict churn"))
    alone = executor(world)
    for name in story:
        rest(world, [alone])
        world.append(SPEAKERS[name])
    return world


def rest(world: World, racers: Sequence[Racer]) -> None:
    """Everybody goes on until there is nothing more to do."""
    for _ in range(400):
        if not world.work:
            return
        for racer in racers:
            next(racer, None)


@given(
    story=st.sampled_from(STORIES),
    speakers=st.lists(st.sampled_from(sorted(SPEAKERS)), min_size=1, max_size=6),
    supervisors=st.integers(0, 2),
    turns=st.lists(st.integers(0, 9), max_size=80),
)
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
def test_any_interleaving_of_ends_leaves_one(
    story: Sequence[str], speakers: list[str], supervisors: int, turns: list[int]
) -> None:
    """Whoever is first: one final event, nothing of the agent after it, and everybody's doorbells are answered."""
    world = told(story)
    executors = [executor(world), executor(world)]
    others = [says(world, SPEAKERS[name]) for name in speakers] + [supervisor(world) for _ in range(supervisors)]
    racers = [*executors, *others]
    for turn in turns:
        next(racers[turn % len(racers)], None)
    for racer in others:
        for _ in racer:
            next(executors[0])
    world.append(CancelRequested(reason="the race is over"))
    rest(world, executors)
    names = [one.event for one in world.log]
    finals = [name for name in names if name in FINAL_EVENTS]
    seen(finals[0])
    after = names[names.index(finals[0]) + 1 :]
    assert (len(finals), [name for name in after if name not in ASKERS], world.work) == (1, [], [])
    assert world.state().final_event == finals[0]


# On a real server


@asynccontextmanager
async def mesh(tmp_path: Path, config: Settings) -> AsyncGenerator[Supervisor]:
    """Two executors, a summarizer and a supervisor, each with its own connection; the supervisor comes back."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:

        async def runtime(name: str) -> Runtime:
            bus = await Bus.connect(config, name)
            stack.push_async_callback(bus.close)
            return Runtime(name, config, bus, telemetry.start(name, config), stop)

        def run(one: Runtime, stream: str, handle: Handle) -> None:
            running = asyncio.create_task(
                Worker(one.publisher, PullConsumer(one.bus, stream, one.name), handle).run(stop)
            )
            stack.push_async_callback(asyncio.wait_for, running, 15)

        for _ in range(2):
            engineer = await runtime(subjects.ML_ENGINEER)
            craft = Craft(tmp_path / "effects", expire_s=EXPIRE_S)
            run(engineer, subjects.WORK, Doorbells(engineer.publisher, craft, engineer.executor))
        summarizer, gateway = await runtime(subjects.SUMMARIZER), await runtime(subjects.GATEWAY)
        run(summarizer, subjects.WORK, Desk(summarizer, None))
        found = Supervisor(gateway)
        run(gateway, subjects.TASKS, found.on_task_message)
        stack.callback(stop.set)
        yield found


async def say(publisher: Publisher, task: str, event: str, body: Message) -> None:
    """Anybody's event, without compare-and-set."""
    await publisher.event(event, subjects.ML_ENGINEER, body, About(task=task))


async def race(publisher: Publisher, desk: Supervisor, task: str, draw: random.Random) -> None:
    """Submits, waits for the question, and then everybody speaks: at once, or around the time the answers expire."""
    await say(publisher, task, "submitted", TaskSubmitted(request="go"))
    await until(publisher.bus, task, is_event("asked"))
    both = QuestionsAnswered.model_validate({"answers": dict.fromkeys(QUESTIONS, "yes")})
    one = QuestionsAnswered.model_validate({"answers": {QUESTIONS[0]: "no"}})
    speakers = [
        say(publisher, task, "answered", both),
        say(publisher, task, "answered", one),
        say(publisher, task, "submitted", TaskSubmitted(request="again")),
    ]
    if draw.random() < 0.5:
        speakers.append(say(publisher, task, "cancel-requested", CancelRequested(reason="enough")))
    if draw.random() < 0.4:
        speakers.append(fails(desk, task))
    draw.shuffle(speakers)
    spread_s = draw.choice((0, 0, 0.05, 2 * EXPIRE_S))
    await asyncio.gather(*(later(speaker, draw.uniform(0, spread_s)) for speaker in speakers))


async def later(speaker: Awaitable[None], delay_s: float) -> None:
    """A race is about time."""
    await asyncio.sleep(delay_s)
    await speaker


async def fails(desk: Supervisor, task: str) -> None:
    """The supervisor's end of a task whose work is used up: tried again when the task has moved."""
    while True:
        try:
            return await desk._fail(task, "used up")  # pyright: ignore[reportPrivateUsage] - its own deliveries are rare
        except BusUnavailable:
            continue


async def speak_late(publisher: Publisher, task: str) -> None:
    """What may still come when a task is over, from people, from the server, and from an executor that was deaf."""
    for event, body in (
        ("answered", QuestionsAnswered.model_validate({"answers": {QUESTIONS[1]: "late"}})),
        ("approved", Approved(approve=False)),
        ("cancel-requested", CancelRequested(reason="late")),
        ("timeout", TimedOut(timer="deadline")),
        ("submitted", TaskSubmitted(request="late")),
        ("completed", Completed(reason="late")),
        ("failed", Failed(reason="late")),
    ):
        await say(publisher, task, event, body)


async def test_a_task_ends_once_whoever_is_first(
    bus: Bus, publisher: Publisher, settings: Settings, tmp_path: Path
) -> None:
    """Judged by its journal: laws, one end, each effect once a claim, each refused submission a dead letter."""
    (tmp_path / "effects").mkdir()
    tasks = [f"t{number}" for number in range(TASKS)]
    draw = random.Random(7)
    async with mesh(tmp_path, settings) as desk:
        await asyncio.gather(*(race(publisher, desk, task, draw) for task in tasks))
        for task in tasks:
            await until(bus, task, FINAL)
        journals = {task: await history(bus, task) for task in tasks}
        for task in tasks:
            await speak_late(publisher, task)

        async def nothing_waits() -> bool:
            about = await bus.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.GATEWAY}", {})
            return about["num_pending"] + about["num_ack_pending"] == 0 and not await bus.subjects_of("WORK", ">")

        await eventually(nothing_waits)
    wrong = {task: found for task, journal in journals.items() if (found := faults(journal, tmp_path))}
    assert wrong == {}
    ends = Counter(fold(task, journal).final_event for task, journal in journals.items())
    assert set(ends) == set(FINAL_EVENTS), ends
    for task, journal in journals.items():
        whole = await history(bus, task)
        assert replace(fold(task, whole), last_seq=0) == replace(fold(task, journal), last_seq=0)
    letters = [DeadLetter.from_bytes(stored.data) for stored in await bus.read(subjects.DEAD, subjects.ALL_DEAD, 1)]
    twice = {subjects.task_event(task, "submitted", subjects.ML_ENGINEER): 2 for task in tasks}
    assert Counter(letter.subject for letter in letters) == twice


def faults(journal: Sequence[TaskEvent], tmp_path: Path) -> list[str]:
    """What is wrong with a task that was raced for."""
    task = journal[0].metadata.task
    done = tmp_path / "effects" / f"{task}.executions"
    executions = Counter(done.read_text().splitlines()) if done.exists() else Counter[str]()
    return [
        *violations(journal, tmp_path),
        *(f"{line} executed {times} times" for line, times in executions.items() if times > 1),
    ]
