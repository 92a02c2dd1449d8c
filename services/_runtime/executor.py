"""This process as one that carries tasks on: its name, what it hears of the tasks it holds, what it remembers.

None of it is the truth, which is the stream: a hint says that it is time to look, a fold that was kept spares reading
again what cannot have changed, and compare-and-set proves every decision.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from nats.aio.msg import Msg

from contracts import subjects
from contracts.envelope import MSG_ID, TaskEvent
from contracts.task import TaskState
from services._runtime.bus import Bus

_ROOM: Final = 20_000
"""Events kept of tasks that rest, of all of them together; the longest unused are forgotten first."""


@dataclass(frozen=True, slots=True)
class _Kept:
    state: TaskState
    history: tuple[TaskEvent, ...]
    connection: int
    """A server that was started anew may have another stream: nothing is kept over a new connection."""


@dataclass(slots=True)
class Executor:
    """An executor by its name, such as `ml-engineer@host:4711`."""

    name: str
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is to end: no step of any task is begun any more."""
    _hints: dict[str, dict[str, asyncio.Event]] = field(default_factory=dict[str, dict[str, asyncio.Event]])
    _kept: "OrderedDict[str, _Kept]" = field(default_factory=OrderedDict[str, _Kept])
    _events: int = 0
    _listening: set[str] = field(default_factory=set[str])
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def listen(self, bus: Bus, agent: str) -> None:
        """Hears from now on what others write about the agent's tasks."""
        async with self._lock:
            if agent not in self._listening:
                for event in subjects.HINTS:
                    await bus.hear(subjects.events_named(event, agent), self._heard)
                await bus.flush()
                self._listening.add(agent)
                bus.on_reconnect.append(self._look_everywhere)

    def attend(self, task: str, claim_id: str) -> asyncio.Event:
        """An event that is set whenever others write about the task, until `leave`; the claim's own echo is none."""
        hint = self._hints.setdefault(task, {})[claim_id] = asyncio.Event()
        return hint

    def leave(self, task: str, claim_id: str) -> None:
        """The claim is over, or has come to nothing."""
        self._hints[task].pop(claim_id)
        if not self._hints[task]:
            del self._hints[task]

    def keep(self, bus: Bus, state: TaskState, history: list[TaskEvent]) -> None:
        """Remembers how far a task has been read."""
        self.forget(state.task)
        if state.final is None and len(history) <= _ROOM and not bus.clustered:
            self._kept[state.task] = _Kept(state, tuple(history), bus.connections)
            self._events += len(history)
        while self._events > _ROOM:
            self.forget(next(iter(self._kept)))

    def known(self, bus: Bus, task: str) -> tuple[TaskState, list[TaskEvent]]:
        """The fold as far as it is remembered, and its events; that of nothing where it is not."""
        kept = self._kept.get(task)
        if kept is None or kept.connection != bus.connections:
            return TaskState(task), []
        return kept.state, list(kept.history)

    def forget(self, task: str) -> None:
        """The stream contradicts what is remembered, or the task is over."""
        kept = self._kept.pop(task, None)
        self._events -= len(kept.history) if kept else 0

    def look(self, task: str) -> None:
        """A doorbell rang for a task that is held already: unlike a hint it is not lost, and timers ring it too."""
        for hint in self._hints.get(task, {}).values():
            hint.set()

    def _look_everywhere(self) -> None:
        """Hints may have been lost with the connection."""
        for task in self._hints:
            self.look(task)

    def _heard(self, message: Msg) -> None:
        hints = self._hints.get(message.subject.split(".")[2])
        if hints:
            written_by = (message.headers or {}).get(MSG_ID, "")
            for claim_id, hint in hints.items():
                if claim_id != written_by:
                    hint.set()
