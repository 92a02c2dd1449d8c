"""Many tasks wait for a person: what they cost meanwhile, and that all of them go on after everything was restarted.

`python -m tests.chaos.waiting --tasks 1000` prints progress on stderr, one JSON object on stdout; exit 1 unless every
task completed once. The services are real processes against a real nats-server; the engineer only asks.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from contracts import subjects
from contracts.events import Answer, QuestionsAnswered, TaskSubmitted
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable
from services._runtime.health import trouble
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.gateway.supervisor import Supervisor
from tests.fakes.asker import QUESTION
from tests.following import FINAL, eventually, history
from tests.processes import Services
from tests.server import NatsServer

_AT_ONCE: Final = 50
_LONGEST_S: Final = 300.0


@dataclass(slots=True)
class Found:
    """What was measured. Memory in MB, by process; seconds elsewhere."""

    tasks: int
    asked_s: float = 0.0
    memory_before: dict[str, float] = field(default_factory=dict[str, float])
    memory_waiting: dict[str, float] = field(default_factory=dict[str, float])
    memory_restarted: dict[str, float] = field(default_factory=dict[str, float])
    """With every task waiting, read by nobody since the start."""
    processes_more: int = 0
    """Processes and threads of the services while all tasks wait, against before."""
    idle_cpu_share: float = 0.0
    """Of one core, all services and the server together, while all tasks wait."""
    restart_s: float = 0.0
    """From nothing to every service ready."""
    round_s: float = 0.0
    """A supervisor's whole first round over the waiting tasks."""
    woken: int = 0
    """Tasks that anything happened to between the question and the answer."""
    completed_s: float = 0.0
    completed: int = 0
    doubled: int = 0

    @property
    def good(self) -> bool:
        """True when every task completed once and nothing woke it before."""
        return self.completed == self.tasks and self.doubled == self.woken == self.processes_more == 0


@dataclass(slots=True)
class Trial:
    """One run in a directory."""

    directory: Path
    found: Found
    say: Callable[[str], None]
    idle_s: float = 5.0
    """How long it is watched what waiting costs."""

    async def run(self) -> Found:
        """Everything from the first submission to the last completion."""
        server = NatsServer(self.directory / "nats")
        server.start()
        services = Services(server.url, self.directory, MLMESH_LOG_LEVEL="warning")
        services.add(subjects.ML_ENGINEER, "-m", "tests.fakes.asker")
        settings = Settings.read(nats_url=server.url, home=self.directory / "home", publish_timeout_s=2)
        try:
            await self._all(server, services, settings)
        finally:
            services.stop()
            server.stop()
        return self.found

    async def _all(self, server: NatsServer, services: Services, settings: Settings) -> None:
        bus = await Bus.connect(settings, "client")
        publisher = Publisher(bus, telemetry.start("client", settings))
        await provision(bus)
        await self._start(bus, services)
        self.found.memory_before, before = memory(server, services), strands(services)
        await self._ask(publisher)
        self.found.idle_cpu_share = await idle(server, services, self.idle_s)
        self.found.memory_waiting = memory(server, services)
        self.found.processes_more = strands(services) - before
        await self._restart(bus, server, services)
        self.found.memory_restarted = memory(server, services)
        await self._look(bus, settings)
        await self._answer(publisher)
        await self._judge(bus)
        await bus.close()

    async def _start(self, bus: Bus, services: Services) -> None:
        services.start()
        for name in subjects.SERVICES:
            await eventually(lambda name=name: is_ready(bus, name), within_s=60)

    async def _ask(self, publisher: Publisher) -> None:
        began = time.monotonic()
        body = TaskSubmitted(request="predict", workspace=str(self.directory))
        await many(
            [
                lambda task=task: publisher.event("submitted", subjects.ML_ENGINEER, body, About(task=task))
                for task in self._tasks()
            ]
        )
        await self._until(publisher.bus, "asked")
        await eventually(lambda: has_read_all(publisher.bus), within_s=_LONGEST_S)
        self.found.asked_s = time.monotonic() - began
        self.say(f"{self.found.tasks} tasks asked after {self.found.asked_s:.1f} s")

    async def _restart(self, bus: Bus, server: NatsServer, services: Services) -> None:
        for name in subjects.SERVICES:
            await asyncio.to_thread(services.terminate, name)
        server.stop()
        began = time.monotonic()
        server.start()
        await self._start(bus, services)
        self.found.restart_s = time.monotonic() - began
        self.say(f"restarted in {self.found.restart_s:.1f} s")

    async def _look(self, bus: Bus, settings: Settings) -> None:
        """As the gateway does after its start; then nothing may have happened to any task."""
        supervisor = Supervisor(
            Runtime(subjects.GATEWAY, settings, bus, telemetry.start("look", settings), asyncio.Event())
        )
        began = time.monotonic()
        missing = await supervisor.ring_missing()
        self.found.round_s = time.monotonic() - began
        told = await bus.subjects_of(subjects.TASKS, subjects.ALL_TASKS)
        more = {subject.split(".")[2] for subject in told if subject.split(".")[3] in {"redriven", "released"}}
        self.found.woken = len(more | missing)
        self.say(f"a round of the supervisor's took {self.found.round_s:.2f} s")

    async def _answer(self, publisher: Publisher) -> None:
        began = time.monotonic()
        body = QuestionsAnswered(answers=(Answer(question_id=QUESTION.id, value="20 ms"),))
        await many(
            [
                lambda task=task: publisher.event("answered", subjects.ML_ENGINEER, body, About(task=task))
                for task in self._tasks()
            ]
        )
        await self._until(publisher.bus, "completed")
        self.found.completed_s = time.monotonic() - began
        self.say(f"all completed {self.found.completed_s:.1f} s after they were answered")

    async def _judge(self, bus: Bus) -> None:
        for task in self._tasks():
            events = Counter(event.event for event in await history(bus, task) if FINAL(event) or event.event == "step")
            self.found.completed += events["completed"] == 1
            self.found.doubled += events != Counter(step=1, completed=1)

    def _tasks(self) -> list[str]:
        return [f"w{number:05d}" for number in range(self.found.tasks)]

    async def _until(self, bus: Bus, event: str) -> None:
        async def all_there() -> bool:
            return len(await bus.subjects_of(subjects.TASKS, subjects.events_named(event))) >= self.found.tasks

        await eventually(all_there, within_s=_LONGEST_S)


async def many(works: list[Callable[[], Awaitable[object]]]) -> None:
    """All of them, some at a time."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(work: Callable[[], Awaitable[object]]) -> None:
        async with places:
            await work()

    await asyncio.gather(*(one(work) for work in works))


async def is_ready(bus: Bus, name: str) -> bool:
    """True when a service says so."""
    try:
        return not await trouble(bus, name)
    except BusUnavailable:
        return False


async def has_read_all(bus: Bus) -> bool:
    """True when the gateway has judged every event."""
    about = await bus.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.GATEWAY}", {})
    return not about["num_pending"] and not about["num_ack_pending"]


def memory(server: NatsServer, services: Services) -> dict[str, float]:
    """Resident memory of each process, MB."""
    pids = {"nats-server": server.pid, **{name: services.pid(name) for name in subjects.SERVICES}}
    return {name: round(_status(pid, "VmRSS") / 1024, 1) for name, pid in pids.items()}


def strands(services: Services) -> int:
    """Child processes of the services."""
    pids = [services.pid(name) for name in subjects.SERVICES]
    return sum(len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) for pid in pids)


async def idle(server: NatsServer, services: Services, for_s: float) -> float:
    """Share of a core that everything takes while nothing happens."""
    pids = [server.pid, *(services.pid(name) for name in subjects.SERVICES)]
    before = sum(map(_cpu_s, pids))
    await asyncio.sleep(for_s)
    return round((sum(map(_cpu_s, pids)) - before) / for_s, 4)


def _status(pid: int, field_name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field_name}:"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    tasks = parser.parse_args().tasks
    telemetry.configure_logs("error", sys.stderr)
    with tempfile.TemporaryDirectory(prefix="mlmesh-waiting-") as directory:
        found = asyncio.run(Trial(Path(directory), Found(tasks), _say).run())
    sys.stdout.write(f"{json.dumps(asdict(found))}\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
