"""What the runtime promises and no other test shows: answers that are lost, deliveries that are old, keys of effects.

The list of promises with the test of each is `tests/architecture/invariants.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import pytest

from contracts import subjects
from contracts.events import Progressed, TaskSubmitted
from services._runtime.bus import Ack, Bus
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.errors import Fenced
from services._runtime.executor import Executor
from services._runtime.journal import Activation, Doorbell, claim
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from services._runtime.worker import Worker
from tests.fakes.wire import Wire, wire_to
from tests.following import eventually, history
from tests.server import NatsServer

TASK: Final = "t1"


async def submit(publisher: Publisher) -> Doorbell:
    """A submitted task's doorbell."""
    sent = await publisher.event("submitted", subjects.ML_ENGINEER, TaskSubmitted(request="predict"), About(task=TASK))
    return Doorbell(TASK, subjects.ML_ENGINEER, event_seq=sent.ack.seq, work_seq=1)


async def claimed(publisher: Publisher, doorbell: Doorbell) -> Activation:
    """An open activation."""
    opened = await claim(publisher, doorbell, Executor("tester"))
    assert opened is not None
    return opened


class Unheard(Bus):
    """A bus that is told nothing any more from its next publish on, until the wire is mended."""

    wire: Wire

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], **rest: Any) -> Ack:
        """Stored, and nobody hears that."""
        self.wire.silent = True
        return await super().publish(subject, body, headers, **rest)

    def mend(self) -> None:
        """A new connection; what was said on the old one is lost."""
        self.wire.cut()
        self.wire.silent = False


@asynccontextmanager
async def unheard(server: NatsServer, settings: Settings) -> AsyncGenerator[Unheard]:
    """A connection through a wire."""
    async with wire_to(server.port) as wire:
        bus = await Unheard.connect(settings.model_copy(update={"publish_timeout_s": 0.5}), "remote", url=wire.url)
        assert isinstance(bus, Unheard)
        bus.wire = wire
        yield bus
        await bus.close()


async def stored(bus: Bus, event: str) -> bool:
    """True once the event is in the stream."""
    return event in [one.event for one in await history(bus, TASK)]


async def test_an_append_whose_answer_was_lost_is_found_again_and_not_written_twice(
    server: NatsServer, bus: Bus, publisher: Publisher, settings: Settings
) -> None:
    """Compare-and-set is checked before the message id: the retry is refused, and the refold finds one's own id."""
    activation = await claimed(publisher, await submit(publisher))
    async with unheard(server, settings) as remote:
        activation.publisher = Publisher(remote, publisher.telemetry)
        appending = asyncio.create_task(activation.append("progressed", Progressed(step="train")))
        await eventually(partial(stored, bus, "progressed"))
        remote.mend()
        seq = await asyncio.wait_for(appending, 30)
    told = [(one.seq, one.event, one.metadata.id) for one in await history(bus, TASK)]
    assert told[2:] == [(seq, "progressed", f"{TASK}/{activation.claim}/1")]
    assert activation.state.last_seq == seq


async def test_a_claim_whose_answer_was_lost_is_ones_own(
    server: NatsServer, bus: Bus, publisher: Publisher, settings: Settings
) -> None:
    """The executor that does not know whether it holds the task finds its `working` and goes on under it."""
    doorbell = await submit(publisher)
    async with unheard(server, settings) as remote:
        claiming = asyncio.create_task(claimed(Publisher(remote, publisher.telemetry), doorbell))
        await eventually(partial(stored, bus, "working"))
        remote.mend()
        activation = await asyncio.wait_for(claiming, 30)
        activation.publisher = publisher
        await activation.append("progressed", Progressed(step="train"))
    told = [(one.seq, one.event) for one in await history(bus, TASK)]
    assert told == [(1, "submitted"), (activation.claim, "working"), (3, "progressed")]


@pytest.mark.parametrize(("held_by", "deliveries"), [("this item", 2), ("another item", 1)])
async def test_a_fenced_executor_acknowledges_only_what_the_new_holder_does_not_stand_on(
    bus: Bus, publisher: Publisher, held_by: str, deliveries: int
) -> None:
    """The acknowledgement of an older delivery counts for the item: it would silence the new holder's doorbell."""
    heard: list[int] = []
    again, stop = asyncio.Event(), asyncio.Event()

    async def fenced(delivery: Delivery) -> None:
        heard.append(delivery.deliveries)
        if len(heard) == deliveries:
            again.set()
        if len(heard) == 1:
            holder = delivery.stored.seq + (held_by == "another item")
            raise Fenced(task=TASK, claim=2, by_work_seq=holder)

    await submit(publisher)
    consumer = PullConsumer(bus, subjects.WORK, subjects.ML_ENGINEER)
    running = asyncio.create_task(Worker(publisher, consumer, fenced).run(stop))
    await asyncio.wait_for(again.wait(), 30)

    async def settled() -> bool:
        return not await bus.subjects_of(subjects.WORK, ">")

    await eventually(settled)
    stop.set()
    await asyncio.wait_for(running, 30)
    assert heard == list(range(1, deliveries + 1))


async def test_the_key_of_an_effect_is_the_tasks_and_the_steps_whoever_executes_it(publisher: Publisher) -> None:
    """`<task>/<step>`: a takeover uses the same one, so that what is outside of the bus applies it once."""
    doorbell = await submit(publisher)
    first, second = await claimed(publisher, doorbell), await claimed(publisher, doorbell)
    assert [one.effect_key("train") for one in (first, second)] == [f"{TASK}/train", f"{TASK}/train"]
    assert first.claim != second.claim


async def test_an_executor_that_stood_still_looks_before_it_begins_a_step(
    bus: Bus, publisher: Publisher, settings: Settings
) -> None:
    """Another may have taken over and done it: what is begun then is an effect too many, under a claim that is over."""
    doorbell, begun = await submit(publisher), list[str]()

    async def effect() -> str:
        begun.append("effect")
        return "done"

    zombie = await claimed(publisher, doorbell)
    await claimed(publisher, doorbell)
    await asyncio.sleep(settings.ack_wait_s * 0.6)  # the rule is about time
    with pytest.raises(Fenced):
        await zombie.step("train", effect, result=str)
    assert (begun, [one.event for one in await history(bus, TASK)]) == ([], ["submitted", "working", "working"])
