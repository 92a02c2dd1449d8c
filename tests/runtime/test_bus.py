"""The bus against a real server: what is stored once, what is refused and how, what survives a restart."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
import uvloop
from nats.errors import BadHeaderError

from contracts import subjects
from contracts.envelope import MSG_ID, Stored, read_event
from contracts.events import TaskSubmitted, TimedOut
from services._runtime import telemetry
from services._runtime.bus import Ack, Bus, Expect, _within  # pyright: ignore[reportPrivateUsage]
from services._runtime.consumer import OrderedConsumer
from services._runtime.embedded import EmbeddedServer
from services._runtime.errors import (
    BusUnavailable,
    Forbidden,
    Malformed,
    Misconfigured,
    StoreFull,
    TooLarge,
    WrongSequence,
)
from services._runtime.provision import durables, provision, streams
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.fakes.wire import wire_to
from tests.following import eventually, is_event, until
from tests.server import NatsServer

SUBJECT = "mesh.task.t1.submitted.ml-engineer"
HISTORY = "mesh.task.t1.>"


async def put(bus: Bus, message_id: str, body: bytes = b"{}", *, expect: Expect | None = None) -> Ack:
    """One stored message."""
    return await bus.publish(SUBJECT, body, {MSG_ID: message_id}, expect=expect)


def checked(claim: bytes) -> Stored:
    """A stored message whose body is a claim check."""
    headers = {"mesh-claim-check": "1"}
    return Stored(stream="TASKS", seq=1, subject=SUBJECT, time=datetime.now(UTC), headers=headers, data=claim)


async def test_of_fifty_writers_with_the_same_expectation_exactly_one_wins(bus: Bus) -> None:
    """Compare-and-set on a task's history is the fence."""
    tries = [put(bus, f"w{number}", expect=Expect(HISTORY, 0)) for number in range(50)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(result).__name__ for result in results].count("Ack") == 1
    assert [type(result).__name__ for result in results].count("WrongSequence") == 49
    assert len(await bus.history("t1")) == 1


async def test_a_message_id_is_stored_once(bus: Bus) -> None:
    """A retry of a stored message is a duplicate, not a second message."""
    first, again = await put(bus, "same"), await put(bus, "same")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.seq == again.seq


async def test_a_message_without_an_id_is_refused_before_it_is_sent(bus: Bus) -> None:
    """Without an id a retry could store it twice."""
    with pytest.raises(Misconfigured, match=MSG_ID):
        await bus.publish(SUBJECT, b"{}", {})


async def test_a_publish_while_the_server_is_dead_is_stored_once_when_it_is_back(bus: Bus, server: NatsServer) -> None:
    """A timeout means unknown: the same id is tried again, and the client's own late send is a duplicate."""
    server.kill()
    publishing = asyncio.create_task(put(bus, "late"))
    await asyncio.wait({publishing}, timeout=1.5)
    server.start()
    assert (await publishing).seq == 1
    await bus.flush()
    assert [stored.seq for stored in await bus.history("t1")] == [1]


async def test_an_oversized_message_is_a_typed_error_and_the_connection_lives(bus: Bus) -> None:
    """The client's own check ignores headers and would lose the connection for good."""
    limit = bus.client.max_payload
    with pytest.raises(TooLarge) as refused:
        await bus.send("any", b"x" * (limit - 100), {"header": "y" * 200})
    assert (refused.value.subject, refused.value.limit) == ("any", limit - 4096)
    assert (await put(bus, "after")).seq == 1
    assert not bus.closed.is_set()


async def test_a_large_body_travels_as_a_claim_check(bus: Bus) -> None:
    """Readers get the body whole; the stream holds a reference."""
    body = b'{"request": "' + b"x" * 400_000 + b'"}'
    await put(bus, "large", body)
    [stored] = await bus.history("t1")
    assert stored.data == body
    raw = await bus.client.jetstream().get_msg(subjects.TASKS, 1)
    assert raw.data is not None
    assert len(raw.data) < 500


async def test_a_claim_check_that_does_not_hold_what_it_says_is_malformed(bus: Bus) -> None:
    """A digest that differs is never taken for the payload."""
    await put(bus, "large", b"x" * 400_000)
    store = await bus.client.jetstream().object_store(subjects.PAYLOADS_BUCKET)
    [info] = await store.list()
    claim = json.dumps(
        {"bucket": subjects.PAYLOADS_BUCKET, "name": info.name, "digest": f"sha256:{info.name}", "size": 400_000}
    ).encode()
    await store.put(str(info.name), b"something else")
    with pytest.raises(Malformed, match="digests differ"):
        await bus.whole(checked(claim))
    assert [stored.data for stored in await bus.history("t1")] == [b""]


async def test_a_claim_check_without_its_payload_is_malformed(bus: Bus) -> None:
    """Nothing is read from a bucket that does not hold it."""
    claim = b'{"bucket":"mesh-payloads","name":"gone","digest":"sha256:0","size":1}'
    await bus.publish(SUBJECT, claim, {MSG_ID: "c", "mesh-claim-check": "1"})
    with pytest.raises(Malformed, match="not in bucket"):
        await bus.whole(checked(claim))
    assert [stored.data for stored in await bus.history("t1")] == [b""]


async def test_a_cancelled_publish_ends_under_back_pressure(server: NatsServer, bus: Bus) -> None:
    """The client swallows a cancellation while its buffer is full: the bus asks the task itself."""

    async def flood() -> None:
        while True:
            await bus.send("flood", b"x" * 500_000)

    server.pause()
    flooding = asyncio.create_task(flood())
    await asyncio.wait({flooding}, timeout=0.5)
    flooding.cancel()
    await asyncio.wait({flooding}, timeout=0.5)
    server.resume()
    await asyncio.wait({flooding}, timeout=10)
    assert flooding.cancelled()


async def test_history_is_read_whole_and_from_any_point(bus: Bus) -> None:
    """Batched direct get: more than one batch, in order, nothing of another task."""
    for number in range(300):
        await bus.publish(f"mesh.task.t{number % 2}.progressed.a", b"{}", {MSG_ID: f"m{number}"})
    found = await bus.read(subjects.TASKS, "mesh.task.t1.>", 1)
    assert [stored.seq for stored in found] == list(range(2, 301, 2))
    assert [stored.seq for stored in await bus.history("t1", after=296)] == [298, 300]
    assert await bus.history("unknown") == []


async def test_watchers_see_only_what_is_stored_and_survive_a_restart(bus: Bus, server: NatsServer) -> None:
    """A refused publish is on the core subject but not in the stream; an ordered consumer reads the stream."""
    seen: list[int] = []
    stop = asyncio.Event()
    consumer = OrderedConsumer(bus, subjects.TASKS, HISTORY)

    async def watch() -> None:
        async for stored in consumer.run(stop):
            seen.append(stored.seq)
            if len(seen) == 3:
                stop.set()

    watching = asyncio.create_task(watch())
    await put(bus, "one")
    with pytest.raises(WrongSequence):
        await put(bus, "refused", expect=Expect(HISTORY, 0))
    await put(bus, "two")
    server.kill()
    server.start()
    await put(bus, "three")
    await asyncio.wait_for(watching, 20)
    assert seen == [1, 2, 3]


async def test_a_timer_that_was_due_while_the_server_was_dead_fires_once(
    bus: Bus, server: NatsServer, publisher: Publisher
) -> None:
    """Timers are the server's: they survive kill -9 and keep their body."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    await publisher.timer("answers", "ml-engineer", 1.0, About(task="t1"))
    server.kill()
    await asyncio.to_thread(server.start)
    event = await until(bus, "t1", is_event("timeout"), within_s=20)
    assert event.body == TimedOut(timer="answers")
    names = [read_event(stored).event for stored in await bus.history("t1")]
    assert names == ["submitted", "timeout"]


async def test_setting_a_timer_again_replaces_it(bus: Bus, publisher: Publisher) -> None:
    """One timer a name: an earlier date is forgotten."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    await publisher.timer("answers", "ml-engineer", 1.0, About(task="t1"))
    await publisher.timer("answers", "ml-engineer", 3600.0, About(task="t1"))
    await publisher.timer("deadline", "ml-engineer", 2.0, About(task="t1"))
    event = await until(bus, "t1", is_event("timeout"), within_s=20)
    assert event.body == TimedOut(timer="deadline")


async def test_provisioning_twice_changes_nothing(bus: Bus) -> None:
    """The provisioner may run at every start of every service."""
    before = [await bus.api(f"STREAM.INFO.{config['name']}", {}) for config in streams(bus)]
    await provision(bus)
    after = [await bus.api(f"STREAM.INFO.{config['name']}", {}) for config in streams(bus)]
    assert [info["config"] for info in after] == [info["config"] for info in before]
    assert {durable["durable_name"] for _, durable in durables(bus)} >= {"ml-engineer", "summarizer", "gateway"}


async def test_a_full_store_is_told_as_what_it_is(tmp_path: Path) -> None:
    """The limit is reached: the submitter hears it, nothing older is thrown away."""
    settings = fast_settings("", tmp_path, store_max_bytes=200_000, bus_patience_s=0.2)
    server = EmbeddedServer(tmp_path / "full", settings)
    await server.start()
    bus = await Bus.connect(settings, "test", url=server.url)
    await provision(bus)
    stored = [bus.publish(SUBJECT, b"x" * 1000, {MSG_ID: f"m{number}"}, patient=False) for number in range(400)]
    with pytest.raises(StoreFull, match="the bus has no room to store 'mesh"):
        await asyncio.gather(*stored)
    assert (await bus.history("t1"))[0].seq == 1
    await bus.close()
    await server.stop()


@pytest.fixture
async def restricted(tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus whose user may publish on `allowed.>` only."""
    permissions = 'authorization { users = [ { user: u, password: p, permissions: { publish: ["allowed.>"] } } ] }\n'
    server = NatsServer(tmp_path / "restricted", config=permissions)
    server.start()
    address = server.url.replace("nats://", "nats://u:p@")
    bus = await Bus.connect(fast_settings(address, tmp_path, publish_timeout_s=60.0), "test")
    yield bus
    await bus.close()
    server.stop()


async def test_a_forbidden_publish_is_a_typed_error_at_once(restricted: Bus) -> None:
    """The server says it only in an asynchronous error: it is mapped to the waiting publish."""
    with pytest.raises(Forbidden) as refused:
        await asyncio.wait_for(put(restricted, "m"), 30)
    assert (refused.value.action, refused.value.subject) == ("publish on", SUBJECT)


async def test_nobody_there_is_a_clear_error_in_time(tmp_path: Path) -> None:
    """No server: the address and what to do."""
    settings = fast_settings("nats://127.0.0.1:1", tmp_path, connect_timeout_s=0.5)
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1.*start one"):
        await Bus.connect(settings, "test")


async def test_a_request_that_nobody_answers_says_so(server: NatsServer, settings: Settings) -> None:
    """No responder is told at once, not after a timeout."""
    bus = await Bus.connect(settings, "test")
    assert server.pid
    with pytest.raises(BusUnavailable, match="nobody answers"):
        await asyncio.wait_for(bus.request("mesh.context.get-task-briefing", b"{}", timeout_s=30), 30)
    await bus.close()


async def test_a_missing_stream_is_told_as_what_it_is(server: NatsServer, settings: Settings) -> None:
    """Not provisioned: the message says where to look."""
    bus = await Bus.connect(settings.model_copy(update={"bus_patience_s": 0.1}), "test")
    assert server.pid
    with pytest.raises(BusUnavailable, match="provisioned"):
        await put(bus, "m")
    await bus.close()


async def test_a_cancelled_flush_does_not_make_the_connection_deaf(server: NatsServer, settings: Settings) -> None:
    """The client's read loop ends when a PONG meets a cancelled future: our flush cannot be cancelled that way."""
    bus = await Bus.connect(settings, "test")
    server.pause()
    flushing = asyncio.create_task(bus.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait({flushing})
    server.resume()
    await provision(bus)
    assert (await put(bus, "heard")).seq == 1
    await bus.close()


async def test_closing_does_not_wait_for_a_drain(bus: Bus, settings: Settings) -> None:
    """`drain` can take its whole timeout: closing flushes instead."""
    other = await Bus.connect(settings, "other")
    await other.send("any", b"last words")
    await asyncio.wait_for(other.close(), 30)
    assert other.closed.is_set()
    assert bus.client.is_connected


async def test_spans_of_callbacks_do_not_hang_on_the_span_that_subscribed(bus: Bus, settings: Settings) -> None:
    """Context variables of `subscribe` leak into every callback: an explicit parent is given for each message."""
    traces = telemetry.start("test", settings)
    seen: list[str] = []
    heard = asyncio.Event()

    async def hear(_message: object) -> None:
        with traces.span("callback", parent=""):
            seen.append(telemetry.current_traceparent())
        heard.set()

    with traces.span("subscriber"):
        subscriber = telemetry.current_traceparent()
        end = await bus.subscribe("any", hear)
    await bus.send("any", b"")
    await asyncio.wait_for(heard.wait(), 30)
    await end()
    assert seen[0].split("-")[1] != subscriber.split("-")[1]


@pytest.mark.parametrize("status", ["204", "404", "503"])
async def test_a_header_named_status_does_not_end_a_history(bus: Bus, status: str) -> None:
    """Clients may send any header: the server's own words are told from messages by what they lack."""
    await put(bus, "one")
    await bus.publish("mesh.task.t1.answered.ml-engineer", b"{}", {MSG_ID: "two", "Status": status})
    await put(bus, "three")
    assert [stored.seq for stored in await bus.history("t1")] == [1, 2, 3]


async def test_a_history_begins_with_the_first_submission_whoever_it_was_addressed_to(bus: Bus) -> None:
    """Who reads the task alone and who reads the whole stream see the same beginning."""
    await bus.publish("mesh.task.t1.submitted.wizard", b"{}", {MSG_ID: "w"})
    await bus.publish("mesh.task.t1.failed.wizard", b"{}", {MSG_ID: "f"})
    await put(bus, "again")
    assert [stored.seq for stored in await bus.history("t1")] == [1, 2, 3]


@pytest.mark.parametrize("begun", [1, 2, 3, 99])
async def test_a_history_is_whole_whatever_is_said_of_its_beginning(bus: Bus, begun: int) -> None:
    """Where its executor says that it begins is tried first, and believed where a submission stands there."""
    await bus.publish("mesh.task.t0.submitted.ml-engineer", b"{}", {MSG_ID: "another's"})
    await put(bus, "one")
    await bus.publish("mesh.task.t1.working.ml-engineer", b"{}", {MSG_ID: "two"})
    assert [stored.seq for stored in await bus.history("t1", begun=begun)] == [2, 3]


async def test_a_header_stays_one_header_whatever_it_holds(bus: Bus) -> None:
    """A value cannot end its line, and a name of blanks is none."""
    await bus.publish(SUBJECT, b"{}", {MSG_ID: "one", "said": " a\r\nforged: b ", " ": "nameless"})
    [stored] = await bus.history("t1")
    assert stored.headers == {MSG_ID: "one", "said": "a  forged: b"}
    with pytest.raises(BadHeaderError):
        await bus.client.publish("any", b"", headers={"a: b\r\nforged": "c"})


async def test_a_payload_that_lost_its_chunks_is_malformed_at_once(bus: Bus) -> None:
    """The object store's own reading waits for them for ever."""
    await put(bus, "large", b"x" * 400_000)
    raw = await bus.client.jetstream().get_msg(subjects.TASKS, 1)
    await bus.api(f"STREAM.PURGE.OBJ_{subjects.PAYLOADS_BUCKET}", {"filter": f"$O.{subjects.PAYLOADS_BUCKET}.C.>"})
    with pytest.raises(Malformed, match="digests differ"):
        await asyncio.wait_for(bus.whole(checked(raw.data or b"")), 30)


async def test_a_claim_check_on_another_bucket_is_malformed(bus: Bus) -> None:
    """Nobody is led to other buckets, nor to names that are none."""
    claim = b'{"bucket":"else where","name":"x","digest":"sha256:0","size":1}'
    with pytest.raises(Malformed, match="is not 'mesh-payloads'"):
        await asyncio.wait_for(bus.whole(checked(claim)), 30)


async def test_news_that_cannot_be_read_are_not_looked_for_for_ever(bus: Bus, settings: Settings) -> None:
    """A refusal says that something is there; when it is gone by now, only a fold from the start helps."""
    await put(bus, "one")
    hasty = await Bus.connect(settings.model_copy(update={"bus_patience_s": 0.3}), "hasty")
    with pytest.raises(BusUnavailable, match="'t1' is not at 1 any more"):
        await hasty.news("t1", after=1)
    await hasty.close()


async def test_a_core_publish_that_finds_no_room_is_a_typed_error(bus: Bus, server: NatsServer) -> None:
    """While the bus is away the client keeps two megabytes."""
    server.kill()
    await eventually(lambda: _is_away(bus))

    async def flood() -> None:
        for _ in range(30):
            await bus.send("any", b"x" * 100_000)

    with pytest.raises(BusUnavailable, match="away"):
        await flood()
    server.start()


async def test_closing_a_connection_that_is_lost_is_no_error(settings: Settings, server: NatsServer) -> None:
    """A service that is told to end while the bus is away ends."""
    bus = await Bus.connect(settings, "test")
    server.kill()
    await eventually(lambda: _is_away(bus))
    await bus.send("any", b"last words")
    await asyncio.wait_for(bus.close(), 30)
    assert bus.closed.is_set()


async def _is_away(bus: Bus) -> bool:
    return not bus.client.is_connected


@pytest.mark.parametrize("refusal", ["reset", "half"])
def test_a_server_that_breaks_off_is_asked_again(
    server: NatsServer, settings: Settings, refusal: Literal["reset", "half"]
) -> None:
    """At the first connection and at any later one; uvloop, on which services run, has an error of its own for it."""

    async def talk() -> None:
        async with wire_to(server.port) as wire:
            wire.refusals.append(refusal)
            bus = await Bus.connect(settings, "test", url=wire.url)
            await provision(bus)
            wire.refusals.append(refusal)
            wire.cut()
            assert (await put(bus, "heard")).seq == 1
            assert wire.refusals == []
            await bus.close()

    uvloop.run(asyncio.wait_for(talk(), 20))


async def test_connecting_ends_in_time_when_a_cancellation_is_swallowed() -> None:
    """As the client does when it meets a connection that is being lost: it is told again."""

    async def connect() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_within(0.05, connect(), asyncio.get_running_loop().create_future()), 30)
