"""Who wants something of the mesh: requests of every kind, answers in time, late, twice, too early; and their board.

Everything that is said is kept with what the bus said to it, so that each word can be accounted for (judge.py). What
somebody says to a task comes from the run's seed and the task's number.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from contracts import subjects
from contracts.envelope import MSG_ID, read_event
from contracts.events import Approved, CancelRequested, QuestionsAnswered, TaskSubmitted
from contracts.message import Message
from contracts.task import TaskState, transition
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer
from services._runtime.errors import BusUnavailable
from services._runtime.publisher import About, Publisher, new_id
from tests.chaos.stepper import QUESTIONS

TASKS_PER_WORKSPACE: Final = 40
DEADLINE_S: Final = 4.0
_TWICE: Final = 0.2
_LATE: Final = 0.3
_PAUSE_S: Final = 0.2
_README: Final = "# Shop\n\nPredict who leaves. We expect 50 requests a second.\n"
_TABLE: Final = "age,visits,left\n31,4,0\n52,1,1\n47,9,0\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A kind of request, and how it may end."""

    words: str
    ends: frozenset[str]
    weight: int = 1
    agent: str = subjects.ML_ENGINEER
    readable: bool = True


def _kind(words: str, *ends: str, weight: int = 1) -> Request:
    return Request(words, frozenset(ends), weight)


REQUESTS: Final = (
    _kind("go", "completed", weight=8),
    _kind("ask", "completed", weight=3),
    _kind("ask, answered early", "completed"),
    _kind("approve", "completed", weight=2),
    _kind("approve, refused", "canceled"),
    _kind("ask and approve", "completed"),
    _kind("fail", "failed"),
    _kind("ask, expire", "failed"),
    _kind("overdue", "failed"),
    _kind("go, cancelled somewhere", "canceled", "completed", weight=2),
    _kind("overdue, cancelled", "canceled", "failed"),
    Request("for nobody", frozenset({"failed"}), agent="nobody"),
    Request("unreadable", frozenset({"failed"}), readable=False),
)


@dataclass(slots=True)
class Said:
    """A message that the run published on TASKS, and what came of it."""

    id: str
    task: str
    event: str
    seq: int | None = None
    """Where it is stored; None: the bus has not said so yet."""


@dataclass
class Board:
    """Every task as its events tell it, as they come."""

    bus: Bus
    states: dict[str, TaskState] = field(default_factory=dict[str, TaskState])
    _news: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    async def follow(self, stop: asyncio.Event) -> None:
        """Reads TASKS until stopped."""
        consumer = OrderedConsumer(self.bus, subjects.TASKS, subjects.ALL_TASKS)
        async for stored in consumer.run(stop):
            event = read_event(stored)
            task = stored.subject.split(".")[2]
            self.states[task] = transition(self.states.get(task, TaskState(task)), event)
            if news := self._news.pop(task, None):
                news.set()

    def standing(self) -> list[str]:
        """Where the first of the open tasks stand, in words."""
        found = [state for state in self.states.values() if state.final is None]
        return [f"{state.task} {state.waiting or state.status} since {state.last_seq}" for state in found[:4]]

    async def until(self, task: str, reached: Callable[[TaskState], bool]) -> TaskState:
        """The task once it is so."""
        while True:
            state = self.states.get(task, TaskState(task))
            if reached(state):
                return state
            await self._news.setdefault(task, asyncio.Event()).wait()

    def open(self) -> int:
        """How many tasks are not final."""
        return sum(state.final is None for state in self.states.values())


@dataclass
class Voice:
    """Publishes, and keeps what it said."""

    publisher: Publisher
    said: list[Said] = field(default_factory=list[Said])

    async def tell(
        self, task: str, event: str, body: Message, *, agent: str = subjects.ML_ENGINEER, times: int = 1
    ) -> None:
        """An event, again under its id until the bus says that it is stored; `times` 2: once more after that."""
        one = Said(new_id(), task, event)
        self.said.append(one)
        told = 0
        while told < times:
            try:
                sent = await self.publisher.event(event, agent, body, About(task=task, id=one.id))
            except BusUnavailable:
                await asyncio.sleep(_PAUSE_S)
            else:
                one.seq, told = sent.ack.seq, told + 1

    async def babble(self, task: str, event: str, body: bytes) -> None:
        """Bytes that are no message."""
        one = Said(new_id(), task, event)
        self.said.append(one)
        subject = f"mesh.task.{task}.{event}.{subjects.ML_ENGINEER}"
        while one.seq is None:
            try:
                one.seq = (await self.publisher.bus.publish(subject, body, {MSG_ID: one.id})).seq
            except BusUnavailable:
                await asyncio.sleep(_PAUSE_S)


@dataclass
class People:
    """Keeps so many tasks open, and says to each what its kind of request needs."""

    directory: Path
    seed: int
    board: Board
    voice: Voice
    kinds: Sequence[Request]
    """Kinds of requests to choose from."""
    most: int | None = None
    """How many tasks there are at most."""
    requests: dict[str, Request] = field(default_factory=dict[str, Request])
    """Task -> what was requested."""
    attending: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])
    enough: bool = False
    """No new tasks any more."""

    async def feed(self, open_tasks: int) -> None:
        """New tasks, as long as it is not enough."""
        while not self.enough:
            known = sum(task not in self.board.states for task in self.requests) + self.board.open()
            if known < open_tasks and (self.most is None or len(self.requests) < self.most):
                self._begin(len(self.requests))
            await asyncio.sleep(0.03)

    def _begin(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        request = rng.choices(self.kinds, [one.weight for one in self.kinds])[0]
        task = f"t{number}"
        self.requests[task] = request
        attending = asyncio.create_task(self._attend(task, number, request, rng))
        self.attending.add(attending)
        attending.add_done_callback(self.attending.discard)

    async def _attend(self, task: str, number: int, request: Request, rng: random.Random) -> None:
        if "early" in request.words:  # before there is any task to answer to
            await self.voice.tell(task, "answered", _answers(QUESTIONS))
        await self._submit(task, self._workspace(number), request, rng)
        if "early" in request.words:
            await self.voice.tell(task, "answered", _answers(QUESTIONS), times=_times(rng))
        if "cancelled" in request.words:
            await asyncio.sleep(rng.uniform(0, 3))
            await self.voice.tell(
                task, "cancel-requested", CancelRequested(reason="changed my mind"), times=_times(rng)
            )
        if "ask" in request.words and "expire" not in request.words:
            await self._answer(task, rng)
        if "approve" in request.words:
            await self._decide(task, rng, approve="refused" not in request.words)
        await self.board.until(task, lambda state: state.final is not None)
        if rng.random() < _LATE:
            await self._late(task, rng)

    async def _submit(self, task: str, workspace: Path, request: Request, rng: random.Random) -> None:
        if not request.readable:
            await self.voice.babble(task, "submitted", b'{"request": 7')
            return
        deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_S) if "overdue" in request.words else None
        body = TaskSubmitted.model_validate(
            {"request": request.words, "workspace": str(workspace), "constraints": {"deadline": deadline}}
        )
        await self.voice.tell(task, "submitted", body, agent=request.agent, times=_times(rng))
        if rng.random() < _TWICE / 2:  # somebody else's, under the same id
            await self.voice.tell(task, "submitted", body, agent=request.agent)

    async def _answer(self, task: str, rng: random.Random) -> None:
        await self.board.until(task, lambda state: state.asked is not None or state.final is not None)
        await asyncio.sleep(rng.uniform(0, 1.5))
        parts = [QUESTIONS] if rng.random() < 0.5 else [(name,) for name in rng.sample(QUESTIONS, 2)]
        for part in parts:
            await self.voice.tell(task, "answered", _answers(part), times=_times(rng))

    async def _decide(self, task: str, rng: random.Random, *, approve: bool) -> None:
        await self.board.until(task, lambda state: state.design is not None or state.final is not None)
        await asyncio.sleep(rng.uniform(0, 1.5))
        await self.voice.tell(task, "approved", Approved(approve=approve), times=_times(rng))

    async def _late(self, task: str, rng: random.Random) -> None:
        """Something that comes too late to mean anything, or never meant anything."""
        match rng.randrange(6):
            case 0:
                await self.voice.tell(task, "answered", _answers(QUESTIONS))
            case 1:
                await self.voice.tell(task, "approved", Approved(approve=False))
            case 2:
                await self.voice.tell(task, "cancel-requested", CancelRequested())
            case 3:
                await self.voice.tell(task, "submitted", TaskSubmitted(request="go"))
            case 4:
                await self.voice.babble(task, "answered", b"\xff no answer")
            case _:
                await self.voice.babble(task, "invented", b"{}")

    def _workspace(self, number: int) -> Path:
        place = self.directory / "workspaces" / f"shop-{number // TASKS_PER_WORKSPACE}"
        if not place.exists():
            place.mkdir(parents=True)
            (place / "README.md").write_text(_README)
            (place / "visits.csv").write_text(_TABLE)
        return place

    def workspace(self, task: str) -> Path:
        """Where a task works."""
        return self._workspace(int(task.removeprefix("t")))


def _answers(names: Sequence[str]) -> QuestionsAnswered:
    return QuestionsAnswered.model_validate({"answers": dict.fromkeys(names, "yes")})


def _times(rng: random.Random) -> int:
    return 2 if rng.random() < _TWICE else 1
