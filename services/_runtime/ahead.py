"""Endings and cancels ahead of their turn, in a service that is full.

A doorbell stands in WORK behind everything that rang before it. Where each slot is taken by long work, a task that
lacks only its final event, or that was cancelled, would wait for strangers' trainings. So a full service that hears of
such an event looks up its doorbell in WORK and answers it before it is delivered. That is safe by the rules of
doorbells (contracts.task.decide): a doorbell is known by its WORK sequence, whoever answers it and how often. Its turn,
when it comes, finds nothing to do. A hint that is lost costs the wait and nothing else.

Left out: timers, of which core subscribers hear nothing.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import structlog
from nats.aio.msg import Msg

from contracts import subjects
from contracts.envelope import MSG_ID, Stored
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.errors import MeshError
from services._runtime.worker import Doorbells

URGENT: Final = ("cancel-requested", "summarised")
"""Events after which a task needs a moment, and no slot."""
_LOOKS: Final = 40
_LOOK_S: Final = 0.05
"""The server fills WORK a moment after the event is stored."""

log = structlog.get_logger()


@dataclass(slots=True)
class Ahead:
    """Answers urgent doorbells of a worker whose slots are all taken."""

    consumer: PullConsumer
    doorbells: Doorbells
    agent: str
    _running: dict[str, "asyncio.Task[None]"] = field(default_factory=dict[str, "asyncio.Task[None]"])

    async def run(self, stop: asyncio.Event) -> None:
        """Hears urgent events until stopped; replicas share them."""
        bus = self.doorbells.publisher.bus
        heard = [subjects.events_named(event, self.agent) for event in URGENT]
        ends = [await bus.hear(subject, self._heard, queue=self.agent) for subject in heard]
        try:
            await stop.wait()
        finally:
            for end in ends:
                await end()
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _heard(self, message: Msg) -> None:
        task = subjects.task_in(message.subject)
        if not self.consumer.full or task in self._running or not subjects.TASK_ID.fullmatch(task):
            return
        answering = self._running[task] = asyncio.create_task(self._answer(task, message))
        answering.add_done_callback(lambda _: self._running.pop(task))

    async def _answer(self, task: str, message: Msg) -> None:
        """Whatever goes wrong is left to the doorbell's turn: it still stands in WORK."""
        try:
            stored = await self._doorbell(task, (message.headers or {}).get(MSG_ID, ""))
            if stored is not None:
                log.info("ahead.answering", task=task, work_seq=stored.seq)
                delivery = Delivery(stored, deliveries=1, client=self.doorbells.publisher.bus.client, message=message)
                await self.doorbells(delivery)
        except MeshError as error:
            log.info("ahead.left_to_its_turn", task=task, reason=str(error))
        except Exception:
            log.exception("ahead.failed", task=task)

    async def _doorbell(self, task: str, rang: str) -> Stored | None:
        """The doorbell that an event of this id rang, soon; None when it was answered in its turn meanwhile."""
        for _ in range(_LOOKS):
            stored = await self.doorbells.publisher.bus.newest(subjects.WORK, subjects.work_item(self.agent, task))
            if stored is not None and rang in {"", stored.headers.get(MSG_ID)}:
                return stored
            await asyncio.sleep(_LOOK_S)
        return None
