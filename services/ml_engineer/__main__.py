"""The ml-engineer as a service: subject -> handler, on one screen."""

import tempfile
from importlib.metadata import version
from pathlib import Path

from contracts import subjects
from contracts.agent import AgentCard
from services._runtime.ahead import Ahead
from services._runtime.consumer import PullConsumer
from services._runtime.service import Runtime, gather, main
from services._runtime.worker import Doorbells, Worker
from services.ml_engineer.engine import EngineShelf
from services.ml_engineer.handlers import Engineer
from services.ml_engineer.playbook import Playbook


async def start(runtime: Runtime) -> None:
    """Answers doorbells of `mesh.work.ml-engineer.>` until the runtime stops."""
    settings = runtime.settings
    with tempfile.TemporaryDirectory(prefix="mlmesh-engine-") as scratch:
        engineer = Engineer(settings, Playbook(), EngineShelf(Path(scratch)))
        doorbells = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER, slots=settings.activations)
        runtime.listeners.append(doorbells)
        await runtime.introduce(
            AgentCard(
                name=subjects.ML_ENGINEER,
                description="Carries a request to a trained, served and reversible model.",
                agent_version=version("mlmesh"),
                model=settings.mind,
            )
        )
        runtime.ready.set()
        handle = Doorbells(runtime.publisher, engineer, runtime.executor)
        worker = Worker(runtime.publisher, doorbells, handle)
        await gather(worker.run(runtime.stop), Ahead(doorbells, handle, subjects.ML_ENGINEER).run(runtime.stop))


if __name__ == "__main__":
    main(subjects.ML_ENGINEER, start)
