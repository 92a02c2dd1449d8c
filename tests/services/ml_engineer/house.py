"""Whole engagements against a real nats-server: the ml-engineer's own service with an engine that learns nothing.

The context-manager is a responder with given facts; the summarizer is the real one, where a test wants one. Both
run on the test's loop. Every state that the engineer held is kept, to be compared with the replay.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from contracts import subjects
from contracts.briefing import Briefing, BriefingBody, ContextRequest, Fact
from contracts.envelope import Metadata, TaskEvent
from contracts.events import TaskSubmitted
from contracts.message import Message
from contracts.task import TaskState
from services._runtime.bus import Bus
from services._runtime.consumer import PullConsumer
from services._runtime.errors import Interrupted
from services._runtime.journal import Activation
from services._runtime.publisher import About, Publisher
from services._runtime.responder import Responder
from services._runtime.service import Runtime, Start, serve
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Worker
from services.ml_engineer.engine import Engine, EngineShelf
from services.ml_engineer.handlers import Engineer
from services.ml_engineer.playbook import Playbook
from services.summarizer.__main__ import start as start_summarizer
from tests.fakes.engine import Behaviour, pack
from tests.following import FINAL, eventually, history, until
from tests.laws import violations
from tests.workspaces import churn

REQUEST = "Predict who churned from data/churn.csv"


@dataclass(slots=True)
class House:
    """What stands around one workspace."""

    bus: Bus
    publisher: Publisher
    settings: Settings
    workspace: Path
    wheel: Path
    facts: tuple[Fact, ...] = ()
    missing: bool = False
    """Whether the context-manager cannot read the workspace."""
    live: list[TaskState] = field(default_factory=list[TaskState])
    asked: list[ContextRequest] = field(default_factory=list[ContextRequest])
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _running: list["asyncio.Task[None]"] = field(default_factory=list["asyncio.Task[None]"])

    async def submit(self, task: str = "t1", request: str = REQUEST, **given: object) -> None:
        """A request on the bus; defaults are accepted unless the test says otherwise."""
        about = {"request": request, "workspace": str(self.workspace), "accept_defaults": True, **given}
        await self.tell("submitted", TaskSubmitted.model_validate(about), task)

    async def tell(self, event: str, body: Message, task: str = "t1") -> None:
        """Something from the asker's side."""
        await self.publisher.event(event, subjects.ML_ENGINEER, body, About(task=task))

    async def ended(self, task: str = "t1") -> TaskEvent:
        """The final event, of a task that has broken no law."""
        final = await until(self.bus, task, FINAL)
        assert violations(await history(self.bus, task), self.workspace, self.states(task)) == []
        return final

    async def events(self, task: str = "t1") -> list[str]:
        """Names of what the task has seen, without progress."""
        return [event.event for event in await history(self.bus, task) if event.event != "progressed"]

    def states(self, task: str = "t1") -> Sequence[TaskState]:
        """What the engineer held in memory of a task whenever it let go of it."""
        return [state for state in self.live if state.task == task]

    def calls(self) -> list[str]:
        """Commands that the engine was given."""
        file = self.wheel.parent / "calls"
        return file.read_text().split() if file.exists() else []

    def path(self, name: str) -> str:
        """A file beside the wheel, for a behaviour."""
        return str(self.wheel.parent / name)

    def behave(self, behaviour: Behaviour) -> None:
        """From the next command on."""
        pack(self.wheel.parent, {"calls": self.path("calls"), **behaviour})

    async def open(self, *, summarizer: bool = True) -> None:
        """Everybody is at work when this returns."""
        self._stop = asyncio.Event()
        await self._begin(subjects.CONTEXT_MANAGER, self._start_context)
        await self._begin(subjects.ML_ENGINEER, self._start_engineer)
        if summarizer:
            await self._begin(subjects.SUMMARIZER, start_summarizer)

    async def running(self, command: str) -> None:
        """Returns when the engine was given a command and has begun it."""
        await eventually(lambda: self._begun(command))

    async def _begun(self, command: str) -> bool:
        return command in self.calls()

    async def _begin(self, name: str, start: Start) -> None:
        ready = asyncio.Event()

        async def started(runtime: Runtime) -> None:
            runtime.ready = ready
            await start(runtime)

        service = asyncio.create_task(serve(name, started, self.settings, self._stop))
        self._running.append(service)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({waiting, service}, return_when=asyncio.FIRST_COMPLETED)
        assert ready.is_set(), service.exception()

    async def close(self) -> None:
        """Everybody ends; what went wrong with a service is raised."""
        self._stop.set()
        await asyncio.gather(*self._running)
        self._running.clear()

    async def _start_engineer(self, runtime: Runtime) -> None:
        shelf = EngineShelf(self.wheel.parent, _engine=Engine(self.wheel, self.wheel.parent / "lib"))
        handler = Watched(Engineer(runtime.settings, Playbook(), shelf), self.live)
        doorbells = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER)
        runtime.ready.set()
        worker = Worker(runtime.publisher, doorbells, Doorbells(runtime.publisher, handler, runtime.executor))
        await worker.run(runtime.stop)

    async def _start_context(self, runtime: Runtime) -> None:
        async def answer(request: ContextRequest, _: Metadata) -> Message:
            self.asked.append(request)
            paths = tuple(dict.fromkeys(fact.source.rpartition(":")[0] for fact in self.facts))
            body = BriefingBody(summary="A shop.", relevant_paths=paths, facts=self.facts)
            return refuse("it is gone") if self.missing else Briefing(response_to="x", status="success", briefing=body)

        def refuse(reason: str) -> Message:
            return Briefing(response_to="x", status="error", briefing=BriefingBody(summary=reason))

        subject = subjects.context_request("get_task_briefing")
        await Responder(runtime, [subject], ContextRequest, answer, refuse).run(runtime.stop)


@dataclass(slots=True)
class Watched:
    """The engineer, and the state that it held whenever it let go of a task."""

    engineer: Engineer
    live: list[TaskState]

    async def engage(self, activation: Activation) -> None:
        """See Engineer."""
        try:
            await self.engineer.engage(activation)
        finally:
            self.live.append(activation.state)

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """See Engineer."""
        await self.engineer.interrupted(activation, interrupt)
        self.live.append(activation.state)

    async def failed(self, activation: Activation, reason: str) -> None:
        """See Engineer."""
        await self.engineer.failed(activation, reason)
        self.live.append(activation.state)


@asynccontextmanager
async def opened(
    bus: Bus, publisher: Publisher, settings: Settings, directory: Path, *, summarizer: bool = True
) -> AsyncGenerator[House]:
    """A house around a small workspace with churn data and a README."""
    workspace = churn(directory / "shop", rows=60)
    (workspace / "README.md").write_text("A shop.\n")
    house = House(bus, publisher, settings, workspace.resolve(), pack(directory / "engine"))
    house.behave({})
    await house.open(summarizer=summarizer)
    try:
        yield house
    finally:
        await house.close()
