"""Follows a task to where only a person can help it on, and asks that person where one is there.

Owns the loop of `run`, `answer`, `approve` and `watch`: show what happens, ask, tell the agent, go on. A first
Ctrl-C cancels the task and waits for its end, a second one leaves it as it is. Left out: how it is drawn
(progress.py), how questions are put (asking.py).
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts import subjects
from contracts.envelope import TaskEvent, read_event
from contracts.events import AnswerValue, Progressed
from contracts.message import ContractError
from contracts.task import TaskState, transition
from services._runtime.consumer import OrderedConsumer
from services.gateway import requests
from services.gateway.attach import Desk
from services.gateway.exits import waits_for_person
from services.gateway.progress import View


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says to a design."""

    agreed: bool
    comment: str = ""


class Person(Protocol):
    """Somebody who can be asked. None: they want to leave it open."""

    async def answer(self, state: TaskState) -> Mapping[str, AnswerValue] | None:
        """Answers to the open questions."""
        ...

    async def decide(self, state: TaskState) -> Decision | None:
        """A decision on the design."""
        ...


@dataclass(frozen=True, slots=True)
class Interrupts:
    """Ctrl-C: once to cancel, twice to stop; at once where there is nothing to cancel. SIGTERM stops."""

    cancels: bool = True
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.contextmanager
    def heard(self) -> Generator[None]:
        """Takes the signals while the block runs."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._pressed)
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)

    def _pressed(self) -> None:
        (self.cancel if self.cancels and not self.cancel.is_set() else self.stop).set()


@dataclass(slots=True)
class Journey:
    """One task, followed. `state` is how it stands now."""

    desk: Desk
    state: TaskState
    view: View
    person: Person | None = None
    """None: the journey ends where somebody must be asked."""
    interrupts: Interrupts = field(default_factory=Interrupts)

    async def run(self) -> TaskState:
        """The state at the end, at an open question, or where it was stopped.

        Raises: MeshGone, BusUnavailable when the bus is lost; TooLarge, Forbidden when an answer is refused.
        """
        with self.interrupts.heard():
            await first_of(self._carry(), self.interrupts.stop.wait(), self.desk.lost(), self._cancel())
        return self.state

    async def _carry(self) -> None:
        while True:
            with self.view:
                await self._follow()
            if self.state.final is not None or self.person is None:
                return
            if not await first_of(self._asked(self.person), self.interrupts.cancel.wait()):
                return

    async def _follow(self) -> None:
        """Shows events until the task is at rest."""
        bus, task = self.desk.bus, self.state.task
        for stored in await bus.history(task, after=self.state.last_seq):
            self._take(read_event(stored))
        if self._at_rest():
            return
        end = await bus.subscribe(subjects.live(task), self._hinted)
        stop = asyncio.Event()
        events = OrderedConsumer(bus, subjects.TASKS, subjects.task_history(task), after=self.state.last_seq)
        try:
            async with contextlib.aclosing(events.run(stop)) as found:
                async for stored in found:
                    if not stop.is_set():
                        self._take(read_event(stored))
                    if self._at_rest():
                        stop.set()
        finally:
            await end()

    def _at_rest(self) -> bool:
        return self.state.final is not None or (waits_for_person(self.state) and not self.interrupts.cancel.is_set())

    def _take(self, event: TaskEvent) -> None:
        self.state = transition(self.state, event)
        self.view.seen(event)

    async def _hinted(self, message: "_Heard") -> None:
        with contextlib.suppress(ContractError):  # anybody may publish there, and only the view is concerned
            self.view.hinted(Progressed.from_bytes(message.data))

    async def _asked(self, person: Person) -> bool:
        """Asks, and tells the agent. False when the person leaves it open."""
        if self.state.waiting == "approval":
            decision = await person.decide(self.state)
            if decision is not None:
                await requests.approve(
                    self.desk.publisher, self.state, agreed=decision.agreed, comment=decision.comment
                )
            return decision is not None
        answers = await person.answer(self.state)
        if answers:
            await requests.answer(self.desk.publisher, self.state, answers)
        return bool(answers)

    async def _cancel(self) -> None:
        """Asks the agent to end the task once Ctrl-C was pressed; the end itself is an event like any other."""
        await self.interrupts.cancel.wait()
        await requests.cancel(self.desk.publisher, self.state, "Ctrl-C")
        await self.interrupts.stop.wait()


class _Heard(Protocol):
    """A message of a core subscription."""

    @property
    def data(self) -> bytes: ...


async def first_of(*works: Awaitable[Any]) -> Any:
    """The result of the first to end; the others are cancelled. Of several that have ended, the first given."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
