"""Request/reply: decode, span, handler, reply. A request that cannot be read gets an answer that says why.

Requests are core NATS messages: nothing is stored, the asker asks again. Several are answered at a time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

import structlog
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from contracts.envelope import Metadata, Stored, decode, encode
from contracts.message import ContractError, Message
from services._runtime import telemetry
from services._runtime.errors import BusUnavailable, MeshError, TooLarge
from services._runtime.publisher import new_id
from services._runtime.service import Runtime

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

    async def run(self, stop: asyncio.Event) -> None:
        """Answers until stopped; what is being answered then is still answered."""
        ends = [await self.runtime.bus.subscribe(name, self._heard, queue=self.runtime.name) for name in self.subjects]
        await self.runtime.bus.flush()
        self.runtime.ready.set()
        await stop.wait()
        for end in ends:
            await end()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _heard(self, message: Msg) -> None:
        task = asyncio.create_task(self._respond(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _respond(self, message: Msg) -> None:
        async with self._slots:
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
                await self._reply(message, await self._answered(body, metadata))
                log.info("responder.answered", subject=message.subject)

    async def _answered(self, body: Request, metadata: Metadata) -> Message:
        try:
            return await self.answer(body, metadata)
        except MeshError as error:
            return self.refuse(str(error))
        except Exception:
            log.exception("responder.failed")
            return self.refuse("the request could not be answered: see the service's log")

    async def _reply(self, message: Msg, body: Message) -> None:
        if not message.reply:
            return
        metadata = Metadata(
            id=new_id(),
            type="mlmesh.context.answer",
            source=f"urn:mlmesh:{self.runtime.name}",
            time=datetime.now(UTC),
            schema=body.data_schema(),
            traceparent=telemetry.current_traceparent(),
        )
        try:
            await self.runtime.bus.send(message.reply, body.to_bytes(), encode(metadata))
        except TooLarge as error:
            log.warning("responder.too_large", subject=message.subject, size=error.size, limit=error.limit)
            await self._reply(message, self.refuse(f"the answer cannot be sent: {error}"))
        except BusUnavailable as error:
            log.warning("responder.not_sent", subject=message.subject, error=str(error))  # the asker asks again
