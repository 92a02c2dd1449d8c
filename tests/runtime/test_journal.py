"""Activations against a real server: claims, steps, fencing, interrupts, endings."""

import asyncio

import pytest

from contracts import subjects
from contracts.envelope import read_event
from contracts.events import CancelRequested, Progressed, QuestionsAnswered, TaskSubmitted
from contracts.task import fold
from services._runtime.bus import Bus
from services._runtime.errors import Fenced, Interrupted
from services._runtime.journal import Activation, Doorbell, claim
from services._runtime.publisher import About, Publisher

TASK = "t1"


async def submit(publisher: Publisher, task: str = TASK) -> int:
    """A submitted task; the sequence of its first event."""
    sent = await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task=task))
    return sent.ack.seq


async def activate(publisher: Publisher, *, event_seq: int, work_seq: int) -> Activation:
    """An open activation."""
    doorbell = Doorbell(TASK, "ml-engineer", event_seq, work_seq)
    opened = await claim(publisher, doorbell, "tester")
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
    assert await claim(publisher, Doorbell(TASK, "ml-engineer", seq, 8), "other") is None


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
        await asyncio.wait_for(watching, 5)


async def test_replay_gives_the_live_state(publisher: Publisher, bus: Bus) -> None:
    """What the executor holds in memory is what anyone reads from the stream."""
    seq = await submit(publisher)
    activation = await activate(publisher, event_seq=seq, work_seq=7)

    async def effect() -> dict[str, int]:
        return {"rows": 3}

    await activation.step("profile", effect, result=dict[str, int])
    await activation.append("progressed", Progressed(step="train", metrics={"auc": 0.5}))
    assert fold(TASK, [read_event(stored) for stored in await bus.history(TASK)]) == activation.state


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
