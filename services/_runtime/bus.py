"""The bus: the one place that talks NATS. Publish with compare-and-set, read histories, timers, objects.

What callers can rely on:
- a publish to a stream is stored once or raises: every try carries the same message id, a try without an
  answer is repeated until `bus_patience_s` is over, and a duplicate counts as stored;
- compare-and-set is checked before the message id: `WrongSequence` after a lost answer can mean that one's own
  message is there (the journal looks for its id);
- a forbidden subject raises `Forbidden` at once instead of timing out;
- bodies over `claim_check_bytes` travel through the object store, readers get them back whole.

Left out: consuming (consumer.py), what events mean (contracts/task.py).
"""

import asyncio
import contextlib
import hashlib
import json
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ObjectInfo
from nats.js.errors import NotFoundError, ObjectNotFoundError

from contracts import subjects
from contracts.envelope import MSG_ID, Stored
from services._runtime.errors import (
    BusUnavailable,
    Forbidden,
    Malformed,
    Misconfigured,
    NobodyAnswers,
    NoStream,
    TooLarge,
    WrongSequence,
)
from services._runtime.settings import Settings

EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
CLAIM_CHECK: Final = "mesh-claim-check"
SCHEDULE: Final = "Nats-Schedule"
SCHEDULE_TARGET: Final = "Nats-Schedule-Target"

API_LEVEL: Final = 4
"""JetStream API level of nats-server 2.14: older servers silently ignore schedules and atomic batches."""
_WRONG_SEQUENCE: Final = {10071, 10164}
_STORE_FULL: Final = {10023, 10047, 10077, 10122}
"""Insufficient resources, no storage left, maximum bytes, store failed: may pass."""
_HEADROOM: Final = 4096
"""Bytes of max_payload kept free: the client's own check ignores headers and then loses the connection."""
_OF_THE_ANSWER: Final = {"Nats-Stream", "Nats-Num-Pending", "Nats-Last-Sequence"}
"""Headers of a direct get that are not the message's own."""
_BATCH: Final = 256
_RECONNECT_S: Final = 0.5
_FLUSH_S: Final = 120
"""Seconds. The client drops a connection after three ping intervals (10 s) without an answer."""
_DENIED = re.compile(r'permissions violation for (publish|subscription) to "?([^"\s]+)"?', re.IGNORECASE)

T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Ack:
    """The server's word that a message is stored."""

    stream: str
    seq: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Expect:
    """Compare-and-set: the newest message on `filter` must have this sequence (0: there is none)."""

    filter: str
    seq: int


class _Client(Client):
    """The library's client, which keeps on connecting whatever happens in between.

    It knows OSError alone. Under uvloop writing to a connection that was just reset is a RuntimeError, and half a
    greeting is a ValueError: either would end its reconnecting without a word, neither connected nor closed for good.
    """

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except (RuntimeError, ValueError) as error:
            raise ConnectionResetError(f"the connection was lost while it was made: {error}") from error


@dataclass(slots=True)
class _Waiter:
    subject: str
    answer: asyncio.Future[Msg]


@dataclass(slots=True)
class Bus:
    """A connection. Made by `connect`, ended by `close`."""

    client: Client
    settings: Settings
    service: str
    closed: asyncio.Event
    _inbox: str
    _waiting: dict[str, _Waiter] = field(default_factory=dict[str, _Waiter])
    _next: int = 0
    _flushing: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    @classmethod
    async def connect(cls, settings: Settings, service: str, *, url: str = "") -> "Bus":
        """A connected bus. Raises BusUnavailable without a server in time."""
        address = url or settings.nats_url
        client = _Client()
        bus = cls(client, settings, service, asyncio.Event(), f"_INBOX_{service}.{new_nonce()}")
        try:
            await _within(
                settings.connect_timeout_s,
                client.connect(
                    address,
                    name=service,
                    inbox_prefix=f"_INBOX_{service}".encode(),
                    connect_timeout=2,
                    reconnect_time_wait=_RECONNECT_S,  # pyright: ignore[reportArgumentType] - a float works
                    max_reconnect_attempts=-1,
                    ping_interval=10,
                    error_cb=bus._failed,
                    closed_cb=bus._ended,
                    disconnected_cb=_disconnected,
                    reconnected_cb=_reconnected,
                ),
            )
        except (TimeoutError, NatsError, OSError) as error:
            with contextlib.suppress(NatsError, OSError, RuntimeError):
                await client.close()
            raise BusUnavailable(
                f"no NATS server answers at {address}: start one, or unset NATS_URL to use the embedded server"
            ) from error
        await client.subscribe(f"{bus._inbox}.*", cb=bus._heard)
        return bus

    async def publish(
        self, subject: str, body: bytes, headers: Mapping[str, str], *, expect: Expect | None = None
    ) -> Ack:
        """Stores a message once. `headers` must hold Nats-Msg-Id: it is what makes a retry safe.

        Raises: WrongSequence, TooLarge, Forbidden; BusUnavailable when patience is over: stored or not is unknown.
        """
        if MSG_ID not in headers:
            raise Misconfigured(f"a message on {subject!r} has no {MSG_ID}: a retry could store it twice")
        sent = dict(headers)
        if len(body) > self.settings.claim_check_bytes:
            body = await self._check_in(body)
            sent[CLAIM_CHECK] = "1"
        if expect is not None:
            sent |= {EXPECTED_SEQUENCE: str(expect.seq), EXPECTED_SUBJECT: expect.filter}
        return await self._patiently(lambda: self._store(subject, body, sent))

    async def send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publishes on core NATS: at most once, nobody may hear it. Raises BusUnavailable, TooLarge."""
        self._guard(subject, body, headers or {})
        try:
            await self.client.publish(subject, body, headers=dict(headers) if headers else None)
        except NatsError as error:
            raise BusUnavailable(f"the bus is away: {error}") from error
        reraise_cancellation()

    async def request(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float
    ) -> Msg:
        """One answer to a request. Raises NobodyAnswers at once, BusUnavailable without an answer in time."""
        self._guard(subject, body, headers or {})
        message = await self._call(subject, body, headers or {}, timeout_s)
        if (message.headers or {}).get("Status") == "503":
            raise NobodyAnswers(subject)
        return message

    async def history(self, task: str, *, after: int = 0) -> list[Stored]:
        """Every stored event of a task with a sequence above `after`, in order, as `read` gives them."""
        first = after + 1 if after else await self._first_sequence(task)
        if first == 0:
            return []
        return await self.read(subjects.TASKS, subjects.task_history(task), first)

    async def news(self, task: str, *, after: int) -> list[Stored]:
        """What was written above `after`, once a compare-and-set that expected `after` was refused.

        Raises BusUnavailable when nothing can be read there within patience: the replica that answers is behind, or
        what stood last is gone (expired, removed), and only a fold from the start can say what to expect.
        """

        async def look() -> list[Stored]:
            found = await self.history(task, after=after)
            if not found:
                raise BusUnavailable(f"task {task!r} is not at {after} any more, and nothing newer can be read")
            return found

        return await self._patiently(look)

    async def read(self, stream: str, subject_filter: str, first: int) -> list[Stored]:
        """Messages of a stream from sequence `first` on, by batched direct get; bodies as `readable` gives them."""
        return [await self.readable(stored) for stored in await self._read(stream, subject_filter, first)]

    async def get(self, stream: str, seq: int) -> Stored | None:
        """One stored message, its body as `readable` gives it, or None when it is gone."""
        answer = await self._patiently(lambda: self._direct(stream, {"seq": seq}))
        return None if answer is None else await self.readable(_stored(stream, answer))

    async def subjects_of(self, stream: str, subject_filter: str) -> dict[str, int]:
        """Subject -> number of stored messages. Makes no consumer. Raises NoStream."""
        found: dict[str, int] = {}
        while True:
            wanted = {"subjects_filter": subject_filter, "offset": len(found)}
            try:
                page = await self.api(f"STREAM.INFO.{stream}", wanted)
            except NotFoundError as error:
                raise NoStream(stream) from error
            names: dict[str, int] = page["state"].get("subjects") or {}
            found.update(names)
            if not names or len(found) >= page.get("total", 0):
                return found

    async def schedule(
        self, task: str, name: str, at: datetime, *, target: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """A message that the server publishes on `target` at `at`; the same name again replaces it.

        Schedules are of whole seconds: it is never early, at most a second late.
        """
        due = (at + timedelta(microseconds=999_999)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await self.publish(
            subjects.timer(task, name), body, {**headers, SCHEDULE: f"@at {due}", SCHEDULE_TARGET: target}
        )

    async def subscribe(
        self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        """A core subscription; returns how to end it. Callbacks run one after the other: they must be short."""
        subscription = await self.client.subscribe(subject, queue=queue, cb=heard)

        async def end() -> None:
            if not self.client.is_closed:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

        return end

    async def api(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A JetStream API call. Raises NotFoundError, Transient or Misconfigured as the server says."""
        return await self._patiently(lambda: self._api(call, body))

    async def whole(self, stored: Stored) -> Stored:
        """The message with its real body: claim checks are redeemed. Raises Malformed for a bad claim check."""
        if CLAIM_CHECK not in stored.headers:
            return stored
        return replace(stored, data=await self._redeem(stored.data))

    async def readable(self, stored: Stored) -> Stored:
        """As `whole`, but without a body where the claim check is bad: nobody's history ends at such a message."""
        try:
            return await self.whole(stored)
        except Malformed as error:
            log.warning("bus.payload_lost", subject=stored.subject, stream_seq=stored.seq, reason=str(error))
            return replace(stored, data=b"")

    async def flush(self) -> None:
        """Returns when the server has seen everything that was sent, or after 2 s.

        The client's flush must never be cancelled or time out on a living connection: the late PONG would then
        meet a cancelled future and end the read loop, and the connection would be deaf. So it runs on its own,
        longer than a connection without PONGs lives.
        """
        flushing = asyncio.create_task(self.client.flush(timeout=_FLUSH_S))
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushed)
        await asyncio.wait({flushing}, timeout=2)

    @property
    def connections(self) -> int:
        """How often the connection was made anew: what the server had sent on the one before may be lost."""
        return self.client.stats["reconnects"]

    @property
    def version(self) -> str:
        """The server's version, such as 2.14.0."""
        found = self.client.connected_server_version
        return f"{found.major}.{found.minor}.{found.patch}"

    async def close(self) -> None:
        """Flushes and closes. `drain` is left out: it can take its whole timeout."""
        if not self.client.is_closed:
            if self.client.is_connected:
                await self.flush()
            with contextlib.suppress(RuntimeError, OSError):  # a connection that is lost takes no last words
                await self.client.close()
            self.closed.set()

    async def _store(self, subject: str, body: bytes, headers: Mapping[str, str]) -> Ack:
        self._guard(subject, body, headers)
        message = await self._call(subject, body, headers, self.settings.publish_timeout_s)
        if (message.headers or {}).get("Status") == "503":
            raise BusUnavailable(f"no stream takes {subject!r}: are the streams provisioned, is JetStream on?")
        answer = json.loads(message.data)
        if "error" in answer:
            raise _publish_error(subject, answer["error"])
        return Ack(answer["stream"], answer["seq"], bool(answer.get("duplicate")))

    async def _call(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Msg:
        """A request on our own inbox: a refusal by the server's permissions ends it at once."""
        self._next += 1
        token = str(self._next)
        waiter = _Waiter(subject, asyncio.get_running_loop().create_future())
        self._waiting[token] = waiter
        try:
            async with asyncio.timeout(timeout_s):
                await self.client.publish(
                    subject, body, reply=f"{self._inbox}.{token}", headers=dict(headers) if headers else None
                )
                reraise_cancellation()
                return await waiter.answer
        except TimeoutError as error:
            raise BusUnavailable(f"no answer on {subject!r} within {timeout_s:g} s") from error
        except NatsError as error:
            raise BusUnavailable(f"the bus is away: {error}") from error
        finally:
            del self._waiting[token]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats an attempt that found the bus away, with full jitter, until patience is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.bus_patience_s
        tries = 0
        while True:
            try:
                return await attempt()
            except BusUnavailable:
                tries += 1
                pause = random.uniform(0.02, min(2.0, 0.1 * 2**tries))  # noqa: S311 - jitter
                if self.closed.is_set() or loop.time() + pause > until:
                    raise
                await asyncio.sleep(pause)

    async def _api(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        message = await self._call(f"$JS.API.{call}", json.dumps(body).encode(), {}, self.settings.publish_timeout_s)
        if (message.headers or {}).get("Status") == "503":
            raise BusUnavailable("JetStream does not answer: is it enabled on the server?")
        answer = json.loads(message.data)
        if "error" in answer:
            raise _api_error(call, answer["error"])
        return answer

    async def _first_sequence(self, task: str) -> int:
        """Where a task's history begins; 0 when there is none.

        A literal subject is found through the stream's index, a scan for the task's wildcard from sequence 1
        is not: the first event is the first `submitted`, whoever it was addressed to.
        """
        wanted = {"multi_last": [subjects.task_events_named(task, "submitted")], "batch": _BATCH}
        last, _ = await self._patiently(lambda: self._batch(subjects.TASKS, wanted))
        found = [await self._first_on(subjects.TASKS, stored.subject) for stored in last]
        return min((seq for seq in found if seq), default=0)

    async def _first_on(self, stream: str, subject: str) -> int:
        """Sequence of the first message on a literal subject; 0 when there is none."""
        answer = await self._patiently(lambda: self._direct(stream, {"seq": 1, "next_by_subj": subject}))
        return int((answer.headers or {})["Nats-Sequence"]) if answer is not None else 0

    async def _direct(self, stream: str, wanted: Mapping[str, Any]) -> Msg | None:
        message = await self._call(
            f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), {}, self.settings.publish_timeout_s
        )
        if _is_stored(message):
            return message
        if (message.headers or {}).get("Status") == "404":
            return None
        raise BusUnavailable(f"stream {stream} cannot be read: {_description(message)}")

    async def _read(self, stream: str, subject_filter: str, first: int) -> list[Stored]:
        """As `read`, bodies as they are stored."""
        found: list[Stored] = []
        while True:
            start = found[-1].seq + 1 if found else first
            wanted = {"seq": start, "next_by_subj": subject_filter, "batch": _BATCH}
            batch, pending = await self._patiently(partial(self._batch, stream, wanted))
            found.extend(batch)
            if not pending or not batch:
                return found

    async def _batch(self, stream: str, wanted: Mapping[str, Any]) -> tuple[list[Stored], int]:
        """One batch of messages, as they are stored, and how many are left after it."""
        if not self.client.is_connected:
            raise BusUnavailable("the bus is away")  # the client would forget to take the subscription back
        self._next += 1
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = f"{self._inbox}.batch.{self._next}"
        subscription = await self.client.subscribe(inbox, cb=queue.put)
        try:
            async with asyncio.timeout(self.settings.publish_timeout_s):
                await self.client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), reply=inbox)
                reraise_cancellation()
                return await self._collect(stream, queue)
        except TimeoutError as error:
            raise BusUnavailable(f"stream {stream} was not read in time") from error
        except NatsError as error:
            raise BusUnavailable(f"the bus is away: {error}") from error
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _collect(self, stream: str, queue: "asyncio.Queue[Msg]") -> tuple[list[Stored], int]:
        found: list[Stored] = []
        while True:
            message = await queue.get()
            if _is_stored(message):
                found.append(_stored(stream, message))
            elif (message.headers or {}).get("Status") in {"204", "404"}:
                return found, int((message.headers or {}).get("Nats-Num-Pending", 0))
            else:
                raise BusUnavailable(f"stream {stream} cannot be read: {_description(message)}")

    async def _check_in(self, body: bytes) -> bytes:
        """Puts a large body into the object store under its digest; returns the claim check."""
        digest = hashlib.sha256(body).hexdigest()

        async def put() -> None:
            store = await self.client.jetstream().object_store(subjects.PAYLOADS_BUCKET)
            try:
                await store.get_info(digest)
            except ObjectNotFoundError:
                await store.put(digest, body)

        await self._patiently(lambda: _typed(put))
        claim = {"bucket": subjects.PAYLOADS_BUCKET, "name": digest, "digest": f"sha256:{digest}", "size": len(body)}
        return json.dumps(claim, separators=(",", ":")).encode()

    async def _redeem(self, claim: bytes) -> bytes:
        try:
            wanted = json.loads(claim)
            bucket, name, digest = str(wanted["bucket"]), str(wanted["name"]), str(wanted["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed(f"not a claim check {{bucket, name, digest, size}}: {error}") from error
        if bucket != subjects.PAYLOADS_BUCKET:
            raise Malformed(f"bucket {bucket!r} of a claim check is not {subjects.PAYLOADS_BUCKET!r}")

        async def look() -> ObjectInfo:
            return await (await self.client.jetstream().object_store(bucket)).get_info(name)

        try:
            about = await self._patiently(lambda: _typed(look))
        except (ObjectNotFoundError, NotFoundError) as error:
            raise Malformed(f"the payload {name!r} of a claim check is not in bucket {bucket!r}") from error
        # Not by the store's own `get`: it waits for ever for chunks that are gone.
        chunks = await self._read(f"OBJ_{bucket}", f"$O.{bucket}.C.{about.nuid}", 1)
        body = b"".join(chunk.data for chunk in chunks)
        if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            raise Malformed(f"the payload {name!r} is not what its claim check says: digests differ")
        return body

    async def _failed(self, error: Exception) -> None:
        """The server's asynchronous errors: the only place where it says that a subject is forbidden."""
        log.warning("bus.error", error=str(error) or type(error).__name__)
        denied = _DENIED.search(str(error))
        if denied is None:
            return
        action = "publish on" if denied.group(1).lower() == "publish" else "subscribe to"
        for waiter in self._waiting.values():
            if waiter.subject.lower() == denied.group(2).lower() and not waiter.answer.done():
                waiter.answer.set_exception(Forbidden(action=action, subject=waiter.subject))

    async def _heard(self, message: Msg) -> None:
        waiter = self._waiting.get(message.subject.rsplit(".", 1)[1])
        if waiter is not None and not waiter.answer.done():
            waiter.answer.set_result(message)

    def _flushed(self, flushing: "asyncio.Task[None]") -> None:
        self._flushing.discard(flushing)
        if not flushing.cancelled():
            flushing.exception()  # seen: a connection that went away cannot be flushed

    def _guard(self, subject: str, body: bytes, headers: Mapping[str, str]) -> None:
        size = len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items())
        limit = self.client.max_payload - _HEADROOM
        if size > limit:
            raise TooLarge(subject=subject, size=size, limit=limit)

    async def _ended(self) -> None:
        """The client gave up for good: the process must end, something outside starts it again."""
        self.closed.set()


async def check_level(bus: Bus) -> None:
    """Raises Misconfigured when the server lacks what the mesh stands on."""
    try:
        about = await bus.api("INFO", {})
    except BusUnavailable as error:
        raise Misconfigured(
            f"JetStream is not available at {bus.client.connected_url}: start nats-server with -js ({error})"
        ) from error
    api: dict[str, Any] = about.get("api") or {}
    level = int(api.get("level", 0))
    if level < API_LEVEL:
        raise Misconfigured(
            f"nats-server {bus.version} has JetStream API level {level}, the mesh needs"
            f" {API_LEVEL} (nats-server 2.14 or newer): upgrade the server"
        )


async def _disconnected() -> None:
    log.warning("bus.disconnected")


async def _reconnected() -> None:
    log.info("bus.reconnected")


def new_nonce() -> str:
    """Letters and digits that no other connection has."""
    return secrets.token_hex(8)


async def _within(limit_s: float, connecting: Coroutine[Any, Any, None]) -> None:
    """Raises TimeoutError when it takes longer. A cancellation that meets a lost connection is swallowed: ask again."""
    task = asyncio.create_task(connecting)
    try:
        await asyncio.wait({task}, timeout=limit_s)
        if not task.done():
            raise TimeoutError
        task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)


async def _typed(call: Callable[[], Awaitable[T]]) -> T:
    """Runs a call of the client library; its connection errors become ours."""
    try:
        return await call()
    except (ObjectNotFoundError, NotFoundError):
        raise
    except (NatsError, TimeoutError, OSError) as error:
        raise BusUnavailable(f"the bus is away: {error or type(error).__name__}") from error


def reraise_cancellation() -> None:
    """The client swallows a cancellation under back-pressure: ask the task itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _publish_error(subject: str, error: Mapping[str, Any]) -> Exception:
    code, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if code in _WRONG_SEQUENCE:
        return WrongSequence(f"{subject}: {text}")
    if code in _STORE_FULL or int(error.get("code", 0)) >= 500:
        return BusUnavailable(f"the stream cannot store {subject!r} now: {text}")
    return Misconfigured(f"the stream refuses {subject!r}: {text} (error {code})")


def _api_error(call: str, error: Mapping[str, Any]) -> Exception:
    text = f"{call}: {error.get('description', '')}"
    if int(error.get("code", 0)) == 404:
        return NotFoundError(code=404, description=text, err_code=error.get("err_code"))
    if int(error.get("code", 0)) >= 500:
        return BusUnavailable(text)
    return Misconfigured(f"{text} (error {error.get('err_code')})")


def _is_stored(message: Msg) -> bool:
    """True for a message out of a stream. Its publisher may have given it any header, `Status` too."""
    return "Nats-Sequence" in (message.headers or {})


def _description(message: Msg) -> str:
    headers = message.headers or {}
    return f"{headers.get('Status')} {headers.get('Description', '')}".strip()


def _stored(stream: str, message: Msg) -> Stored:
    headers = dict(message.headers or {})
    return Stored(
        stream=stream,
        seq=int(headers.pop("Nats-Sequence")),
        subject=headers.pop("Nats-Subject"),
        time=moment(headers.pop("Nats-Time-Stamp")),
        headers={name: value for name, value in headers.items() if name not in _OF_THE_ANSWER},
        data=message.data,
    )


def moment(text: str) -> datetime:
    """A server's RFC 3339 time stamp, to the microsecond: Go writes nine digits."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
