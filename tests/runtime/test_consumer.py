"""The consumers against a real server: nothing is skipped, nobody asks in a hurry, and they stop when told."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
from nats.aio.msg import Msg

from contracts import subjects
from contracts.envelope import MSG_ID, Stored
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer, PullConsumer, unless_stopped
from services._runtime.errors import BusUnavailable, Misconfigured
from services._runtime.provision import provision
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.fakes.wire import wire_to
from tests.following import eventually
from tests.server import NatsServer


async def report(bus: Bus, message_id: str) -> None:
    """A stored report."""
    await bus.publish(subjects.report("a"), message_id.encode(), {MSG_ID: message_id})


@asynccontextmanager
async def reading(bus: Bus, seen: list[Stored]) -> AsyncGenerator[OrderedConsumer]:
    """Reads all reports into `seen` while the block runs."""
    stop = asyncio.Event()
    reports = OrderedConsumer(bus, subjects.REPORTS, subjects.ALL_REPORTS)

    async def read() -> None:
        async for stored in reports.run(stop):
            seen.append(stored)  # noqa: PERF401 - one by one is the point

    task = asyncio.create_task(read())
    try:
        yield reports
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)


async def have(seen: list[Stored], count: int) -> bool:
    """True once there are so many."""
    return len(seen) >= count


async def test_what_was_lost_with_a_connection_is_read_again(bus: Bus, server: NatsServer, settings: Settings) -> None:
    """An ordered consumer acknowledges nothing: the server takes for read what it wrote to a dead connection."""
    seen: list[Stored] = []
    async with wire_to(server.port) as wire:
        reader = await Bus.connect(settings, "reader", url=wire.url)
        async with reading(reader, seen):
            await report(bus, "one")
            await eventually(partial(have, seen, 1))
            wire.silent = True
            await report(bus, "two")
            await bus.flush()
            wire.cut()
            wire.silent = False
            await report(bus, "three")
            await eventually(partial(have, seen, 3))
        await reader.close()
    assert [stored.data for stored in seen] == [b"one", b"two", b"three"]


async def test_the_last_message_is_not_missed_when_none_follows_it(
    bus: Bus, server: NatsServer, settings: Settings
) -> None:
    """No gap shows it: after a new connection the reading begins anew behind what was seen."""
    seen: list[Stored] = []
    async with wire_to(server.port) as wire:
        reader = await Bus.connect(settings, "reader", url=wire.url)
        async with reading(reader, seen):
            await report(bus, "one")
            await eventually(partial(have, seen, 1))
            wire.silent = True
            await report(bus, "two")
            await bus.flush()
            wire.cut()
            wire.silent = False
            await eventually(partial(have, seen, 2))
        await reader.close()
    assert [stored.data for stored in seen] == [b"one", b"two"]


async def test_a_stream_that_is_not_there_is_asked_for_now_and_then(bus: Bus, settings: Settings) -> None:
    """Not as fast as the server can refuse; and once it is there the reading goes on."""
    asked: list[str] = []
    seen: list[Stored] = []

    async def heard(message: Msg) -> None:
        asked.append(message.subject)

    other = await Bus.connect(settings, "other")
    end = await other.subscribe(f"$JS.API.CONSUMER.CREATE.{subjects.REPORTS}.>", heard)
    await other.flush()
    await bus.api(f"STREAM.DELETE.{subjects.REPORTS}", {})
    async with reading(bus, seen) as reports:
        await asyncio.sleep(1)  # the rule is about time
        tries = len(asked)
        assert reports.deaf
        await provision(bus)
        await report(bus, "one")
        await eventually(partial(have, seen, 1))
    await end()
    await other.close()
    assert 2 <= tries <= 6


async def test_an_ordered_consumer_stops_while_the_bus_is_away(bus: Bus, server: NatsServer) -> None:
    """SIGTERM does not wait for the patience of a request."""
    seen: list[Stored] = []
    async with reading(bus, seen):
        await report(bus, "one")
        await eventually(partial(have, seen, 1))
        server.kill()
        await asyncio.sleep(2 * bus.settings.heartbeat_s)  # by now it has asked whether its consumer is there
    server.start()


async def test_an_ordered_consumer_ends_with_a_connection_that_is_closed_for_good(settings: Settings, bus: Bus) -> None:
    """Nobody would make another one for it."""
    reader = await Bus.connect(settings, "reader")
    stop = asyncio.Event()

    async def read() -> None:
        async for _ in OrderedConsumer(reader, subjects.REPORTS, subjects.ALL_REPORTS).run(stop):
            await reader.client.close()

    task = asyncio.create_task(read())
    await report(bus, "one")
    with pytest.raises(BusUnavailable, match="away"):
        await asyncio.wait_for(task, 30)


async def test_a_payload_that_is_gone_does_not_end_the_reading(bus: Bus) -> None:
    """The message comes without a body, and what follows it too."""
    seen: list[Stored] = []
    claim = b'{"bucket":"mesh-payloads","name":"gone","digest":"sha256:0","size":1}'
    await bus.publish(subjects.report("a"), claim, {MSG_ID: "bad", "mesh-claim-check": "1"})
    async with reading(bus, seen):
        await report(bus, "good")
        await eventually(partial(have, seen, 2))
    assert [stored.data for stored in seen] == [b"", b"good"]


@pytest.mark.parametrize("status", ["100", "404", "409", "503"])
async def test_a_message_with_a_header_of_its_own_named_status_is_a_message(bus: Bus, status: str) -> None:
    """Whoever publishes may use any header: only the server's words have nowhere to acknowledge."""
    stop = asyncio.Event()
    await bus.publish("mesh.system.s.trained", b"", {MSG_ID: "m1", "Status": status})
    async for delivery in PullConsumer(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE).run(stop):
        assert delivery.stored.headers["Status"] == status
        await delivery.ack()
        stop.set()
    [stored] = await bus.read(subjects.SYSTEMS, subjects.ALL_SYSTEMS, 1)
    assert (stored.headers["Status"], await bus.get(subjects.SYSTEMS, 1)) == (status, stored)


def test_a_heartbeat_that_the_server_would_refuse_is_refused_first(settings: Settings) -> None:
    """It must fit twice into a pull, else every pull is a bad request."""
    with pytest.raises(Misconfigured, match="heartbeat_s"):
        fast_settings("", settings.home or "", heartbeat_s=16)  # pyright: ignore[reportArgumentType]


async def test_a_pull_with_the_slowest_heartbeat_is_taken(bus: Bus, settings: Settings) -> None:
    """The limit is the server's."""
    slow = await Bus.connect(settings.model_copy(update={"heartbeat_s": 15.0}), "slow")
    stop = asyncio.Event()
    await bus.publish("mesh.system.s.trained", b"{}", {MSG_ID: "m1"})
    async for delivery in PullConsumer(slow, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE).run(stop):
        await delivery.ack()
        stop.set()
    await slow.close()


async def trained(bus: Bus, *numbers: int) -> None:
    """Stored events of a system."""
    for number in numbers:
        await bus.publish("mesh.system.s.trained", b"{}", {MSG_ID: f"m{number}"})


async def test_what_gathers_is_asked_for_together(bus: Bus) -> None:
    """The first message comes at once; while the next ones gather, nobody waits for them at the server."""
    await trained(bus, 1)
    async for delivery in PullConsumer(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE, gather_s=60).run(
        first := asyncio.Event()
    ):
        await delivery.ack()
        await trained(bus, 2, 3)
        about = await bus.api(f"CONSUMER.INFO.{subjects.SYSTEMS}.{subjects.SYSTEMS_DURABLE}", {})
        assert (about["num_waiting"], about["num_pending"]) == (0, 2)
        first.set()
    seen: list[int] = []
    async for delivery in PullConsumer(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE, gather_s=0.01).run(
        rest := asyncio.Event()
    ):
        await delivery.ack()
        seen.append(delivery.stored.seq)
        if seen == [2, 3]:
            await trained(bus, 4)
        if seen == [2, 3, 4]:
            rest.set()
    assert seen == [2, 3, 4]


async def test_work_is_cancelled_when_a_stop_comes_before_its_end() -> None:
    """And its result is there when it does not."""
    stop = asyncio.Event()
    assert await unless_stopped(stop, asyncio.sleep(0, "done")) == "done"
    endless = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(stop.set)
    assert (await unless_stopped(stop, endless), endless.cancelled()) == (None, True)
