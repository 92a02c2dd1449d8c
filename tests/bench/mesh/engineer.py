"""An ml-engineer whose engine takes no time, as a process of its own: `python -m tests.bench.mesh.engineer`.

The service's runtime, worker, doorbells and journal, and its own briefing, report and conclusion. Only what lies
between them is put in: four journal steps with small results, and a delivery. Words in the request change what
happens: `slow` makes the third step wait for its process to be killed, the first time.

When it stops it leaves, in the file that BENCH_ENGAGED names, when it first began with each task.
"""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from contracts import subjects
from contracts.events import Delivered, Gate
from services._runtime.consumer import PullConsumer
from services._runtime.journal import Activation
from services._runtime.service import Runtime, main
from services._runtime.worker import Doorbells, Worker
from services._runtime.workspace import resolve
from services.ml_engineer.engine import EngineShelf
from services.ml_engineer.handlers import Engineer
from services.ml_engineer.playbook import Playbook
from services.ml_engineer.wall import WallTime

STEPS: Final = ("profile", "train", "evaluate", "package")
RESULT: Final[JsonValue] = {
    "rows": 12_000,
    "metrics": {"auc": 0.91, "baseline": 0.5, "linear": 0.87},
    "files": ["/ml/model/registry/1/model.onnx", "/ml/model/system.toml"],
}
"""What a step leaves: about as much as a real one."""
SLOW: Final = "slow"
KILLED_HERE: Final = "killed-here"
"""The file in the workspace by which a slow step says that it waits."""
DELIVERED: Final = Delivered(
    system="model",
    system_dir="/ml/model",
    version=1,
    outcome="success",
    gates=(Gate(name="beats the baseline", value=0.91, threshold=0.5, passed=True, text="0.91 over 0.50"),),
)


@dataclass(slots=True)
class InstantEngineer(Engineer):
    """The TaskHandler of the ml-engineer, with an engine that is done at once."""

    began: dict[str, int] = field(default_factory=dict[str, int])
    """Nanoseconds since 1970 at which a task was first engaged."""

    async def engage(self, activation: Activation) -> None:
        """As the ml-engineer, and notes when."""
        self.began.setdefault(activation.task, time.time_ns())
        await Engineer.engage(self, activation)

    async def _work(self, activation: Activation, wall: WallTime) -> None:
        """Brief, four steps, delivered, reported."""
        del wall
        resolve(activation.state.workspace, self.settings)
        if activation.state.briefing is None:
            await self._brief(activation)
        for name in STEPS:
            await activation.step(name, lambda name=name: _result(activation, name), result=dict[str, JsonValue])
        if activation.state.delivered is None:
            await activation.append("delivered", DELIVERED)
        await self._report(activation, "success", "The model stands at /ml/model and beats the baseline.")


async def _result(activation: Activation, step: str) -> JsonValue:
    request = activation.state.request
    if request is not None and request.request.startswith(SLOW) and step == STEPS[2]:
        mark = Path(activation.state.workspace) / KILLED_HERE
        if not mark.exists():
            mark.touch()
            await asyncio.Event().wait()
    return RESULT


async def start(runtime: Runtime) -> None:
    """Answers doorbells of `mesh.work.ml-engineer.>` until the runtime stops."""
    engineer = InstantEngineer(runtime.settings, Playbook(), EngineShelf(Path("/nonexistent")))
    doorbells = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER, slots=runtime.settings.activations)
    runtime.listeners.append(doorbells)
    runtime.ready.set()
    handle = Doorbells(runtime.publisher, engineer, runtime.executor)
    await Worker(runtime.publisher, doorbells, handle).run(runtime.stop)
    if told := os.environ.get("BENCH_ENGAGED"):
        Path(told).write_text(json.dumps(engineer.began), encoding="utf-8")


if __name__ == "__main__":
    main(subjects.ML_ENGINEER, start)
