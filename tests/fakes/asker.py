"""An ml-engineer that asks one question, waits, and does next to nothing with the answer. A process of its own.

`python -m tests.fakes.asker`. Worker, doorbells, claim and journal are the product's.
"""

import os
from typing import Final

from contracts import subjects
from contracts.events import Canceled, Completed, Failed, Question, QuestionsAsked, Released
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.consumer import PullConsumer
from services._runtime.errors import Interrupted, Permanent
from services._runtime.journal import Activation
from services._runtime.service import Runtime, main
from services._runtime.worker import Doorbells, Worker

QUESTION: Final = Question(id="nfr.latency", slot="nfr", field="latency", text="How fast?", why="It is a gate.")
EXPIRES_S: Final = 7 * 86_400.0
SUMMARY_S: Final = 30.0


class Asker:
    """The TaskHandler."""

    async def engage(self, activation: Activation) -> None:
        """As far as the task goes now."""
        state = activation.state
        if state.report is not None:
            await self._end(activation)
        elif state.timeouts:
            raise Permanent("nobody answered")
        elif state.asked is None:
            await activation.timer("answers", EXPIRES_S)
            await activation.append("asked", QuestionsAsked(known=(), questions=(QUESTION,)))
        elif state.waiting is not None:
            await activation.append("released", Released(reason=f"still waiting for {state.waiting}"))
        else:
            await activation.step("work", self._work, result=str)
            await self._report(activation, "done")

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """Somebody cancelled."""
        await activation.append("canceled", Canceled(reason=interrupt.reason))

    async def failed(self, activation: Activation, reason: str) -> None:
        """It cannot succeed."""
        await activation.append("failed", Failed(reason=reason))

    async def _work(self) -> str:
        return "done"

    async def _report(self, activation: Activation, summary: str) -> None:
        await activation.timer("summary", SUMMARY_S)
        report = ActivityReport(reporting_agent=activation.state.agent, status="success", summary=summary)
        await activation.append("reported", report)

    async def _end(self, activation: Activation) -> None:
        if activation.state.waiting == "summary":
            await activation.append("released", Released(reason="still waiting for the summary"))
        else:
            await activation.append("completed", Completed(reason="done"))


async def start(runtime: Runtime) -> None:
    """Answers doorbells of the ml-engineer until the runtime stops."""
    work = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER, slots=runtime.settings.activations)
    runtime.listeners.append(work)
    runtime.ready.set()
    doorbells = Doorbells(runtime.publisher, Asker(), runtime.executor)
    await Worker(runtime.publisher, work, doorbells).run(runtime.stop)


if __name__ == "__main__":
    telemetry.configure_logs(os.environ.get("MLMESH_LOG_LEVEL", "info"))
    main(subjects.ML_ENGINEER, start)
