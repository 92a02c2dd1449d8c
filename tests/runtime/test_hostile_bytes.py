"""What no client library sends: bytes that would end a reader's connection, each time that they come again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from contracts import subjects
from contracts.envelope import Stored
from services._runtime.bus import CLAIM_CHECK, Bus
from services._runtime.consumer import PullConsumer
from services._runtime.errors import Malformed, Permanent
from services._runtime.settings import Settings
from services._runtime.workspace import inside, resolve
from tests.chaos.raw import RawPublisher
from tests.conftest import fast_settings


@asynccontextmanager
async def raw(settings: Settings) -> AsyncGenerator[RawPublisher]:
    """A publisher that writes the protocol itself."""
    found = RawPublisher(settings.nats_url)
    await found.open()
    yield found
    await found.close()


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        (b"mesh.system.\xff\xfe.trained", b""),
        (b"mesh.system.s.trained", b"x"),
        (b"mesh.system.s.trained", b"NATS/1.0 \xff\xff\xff \xfe\r\n\r\n"),
        (b"mesh.system.s.trained", b"NATS/1.0\r\nx: \xff\r\n\r\n"),
    ],
)
async def test_a_message_that_is_no_text_is_read_with_a_mark(
    bus: Bus, settings: Settings, subject: bytes, headers: bytes
) -> None:
    """The connection lives: one such message would make everybody deaf who is to get it."""
    async with raw(settings) as publisher:
        assert await publisher.publish(subject, headers, b"body", within_s=5) is not None
    stop, heard = asyncio.Event(), list[tuple[bytes, str]]()
    consumer = PullConsumer(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE)
    async for delivery in consumer.run(stop):
        heard.append((delivery.stored.data, delivery.stored.subject))
        await delivery.ack()
        stop.set()
    assert heard == [(b"body", subject.decode(errors="replace"))]
    assert bus.connections == 0
    assert [stored.data for stored in await bus.read(subjects.SYSTEMS, subjects.ALL_SYSTEMS, 1)] == [b"body"]


@pytest.mark.parametrize("claim", [b"[" * 100_000, b'{"bucket":' * 50_000, b"\xff", b"null", b"9" * 10_000])
async def test_a_claim_check_of_any_bytes_is_malformed_and_ends_no_history(bus: Bus, claim: bytes) -> None:
    """Nested deeply enough it would be a failure of the reader itself, and of every reader of that history."""
    await bus.client.request("mesh.task.t1.submitted.ml-engineer", claim, timeout=5, headers={CLAIM_CHECK: "1"})
    [stored] = await bus.history("t1")
    assert stored.data == b""
    with pytest.raises(Malformed):
        await bus.whole(_claiming(stored, claim))


def _claiming(stored: Stored, claim: bytes) -> Stored:
    return Stored(
        stream=stored.stream,
        seq=stored.seq,
        subject=stored.subject,
        time=stored.time,
        headers={CLAIM_CHECK: "1"},
        data=claim,
    )


async def test_removing_what_is_gone_is_no_error(bus: Bus) -> None:
    """The server calls it a failure, of one kind for a gap and of another for an empty stream."""
    await bus.delete(subjects.SYSTEMS, 77)
    for _ in range(3):
        await bus.client.request("mesh.system.s.trained", b"{}", timeout=5)
    await asyncio.gather(*(bus.delete(subjects.SYSTEMS, 2) for _ in range(4)))
    await bus.delete(subjects.SYSTEMS, 2)
    assert [stored.seq for stored in await bus.read(subjects.SYSTEMS, subjects.ALL_SYSTEMS, 1)] == [1, 3]


@pytest.mark.parametrize("reference", ["/a\0b", "file://[/x", "/" + "w" * 5000, "file:///%00", "/\udcff"])
def test_a_workspace_that_no_path_can_be_is_refused(reference: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the same kind of error as one that is not there: a header may hold anything."""
    directory = tmp_path_factory.mktemp("roots")
    settings = fast_settings("nats://127.0.0.1:1", directory).model_copy(update={"workspace_roots": "/"})
    with pytest.raises(Permanent):
        resolve(reference, settings)
    if not reference.startswith("file"):
        with pytest.raises(Permanent):
            inside(directory, f"../{reference}")


async def test_large_messages_are_read_a_few_at_a_time(bus: Bus) -> None:
    """A page has a limit in bytes too: a history of the largest messages is read all the same, and in order."""
    for number in range(20):
        await bus.client.request("mesh.system.s.trained", b"%02d" % number + b"x" * 1_000_000, timeout=5)
    pages = [page async for page in bus.pages(subjects.SYSTEMS, subjects.ALL_SYSTEMS)]
    assert max(len(page) for page in pages) < 10
    assert [int(stored.data[:2]) for page in pages for stored in page] == list(range(20))
