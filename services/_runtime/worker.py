"""The worker: fetch, decode, span, handler, publish what it returned, acknowledge. The one `except` ladder.

A worker takes deliveries of one durable and hands each to a `handle` function, several at a time. While a
handler runs, in-progress beats keep the message; a killed process stops beating and another gets it after
`ack_wait_s`. The class of an error decides what happens (errors.py). Nothing is dropped silently: what is
terminated is a dead letter first.
"""

import asyncio
import contextlib
import random
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol

import structlog
from opentelemetry.trace import SpanKind

from contracts import subjects
from contracts.dead import DeadLetter, letter_id, settled_id
from contracts.envelope import MSG_ID, Stored, concerns
from contracts.message import ContractError
from contracts.task import TaskState
from services._runtime import telemetry
from services._runtime.bus import Bus, reraise_cancellation
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.errors import (
    Fenced,
    HandsOver,
    Interrupted,
    Malformed,
    MeshError,
    Permanent,
    Transient,
    WrongSequence,
)
from services._runtime.executor import Executor
from services._runtime.journal import Activation, Doorbell, claim
from services._runtime.publisher import About, Publisher

_REMEMBERED: Final = timedelta(seconds=60)
"""Well within the time for which the server itself knows a letter's id (2 minutes)."""
_LAST_WORDS_S: Final = 2.0
"""How long an executor may take to say that it hands its task over."""

log = structlog.get_logger()

Handle = Callable[[Delivery], Awaitable[None]]


@dataclass(slots=True)
class Worker:
    """Runs `handle` for the deliveries of a durable until `stop` is set."""

    publisher: Publisher
    consumer: PullConsumer
    handle: Handle
    dead_durable: str = ""
    """Dead letters go to `mesh.dead.<dead_durable>`; default: the durable's name."""
    _running: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    _handled: dict[int, Delivery] = field(default_factory=dict[int, Delivery])
    """What handlers are at work on, by identity: in-progress beats keep it."""

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when stopped and every handler is at rest.

        Handlers have `stop_grace_s` to come to a point where another can go on; then what is in flight is given back.
        """
        beat = asyncio.create_task(self._beat())
        try:
            async for delivery in self.consumer.run(stop):
                task = asyncio.create_task(self._process(delivery))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            if self._running:
                await asyncio.wait(self._running, timeout=self.publisher.bus.settings.stop_grace_s)
        finally:
            for task in tuple(self._running):
                task.cancel()
            try:
                await asyncio.gather(*self._running, return_exceptions=True)
            finally:
                beat.cancel()

    async def _process(self, delivery: Delivery) -> None:
        _bind(delivery.stored)
        try:
            await self._settle(delivery)
        except Exception:
            # Neither acknowledged nor given back, since the bus is away or refuses the dead letter: it comes again.
            log.exception("worker.not_settled", subject=delivery.stored.subject)
        finally:
            await self.consumer.free()

    async def _settle(self, delivery: Delivery) -> None:
        """The error tree decides: see errors.py."""
        try:
            await self._handle(delivery)
        except asyncio.CancelledError:
            await delivery.nak()
            raise
        except HandsOver as left:
            log.info("worker.hands_over", reason=str(left))
            await delivery.nak()
        except (Malformed, ContractError, subjects.SubjectError) as error:
            await self._bury(delivery, str(error))
        except Transient as error:
            await self._later(delivery, error)
        except Fenced as fenced:
            await self._leave(delivery, fenced)
        except Exception as error:
            log.exception("worker.handler_failed", subject=delivery.stored.subject)
            await self._later(delivery, error)
        else:
            await delivery.ack()

    async def _handle(self, delivery: Delivery) -> None:
        """No beat is sent any more once it returns: it would keep a message that is given back from everybody else."""
        self._handled[id(delivery)] = delivery
        try:
            await self.handle(delivery)
        finally:
            del self._handled[id(delivery)]

    async def _later(self, delivery: Delivery, error: Exception) -> None:
        settings = self.publisher.bus.settings
        if delivery.deliveries >= settings.max_deliver and self.consumer.stream != subjects.WORK:
            await self._bury(delivery, f"tried {delivery.deliveries} times: {error}")
            return
        delay = jittered(settings.retry_delay_s, delivery.deliveries, settings.retry_max_s)
        log.warning("worker.retrying", subject=delivery.stored.subject, delay_s=round(delay, 2), error=str(error))
        await delivery.nak(delay)

    async def _leave(self, delivery: Delivery, fenced: Fenced) -> None:
        """The acknowledgement of an older delivery counts for the item: never silence the new holder's doorbell."""
        log.info("worker.fenced", task=fenced.task, claim=fenced.claim)
        if fenced.by_work_seq != delivery.stored.seq:
            await delivery.ack()

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        durable = self.dead_durable or self.consumer.durable
        await bury(self.publisher, delivery.stored, durable=durable, reason=reason, deliveries=delivery.deliveries)
        await delivery.term(reason)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.publisher.bus.settings.ack_wait_s / 3)
            for key, delivery in tuple(self._handled.items()):
                if key in self._handled:  # the beat before may have taken long
                    await delivery.in_progress()
                    reraise_cancellation()


class TaskHandler(Protocol):
    """What an agent does with a task. None of it sees NATS, acknowledgements or spans."""

    async def engage(self, activation: Activation) -> None:
        """Carries the task on as far as it goes now."""
        ...

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """Ends a task that was cancelled or whose deadline passed."""
        ...

    async def failed(self, activation: Activation, reason: str) -> None:
        """Ends a task that cannot succeed."""
        ...


@dataclass(frozen=True, slots=True)
class Doorbells:
    """Turns work items into activations for a TaskHandler: `Worker.handle` of an agent."""

    publisher: Publisher
    handler: TaskHandler
    executor: Executor

    async def __call__(self, delivery: Delivery) -> None:
        """Claims and runs; returns when the doorbell may be acknowledged."""
        doorbell = doorbell_of(delivery)
        with structlog.contextvars.bound_contextvars(task=doorbell.task):
            state = await self._answered(delivery, doorbell)
            if state is not None and state.overdue:  # its timer rang before it waited, while it was held
                await self._answered(delivery, doorbell)

    async def _answered(self, delivery: Delivery, doorbell: Doorbell) -> TaskState | None:
        """The state in which the task was left; None if the doorbell meant nothing."""
        activation = await claim(self.publisher, doorbell, self.executor)
        if activation is None:
            self.executor.look(doorbell.task)
            log.debug("worker.nothing_to_do", event_seq=doorbell.event_seq, work_seq=doorbell.work_seq)
            return None
        structlog.contextvars.bind_contextvars(trace_id=activation.state.trace_id)
        try:
            await self._traced(delivery, activation)
            if activation.state.final is not None:
                await activation.stop_timers()
        finally:
            activation.rest()
        return activation.state

    async def _traced(self, delivery: Delivery, activation: Activation) -> None:
        with self.publisher.telemetry.span(
            f"process {subjects.work_template(activation.state.agent)}",
            parent=activation.origin.parent,
            kind=SpanKind.CONSUMER,
            links=activation.origin.links,
            attributes=_attributes(delivery, activation),
        ):
            log.info("worker.began", event_seq=activation.doorbell.event_seq, deliveries=delivery.deliveries)
            await self._run(activation)
            log.info("worker.rested", status=activation.state.status)

    async def _run(self, activation: Activation) -> None:
        try:
            await self._engage(activation)
        except (HandsOver, asyncio.CancelledError):
            if self.executor.stop.is_set():
                await _hand_over(activation, "left to another executor: this one stops")
            raise
        except Transient as error:  # trouble of the mesh's, which is no reason to fail a task
            await _hand_over(activation, f"tried again later: {error}")
            raise
        except Interrupted as interrupt:
            log.info("worker.interrupted", cause=interrupt.cause)
            await self.handler.interrupted(activation, interrupt)

    async def _engage(self, activation: Activation) -> None:
        """A task that cannot succeed is failed; a defect is one only after the last try.

        So is whatever kills its executor each time: the journal counts the claims that came to nothing.
        """
        state, limit = activation.state, self.publisher.bus.settings.max_deliver
        if state.attempts > limit:
            log.warning("worker.task_exhausted", attempts=state.attempts)
            await self.handler.failed(activation, _exhausted(state.agent, limit))
            return
        try:
            await self._decided(activation)
        except (Permanent, Malformed, ContractError) as error:
            log.warning("worker.task_failed", reason=str(error))
            await self.handler.failed(activation, str(error))
        except MeshError:
            raise
        except Exception as error:
            if activation.state.attempts < limit:
                raise
            log.exception("worker.task_failed")
            reason = f"the {activation.state.agent} failed {activation.state.attempts} times: {error}"
            await self.handler.failed(activation, reason)

    async def _decided(self, activation: Activation) -> None:
        """Engages again while the end of the activation is refused: something woke it that was not decided on."""
        while True:
            activation.check()  # of a task that was cancelled no step is begun again
            try:
                await _supervised(activation, self.handler.engage(activation))
            except WrongSequence as moved:
                log.info("worker.decides_again", reason=str(moved))
                activation.decide_again()
            else:
                return


async def _hand_over(activation: Activation, why: str) -> None:
    """Last words of an executor that lets go of its task; without them the next one counts an attempt."""
    with contextlib.suppress(MeshError, TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await activation.hand_over(why)


def _exhausted(agent: str, tries: int) -> str:
    return (
        f"the {agent} ended {tries} times while it was at work on this, without getting any further:"
        f" look at its log for what killed it, then submit the request again"
    )


async def _supervised(activation: Activation, work: Awaitable[None]) -> None:
    """Runs `work` and stops it as soon as the task is fenced, cancelled or past its deadline."""
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(activation.watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})  # to await it would also swallow a cancellation of our own
            await watching
        await working
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def doorbell_of(delivery: Delivery) -> Doorbell:
    """The doorbell in a delivery of WORK. Raises Malformed for an item that no event rang.

    The server says in a header from which stream and sequence it comes, and from which subject.
    """
    agent, task = subjects.parse_work_item(delivery.stored.subject)
    source = delivery.stored.headers.get("Nats-Stream-Source", "").split()
    if len(source) < 2 or source[0] != subjects.TASKS or not source[1].isdigit():
        raise Malformed("a work item that does not come from TASKS: publish events, never work items")
    return Doorbell(
        task=task,
        agent=agent,
        event_seq=int(source[1]),
        work_seq=delivery.stored.seq,
        deliveries=delivery.deliveries,
        rang=replace(delivery.stored, stream=subjects.TASKS, seq=int(source[1]), subject=source[-2]),
    )


async def bury(publisher: Publisher, stored: Stored, *, durable: str, reason: str, deliveries: int) -> None:
    """Stores a dead letter; the same message again is the same letter, also one that a person has settled since.

    A message that is not new may have been refused before: by a replica, or before its consumer was lost.
    """
    name = letter_id(stored.stream, stored.seq)
    if publisher.clock() - stored.time > _REMEMBERED and await _was_buried(publisher.bus, stored, name):
        log.info("worker.dead_letter_stands", subject=stored.subject, stream_seq=stored.seq, letter=name)
        return
    body = stored.data[: publisher.bus.settings.dead_body_bytes]
    letter = DeadLetter(
        reason=reason,
        stream=stored.stream,
        stream_seq=stored.seq,
        subject=stored.subject,
        durable=durable,
        deliveries=deliveries,
        headers=dict(stored.headers),
        body_base64=b64encode(body).decode(),
        body_bytes=len(stored.data),
    )
    task, parent = concerns(stored)
    about = About(task=task, id=name, parent=parent)
    log.warning("worker.dead_letter", task=task, subject=stored.subject, stream_seq=stored.seq, reason=reason)
    await publisher.store(subjects.dead(durable), letter, about, kind="mlmesh.dead", template=subjects.dead(durable))


async def _was_buried(bus: Bus, stored: Stored, name: str) -> bool:
    ids = {name, settled_id(name)}
    async with contextlib.aclosing(bus.pages(subjects.DEAD, subjects.ALL_DEAD, since=stored.time)) as pages:
        async for page in pages:
            if any(letter.headers.get(MSG_ID) in ids for letter in page):
                return True
    return False


def jittered(base_s: float, tries: int, longest_s: float) -> float:
    """Full jitter: uniform between 0 and the doubled delay, so that retries do not come in step."""
    return random.uniform(0, min(longest_s, base_s * 2.0 ** min(tries - 1, 64)))  # noqa: S311 - jitter


def _attributes(delivery: Delivery, activation: Activation) -> telemetry.Attributes:
    found = telemetry.received(
        delivery.stored.subject,
        template=subjects.work_template(activation.state.agent),
        group=activation.state.agent,
        message_id=activation.waking_id,
        task=activation.task,
    )
    return {**found, telemetry.DELIVERY: delivery.deliveries}


def _bind(stored: Stored) -> None:
    """Log lines about a delivery carry its task and trace: each is processed in an asyncio task, a context, of its own.

    A doorbell carries the headers of the event that rang.
    """
    task, parent = concerns(stored)
    if task:
        structlog.contextvars.bind_contextvars(task=task, trace_id=parent.split("-")[1])
