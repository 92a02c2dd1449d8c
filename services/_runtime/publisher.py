"""Publishes messages with their envelope inside a PRODUCER span: the one way a body gets on the bus.

Owns ids of messages that are not an executor's (`new_id`) and the time they carry.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind
from ulid import ULID

from contracts import subjects
from contracts.envelope import CORRELATION, DEADLINE, MSG_ID, TIME, Metadata, encode, rfc3339
from contracts.events import TimedOut
from contracts.message import Message
from services._runtime import telemetry
from services._runtime.bus import Ack, Bus, Expect
from services._runtime.errors import NobodyAnswers

SERVICE_ERROR: Final = "Nats-Service-Error"
SERVICE_ERROR_CODE: Final = "Nats-Service-Error-Code"
"""Headers of an answer that is none, as NATS micro services have them."""
BUSY: Final = "503"
"""The code that says: ask again."""
_PAUSE_S: Final = 0.1
"""Before a service that is not there, or busy, is asked again."""

log = structlog.get_logger()


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """A ULID: unique, sortable by time."""
    return str(ULID())


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the publisher knows of a message besides its body."""

    task: str = ""
    id: str = ""
    """Empty: a new ULID."""
    causation: str = ""
    workspace: str = ""
    parent: str = ""
    """traceparent that the PRODUCER span hangs on; empty: the current span."""
    begun: int = 0
    """Sequence of the task's first event, where the publisher knows it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message: the server's word and the envelope it carried."""

    ack: Ack
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Publisher:
    """Encodes, traces and publishes for one service."""

    bus: Bus
    telemetry: telemetry.Telemetry
    clock: Callable[[], datetime] = utc_now
    patient: bool = True
    """Whether a server without room is waited for; else publishing raises StoreFull at once."""

    async def event(self, event: str, agent: str, body: Message, about: About, *, expect: Expect | None = None) -> Sent:
        """Stores an event of a task. Raises what `Bus.publish` raises."""
        subject = subjects.task_event(about.task, event, agent)
        template = subjects.event_template(event, agent)
        return await self.store(subject, body, about, kind=f"mlmesh.task.{event}", template=template, expect=expect)

    async def store(
        self, subject: str, body: Message, about: About, *, kind: str, template: str, expect: Expect | None = None
    ) -> Sent:
        """Stores a message on any stream's subject."""
        message_id = about.id or new_id()
        attributes: telemetry.Attributes = {
            telemetry.MESSAGING_SYSTEM: "nats",
            telemetry.DESTINATION: subject,
            telemetry.DESTINATION_TEMPLATE: template,
            telemetry.OPERATION: "send",
            telemetry.OPERATION_TYPE: "send",
            telemetry.MESSAGE_ID: message_id,
            telemetry.TASK: about.task,
        }
        with self.telemetry.span(
            f"send {template}", parent=about.parent or None, kind=SpanKind.PRODUCER, attributes=attributes
        ):
            metadata = self._metadata(body, about, message_id, kind)
            headers = encode(metadata)
            ack = await self.bus.publish(subject, body.to_bytes(), headers, expect=expect, patient=self.patient)
            return Sent(ack, metadata)

    async def request(self, subject: str, body: Message, about: About, *, timeout_s: float) -> Msg:
        """One answer to a request, traced as the client's side. A service that is not there yet is waited for.

        One that says that it is busy is asked again, for as long as it says so: nothing fails because of a queue.
        Raises: NobodyAnswers when it does not come within `timeout_s`; BusUnavailable when it says nothing so long.
        """
        message_id = about.id or new_id()
        attributes: telemetry.Attributes = {
            telemetry.MESSAGING_SYSTEM: "nats",
            telemetry.DESTINATION: subject,
            telemetry.OPERATION: "request",
            telemetry.OPERATION_TYPE: "send",
            telemetry.MESSAGE_ID: message_id,
            telemetry.TASK: about.task,
        }
        with self.telemetry.span(f"request {subject}", kind=SpanKind.CLIENT, attributes=attributes):
            headers = encode(self._metadata(body, about, message_id, "mlmesh.context.request"))
            return await self._answer(subject, body.to_bytes(), headers, timeout_s)

    async def _answer(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Msg:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            left, now = max(0.0, until - loop.time()), self.clock()
            headers |= {TIME: rfc3339(now), DEADLINE: rfc3339(now + timedelta(seconds=left))}
            try:
                answer = await self.bus.request(subject, body, headers, timeout_s=left)
            except NobodyAnswers:
                if loop.time() + _PAUSE_S > until:
                    raise
            else:
                if (answer.headers or {}).get(SERVICE_ERROR_CODE) != BUSY:
                    return answer
                log.info("publisher.told_busy", subject=subject, task=headers.get(CORRELATION, ""))
                until = loop.time() + timeout_s
            await asyncio.sleep(_PAUSE_S)

    async def timer(self, name: str, agent: str, after_s: float, about: About) -> None:
        """`timeout` will be published for the task after `after_s`; the same name again replaces it."""
        body = TimedOut(timer=name)
        headers = encode(self._metadata(body, about, about.id or new_id(), "mlmesh.task.timeout"))
        await self.bus.schedule(
            about.task,
            name,
            self.clock() + timedelta(seconds=after_s),
            agent=agent,
            body=body.to_bytes(),
            headers=headers,
        )

    async def live(self, task: str, body: Message) -> None:
        """Tells whoever watches right now; not stored."""
        await self.bus.send(subjects.live(task), body.to_bytes(), {MSG_ID: new_id()})

    def _metadata(self, body: Message, about: About, message_id: str, kind: str) -> Metadata:
        return Metadata(
            id=message_id,
            type=kind,
            source=f"urn:mlmesh:{self.bus.service}",
            time=self.clock(),
            schema=body.data_schema(),
            task=about.task,
            traceparent=telemetry.current_traceparent(),
            causation=about.causation,
            workspace=about.workspace,
            begun=about.begun,
        )
