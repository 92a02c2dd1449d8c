"""The bus: the one place that talks NATS. Publish with compare-and-set, read histories, timers, objects.

What callers can rely on:
- a publish to a stream is stored once or raises: every try carries the same message id, a try without an
  answer is repeated until `bus_patience_s` is over, and a duplicate counts as stored;
- compare-and-set is checked before the message id: `WrongSequence` after a lost answer can mean that one's own
  message is there (the journal looks for its id);
- a server without room is waited for as long as it takes, since it loses nothing, unless the caller is not patient:
  whoever submits something is told at once;
- a forbidden subject raises `Forbidden` at once instead of timing out;
- bodies over `claim_check_bytes` travel through the object store, readers get them back whole.

Left out: consuming (consumer.py), what events mean (contracts/task.py).
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from contracts import permissions, subjects
from contracts.envelope import EXPECTED_SEQUENCE, MSG_ID, READ_ANSWER, Stored
from services._runtime import credentials
from services._runtime.client import COPIED, BusClient
from services._runtime.errors import (
    BusUnavailable,
    Forbidden,
    Malformed,
    Misconfigured,
    NobodyAnswers,
    NoStream,
    StoreFull,
    TooLarge,
    WrongSequence,
)
from services._runtime.settings import Settings

EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
CLAIM_CHECK: Final = "mesh-claim-check"
SCHEDULE: Final = "Nats-Schedule"
SCHEDULE_TARGET: Final = "Nats-Schedule-Target"
SCHEDULE_TTL: Final = "Nats-Schedule-TTL"

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
_BATCH_BYTES: Final = 8 * 2**20
"""Of one page of a stream: many readers at once must not make the server hold what they cannot take yet."""
_REMEMBERED: Final = 4096
"""Tasks of which it is remembered where they begin."""
_SILENT_SOURCE_NS: Final = 5_000_000_000
"""A source that says nothing for so long is lost: the server hears from each once a second."""
_DUE_KEPT: Final = "1h"
"""How long what was due is kept beside its copy in TASKS."""
_RECONNECT_S: Final = 0.5
_FLUSH_S: Final = 120
"""Seconds. The client drops a connection after three ping intervals (10 s) without an answer."""
_CHUNK: Final = 128 * 1024
"""Bytes of a piece in the object store, as its other clients have it."""
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


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """Somebody who publishes on a subject, or subscribes to it, and must hear when the server forbids it."""

    subject: str
    told: Callable[[Forbidden], None]


class _Asked(NamedTuple):
    """A call that has no answer yet."""

    subject: str
    answer: "asyncio.Future[Msg]"


@dataclass(slots=True)
class Bus:
    """A connection. Made by `connect`, ended by `close`."""

    client: BusClient
    settings: Settings
    service: str
    closed: asyncio.Event
    _inbox: str
    no_room: str = ""
    """Why something waits to be stored, and what to do; empty: nothing does."""
    on_reconnect: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called once the connection was made anew: what core subscriptions missed meanwhile, nobody says again."""
    _waiting: dict[str, "_Asked"] = field(default_factory=dict[str, "_Asked"])
    _uses: set[_Use] = field(default_factory=set[_Use])
    _refused: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Fails when the server refuses the connection itself."""
    _reading: dict[str, "asyncio.Queue[Msg | Forbidden]"] = field(
        default_factory=dict[str, "asyncio.Queue[Msg | Forbidden]"]
    )
    _next: int = 0
    _firsts: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Task -> where it begins, and in which connection that was seen: a new server may have another stream."""
    _flushing: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    @classmethod
    async def connect(cls, settings: Settings, service: str, *, url: str = "") -> "Bus":
        """A connected bus. The key file that the settings name says in whose role.

        Raises: BusUnavailable without a server in time; Misconfigured when the server refuses who asks, and for a key
        or certificate that cannot be read.
        """
        address, tls = url or settings.nats_url, credentials.tls_of(settings)
        client = BusClient(settings)
        own = permissions.inbox(credentials.role_of(settings, service))
        bus = cls(client, settings, service, asyncio.Event(), f"{own}.{new_nonce()}")
        try:
            await _within(
                settings.connect_timeout_s,
                client.connect(
                    address,
                    name=service,
                    inbox_prefix=own.encode(),
                    signature_cb=client.sign if settings.nkey_file is not None else None,
                    tls=tls,
                    connect_timeout=2,
                    reconnect_time_wait=_RECONNECT_S,  # pyright: ignore[reportArgumentType] - a float works
                    max_reconnect_attempts=-1,
                    ping_interval=10,
                    error_cb=bus._failed,
                    closed_cb=bus._ended,
                    disconnected_cb=_disconnected,
                    reconnected_cb=bus._reconnected,
                ),
                bus._refused,
            )
            await client.hear_at_once(f"{bus._inbox}.*", bus._heard)
        except (TimeoutError, NatsError, OSError) as error:
            await _dropped(client)
            raise BusUnavailable(
                f"no NATS server answers at {address}: start one, or unset NATS_URL to use the embedded server"
            ) from error
        except Misconfigured:
            await _dropped(client)
            raise
        return bus

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        expect: Expect | None = None,
        patient: bool = True,
    ) -> Ack:
        """Stores a message once. `headers` must hold Nats-Msg-Id: it is what makes a retry safe.

        Raises: WrongSequence, TooLarge, Forbidden; StoreFull unless `patient`; BusUnavailable when patience is over:
        stored or not is unknown.
        """
        if MSG_ID not in headers:
            raise Misconfigured(f"a message on {subject!r} has no {MSG_ID}: a retry could store it twice")
        sent = dict(headers)
        if len(body) > self.settings.claim_check_bytes:
            body = await self._check_in(body, patient=patient)
            sent[CLAIM_CHECK] = "1"
        if expect is not None:
            sent |= {EXPECTED_SEQUENCE: str(expect.seq), EXPECTED_SUBJECT: expect.filter}
        return await self._patiently(lambda: self._store(subject, body, sent), through_full=patient)

    async def send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Publishes on core NATS: at most once, nobody may hear it. Raises BusUnavailable, TooLarge, Forbidden.

        Where the server has permissions, its word is waited for, since it speaks only to forbid; not for an answer to
        a request, which whoever was asked may give.
        """
        self._guard(subject, body, headers or {})
        if not self.client.guarded or subject.startswith("_INBOX"):
            await self._said(subject, body, headers)
            return
        refused: list[Forbidden] = []
        with self.using(subject, refused.append):
            await self._said(subject, body, headers)
            await self.flush()
        if refused:
            raise refused[0]

    async def _said(self, subject: str, body: bytes, headers: Mapping[str, str] | None) -> None:
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

    async def history(self, task: str, *, after: int = 0, agent: str = "", begun: int = 0) -> list[Stored]:
        """Every stored event of a task with a sequence above `after`, in order, as `read` gives them.

        `agent`, whose task it probably is, and `begun`, where its history probably begins, spare looks at the stream.
        """
        everything = subjects.task_history(task)
        if after:
            return await self.read(subjects.TASKS, everything, after + 1)
        known = self._firsts.get(task)
        if known is not None and known[1] == self.connections:
            found = await self.read(subjects.TASKS, everything, known[0])
            if found:
                return found
            del self._firsts[task]  # the stream of then is no more
        elif begun:
            found = await self.read(subjects.TASKS, everything, begun)
            if found and found[0].seq == begun and found[0].subject.split(".")[3] == "submitted":
                return found
        first = await self.first_sequence(task, agent=agent)
        return await self.read(subjects.TASKS, everything, first) if first else []

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

    async def pages(
        self, stream: str, subject_filter: str, *, first: int = 1, since: datetime | None = None
    ) -> AsyncGenerator[list[Stored]]:
        """Messages of a stream, some hundred at a time and bodies as they are stored: for what is too much to hold.

        From sequence `first` on, or from the time `since`.
        """
        start: dict[str, Any] = {"seq": first} if since is None else {"start_time": since.isoformat()}
        while True:
            wanted = {**start, "next_by_subj": subject_filter, "batch": _BATCH, "max_bytes": _BATCH_BYTES}
            batch, pending = await self._patiently(partial(self._batch, stream, wanted))
            if batch:
                yield batch
            if not pending or not batch:
                return
            start = {"seq": batch[-1].seq + 1}

    async def get(self, stream: str, seq: int) -> Stored | None:
        """One stored message, its body as `readable` gives it, or None when it is gone."""
        answer = await self._patiently(lambda: self._direct(stream, {"seq": seq}))
        return None if answer is None else await self.readable(_stored(stream, answer))

    async def newest(self, stream: str, subject: str) -> Stored | None:
        """The newest message on a subject, its body as it is stored, or None when there is none."""
        answer = await self._patiently(lambda: self._direct(stream, {"last_by_subj": subject}))
        return None if answer is None else _stored(stream, answer)

    async def delete(self, stream: str, seq: int) -> None:
        """Removes a stored message; one that is gone already is no error."""
        await self._patiently(lambda: self._delete(stream, seq))

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

    async def follows(self, stream: str) -> bool:
        """Whether a stream that the server makes from another one has all of that, as far as the server knows.

        A source that a killed server left behind is taken up again some ten seconds later. Raises NoStream.
        """
        try:
            info = await self.api(f"STREAM.INFO.{stream}", {})
        except NotFoundError as error:
            raise NoStream(stream) from error
        sources: list[dict[str, int]] = info.get("sources") or []
        return all(source["lag"] == 0 and 0 <= source["active"] < _SILENT_SOURCE_NS for source in sources)

    async def schedule(
        self, task: str, name: str, at: datetime, *, agent: str, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """A `timeout` that the server publishes on the task at `at`; the same name again replaces it.

        Schedules are of whole seconds: it is never early, at most a second late.
        """
        moment = (at + timedelta(microseconds=999_999)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        when = {SCHEDULE: f"@at {moment}", SCHEDULE_TARGET: subjects.due(task, name, agent), SCHEDULE_TTL: _DUE_KEPT}
        await self.publish(subjects.timer(task, name, agent), body, {**headers, **when})

    async def unschedule(self, task: str) -> None:
        """Takes back the timers of a task that are not due yet. Raises what `api` raises."""
        await self.api(f"STREAM.PURGE.{subjects.TIMERS}", {"filter": subjects.timers(task)})

    async def subscribe(
        self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        """A core subscription; returns how to end it. Callbacks run one after the other: they must be short.

        Raises Forbidden.
        """
        return await self._subscribed(subject, self.client.subscribe(subject, queue=queue, cb=heard))

    async def hear(
        self, subject: str, told: Callable[[Msg], None], *, queue: str = ""
    ) -> Callable[[], Awaitable[None]]:
        """As `subscribe`, for what only takes note: it is told as the message is read, and must raise nothing."""
        return await self._subscribed(subject, self.client.hear_at_once(subject, told, queue=queue))

    async def _subscribed(self, subject: str, subscribing: Awaitable[Subscription]) -> Callable[[], Awaitable[None]]:
        refused: list[Forbidden] = []
        with self.using(subject, refused.append):
            subscription = await subscribing
            if self.client.guarded:
                await self.flush()
        if refused:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()
            raise refused[0]

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
    def clustered(self) -> bool:
        """True when the server is one of several. Compare-and-set does not see there what is still on its way."""
        return self.client.clustered

    @property
    def address(self) -> str:
        """Where the server is, without what else a URL may hold."""
        found = self.client.connected_url
        return f"{found.scheme}://{found.hostname}:{found.port}" if found else "no server"

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
        self.no_room = ""
        return Ack(answer["stream"], answer["seq"], bool(answer.get("duplicate")))

    async def _call(self, subject: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Msg:
        """A request on our own inbox: a refusal by the server's permissions ends it at once."""
        self._next += 1
        token = str(self._next)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = _Asked(subject, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self.client.publish(subject, body, reply=f"{self._inbox}.{token}", headers=dict(headers))
                reraise_cancellation()
                return await answer
        except TimeoutError as error:
            raise BusUnavailable(f"no answer on {subject!r} within {timeout_s:g} s") from error
        except NatsError as error:
            raise BusUnavailable(f"the bus is away: {error}") from error
        finally:
            del self._waiting[token]

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], *, through_full: bool = True) -> T:
        """Repeats an attempt that found the bus away, with full jitter, until patience is over.

        A server without room has answered: with `through_full` it is asked again until it has some, else never.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.bus_patience_s
        tries = 0
        while True:
            try:
                return await attempt()
            except BusUnavailable as error:
                tries += 1
                pause = random.uniform(0.02, min(2.0, 0.1 * 2**tries))  # noqa: S311 - jitter
                if isinstance(error, StoreFull):
                    if not through_full:
                        raise
                    until = self._wait_for_room(error, tries)
                if self.closed.is_set() or loop.time() + pause > until:
                    raise
                await asyncio.sleep(pause)

    def _wait_for_room(self, full: StoreFull, tries: int) -> float:
        """Until when a message that met a full store is tried again: patience begins anew with each such answer."""
        self.no_room = str(full)
        if tries & (tries - 1) == 0:  # 1, 2, 4, 8 ...: a day without room is a dozen lines
            log.warning("bus.no_room", subject=full.subject, tries=tries, error=str(full))
        return asyncio.get_running_loop().time() + self.settings.bus_patience_s

    async def _api(self, call: str, body: Mapping[str, Any]) -> dict[str, Any]:
        message = await self._call(f"$JS.API.{call}", json.dumps(body).encode(), {}, self.settings.publish_timeout_s)
        if (message.headers or {}).get("Status") == "503":
            raise BusUnavailable("JetStream does not answer: is it enabled on the server?")
        answer = json.loads(message.data)
        if "error" in answer:
            raise _api_error(call, answer["error"])
        return answer

    async def first_sequence(self, task: str, *, agent: str = "") -> int:
        """Where a task's history begins, the first `submitted`; 0 when there is none."""
        known = self._firsts.get(task)
        if known is not None and known[1] == self.connections:
            return known[0]
        return (await self._newest_and_first(task, subjects.task_events_named(task, "submitted"), agent))[1]

    async def begun(self, task: str, newest: list[Stored], first: int) -> list[Stored]:
        """The history of a task after a `look` at it."""
        if len(newest) == 1 and newest[0].seq == first:
            return [await self.readable(newest[0])]
        return await self.read(subjects.TASKS, subjects.task_history(task), first) if first else []

    async def look(self, task: str, *, agent: str = "") -> tuple[list[Stored], int]:
        """The newest event of each kind as it is stored, and where the history begins: at the first `submitted`."""
        return await self._newest_and_first(task, subjects.task_history(task), agent)

    async def _newest_and_first(self, task: str, wanted: str, agent: str) -> tuple[list[Stored], int]:
        """The newest event on each subject that matches, and the sequence of the first `submitted`, to whomever.

        A literal subject is found through the stream's index, a scan for the task's wildcard from sequence 1 is not.
        So the places of an agent's first and of all newest events are looked up at the same time.
        """
        look = {"multi_last": [wanted], "batch": _BATCH}
        guess = subjects.task_event(task, "submitted", agent or "-")
        (newest, _), guessed = await asyncio.gather(
            self._patiently(lambda: self._batch(subjects.TASKS, look)), self._first_on(subjects.TASKS, guess)
        )
        begun = {stored.subject for stored in newest if stored.subject.split(".")[3] == "submitted"} - {guess}
        firsts = [guessed, *[await self._first_on(subjects.TASKS, subject) for subject in begun]]
        first = min((seq for seq in firsts if seq), default=0)
        self._remember(task, first)
        return newest, first

    def _remember(self, task: str, first: int) -> None:
        self._firsts.pop(task, None)
        if first:
            self._firsts[task] = (first, self.connections)
        if len(self._firsts) > _REMEMBERED:
            del self._firsts[next(iter(self._firsts))]

    async def _first_on(self, stream: str, subject: str) -> int:
        """Sequence of the first message on a literal subject; 0 when there is none."""
        answer = await self._patiently(lambda: self._direct(stream, {"seq": 1, "next_by_subj": subject}))
        return int((answer.headers or {})["Nats-Sequence"]) if answer is not None else 0

    async def _delete(self, stream: str, seq: int) -> None:
        """The server calls it a failure, of one kind or another, when there is nothing (any more)."""
        if await self._direct(stream, {"seq": seq}) is None:
            return
        try:
            await self._api(f"STREAM.MSG.DELETE.{stream}", {"seq": seq})
        except Misconfigured:
            if await self._direct(stream, {"seq": seq}) is not None:
                raise

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
        return [stored async for page in self.pages(stream, subject_filter, first=first) for stored in page]

    async def _batch(self, stream: str, wanted: Mapping[str, Any]) -> tuple[list[Stored], int]:
        """One batch of messages, as they are stored, and how many are left after it."""
        self._next += 1
        token, call = str(self._next), f"$JS.API.DIRECT.GET.{stream}"
        queue = self._reading[token] = asyncio.Queue[Msg | Forbidden]()
        try:
            with self.using(call, queue.put_nowait):
                async with asyncio.timeout(self.settings.publish_timeout_s) as patience:
                    await self.client.publish(call, json.dumps(wanted).encode(), reply=f"{self._inbox}.{token}")
                    reraise_cancellation()
                    return await self._collect(stream, queue, patience)
        except TimeoutError as error:
            raise BusUnavailable(f"stream {stream} was not read in time") from error
        except NatsError as error:
            raise BusUnavailable(f"the bus is away: {error}") from error
        finally:
            del self._reading[token]

    async def _collect(
        self, stream: str, queue: "asyncio.Queue[Msg | Forbidden]", patience: asyncio.Timeout
    ) -> tuple[list[Stored], int]:
        """Patience is for each message: a page that takes long but comes would else be asked for again, for ever."""
        found: list[Stored] = []
        loop = asyncio.get_running_loop()
        while True:
            message = await queue.get()
            patience.reschedule(loop.time() + self.settings.publish_timeout_s)
            if isinstance(message, Forbidden):
                raise message
            if _is_stored(message):
                found.append(_stored(stream, message))
            elif (message.headers or {}).get("Status") in {"204", "404"}:
                return found, int((message.headers or {}).get("Nats-Num-Pending", 0))
            else:
                raise BusUnavailable(f"stream {stream} cannot be read: {_description(message)}")

    async def _check_in(self, body: bytes, *, patient: bool) -> bytes:
        """Puts a large body into the object store under its digest; returns the claim check."""
        digest = hashlib.sha256(body).hexdigest()

        if await self._payload(digest) is None:
            await self._put(digest, body, patient=patient)
        claim = {"bucket": subjects.PAYLOADS_BUCKET, "name": digest, "digest": f"sha256:{digest}", "size": len(body)}
        return json.dumps(claim, separators=(",", ":")).encode()

    async def _redeem(self, claim: bytes) -> bytes:
        try:
            wanted = json.loads(claim)
            bucket, name, digest = str(wanted["bucket"]), str(wanted["name"]), str(wanted["digest"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Malformed(f"not a claim check {{bucket, name, digest, size}}: {error}") from error
        if bucket != subjects.PAYLOADS_BUCKET:
            raise Malformed(f"bucket {bucket!r} of a claim check is not {subjects.PAYLOADS_BUCKET!r}")

        about = await self._payload(name)
        if about is None:
            raise Malformed(f"the payload {name!r} of a claim check is not in bucket {bucket!r}")
        chunks = await self._read(f"OBJ_{bucket}", f"$O.{bucket}.C.{about['nuid']}", 1)
        body = b"".join(chunk.data for chunk in chunks)
        if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            raise Malformed(f"the payload {name!r} is not what its claim check says: digests differ")
        return body

    async def _put(self, name: str, body: bytes, *, patient: bool) -> None:
        """Stores an object as NATS object stores hold them, in pieces and then its meta message.

        Not by the library, whose way asks for the stream's configuration and for the right to purge it.
        """
        bucket, nuid = subjects.PAYLOADS_BUCKET, new_nonce()
        pieces = [body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK)]
        about = {
            "name": name,
            "bucket": bucket,
            "nuid": nuid,
            "size": len(body),
            "chunks": len(pieces),
            "digest": f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()}",
            "mtime": datetime.now(UTC).isoformat(),
            "options": {"max_chunk_size": _CHUNK},
        }
        parts = [(f"$O.{bucket}.C.{nuid}", piece, {MSG_ID: f"{nuid}/{n}"}) for n, piece in enumerate(pieces)]
        last = (_meta_subject(bucket, name), json.dumps(about).encode(), {MSG_ID: f"{nuid}/meta", "Nats-Rollup": "sub"})
        for part in (*parts, last):
            await self._patiently(partial(self._store, *part), through_full=patient)

    async def _payload(self, name: str) -> dict[str, Any] | None:
        """The meta message of an object; None when there is no such object."""
        bucket = subjects.PAYLOADS_BUCKET
        wanted = {"last_by_subj": _meta_subject(bucket, name)}
        answer = await self._patiently(lambda: self._direct(f"OBJ_{bucket}", wanted))
        about: dict[str, Any] | None = json.loads(answer.data) if answer is not None else None
        return None if about is None or about.get("deleted") else about

    @contextlib.contextmanager
    def using(self, subject: str, told: Callable[[Forbidden], None]) -> Generator[None]:
        """While the block runs, `told` hears when the server forbids this process a subject that it uses."""
        use = _Use(subject, told)
        self._uses.add(use)
        try:
            yield
        finally:
            self._uses.discard(use)

    async def _failed(self, error: Exception) -> None:
        """The server's asynchronous errors: the only place where it says that something is forbidden."""
        text = str(error) or type(error).__name__
        log.warning("bus.error", error=text)
        denied = _DENIED.search(text)
        if denied is not None:
            action = "publish on" if denied.group(1).lower() == "publish" else "subscribe to"
            for use in tuple(self._uses):
                if use.subject.lower() == denied.group(2).lower():
                    use.told(Forbidden(action=action, subject=use.subject))
            for asked in tuple(self._waiting.values()):
                if asked.subject.lower() == denied.group(2).lower() and not asked.answer.done():
                    asked.answer.set_exception(Forbidden(action=action, subject=asked.subject))
        elif not self._refused.done() and (why := credentials.refusal(error)):
            self._refused.set_exception(Misconfigured(why))
            self._refused.exception()  # seen: once connected, nobody looks here

    def _heard(self, message: Msg) -> None:
        token = message.subject.rsplit(".", 1)[1]
        asked = self._waiting.get(token)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(message)
        elif token in self._reading:
            self._reading[token].put_nowait(message)

    def _flushed(self, flushing: "asyncio.Task[None]") -> None:
        self._flushing.discard(flushing)
        if not flushing.cancelled():
            flushing.exception()  # seen: a connection that went away cannot be flushed

    def _guard(self, subject: str, body: bytes, headers: Mapping[str, str]) -> None:
        size = len(body) + sum(map(len, headers)) + sum(map(len, headers.values())) + 4 * len(headers)
        limit = self.client.max_payload - _HEADROOM
        if size > limit:
            raise TooLarge(subject=subject, size=size, limit=limit)

    async def _reconnected(self) -> None:
        log.info("bus.reconnected")
        for told in self.on_reconnect:
            told()

    async def _ended(self) -> None:
        """The client gave up for good: the process must end, something outside starts it again."""
        self.closed.set()


async def check_level(bus: Bus) -> None:
    """Raises Misconfigured when the server lacks what the mesh stands on."""
    try:
        about = await bus.api("INFO", {})
    except BusUnavailable as error:
        raise Misconfigured(
            f"JetStream is not available at {bus.address}: start nats-server with -js ({error})"
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


def new_nonce() -> str:
    """Letters and digits that no other connection has."""
    return secrets.token_hex(8)


async def _dropped(client: BusClient) -> None:
    """Closes a client that is of no use, whatever state it is in."""
    with contextlib.suppress(NatsError, OSError, RuntimeError):
        await client.close()


async def _within(limit_s: float, connecting: Coroutine[Any, Any, None], refused: "asyncio.Future[None]") -> None:
    """Raises TimeoutError when it takes longer, and what `refused` holds as soon as it does.

    A cancellation that meets a lost connection is swallowed: ask again.
    """
    task = asyncio.create_task(connecting)
    try:
        await asyncio.wait({task, refused}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if refused.done():
            refused.result()
        if not task.done():
            raise TimeoutError
        task.result()
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)


def reraise_cancellation() -> None:
    """The client swallows a cancellation under back-pressure: ask the task itself."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _meta_subject(bucket: str, name: str) -> str:
    return f"$O.{bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


def _publish_error(subject: str, error: Mapping[str, Any]) -> Exception:
    code, text = int(error.get("err_code", 0)), str(error.get("description", ""))
    if code in _WRONG_SEQUENCE:
        return WrongSequence(f"{subject}: {text}")
    if code in _STORE_FULL:
        return StoreFull(subject, text)
    if int(error.get("code", 0)) >= 500:
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
    return READ_ANSWER in (message.headers or {})


def _description(message: Msg) -> str:
    headers = message.headers or {}
    return f"{headers.get('Status')} {headers.get('Description', '')}".strip()


def _stored(stream: str, message: Msg) -> Stored:
    headers = dict(message.headers or {})
    seq = int(headers.pop(READ_ANSWER))
    if headers.pop(COPIED, ""):
        headers[READ_ANSWER] = str(seq)  # as a consumer's delivery shows it: a reader must know
    return Stored(
        stream=stream,
        seq=seq,
        subject=headers.pop("Nats-Subject"),
        time=moment(headers.pop("Nats-Time-Stamp")),
        headers={name: value for name, value in headers.items() if name not in _OF_THE_ANSWER},
        data=message.data,
    )


def moment(text: str) -> datetime:
    """A server's RFC 3339 time stamp, to the microsecond: Go writes nine digits, the rest is cut off."""
    return datetime.fromisoformat(text)
