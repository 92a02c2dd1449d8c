"""Submits tasks to the mesh and waits for their final events: `python -m tests.bench.mesh.submitter WORKSPACE`.

As a program with many tasks would do it: one connection, one ordered consumer for the final events of all. The
clock of a task runs from before its `submitted` is published until its `completed` is read.
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from contracts import subjects
from contracts.envelope import read_event
from contracts.events import TaskSubmitted
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer
from services._runtime.publisher import About, Publisher, new_id
from services._runtime.service import run
from services._runtime.settings import Settings
from tests.bench.mesh.driver import drive

REQUEST: Final = "Predict whether a checkout is fraud from data/checkouts.csv; the target is fraud."
SLOW: Final = "slow"
"""The request of a task whose third step waits to be killed; there is one in a run."""
PATIENCE_S: Final = 60.0


class TaskError(Exception):
    """A task that did not complete; the text is its journal."""


@dataclass(slots=True)
class Submitter:
    """Who asks, and is told of every end."""

    publisher: Publisher
    workspace: str
    _ends: dict[str, "asyncio.Future[None]"] = field(default_factory=dict[str, "asyncio.Future[None]"])

    async def task(self, request: str = REQUEST) -> str:
        """One task from its submission to its end; its id. Raises TaskError when it does not complete."""
        task = new_id()
        self._ends[task] = ended = asyncio.get_running_loop().create_future()
        about = About(task=task, workspace=self.workspace)
        body = TaskSubmitted(request=request, workspace=self.workspace)
        try:
            await self.publisher.event("submitted", subjects.ML_ENGINEER, body, about)
            async with asyncio.timeout(PATIENCE_S):
                await ended
        except TimeoutError as error:
            journal = [read_event(stored) for stored in await self.publisher.bus.history(task)]
            told = ", ".join(f"{event.seq} {event.event}" for event in journal)
            raise TaskError(f"task {task!r} has not completed within {PATIENCE_S:g} s: {told}") from error
        finally:
            del self._ends[task]
        return task

    async def listen(self, ends: OrderedConsumer) -> None:
        """Tells who waits."""
        async for stored in ends.run(asyncio.Event()):
            waiting = self._ends.get(read_event(stored).metadata.task)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


async def last_sequence(bus: Bus) -> int:
    """Of TASKS."""
    about = await bus.api(f"STREAM.INFO.{subjects.TASKS}", {})
    return int(about["state"]["last_seq"])


async def main(workspace: str) -> None:
    """Obeys the benchmark."""
    settings = Settings.read()
    bus = await Bus.connect(settings, "submitter")
    submitter = Submitter(Publisher(bus, telemetry.start("submitter", settings)), workspace)
    ends = OrderedConsumer(bus, subjects.TASKS, subjects.events_named("completed"), after=await last_sequence(bus))
    listening = asyncio.create_task(submitter.listen(ends))
    await drive({"task": submitter.task, "slow": lambda: submitter.task(SLOW)}, {})
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    await bus.close()


if __name__ == "__main__":
    telemetry.configure_logs("warning", sys.stderr)
    run(main(sys.argv[1]))
