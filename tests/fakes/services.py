"""Services that follow the protocol on the bus and do nothing else: for what stands before and around them.

The engineer asks `nfr.latency` unless it is answered or defaults are accepted, designs, takes two steps, writes one
file, delivers. Words in the request change what happens: `slow` waits in the middle of its first step until the
task is cancelled or a file `go` stands in the workspace; `partial` and `fail` end so; `crash` breaks the service.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from contracts import subjects
from contracts.agent import AgentCard
from contracts.briefing import Briefing, BriefingBody, ContextRequest, Fact
from contracts.envelope import Metadata, read_event
from contracts.events import (
    Artifact,
    Canceled,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Gate,
    Progressed,
    Question,
    QuestionsAsked,
    Released,
    Section,
    Totals,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Claim, Summary
from contracts.task import fold
from services._runtime import workspace
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.errors import Interrupted, Permanent
from services._runtime.journal import Activation
from services._runtime.publisher import About
from services._runtime.responder import Responder
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Worker

LATENCY = Question(
    id="nfr.latency",
    slot="nfr",
    field="latency",
    text="How fast must an answer be?",
    why="It is a gate.",
    default="none",
    evidence=("/README.md:3",),
)
TARGET = Question(id="task.target", slot="task", field="target", text="Which column?", why="It is predicted.")
FACT = Fact(slot="scale", field="rate", value="50 rps", source="/README.md:7", confidence=0.9)
SYSTEM_DIR = "/ml/fake"
MODEL = "/ml/fake/model.txt"


async def start_idle(runtime: Runtime) -> None:
    """A service that is ready and has nothing to do."""
    runtime.ready.set()
    await runtime.stop.wait()


async def start_context_manager(runtime: Runtime) -> None:
    """Knows nothing, and says so to whoever asks."""

    def nothing(summary: str) -> Briefing:
        return Briefing(response_to="x", status="not_found", briefing=BriefingBody(summary=summary))

    async def answer(request: ContextRequest, _: Metadata) -> Message:
        return nothing(f"nothing is known for {request.requesting_agent}")

    names = [subjects.context_request(name) for name in ("get_task_briefing", "get_directory_purpose")]
    await Responder(runtime, names, ContextRequest, answer, nothing).run(runtime.stop)


async def start_gateway(runtime: Runtime) -> None:
    """Takes note of every message of TASKS, so that nothing stays pending."""

    async def note(_: Delivery) -> None:
        pass

    tasks = PullConsumer(runtime.bus, subjects.TASKS, subjects.GATEWAY)
    runtime.ready.set()
    await Worker(runtime.publisher, tasks, note).run(runtime.stop)


async def start_summarizer(runtime: Runtime) -> None:
    """Says `done` of every task that was reported."""

    async def summarise(delivery: Delivery) -> None:
        task = delivery.stored.subject.rsplit(".", 1)[1]
        state = fold(task, [read_event(stored) for stored in await runtime.bus.history(task)])
        if state.report is None or state.summary is not None:
            return
        text = f"The model of {state.report.summary} is there."
        body = Summary(text=text, claims=(Claim(text=text, refs=(MODEL,)),), outcome=state.report.status)
        await runtime.publisher.event("summarised", state.agent, body, About(task=task, id=f"{task}/summary"))

    work = PullConsumer(runtime.bus, subjects.WORK, subjects.SUMMARIZER)
    runtime.ready.set()
    await Worker(runtime.publisher, work, summarise).run(runtime.stop)


async def start_engineer(runtime: Runtime) -> None:
    """Takes tasks from their doorbells."""
    work = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER)
    await runtime.introduce(AgentCard(name=subjects.ML_ENGINEER, description="A fake.", agent_version="0"))
    runtime.ready.set()
    doorbells = Doorbells(runtime.publisher, Engineer(runtime.settings), runtime.executor)
    await Worker(runtime.publisher, work, doorbells).run(runtime.stop)


async def start_broken(runtime: Runtime) -> None:
    """A service that cannot start."""
    raise Permanent(f"{runtime.name} is broken on purpose")


STARTS = {
    subjects.CONTEXT_MANAGER: start_context_manager,
    subjects.ML_ENGINEER: start_engineer,
    subjects.SUMMARIZER: start_summarizer,
    subjects.GATEWAY: start_gateway,
}


@dataclass(frozen=True, slots=True)
class Engineer:
    """TaskHandler of the fake."""

    settings: Settings

    async def engage(self, activation: Activation) -> None:
        """As far as the task goes now."""
        if activation.state.report is not None:
            await self._end(activation)
            return
        workspace.resolve(activation.state.workspace, self.settings)
        if activation.state.briefing is None:
            body = BriefingBody(summary="A shop.", relevant_paths=("/README.md",), facts=(FACT,))
            await activation.append("briefed", Briefing(response_to="ml-engineer", status="success", briefing=body))
        if await self._asks(activation) or await self._proposes(activation):
            return
        await self._build(activation)

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """The end of a task that somebody cancelled."""
        await activation.append("canceled", Canceled(reason=interrupt.reason))

    async def failed(self, activation: Activation, reason: str) -> None:
        """The end of a task that cannot succeed."""
        await activation.append("failed", Failed(reason=reason))

    async def _asks(self, activation: Activation) -> bool:
        state = activation.state
        request = state.request
        assert request is not None
        wanted = [LATENCY] if not request.accept_defaults else []
        wanted += [TARGET] if "target" in request.request else []
        missing = tuple(question for question in wanted if question.id not in state.answers)
        if missing:
            await activation.append("asked", QuestionsAsked(known=("50 rps (/README.md:7)",), questions=missing))
        return bool(missing)

    async def _proposes(self, activation: Activation) -> bool:
        """True while the design waits for a person."""
        state = activation.state
        assert state.request is not None
        if state.approval is not None and not state.approval.approve:
            raise Permanent(f"the design was refused: {state.approval.comment}")
        if state.design is not None:
            if state.approval is None and state.design.awaits_approval:
                await activation.append("released", Released(reason="the design still waits"))
                return True
            return False
        waits = state.request.approval == "design"
        assumed = ("nfr.latency = none",) if "nfr.latency" not in state.answers else ()
        design = DesignProposed(
            digest="d1",
            awaits_approval=waits,
            sections=(Section(title="Goal", text="Predict."),),
            spec={"name": "fake"},
            assumptions=assumed,
        )
        await activation.append("designed", design)
        return waits

    async def _build(self, activation: Activation) -> None:
        request = activation.state.request
        assert request is not None
        directory = Path(activation.state.workspace)
        if "fail" in request.request:
            raise Permanent("the data holds one row: bring more")

        async def train() -> str:
            await activation.progress(Progressed(step="train", fraction=0.5, message="linear", metrics={"auc": 0.8}))
            while "slow" in request.request and not (directory / "go").exists():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.02)
            return "trained"

        async def package() -> str:
            (directory / "ml" / "fake").mkdir(parents=True, exist_ok=True)
            (directory / MODEL.lstrip("/")).write_text("model\n", encoding="utf-8")
            return "packaged"

        await activation.step("train", train, result=str)
        await activation.step("package", package, result=str)
        outcome: Literal["success", "partial"] = "partial" if "partial" in request.request else "success"
        delivered = Delivered(
            system="fake",
            system_dir=SYSTEM_DIR,
            version=1,
            outcome=outcome,
            artifacts=(Artifact(path=MODEL, digest=hashlib.sha256(b"model\n").hexdigest(), kind="model"),),
            gates=(Gate(name="parity", value=0.0, threshold=1e-5, passed=True),),
            metrics={"roc_auc": {"value": 0.84, "low": 0.82, "high": 0.86, "baseline": 0.5, "linear": 0.83}},
            findings=[{"kind": "id_like", "columns": ["id"], "action": "dropped", "text": "id is an id"}],
        )
        await activation.append("delivered", delivered)
        report = ActivityReport(
            reporting_agent="ml-engineer", status=outcome, summary="the fake", files_modified=(MODEL,)
        )
        await activation.append("reported", report)

    async def _end(self, activation: Activation) -> None:
        state = activation.state
        assert state.submitted_at is not None
        assert state.delivered is not None
        wall_s = max(0.0, (datetime.now(UTC) - state.submitted_at).total_seconds())
        partial = state.delivered.outcome == "partial"
        body = Completed(
            outcome="partial" if partial else "success",
            reason="one requirement is not met" if partial else "",
            totals=Totals(wall_s=wall_s),
        )
        await activation.append("completed", body)
