"""Processes of the mesh that kill or freeze themselves at a named place, and others that go on: a composition root.

`python -m tests.fakes.crashing` reads orders, one JSON object a line, and makes a keeper for each: it runs the process
once for each of its crash points, and without one after that. `{"stop": TASK}` ends a task's keeper. With a DIRECTORY
the process is an ml-engineer that dies of nothing, on the mesh at NATS_URL, until SIGTERM.

What is run is the product's: worker, journal, the summarizer's desk, the gateway's supervisor. Bus, consumer and
deliveries are wrapped; the ml-engineer's craft is a small one, with the events of a real engagement and two steps with
an effect outside the bus.

Each task has durables of its own, so that whoever is killed is at work on one task alone.
"""

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from contracts import subjects
from contracts.briefing import Briefing, BriefingBody
from contracts.envelope import Stored
from contracts.events import (
    Canceled,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Progressed,
    Question,
    QuestionsAsked,
    Released,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.task import Timer
from services._runtime import service, telemetry
from services._runtime.bus import Ack, Bus
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.embedded import die_with_parent
from services._runtime.errors import Interrupted, Permanent
from services._runtime.journal import Activation
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Handle, Worker
from services.gateway.supervisor import Supervisor
from services.summarizer.desk import Desk
from tests.runtime.crash_points import Role

QUESTIONS: Final = ("nfr.first", "nfr.second")
STEPS: Final = ("measure", "package")
EXPIRE_S: Final = 600.0
"""Timers are set and do not fire: nothing is late here."""
_UP_S: Final = 0.3
"""How long a process that was frozen has to do what it still wants to do."""
_POLL_S: Final = 0.02
_SLOW_S: Final = 0.4
"""How long an effect of a `slow` task takes: so many can be met in the middle of one."""


class Crash:
    """Where this process kills itself, or stands still until somebody wakes it; nowhere without a place."""

    def __init__(self, place: str = "", woken: Path | None = None) -> None:
        self._place = place
        self._woken = woken

    def at(self, place: str) -> None:
        """Dies here, if it is here: nothing that runs later is done, no last words are said.

        With a file `woken` it freezes instead, once, and says there that it has been up again for a moment.
        """
        if place != self._place:
            return
        if self._woken is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self._place = ""
            os.kill(os.getpid(), signal.SIGSTOP)
            asyncio.get_running_loop().call_later(_UP_S, self._woken.touch)


class CrashingBus(Bus):
    """A bus at whose calls a process may die."""

    crash = Crash()

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str], **rest: Any) -> Ack:
        """Before it is sent, and once it is stored: whoever called it never learns that."""
        what = _spoken(subject, body)
        self.crash.at(f"before {what}")
        ack = await super().publish(subject, body, headers, **rest)
        self.crash.at(f"stored {what}")
        return ack

    async def history(self, task: str, **rest: Any) -> list[Stored]:
        """Around a fold. The first is the one that a claim, a summary or a verdict stands on."""
        self.crash.at("before fold")
        found = await super().history(task, **rest)
        self.crash.at("after fold")
        return found

    async def unschedule(self, task: str) -> None:
        """Around the taking back of timers, the last thing that is done for a task."""
        self.crash.at("before unschedule")
        await super().unschedule(task)
        self.crash.at("after unschedule")


def _spoken(subject: str, body: bytes) -> str:
    """What a message is in the words of the matrix."""
    if subject.startswith("mesh.dead."):
        return "dead letter"
    event = subject.split(".")[3]
    if subject.startswith("mesh.timer."):
        return f"timer {event}"
    return f"step {json.loads(body)['name']}" if event == "step" else event


@dataclass(frozen=True)
class CrashingDelivery(Delivery):
    """A delivery around whose settling a process may die."""

    crash: Crash

    async def ack(self) -> None:
        """Done."""
        self.crash.at(f"before ack {self._event}")
        await super().ack()
        await self._heard()

    async def term(self, reason: str) -> None:
        """Never again: settled as well, and the matrix calls both `ack`."""
        self.crash.at(f"before ack {self._event}")
        await super().term(reason)
        await self._heard()

    @property
    def _event(self) -> str:
        """The event that was delivered, or that rang; what says nothing of itself is a submission here."""
        return self.stored.headers.get("ce-type", "submitted").rpartition(".")[2]

    async def _heard(self) -> None:
        await self.client.flush()
        self.crash.at(f"after ack {self._event}")


class CrashingConsumer(PullConsumer):
    """A consumer whose process may die with a delivery in its hands."""

    crash = Crash()

    async def run(self, stop: asyncio.Event) -> AsyncGenerator[Delivery]:
        """Deliveries that may be the last ones."""
        async with aclosing(super().run(stop)) as deliveries:
            async for delivery in deliveries:
                self.crash.at("after fetch")
                given = {one.name: getattr(delivery, one.name) for one in fields(Delivery)}
                yield CrashingDelivery(**given, crash=self.crash)


@dataclass(frozen=True, slots=True)
class Craft:
    """The TaskHandler: brief, ask, design, two steps, deliver, report, end."""

    directory: Path
    crash: Crash = field(default_factory=Crash)
    expire_s: float = EXPIRE_S

    async def engage(self, activation: Activation) -> None:
        """As far as the task goes now."""
        self.crash.at("after working")
        state = activation.state
        if state.report is not None:
            await self._end(activation)
        elif "answers" in state.timeouts:
            raise Permanent("nobody answered in time")
        elif state.waiting is not None:
            await self._tell(activation, "released", Released(reason=f"still waiting for {state.waiting}"))
        elif state.asked is None:
            await self._ask(activation)
        else:
            await self._build(activation)

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """Somebody cancelled."""
        await self._tell(activation, "canceled", Canceled(reason=interrupt.reason))

    async def failed(self, activation: Activation, reason: str) -> None:
        """It cannot succeed."""
        await self._report(activation, "failed", reason)

    async def _ask(self, activation: Activation) -> None:
        if activation.state.briefing is None:
            body = BriefingBody(summary="A shop.")
            briefing = Briefing(response_to="ml-engineer", status="success", briefing=body)
            await self._tell(activation, "briefed", briefing)
        questions = tuple(Question(id=name, slot="nfr", field="f", text="How?", why="So.") for name in QUESTIONS)
        await self._set(activation, "answers")
        await self._tell(activation, "asked", QuestionsAsked(known=(), questions=questions))

    async def _build(self, activation: Activation) -> None:
        state = activation.state
        if state.design is None:
            design = DesignProposed(digest="d1", awaits_approval=False, sections=(), spec={"name": "shop"})
            await self._tell(activation, "designed", design)
        if state.progress is None:
            await self._tell(activation, "progressed", Progressed(step=STEPS[0]))
        for name in STEPS:
            await self._step(activation, name)
        if "fail" in _request(activation):
            raise Permanent("it cannot be done: ask for something else")
        if activation.state.delivered is None:
            body = Delivered(system="shop", system_dir="/ml/shop", outcome="success")
            await self._tell(activation, "delivered", body)
        await self._report(activation, "success", "done")

    async def _step(self, activation: Activation, name: str) -> None:
        """Its effect is a file, made once for its key; each execution is counted beside it."""
        key = activation.effect_key(name)

        async def effect() -> str:
            self.crash.at(f"before effect {name}")
            with (self.directory / f"{activation.task}.executions").open("a", encoding="utf-8") as executions:
                executions.write(f"{key} {activation.claim}\n")
            with suppress(FileExistsError), (self.directory / key.replace("/", ".")).open("x") as made:
                made.write(f"made by {name}\n")
            self.crash.at(f"after effect {name}")
            if "slow" in _request(activation):
                await asyncio.sleep(_SLOW_S)
            if "cancel" in _request(activation):
                await asyncio.Event().wait()
            return name

        await activation.step(name, effect, result=str)
        self.crash.at(f"after step {name}")

    async def _report(self, activation: Activation, status: Literal["success", "failed"], summary: str) -> None:
        await self._set(activation, "summary")
        report = ActivityReport(reporting_agent=activation.state.agent, status=status, summary=summary)
        await self._tell(activation, "reported", report)

    async def _end(self, activation: Activation) -> None:
        report = activation.state.report
        if activation.state.waiting == "summary":
            await self._tell(activation, "released", Released(reason="still waiting for the summary"))
        elif report is not None and report.status == "failed":
            await self._tell(activation, "failed", Failed(reason=report.summary))
        else:
            await self._tell(activation, "completed", Completed(reason="done"))

    async def _tell(self, activation: Activation, event: str, body: Message) -> None:
        await activation.append(event, body)
        self.crash.at(f"after {event}")

    async def _set(self, activation: Activation, name: Timer) -> None:
        await activation.timer(name, self.expire_s)


def _request(activation: Activation) -> str:
    return activation.state.request.request if activation.state.request is not None else ""


@dataclass(frozen=True, slots=True)
class Order:
    """A process to run: in which role, for which task, and where it dies, one after the other."""

    role: Role
    task: str
    places: Sequence[str]
    directory: str
    settings: dict[str, Any]
    freeze: bool = False
    """It is frozen there, and woken once `<task>.thaw` exists."""

    def file(self, name: str) -> Path:
        """A file about the task's processes."""
        return Path(self.directory) / f"{self.task}.{name}"


async def work(order: Order, bus: Bus, crash: Crash, stop: asyncio.Event) -> None:
    """The role's worker on the durable of the order's task, until `stop`."""
    settings = bus.settings
    runtime = Runtime(order.role, settings, bus, telemetry.start(order.role, settings), stop)
    stream = subjects.TASKS if order.role == subjects.GATEWAY else subjects.WORK
    consumer = CrashingConsumer(bus, stream, durable(order.role, order.task))
    consumer.crash = crash
    worker = Worker(runtime.publisher, consumer, _handle(runtime, Path(order.directory), crash), order.role)
    await worker.run(stop)


def durable(role: str, task: str) -> str:
    """The name of a task's own durable."""
    return f"{role}-{task}"


def _handle(runtime: Runtime, directory: Path, crash: Crash) -> Handle:
    """What the role does with a delivery, as its own composition root wires it."""
    match runtime.name:
        case subjects.SUMMARIZER:
            handle: Handle = Desk(runtime, None)
        case subjects.GATEWAY:
            handle = Supervisor(runtime).on_task_message
        case _:
            handle = Doorbells(runtime.publisher, Craft(directory, crash), runtime.executor)

    async def begun(delivery: Delivery) -> None:
        crash.at("before decode")
        await handle(delivery)

    return begun


async def _process(order: Order, place: str) -> None:
    bus = await CrashingBus.connect(Settings.read(**order.settings), order.role)
    assert isinstance(bus, CrashingBus)
    bus.crash = crash = Crash(place, order.file("woken") if order.freeze else None)
    await work(order, bus, crash, asyncio.Event())


def _run(order: Order, place: str) -> int:
    """A process of the order's; its process id. It dies with whoever started it."""
    dies = die_with_parent(signal.SIGKILL)
    child = os.fork()
    if child == 0:
        dies()
        try:
            asyncio.run(_process(order, place))
        finally:
            traceback.print_exc()
            os._exit(1)  # not by returning: reading orders is the parent's
    return child


def _keep(order: Order) -> int:
    """A keeper of the order's; its process id. What became of its processes stands in `<task>.deaths`."""
    dies = die_with_parent(signal.SIGKILL)
    keeper = os.fork()
    if keeper == 0:
        dies()
        try:
            victims = [_harmed(order, place) for place in order.places]
            after = _run(order, "")
            if order.freeze:
                _wake(victims[-1], order.file("thaw"))
            os.waitpid(after, 0)
        finally:
            traceback.print_exc()
            os._exit(1)
    return keeper


def _harmed(order: Order, place: str) -> int:
    """A process that came to harm there; its process id."""
    victim = _run(order, place)
    _, status = os.waitpid(victim, os.WUNTRACED)
    fate = "frozen" if os.WIFSTOPPED(status) else str(os.waitstatus_to_exitcode(status))
    with order.file("deaths").open("a", encoding="utf-8") as deaths:
        deaths.write(f"{fate}\n")
    return victim


def _wake(zombie: int, when: Path) -> None:
    while not when.exists():
        time.sleep(_POLL_S)
    os.kill(zombie, signal.SIGCONT)


def follow_orders() -> None:
    """Keeps what is ordered until there are no more orders."""
    keepers: dict[str, int] = {}
    for line in sys.stdin:
        told: dict[str, Any] = json.loads(line)
        if "stop" in told:
            keeper = keepers.pop(told["stop"])
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
        else:
            order = Order(**told)
            keepers[order.task] = _keep(order)


async def start(runtime: Runtime) -> None:
    """The ml-engineer of this craft as a service."""
    work = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER)
    runtime.ready.set()
    await Worker(runtime.publisher, work, _handle(runtime, Path(sys.argv[1]), Crash())).run(runtime.stop)


if __name__ == "__main__":
    if sys.argv[1:]:
        service.main(subjects.ML_ENGINEER, start)
    else:
        telemetry.configure_logs(os.environ.get("MLMESH_LOG_LEVEL", "warning"))
        follow_orders()
