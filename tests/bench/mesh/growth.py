"""What a task costs when many have been before it, and when it is a long one.

The same runs as in the contest, on buses that hold the journals of 10, 1,000 and 100,000 finished tasks
(filling.py). A task must not cost more because others were there.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from contracts import subjects
from contracts.task import FINAL_EVENTS
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.gateway.supervisor import Supervisor
from tests.bench.mesh import filling
from tests.bench.mesh.cost import resident_mb
from tests.bench.mesh.figures import Figures, percentile
from tests.bench.mesh.ours import Mesh, folder

LONG: Final = 10_000
"""Events of a long task."""
SHORT: Final = 10
_WAITING: Final = 0
"""The bus with the long tasks has no others."""
P50: Final = "growth: overhead of a task, p50 (ms)"
P99: Final = "growth: overhead of a task, p99 (ms)"
RATE: Final = "growth: tasks a second"
CPU: Final = "growth: processor time a task, all processes (ms)"
ROUND: Final = "growth: a round of the supervisor (s)"
START: Final = "growth: all services, start to ready (s)"
RESIDENT: Final = "growth: resident (MB), "
ANSWERED: Final = "growth: a task from its answer to its end (ms)"
FILL: Final = "growth: filling (s)"


def named(finished: int) -> str:
    """How a bus of that age is called in a table."""
    return f"{finished:,} finished"


@dataclass(slots=True)
class Growth:
    """Buses of different ages. `close` ends them."""

    sizes: tuple[int, ...]
    rounds: int
    figures: Figures
    tasks: int = 60
    burst: int = 240
    in_flight: int = 64
    _meshes: dict[int, Mesh] = field(default_factory=dict[int, Mesh])
    _answered: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def fill(self) -> None:
        """Makes the buses. Their servers stay up until `close`, idle while others are measured."""
        for finished in (*self.sizes, _WAITING):
            directory = self._stack.enter_context(folder(f"grown-{finished}"))
            self._meshes[finished] = mesh = Mesh(directory)
            mesh.start()
            mesh.submitter.run("task", times=2)
            mesh.rest()
            begun = time.perf_counter()
            asyncio.run(_fill(mesh, finished, self.rounds))
            if finished != _WAITING:
                self.figures.add(FILL, named(finished), time.perf_counter() - begun)

    def close(self) -> None:
        """Ends the servers and removes the stores."""
        for mesh in self._meshes.values():
            mesh.stop()
        self._stack.close()

    def systems(self) -> dict[str, Callable[[], None]]:
        """What takes turns in a round."""
        ages = {named(finished): lambda finished=finished: self._measure(finished) for finished in self.sizes}
        return {**ages, "long tasks": self._long}

    def _measure(self, finished: int) -> None:
        mesh, name = self._meshes[finished], named(finished)
        mesh.start()
        try:
            self.figures.add(START, name, mesh.ready_s)
            one = mesh.submitter.run("task", times=self.tasks)
            self.figures.add(P50, name, percentile(one.took, 0.5) * 1000)
            self.figures.add(P99, name, percentile(one.took, 0.99) * 1000)
            many = mesh.submitter.run("task", times=self.burst, in_flight=self.in_flight)
            self.figures.add(RATE, name, many.per_second)
            self.figures.add(CPU, name, sum(many.cpu_ms.values()))
            for process, spent in many.cpu_ms.items():
                self.figures.add(f"growth: processor time a task (ms), {process}", name, spent)
            for process in ("nats-server", subjects.GATEWAY, subjects.CONTEXT_MANAGER):
                self.figures.add(f"{RESIDENT}{process}", name, resident_mb(mesh.pids[process]))
            self.figures.add(ROUND, name, asyncio.run(_supervisor_round_s(mesh.server.url)))
        finally:
            mesh.rest()

    def _long(self) -> None:
        mesh = self._meshes[_WAITING]
        mesh.start()
        mesh.submitter.run("task", times=2)  # it is warm
        try:
            for events in (SHORT, LONG):
                took = asyncio.run(_answered_s(mesh.server.url, f"waits-{events}-{self._answered}"))
                self.figures.add(ANSWERED, f"task of {events:,} events", took * 1000)
            self._answered += 1
        finally:
            mesh.rest()


async def _fill(mesh: Mesh, finished: int, rounds: int) -> None:
    bus = await Bus.connect(Settings(), "bench", url=mesh.server.url)
    try:
        ended = await bus.subjects_of(subjects.TASKS, subjects.events_named("completed"))
        template = await bus.history(subjects.task_in(next(iter(ended))))
        lines = await asyncio.to_thread(_stored, mesh, template, finished, rounds)
        newest = await filling.taken_in(bus, stored=lines)
    finally:
        await bus.close()
    filling.remember(mesh.directory / "home", min(finished, newest - 1), newest)


def _stored(mesh: Mesh, template: list[filling.Stored], finished: int, rounds: int) -> int:
    pipe = filling.Pipe(mesh.server.port)
    try:
        count = pipe.store(filling.finished(template, finished))
        for number in range(rounds if finished == _WAITING else 0):
            for events in (SHORT, LONG):
                lines = filling.waiting(f"waits-{events}-{number}", events=events, workspace=str(mesh.workspace))
                count += pipe.store(lines)
        return count
    finally:
        pipe.close()


async def _supervisor_round_s(url: str) -> float:
    """Of the gateway's supervisor, run here."""
    bus = await Bus.connect(Settings(), "bench", url=url)
    try:
        runtime = Runtime("gateway", Settings(), bus, telemetry.start("gateway", Settings()), asyncio.Event())
        begun = time.perf_counter()
        await Supervisor(runtime).ring_missing()
        return time.perf_counter() - begun
    finally:
        await bus.close()


async def _answered_s(url: str, task: str) -> float:
    """Seconds from the answer of a waiting task to its end."""
    bus = await Bus.connect(Settings(), "bench", url=url)
    try:
        publisher = Publisher(bus, telemetry.start("bench", Settings()))
        begun = time.perf_counter()
        sent = await publisher.event("answered", subjects.ML_ENGINEER, filling.answer(), About(task=task))
        events = OrderedConsumer(bus, subjects.TASKS, subjects.task_history(task), after=sent.ack.seq)
        async with asyncio.timeout(60):
            async for stored in events.run(asyncio.Event()):
                if subjects.parse_task_event(stored.subject).event in FINAL_EVENTS:
                    return time.perf_counter() - begun
        raise RuntimeError(f"the bus ended before task {task!r} did")
    finally:
        await bus.close()
