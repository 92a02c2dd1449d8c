"""Request/reply: decode, span, handler, reply. A request that cannot be read gets an answer that says why.

Requests are core NATS messages: nothing is stored, the asker asks again. Several are answered at a time. A request
whose turn does not come while its asker waits is told so before the asker gives up: it is not answered in vain.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind

from contracts.envelope import Metadata, Stored, decode, encode
from contracts.message import ContractError, Message
from contracts.subjects import may_answer_on
from services._runtime import telemetry
from services._runtime.consumer import deaf_after_s, unless_stopped
from services._runtime.errors import BusUnavailable, MeshError, TooLarge
from services._runtime.publisher import BUSY, SERVICE_ERROR, SERVICE_ERROR_CODE, new_id
from services._runtime.service import Runtime

_SHARE: Final = 0.8
"""Of an asker's patience: what is left is for the way there and back."""
_BUSY: Final = "busy with other requests: ask again"

Request = TypeVar("Request", bound=Message)

log = structlog.get_logger()


@dataclass(slots=True)
class Responder(Generic[Request]):
    """Answers `subjects` in a queue group of the service's name, so that replicas share the requests."""

    runtime: Runtime
    subjects: Sequence[str]
    request: type[Request]
    answer: Callable[[Request, Metadata], Awaitable[Message]]
    refuse: Callable[[str], Message]
    """The answer to a request that cannot be read or answered, with its reason."""
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    _running: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    _heard_at: float = 0.0

    @property
    def name(self) -> str:
        """What people know it by."""
        return f"requests on {self.subjects[0].rpartition('.')[0]}"

    @property
    def silent_s(self) -> float:
        """How long neither a request nor its own echo was heard."""
        return asyncio.get_running_loop().time() - self._heard_at

    @property
    def deaf(self) -> bool:
        """True when two echoes were missed."""
        return self.silent_s > deaf_after_s(self.runtime.bus)

    async def run(self, stop: asyncio.Event) -> None:
        """Answers until stopped; what is being answered then is still answered."""
        bus, group = self.runtime.bus, self.runtime.name
        ends = [await bus.hear(name, self._heard, queue=group) for name in self.subjects]
        await self.runtime.bus.flush()
        self._heard_at = asyncio.get_running_loop().time()
        self.runtime.ready.set()
        await self._echo(stop)
        for end in ends:
            await end()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _echo(self, stop: asyncio.Event) -> None:
        """Calls itself over the bus until stopped: no server sends heartbeats to a core subscription."""
        inbox = self.runtime.bus.client.new_inbox()
        end = await self.runtime.bus.hear(inbox, self._hear_echo)
        try:
            while not stop.is_set():
                with contextlib.suppress(NatsError):  # the silence that follows tells it
                    await self.runtime.bus.client.publish(inbox, b"")
                await unless_stopped(stop, asyncio.sleep(self.runtime.settings.heartbeat_s))
        finally:
            await end()

    def _hear_echo(self, _: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    def _heard(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        task = asyncio.create_task(self._respond(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _respond(self, message: Msg) -> None:
        stored = Stored(
            stream="request",
            seq=0,
            subject=message.subject,
            time=datetime.now(UTC),
            headers=dict(message.headers or {}),
            data=message.data,
        )
        try:
            metadata = decode(stored, message=self.request)
            body = self.request.from_bytes(message.data)
        except ContractError as error:
            log.warning("responder.malformed", subject=message.subject, reason=error.reason)
            await self._reply(message, self.refuse(error.reason))
            return
        with self.runtime.telemetry.span(
            f"process {message.subject}",
            parent=metadata.traceparent if "traceparent" in stored.headers else "",
            kind=SpanKind.SERVER,
            attributes=telemetry.received(
                message.subject, group=self.runtime.name, message_id=metadata.id, task=metadata.task
            ),
        ):
            await self._in_time(message, body, metadata)

    async def _in_time(self, message: Msg, body: Request, metadata: Metadata) -> None:
        """Answers, or says that it is busy while the asker still listens."""
        limited = asyncio.timeout(_patience_s(metadata))
        try:
            async with limited, self._slots:
                answer = await self._answered(body, metadata)
        except TimeoutError:
            log.warning("responder.busy", subject=message.subject, task=metadata.task, running=len(self._running))
            busy = {SERVICE_ERROR_CODE: BUSY, SERVICE_ERROR: _BUSY}
            await self._reply(message, self.refuse(_BUSY), answers=metadata.id, headers=busy)
        else:
            await self._reply(message, answer, answers=metadata.id)

    async def _answered(self, body: Request, metadata: Metadata) -> Message:
        try:
            return await self.answer(body, metadata)
        except MeshError as error:
            return self.refuse(str(error))
        except Exception:
            log.exception("responder.failed")
            return self.refuse("the request could not be answered: see the service's log")

    async def _reply(
        self, message: Msg, body: Message, *, answers: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """`answers` is the id of the request, where it has one."""
        if not message.reply:
            return
        if not may_answer_on(message.reply):
            log.warning("responder.reply_refused", subject=message.subject, reply=message.reply)
            return
        metadata = Metadata(
            id=f"{answers}/answer" if answers else new_id(),
            type="mlmesh.context.answer",
            source=f"urn:mlmesh:{self.runtime.name}",
            time=datetime.now(UTC),
            schema=body.data_schema(),
            traceparent=telemetry.current_traceparent(),
        )
        try:
            await self.runtime.bus.send(message.reply, body.to_bytes(), encode(metadata) | dict(headers or {}))
        except TooLarge as error:
            log.warning("responder.too_large", subject=message.subject, size=error.size, limit=error.limit)
            await self._reply(message, self.refuse(f"the answer cannot be sent: {error}"))
        except BusUnavailable as error:
            log.warning("responder.not_sent", subject=message.subject, error=str(error))  # the asker asks again


def _patience_s(metadata: Metadata) -> float | None:
    """How long an answer to a request is of use; None: nobody said. By the asker's clock alone: ours may differ."""
    try:
        deadline = datetime.fromisoformat(metadata.deadline)
        return max(0.0, _SHARE * (deadline - metadata.time).total_seconds())
    except (ValueError, TypeError):
        return None
