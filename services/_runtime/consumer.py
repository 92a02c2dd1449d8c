"""Our own consumers: a pull consumer that survives restarts, and an ordered one that reads a stream in order.

The client library has no consume loop and its fetch stalls after restarts and cancellations. Here one pull
with batch credits is outstanding at a time; every status decides what comes next; two missed heartbeats ask
again. `deaf` tells readiness when nothing was heard although the connection is up.

Source: NATS ADR-13 (pull consumers), ADR-17 (ordered consumer).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final, TypeVar

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from contracts.envelope import Stored
from services._runtime.bus import Bus, new_nonce, reraise_cancellation
from services._runtime.errors import BusUnavailable, Forbidden

_EXPIRES_S: Final = 30.0
_PAUSE_S: Final = {"408": 0.0, "409": 0.1}
_REFUSED_S: Final = 0.25
"""Before asking again what the server refused for any other reason, or what it does not have."""

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message given to us to process. `stored.seq` is its sequence in `stored.stream`."""

    stored: Stored
    deliveries: int
    """1 for the first time."""
    client: Client
    message: Msg
    """The client library's message: where acknowledgements go."""

    @property
    def pending(self) -> int:
        """Messages that stood behind this one when it was given."""
        return self.message.metadata.num_pending

    @property
    def place(self) -> int:
        """1 for the first message that the server's consumer gave to anyone, 2 for the next."""
        return self.message.metadata.sequence.consumer

    async def ack(self) -> None:
        """Done: never give it again."""
        await self._answer(b"+ACK")

    async def nak(self, delay_s: float = 0) -> None:
        """Not now: give it again after `delay_s`."""
        await self._answer(b"-NAK " + json.dumps({"delay": int(delay_s * 1e9)}).encode() if delay_s else b"-NAK")

    async def term(self, reason: str) -> None:
        """Never give it again: it is a dead letter by now."""
        await self._answer(f"+TERM {reason[:200]}".encode())

    async def in_progress(self) -> None:
        """Still at work: the acknowledgement wait begins anew."""
        await self._answer(b"+WPI")

    async def _answer(self, word: bytes) -> None:
        """An acknowledgement that gets lost means a redelivery, which the journal expects."""
        with contextlib.suppress(NatsError):
            await self.client.publish(self.message.reply, word)


@dataclass(slots=True)
class PullConsumer:
    """Deliveries of a durable. `slots` limits how many are out at a time; `free` gives one back."""

    bus: Bus
    stream: str
    durable: str
    slots: int = 64
    gather_s: float = 0.0
    """How long messages gather before they are taken together, where nobody waits for each; the first comes at once."""
    _queue: "asyncio.Queue[Delivery | Forbidden | None]" = field(
        default_factory=asyncio.Queue["Delivery | Forbidden | None"]
    )
    _out: int = 0
    _credit: int = 0
    _pull: int = 0
    _heard_at: float = 0.0
    _inbox: str = ""

    @property
    def name(self) -> str:
        """What people know it by."""
        return f"{self.stream}/{self.durable}"

    @property
    def silent_s(self) -> float:
        """How long nothing was heard although something was asked for: the server says at least its heartbeats."""
        return asyncio.get_running_loop().time() - self._heard_at

    @property
    def deaf(self) -> bool:
        """True when two heartbeats were missed."""
        return self.silent_s > deaf_after_s(self.bus)

    async def run(self, stop: asyncio.Event) -> AsyncGenerator[Delivery]:
        """Deliveries until `stop` is set. Raises Forbidden when this process may not pull from the durable."""
        self._heard_at = asyncio.get_running_loop().time()
        self._inbox = self.bus.client.new_inbox()
        end = await self.bus.subscribe(f"{self._inbox}.*", self._hear)
        watch = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(self._end_after(stop))
        try:
            with self.bus.using(self._call, self._queue.put_nowait):
                await self._ask()
                while (delivery := await self._queue.get()) is not None and not stop.is_set():
                    if isinstance(delivery, Forbidden):
                        raise delivery
                    self._out += 1
                    yield delivery
            if isinstance(delivery, Delivery):
                await delivery.nak()
        finally:
            watch.cancel()
            stopping.cancel()
            await end()
            await self._give_back()

    async def free(self) -> None:
        """One delivery is settled: there is room for another."""
        self._out -= 1
        if self._credit <= 0:
            await self._ask()

    async def _end_after(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._queue.put_nowait(None)

    async def _give_back(self) -> None:
        """What was delivered but not begun goes to another executor at once."""
        while not self._queue.empty():
            left = self._queue.get_nowait()
            if isinstance(left, Delivery):
                await left.nak()

    @property
    def _call(self) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.durable}"

    @property
    def full(self) -> bool:
        """True while no more is asked for: what waits in the stream waits for its turn."""
        return self._room <= 0

    @property
    def _room(self) -> int:
        """How many more deliveries may be out."""
        return self.slots - self._out - self._queue.qsize()

    async def _ask(self) -> None:
        credit = self._room
        if credit <= 0:
            self._credit = 0
            return
        self._pull += 1
        self._credit = credit
        wanted = {
            "batch": credit,
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(self.bus.settings.heartbeat_s * 1e9),
            "no_wait": self.gather_s > 0,  # what is there, or else the first that comes; then 404
        }
        with contextlib.suppress(NatsError):
            await self.bus.client.publish(self._call, json.dumps(wanted).encode(), reply=f"{self._inbox}.{self._pull}")

    async def _hear(self, message: Msg) -> None:
        if not message.reply:  # a stored message may have any header, but only it has where to acknowledge
            await self._status(message, (message.headers or {}).get("Status", ""))
            return
        self._heard_at = asyncio.get_running_loop().time()
        self._credit -= 1
        self._queue.put_nowait(Delivery(_delivered(message), message.metadata.num_delivered, self.bus.client, message))
        if self._credit <= 0:
            await self._ask()

    async def _status(self, message: Msg, status: str) -> None:
        if status != "503":
            self._heard_at = asyncio.get_running_loop().time()
        if message.subject != f"{self._inbox}.{self._pull}" or status == "100":
            return
        if status not in {"404", "408"}:
            log.info("consumer.status", durable=self.durable, status=status, text=_text(message))
        gathers = self.gather_s > 0 and status == "404"
        await asyncio.sleep(self.gather_s if gathers else _PAUSE_S.get(status, _REFUSED_S))
        await self._ask()

    async def _watch(self) -> None:
        """Asks again when nothing was heard for two heartbeats: the pull was lost with its server."""
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        asked_at = loop.time()
        while True:
            await asyncio.sleep(self.bus.settings.heartbeat_s / 2)
            if self.full:
                self._heard_at = loop.time()  # nothing is asked for: silence says nothing
                continue
            quiet_since = max(self._heard_at, asked_at)
            if self.bus.client.is_connected and loop.time() - quiet_since > 2 * self.bus.settings.heartbeat_s:
                log.warning("consumer.silent", durable=self.durable)
                asked_at = loop.time()
                await self._ask()
                reraise_cancellation()


@dataclass(slots=True)
class OrderedConsumer:
    """Every message of a stream that matches, in order, from a sequence on. Keeps nothing on the server."""

    bus: Bus
    stream: str
    subject_filter: str
    after: int = 0
    """Sequence of the last message that was seen."""
    live: bool = False
    """True when everything that was stored at the start has been given."""
    _pulls: PullConsumer | None = None
    _begun_at: float = 0.0

    @property
    def name(self) -> str:
        """What people know it by."""
        return f"{self.stream}/{self.subject_filter}"

    @property
    def silent_s(self) -> float:
        """As of a PullConsumer; since it was begun as long as nothing was heard at all."""
        if self._pulls is not None:
            return self._pulls.silent_s
        return asyncio.get_running_loop().time() - self._begun_at

    @property
    def deaf(self) -> bool:
        """True when two heartbeats were missed, and before there is anything to hear."""
        return self._pulls is None or self.silent_s > deaf_after_s(self.bus)

    async def run(self, stop: asyncio.Event) -> AsyncGenerator[Stored]:
        """Messages until `stop` is set; a consumer that the server lost is made anew after the last one seen.

        Bodies as `Bus.readable` gives them. Raises BusUnavailable when the connection is closed for good.
        """
        self._begun_at = asyncio.get_running_loop().time()
        while not stop.is_set():
            name = ""
            try:
                name = await unless_stopped(stop, self._create()) or ""
                if name:
                    self._pulls = PullConsumer(self.bus, self.stream, name, slots=256)
                    async with contextlib.aclosing(self._messages(self._pulls, name, stop)) as messages:
                        async for stored in messages:
                            yield stored
            except (NotFoundError, BusUnavailable) as error:
                log.warning("consumer.unavailable", stream=self.stream, after=self.after, error=str(error))
                if self.bus.closed.is_set():
                    raise
                await unless_stopped(stop, asyncio.sleep(_REFUSED_S))
            finally:
                if name:
                    await self._delete(name)

    async def _messages(self, pulls: PullConsumer, name: str, stop: asyncio.Event) -> AsyncGenerator[Stored]:
        """What one consumer of the server's gives, until `stop`, its loss, or a message that was lost on the way."""
        renew = asyncio.Event()
        check = asyncio.create_task(self._end_when_lost(name, stop, renew))
        place = 0
        try:
            async with contextlib.aclosing(pulls.run(renew)) as deliveries:
                async for delivery in deliveries:
                    await pulls.free()
                    place += 1
                    if delivery.place != place:
                        log.info("consumer.gap", stream=self.stream, after=self.after)
                        return
                    stored = await self.bus.readable(delivery.stored)
                    self.after = stored.seq
                    self.live = self.live or delivery.pending == 0
                    yield stored
        finally:
            check.cancel()
            await asyncio.gather(check, return_exceptions=True)

    async def _end_when_lost(self, name: str, stop: asyncio.Event, renew: asyncio.Event) -> None:
        """Sets `renew` when the run is to end.

        That is at `stop`, when the server no longer knows the consumer, and when the connection is another or closed:
        nothing is acknowledged, so what was on its way on the old one will not come again.
        """
        connections = self.bus.connections
        try:
            while connections == self.bus.connections and not (stop.is_set() or self.bus.closed.is_set()):
                await unless_stopped(stop, asyncio.sleep(self.bus.settings.heartbeat_s))
                await unless_stopped(stop, self._still_there(name))
        finally:
            renew.set()

    async def _still_there(self, name: str) -> None:
        """Raises NotFoundError when the server no longer knows the consumer."""
        with contextlib.suppress(BusUnavailable):
            await self.bus.api(f"CONSUMER.INFO.{self.stream}.{name}", {})

    async def _create(self) -> str:
        """Name and filter stand in the call, where the server checks them: permissions can speak of both."""
        name = f"{self.bus.service}-{new_nonce()}"
        config: dict[str, Any] = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.after + 1,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(30e9),
            "filter_subject": self.subject_filter,
        }
        made = await self.bus.api(
            f"CONSUMER.CREATE.{self.stream}.{name}.{self.subject_filter}",
            {"stream_name": self.stream, "config": config, "action": ""},
        )
        self.live = self.live or not made.get("num_pending")
        return name

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(NotFoundError, BusUnavailable, NatsError):
            await self.bus.client.publish(f"$JS.API.CONSUMER.DELETE.{self.stream}.{name}", b"")


def deaf_after_s(bus: Bus) -> float:
    """After so much silence somebody who should hear something at each heartbeat is deaf: two of them were missed."""
    return 2 * bus.settings.heartbeat_s + 1


async def last_active(bus: Bus, stream: str, durable: str) -> str:
    """When the server last gave a message of the durable to anybody, RFC 3339; empty: never, or it is not there."""
    try:
        about = await bus.api(f"CONSUMER.INFO.{stream}.{durable}", {})
    except NotFoundError:
        return ""
    return str(about["delivered"].get("last_active", ""))


async def unless_stopped(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None when `stop` is set before: then `work` is cancelled."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _delivered(message: Msg) -> Stored:
    about = message.metadata
    return Stored(
        stream=about.stream,
        seq=about.sequence.stream,
        subject=message.subject,
        time=about.timestamp if about.timestamp.tzinfo else about.timestamp.replace(tzinfo=UTC),
        headers=dict(message.headers or {}),
        data=message.data,
    )


def _text(message: Msg) -> str:
    return (message.headers or {}).get("Description", "")
