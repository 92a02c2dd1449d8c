"""Activations against a real server: claims, steps, fencing, interrupts, endings."""

import asyncio
from dataclasses import replace

import pytest
from nats.aio.msg import Msg

from contracts import subjects
from contracts.envelope import MSG_ID, REDRIVE, read_event
from contracts.events import (
    CancelRequested,
    Progressed,
    Question,
    QuestionsAnswered,
    QuestionsAsked,
    Released,
    TaskSubmitted,
)
from contracts.report import ActivityReport
from contracts.summary import Summary
from contracts.task import fold, summary_id
from services._runtime.bus import Bus
from services._runtime.consumer import Delivery
from services._runtime.errors import BusUnavailable, Fenced, Interrupted, WrongSequence
from services._runtime.executor import Executor
from services._runtime.journal import Activation, Doorbell, claim
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from services._runtime.worker import doorbell_of
from tests.following import eventually
from tests.server import NatsServer

TASK = "t1"


async def submit(publisher: Publisher, task: str = TASK) -> int:
    """A submitted task; the sequence of its first event."""
    sent = await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task=task))
    return sent.ack.seq


async def activate(publisher: Publisher, *, event_seq: int, work_seq: int) -> Activation:
    """An open activation."""
    doorbell = Doorbell(TASK, "ml-engineer", event_seq, work_seq)
    opened = await claim(publisher, doorbell, Executor("tester"))
    assert opened is not None
    return opened


async def events(bus: Bus, task: str = TASK) -> list[str]:
    """Names of the task's events, in order."""
    return [read_event(stored).event for stored in await bus.history(task)]


async def test_a_recorded_step_is_not_run_again_by_the_next_executor(publisher: Publisher, bus: Bus) -> None:
    """Kill -9 repeats at most the step in flight: what is recorded is read, not run."""
    seq = await submit(publisher)
    runs: list[str] = []

    async def effect() -> int:
        runs.append("ran")
        return 41

    first = await activate(publisher, event_seq=seq, work_seq=7)
    assert await first.step("train", effect, result=int) == 41
    second = await activate(publisher, event_seq=seq, work_seq=7)
    assert await second.step("train", effect, result=int) == 41
    assert runs == ["ran"]
    assert await events(bus) == ["submitted", "working", "step", "working"]


async def test_other_inputs_make_a_step_another_step(publisher: Publisher) -> None:
    """A result belongs to the inputs it was made from."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)

    async def effect() -> str:
        return "done"

    await activation.step("train", effect, result=str, inputs={"a": 1})
    await activation.step("train", effect, result=str, inputs={"a": 2})
    assert activation.state.steps["train"].attempt == 2


async def test_an_executor_that_lost_its_task_can_write_nothing(publisher: Publisher, bus: Bus) -> None:
    """A zombie is fenced by compare-and-set, and told by which WORK sequence."""
    seq = await submit(publisher)
    zombie = await activate(publisher, event_seq=seq, work_seq=7)
    await activate(publisher, event_seq=seq, work_seq=7)
    with pytest.raises(Fenced) as fenced:
        await zombie.append("progressed", Progressed(step="train"))
    assert fenced.value.by_work_seq == 7
    assert await events(bus) == ["submitted", "working", "working"]


async def test_another_doorbell_leaves_a_running_task_alone(publisher: Publisher) -> None:
    """The running executor folds the event; the second doorbell is acknowledged."""
    seq = await submit(publisher)
    await activate(publisher, event_seq=seq, work_seq=7)
    assert await claim(publisher, Doorbell(TASK, "ml-engineer", seq, 8), Executor("other")) is None


async def test_an_answer_that_comes_meanwhile_is_taken_in(publisher: Publisher) -> None:
    """A refused compare-and-set means: fold what is new, append again."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)
    answer = QuestionsAnswered.from_bytes(b'{"answers": {"nfr.latency": "20 ms"}}')
    await publisher.event("answered", "ml-engineer", answer, About(task=TASK))
    await activation.append("progressed", Progressed(step="train"))
    assert activation.state.answers == {"nfr.latency": "20 ms"}
    assert activation.state.progress == Progressed(step="train")


async def test_a_cancel_interrupts_a_step_at_once(publisher: Publisher) -> None:
    """Cancel travels over the bus and stops what runs."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)
    watching = asyncio.create_task(activation.watch())
    await publisher.bus.flush()
    await publisher.event("cancel-requested", "ml-engineer", CancelRequested(reason="enough"), About(task=TASK))
    with pytest.raises(Interrupted, match="enough"):
        await asyncio.wait_for(watching, 30)


async def test_replay_gives_the_live_state(publisher: Publisher, bus: Bus) -> None:
    """What the executor holds in memory is what anyone reads from the stream."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)

    async def effect() -> dict[str, int]:
        return {"rows": 3}

    await activation.step("profile", effect, result=dict[str, int])
    await activation.append("progressed", Progressed(step="train", metrics={"auc": 0.5}))
    assert fold(TASK, [read_event(stored) for stored in await bus.history(TASK)]) == activation.state


async def doorbell(bus: Bus, event_seq: int) -> Doorbell:
    """What the event rang, as a worker reads it."""

    async def found() -> Doorbell | None:
        stored = await bus.newest(subjects.WORK, subjects.work_item("ml-engineer", TASK))
        if stored is None:
            return None
        read = doorbell_of(Delivery(stored, 1, bus.client, Msg(bus.client)))
        return read if read.event_seq == event_seq else None

    return await eventually(found)


@pytest.mark.parametrize("case", ["next", "meanwhile", "redriven"])
async def test_a_summary_that_comes_next_is_known_from_its_doorbell(
    publisher: Publisher, bus: Bus, settings: Settings, case: str
) -> None:
    """An executor that remembers the task reads nothing then, but for what was written meanwhile or is said anew."""
    listener, reads = await Bus.connect(settings, "listener"), list[Msg]()
    executor = Executor("tester")
    first = await claim(publisher, Doorbell(TASK, "ml-engineer", await submit(publisher), 7), executor)
    assert first is not None
    report = ActivityReport(reporting_agent="ml-engineer", status="success", summary="done")
    known = await first.append("reported", report)
    first.rest()
    if case == "meanwhile":
        cancel = CancelRequested(reason="enough")
        known = (await publisher.event("cancel-requested", "ml-engineer", cancel, About(task=TASK))).ack.seq
    about = About(task=TASK, id=summary_id(TASK, known))
    sent = await publisher.event("summarised", "ml-engineer", Summary(text="done", claims=(), outcome="success"), about)
    rang = await doorbell(bus, sent.ack.seq)
    if case == "redriven" and rang.rang is not None:
        rang = replace(rang, rang=replace(rang.rang, headers={**rang.rang.headers, REDRIVE: "1"}))
    await listener.hear(f"$JS.API.DIRECT.GET.{subjects.TASKS}", reads.append)
    await listener.flush()
    second = await claim(publisher, rang, executor)
    await listener.flush()
    assert second is not None
    assert (second.state, bool(reads)) == (fold(TASK, map(read_event, await bus.history(TASK))), case != "next")
    await listener.close()


async def test_a_timer_of_the_servers_rings_the_doorbell(publisher: Publisher, bus: Bus) -> None:
    """A timeout is published by the server on the task's own subject, with the body that was scheduled."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)
    await activation.timer("deadline", 0.5)
    heard = asyncio.Event()

    async def hear(_message: object) -> None:
        heard.set()

    end = await bus.subscribe(subjects.task_event(TASK, "timeout", "ml-engineer"), hear)
    async with asyncio.timeout(10):
        while "timeout" not in await events(bus):
            await asyncio.wait({asyncio.create_task(heard.wait())}, timeout=0.2)
    await end()
    with pytest.raises(Interrupted, match="deadline"):
        await activation.refresh()


QUESTIONS = QuestionsAsked(
    known=(),
    questions=tuple(Question(id=name, slot="nfr", field="f", text="?", why="!") for name in ("nfr.a", "nfr.b")),
)


async def answer(publisher: Publisher, name: str) -> int:
    """One answer; its sequence."""
    body = QuestionsAnswered.model_validate({"answers": {name: "yes"}})
    return (await publisher.event("answered", "ml-engineer", body, About(task=TASK))).ack.seq


async def test_an_answer_that_comes_while_the_task_is_let_go_is_decided_on(publisher: Publisher, bus: Bus) -> None:
    """`released` would close over it, and its own doorbell would then mean nothing: nobody would take it in."""
    activation = await activate(publisher, event_seq=await submit(publisher), work_seq=1)
    await activation.append("asked", QUESTIONS)
    activation = await activate(publisher, event_seq=await answer(publisher, "nfr.a"), work_seq=2)
    assert activation.state.waiting == "answers"
    second = await answer(publisher, "nfr.b")
    with pytest.raises(WrongSequence, match="not decided on"):
        await activation.append("released", Released(reason="still waiting"))
    assert activation.state.waiting is None
    assert activation.state.pending[-1] == second
    assert (await events(bus))[-1] == "answered"


async def test_what_was_seen_before_the_decision_does_not_hold_it_up(publisher: Publisher, bus: Bus) -> None:
    """Deciding again, on all that is known by now, is let through."""
    activation = await activate(publisher, event_seq=await submit(publisher), work_seq=1)
    await answer(publisher, "nfr.a")
    await activation.refresh()
    with pytest.raises(WrongSequence):
        await activation.append("asked", QUESTIONS)
    activation.decide_again()
    await activation.append("asked", QUESTIONS)
    assert (await events(bus))[-1] == "asked"


async def test_an_expectation_that_can_never_be_met_is_not_tried_for_ever(
    bus: Bus, publisher: Publisher, settings: Settings
) -> None:
    """The last event was removed, the sequence to expect fell back: only a new claim, from the start, knows it."""
    hasty = await Bus.connect(settings.model_copy(update={"bus_patience_s": 0.3}), "hasty")
    activation = await activate(Publisher(hasty, publisher.telemetry), event_seq=await submit(publisher), work_seq=1)
    body = QuestionsAnswered.model_validate({"answers": {"nfr.a": "yes"}}).to_bytes()
    stored = await bus.publish(f"mesh.task.{TASK}.answered.ml-engineer", body, {MSG_ID: "removed"})
    await activation.refresh()
    await bus.api(f"STREAM.MSG.DELETE.{subjects.TASKS}", {"seq": stored.seq})
    with pytest.raises(BusUnavailable, match="nothing newer can be read"):
        await asyncio.wait_for(activation.append("progressed", Progressed(step="train")), 30)
    again = await activate(publisher, event_seq=1, work_seq=1)
    await again.append("progressed", Progressed(step="train"))
    assert await events(bus) == ["submitted", "working", "working", "progressed"]
    await hasty.close()


async def test_a_watch_that_is_cancelled_as_news_comes_ends(publisher: Publisher, bus: Bus) -> None:
    """A wait that forgets its cancellation would keep the activation, and the beats of its message, for ever."""
    activation = await activate(publisher, event_seq=await submit(publisher), work_seq=1)
    watching = asyncio.create_task(activation.watch())
    await bus.flush()

    async def cancel(_message: object) -> None:
        watching.cancel()

    end = await bus.subscribe(
        subjects.task_history(TASK), cancel
    )  # hears after the watch, in the same turn of the loop
    await bus.flush()
    await answer(publisher, "nfr.a")
    await asyncio.wait({watching}, timeout=30)
    await end()
    assert watching.cancelled()


async def test_progress_that_nobody_can_be_told_does_not_end_the_work(
    publisher: Publisher, bus: Bus, server: NatsServer
) -> None:
    """What is told to watchers is not stored: while the bus is away it is lost, once the client's room is used up."""
    activation = await activate(publisher, event_seq=await submit(publisher), work_seq=1)
    await activation.progress(Progressed(step="train"))
    server.kill()

    async def away() -> bool:
        return not bus.client.is_connected

    await eventually(away)
    for _ in range(200):
        await activation.progress(Progressed(step="train", message="x" * 20_000))
    server.start()
    await activation.append("progressed", Progressed(step="evaluate"))
