"""The worker's ladder against a real server: what each class of error does to a message and to a task."""

import asyncio
import io
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import MSG_ID
from contracts.events import (
    Canceled,
    CancelRequested,
    Completed,
    Failed,
    Progressed,
    Question,
    QuestionsAnswered,
    QuestionsAsked,
    Released,
    TaskSubmitted,
    Working,
)
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import PullConsumer
from services._runtime.errors import Interrupted, Malformed, Permanent, Transient
from services._runtime.executor import Executor
from services._runtime.journal import Activation
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Worker, jittered
from tests.following import FINAL, eventually, history, is_event, state, until
from tests.server import NatsServer

Engage = Callable[[Activation], Awaitable[None]]


@dataclass
class Agent:
    """A TaskHandler that does what the test says."""

    work: Engage
    failures: list[str] = field(default_factory=list[str])

    async def engage(self, activation: Activation) -> None:
        await self.work(activation)

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        await activation.append("canceled", Canceled(reason=interrupt.reason))

    async def failed(self, activation: Activation, reason: str) -> None:
        self.failures.append(reason)
        await activation.append("failed", Failed(reason=reason))


@asynccontextmanager
async def working(
    publisher: Publisher, agent: Agent, stop: asyncio.Event | None = None
) -> AsyncGenerator[PullConsumer]:
    """A worker on the ml-engineer's doorbells while the block runs."""
    stop = stop or asyncio.Event()
    consumer = PullConsumer(publisher.bus, subjects.WORK, subjects.ML_ENGINEER)
    task = asyncio.create_task(
        Worker(publisher, consumer, Doorbells(publisher, agent, Executor("tester", stop))).run(stop)
    )
    try:
        yield consumer
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def submit(publisher: Publisher, task: str = "t1") -> None:
    """A submitted task."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task=task))


async def complete(activation: Activation) -> None:
    """The shortest engagement."""
    await activation.append("completed", Completed(reason="done"))


async def nothing_waits(bus: Bus) -> bool:
    """True when WORK is empty."""
    return not await bus.subjects_of(subjects.WORK, ">")


async def letters(bus: Bus) -> list[DeadLetter]:
    """Every dead letter."""
    return [DeadLetter.from_bytes(stored.data) for stored in await bus.read(subjects.DEAD, "mesh.dead.>", 1)]


async def test_a_handler_that_returns_has_its_doorbell_acknowledged(publisher: Publisher, bus: Bus) -> None:
    """The item leaves WORK, the history stays in TASKS."""
    async with working(publisher, Agent(complete)):
        await submit(publisher)
        await until(bus, "t1", FINAL)
        await eventually(partial(nothing_waits, bus))
    assert [event.event for event in await history(bus, "t1")] == ["submitted", "working", "completed"]


async def test_a_handler_longer_than_the_acknowledgement_wait_is_not_given_away(publisher: Publisher, bus: Bus) -> None:
    """In-progress beats keep the message: hours of work are fine."""
    seen: list[int] = []

    async def slow(activation: Activation) -> None:
        seen.append(activation.doorbell.deliveries)
        await asyncio.sleep(2.5)  # the rule is about time: two and a half acknowledgement waits
        await complete(activation)

    async with working(publisher, Agent(slow)):
        await submit(publisher)
        await until(bus, "t1", FINAL)
    assert seen == [1]


async def test_a_transient_error_is_tried_again_later(publisher: Publisher, bus: Bus) -> None:
    """Delayed nak; the same doorbell takes the task over."""
    tries: list[int] = []

    async def flaky(activation: Activation) -> None:
        tries.append(activation.doorbell.deliveries)
        if len(tries) < 3:
            raise Transient("not now")
        await complete(activation)

    async with working(publisher, Agent(flaky)):
        await submit(publisher)
        await until(bus, "t1", FINAL)
    assert tries == [1, 2, 3]


async def test_a_permanent_error_fails_the_task_with_its_reason(publisher: Publisher, bus: Bus) -> None:
    """The text of the error is what the person reads."""

    async def impossible(_activation: Activation) -> None:
        raise Permanent("the file is empty: give one with rows")

    agent = Agent(impossible)
    async with working(publisher, agent):
        await submit(publisher)
        final = await until(bus, "t1", FINAL)
    assert final.body == Failed(reason="the file is empty: give one with rows")


async def test_a_defect_is_tried_to_the_last_delivery_and_then_fails_the_task(publisher: Publisher, bus: Bus) -> None:
    """No task without a final event, not even when a handler is broken."""

    async def broken(_activation: Activation) -> None:
        raise ZeroDivisionError("oh")

    agent = Agent(broken)
    async with working(publisher, agent):
        await submit(publisher)
        await until(bus, "t1", FINAL)
    assert agent.failures == ["the ml-engineer failed 5 times: oh"]


async def test_a_cancel_stops_a_running_handler_and_ends_the_task(publisher: Publisher, bus: Bus) -> None:
    """Within moments, wherever it runs."""
    stopped = asyncio.Event()

    async def endless(_activation: Activation) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(publisher, Agent(endless)):
        await submit(publisher)
        await until(bus, "t1", is_event("working"))
        await publisher.event("cancel-requested", "ml-engineer", CancelRequested(reason="enough"), About(task="t1"))
        final = await until(bus, "t1", FINAL)
    assert stopped.is_set()
    assert final.body == Canceled(reason="enough")


async def test_events_after_the_final_one_change_nothing(publisher: Publisher, bus: Bus) -> None:
    """Late answers, cancels and reports stay in the stream, and no agent event follows."""
    async with working(publisher, Agent(complete)):
        await submit(publisher)
        await until(bus, "t1", FINAL)
        before = await state(bus, "t1")
        await publisher.event("cancel-requested", "ml-engineer", CancelRequested(), About(task="t1"))
        await submit(publisher, "t2")
        await until(bus, "t2", FINAL)
    after = await state(bus, "t1")
    assert (after.status, after.final, after.cancel) == (before.status, before.final, None)
    assert [event.event for event in await history(bus, "t1")][-1] == "cancel-requested"


async def test_a_stopped_worker_gives_its_task_back_at_once(publisher: Publisher, bus: Bus) -> None:
    """SIGTERM loses nothing and does not wait for the acknowledgement wait: the next executor takes over."""

    async def endless(_activation: Activation) -> None:
        await asyncio.Event().wait()

    async with working(publisher, Agent(endless)):
        await submit(publisher)
        await until(bus, "t1", is_event("working"))
    async with working(publisher, Agent(complete)):
        await until(bus, "t1", FINAL)
    names = [event.event for event in await history(bus, "t1")]
    assert names == ["submitted", "working", "progressed", "working", "completed"]


async def test_a_malformed_message_is_a_dead_letter_with_its_reason(publisher: Publisher, bus: Bus) -> None:
    """Whole, with subject, headers and deliveries; nothing is dropped silently."""
    stop = asyncio.Event()

    async def refuse(_delivery: object) -> None:
        raise Malformed("not JSON: send an object")

    await bus.publish("mesh.system.s.trained", b"{nope", {MSG_ID: "m1", "extra": "kept"})
    consumer = PullConsumer(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE)
    running = asyncio.create_task(Worker(publisher, consumer, refuse).run(stop))
    [letter] = await eventually(partial(letters, bus))
    stop.set()
    await asyncio.wait_for(running, 30)
    assert (letter.reason, letter.subject, letter.stream, letter.stream_seq, letter.deliveries) == (
        "not JSON: send an object",
        "mesh.system.s.trained",
        "SYSTEMS",
        1,
        1,
    )
    assert letter.headers["extra"] == "kept"
    assert b64decode(letter.body_base64) == b"{nope"


async def test_several_tasks_are_at_work_at_a_time(publisher: Publisher, bus: Bus) -> None:
    """Callbacks of one subscription run one after the other; handlers do not."""
    together = asyncio.Barrier(3)

    async def meet(activation: Activation) -> None:
        await together.wait()
        await complete(activation)

    async with working(publisher, Agent(meet)):
        for task in ("a", "b", "c"):
            await submit(publisher, task)
        for task in ("a", "b", "c"):
            await until(bus, task, FINAL)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_worker_hears_again_after_its_server_was_restarted(
    publisher: Publisher, bus: Bus, server: NatsServer, how: str
) -> None:
    """The pull that was lost with the server is asked again."""
    async with working(publisher, Agent(complete)) as consumer:
        await submit(publisher, "before")
        await until(bus, "before", FINAL)
        getattr(server, how)()
        await asyncio.to_thread(server.start)
        await submit(publisher, "after")
        await until(bus, "after", FINAL)
        assert not consumer.deaf


async def test_a_worker_hears_again_after_its_durable_was_deleted_and_made_anew(publisher: Publisher, bus: Bus) -> None:
    """A deleted consumer is a pause, not an end."""
    from services._runtime.provision import provision

    async with working(publisher, Agent(complete)):
        await submit(publisher, "before")
        await until(bus, "before", FINAL)
        await bus.api(f"CONSUMER.DELETE.{subjects.WORK}.{subjects.ML_ENGINEER}", {})
        await provision(bus)
        await submit(publisher, "after")
        await until(bus, "after", FINAL)


async def test_a_consumer_that_hears_nothing_is_deaf_although_connected(
    publisher: Publisher, bus: Bus, server: NatsServer
) -> None:
    """Readiness must not stop at TCP: two missed heartbeats say it."""
    async with working(publisher, Agent(complete)) as consumer:
        await submit(publisher)
        await until(bus, "t1", FINAL)
        server.pause()

        async def is_deaf() -> bool:
            return consumer.deaf

        async def hears() -> bool:
            return not consumer.deaf

        await eventually(is_deaf)
        assert bus.client.is_connected
        server.resume()
        await eventually(hears)


async def test_progress_is_stored_on_a_change_of_step_only(publisher: Publisher, bus: Bus) -> None:
    """The rest goes to watchers: a task's history stays small."""

    async def chatty(activation: Activation) -> None:
        for share in range(50):
            await activation.progress(Progressed(step="train", fraction=share / 50))
        await activation.append("reported", ActivityReport(reporting_agent="ml-engineer", summary="done"))

    async with working(publisher, Agent(chatty)):
        await submit(publisher)
        await until(bus, "t1", is_event("reported"))
    assert [event.event for event in await history(bus, "t1")].count("progressed") == 1


async def test_a_worker_that_stops_finishes_the_step_and_leaves_the_next(publisher: Publisher, bus: Bus) -> None:
    """A rolling restart repeats nothing: the next executor goes on after the step that was being done."""
    stop, done = asyncio.Event(), list[str]()

    async def steps(activation: Activation) -> None:
        for name in ("profile", "train"):
            await activation.step(name, partial(effect, name), result=str)
        await complete(activation)

    async def effect(name: str) -> str:
        done.append(name)
        stop.set()
        await asyncio.sleep(0.05)
        return name

    async with working(publisher, Agent(steps), stop):
        await submit(publisher)
        await stop.wait()
    async with working(publisher, Agent(steps)):
        await until(bus, "t1", FINAL)
    names = [event.event for event in await history(bus, "t1")]
    assert (done, names) == (
        ["profile", "train"],
        ["submitted", "working", "step", "working", "step", "completed"],
    )


async def test_a_step_longer_than_the_grace_is_no_failed_attempt(bus: Bus, settings: Settings) -> None:
    """It is handed over and done again, however often services are restarted meanwhile."""
    hasty = await Bus.connect(settings.model_copy(update={"stop_grace_s": 0, "max_deliver": 2}), "hasty")
    publisher = Publisher(hasty, telemetry.start("hasty", settings))
    stops, stop = list[asyncio.Event](), asyncio.Event()

    async def long(activation: Activation) -> None:
        stops.append(stop)
        if len(stops) <= 4:
            stop.set()
            await asyncio.Event().wait()
        await complete(activation)

    await submit(publisher)
    for _ in range(5):
        stop = asyncio.Event()
        async with working(publisher, Agent(long), stop):
            await until(bus, "t1", FINAL) if len(stops) == 4 else await stop.wait()
    assert (await state(bus, "t1")).status == "completed"
    await hasty.close()


async def test_what_kills_its_executor_each_time_fails(publisher: Publisher, bus: Bus, settings: Settings) -> None:
    """Nobody is left to count in memory: the claims in the journal do."""
    for number in range(settings.max_deliver):
        body = Working(executor=f"dead-{number}", event_seq=1, work_seq=1)
        await submit(publisher) if number == 0 else None
        await publisher.event("working", "ml-engineer", body, About(task="t1"))
    async with working(publisher, Agent(complete)):
        final = await until(bus, "t1", FINAL)
    assert isinstance(final.body, Failed)
    assert "ended 5 times while it was at work on this" in final.body.reason


def test_delays_have_full_jitter_and_a_ceiling() -> None:
    """Between nothing and the doubled delay, at most what is allowed."""
    assert all(
        0 <= jittered(2, tries, 15) <= min(15, 2 * 2 ** (tries - 1)) for tries in range(1, 12) for _ in range(50)
    )


async def test_a_handler_decides_again_on_what_came_while_it_let_go(publisher: Publisher, bus: Bus) -> None:
    """The second of two answers comes while the first one's activation is about to release the task."""
    questions = tuple(Question(id=name, slot="nfr", field="f", text="?", why="!") for name in ("nfr.a", "nfr.b"))

    async def answer(name: str) -> None:
        body = QuestionsAnswered.model_validate({"answers": {name: "yes"}})
        await publisher.event("answered", "ml-engineer", body, About(task="t1"))

    async def ask(activation: Activation) -> None:
        if activation.state.asked is None:
            await activation.append("asked", QuestionsAsked(known=(), questions=questions))
        elif activation.state.waiting is None:
            await complete(activation)
        else:
            await answer("nfr.b")
            await activation.append("released", Released(reason="still waiting"))

    async with working(publisher, Agent(ask)):
        await submit(publisher)
        await until(bus, "t1", is_event("asked"))
        await answer("nfr.a")
        await until(bus, "t1", FINAL, within_s=30)
    names = [event.event for event in await history(bus, "t1")]
    assert names == ["submitted", "working", "asked", "answered", "working", "answered", "completed"]


async def test_a_task_whose_timer_rang_before_it_waited_goes_on_by_itself(publisher: Publisher, bus: Bus) -> None:
    """An executor's clock is behind: the doorbell of the timer finds the task held, and no other will ring."""
    question = Question(id="nfr.a", slot="nfr", field="f", text="?", why="!")

    async def ask(activation: Activation) -> None:
        if "answers" in activation.state.timeouts:
            await complete(activation)
            return
        await activation.timer("answers", -5)
        await until(bus, "t1", is_event("timeout"))
        await eventually(partial(_is_early, activation))
        await activation.append("asked", QuestionsAsked(known=(), questions=(question,)))

    async with working(publisher, Agent(ask)):
        await submit(publisher)
        await until(bus, "t1", FINAL, within_s=30)
        await eventually(partial(nothing_waits, bus))
    names = [event.event for event in await history(bus, "t1")]
    assert names == ["submitted", "working", "timeout", "asked", "working", "completed"]


async def _is_early(activation: Activation) -> bool:
    return "answers" in activation.state.early


async def test_a_worker_that_is_cancelled_leaves_no_handler_behind(publisher: Publisher, bus: Bus) -> None:
    """When another part of its service fails, or the connection is closed for good."""
    stopped = asyncio.Event()

    async def endless(_activation: Activation) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    consumer = PullConsumer(bus, subjects.WORK, subjects.ML_ENGINEER)
    running = asyncio.create_task(
        Worker(publisher, consumer, Doorbells(publisher, Agent(endless), Executor("tester"))).run(asyncio.Event())
    )
    await submit(publisher)
    await until(bus, "t1", is_event("working"))
    running.cancel()
    await asyncio.wait({running}, timeout=30)
    assert stopped.is_set()


async def test_a_handler_that_finds_its_task_malformed_fails_it(publisher: Publisher, bus: Bus) -> None:
    """To bury the doorbell would leave a task behind that nobody ends."""

    async def refuse(_activation: Activation) -> None:
        raise Malformed("the design in the journal is none")

    async with working(publisher, Agent(refuse)):
        await submit(publisher)
        final = await until(bus, "t1", FINAL, within_s=30)
    assert final.body == Failed(reason="the design in the journal is none")


async def test_a_dead_letter_that_cannot_be_written_is_told(publisher: Publisher, bus: Bus, settings: Settings) -> None:
    """The message stays, since it is not settled, and the log says why."""
    told = io.StringIO()
    telemetry.configure_logs("info", told)
    hasty = await Bus.connect(settings.model_copy(update={"bus_patience_s": 0.2}), "hasty")
    stop = asyncio.Event()

    async def refuse(_delivery: object) -> None:
        raise Malformed("not JSON")

    await bus.api(f"STREAM.DELETE.{subjects.DEAD}", {})
    await bus.publish("mesh.system.s.trained", b"{nope", {MSG_ID: "m1"})
    consumer = PullConsumer(hasty, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE)
    running = asyncio.create_task(Worker(Publisher(hasty, publisher.telemetry), consumer, refuse).run(stop))

    async def logged() -> bool:
        return "worker.not_settled" in told.getvalue()

    await eventually(logged)
    stop.set()
    await asyncio.wait_for(running, 30)
    await hasty.close()
    about = await bus.api(f"CONSUMER.INFO.{subjects.SYSTEMS}.{subjects.SYSTEMS_DURABLE}", {})
    assert about["num_ack_pending"] + about["num_pending"] == 1


@pytest.mark.long
async def test_trouble_of_the_mesh_is_no_attempt_at_the_task(publisher: Publisher, bus: Bus) -> None:
    """An executor that lets go because somebody does not answer says so: however often, the task is not failed."""
    tries = 2 * bus.settings.max_deliver

    async def unanswered(activation: Activation) -> None:
        nonlocal tries
        tries -= 1
        if tries:
            raise Transient("nobody answers")
        await complete(activation)

    agent = Agent(unanswered)
    async with working(publisher, agent):
        await submit(publisher)
        final = await until(bus, "t1", FINAL)
    assert (final.event, agent.failures) == ("completed", [])
