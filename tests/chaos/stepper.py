"""An ml-engineer without a craft, as a process of its own: it is briefed, asks, takes steps, delivers and reports.

`python -m tests.chaos.stepper DIRECTORY ENDPOINT CLOCK [BREAK]`. Worker, doorbells, claim and journal are the
product's. A step has three effects: a file in the workspace, a call of ENDPOINT with the step's idempotency key, and
a line in `DIRECTORY/<task>` for every execution. CLOCK is a file with the seconds by which this process's clock is
wrong. Words in the request change what happens, see `engage`. BREAK breaks the journal, to see whether it is noticed.
"""

import asyncio
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from contracts import subjects
from contracts.briefing import Briefing, ContextRequest, Query
from contracts.events import (
    Artifact,
    Canceled,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Question,
    QuestionsAsked,
    Released,
    TaskSubmitted,
)
from contracts.message import Message
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.bus import Expect
from services._runtime.consumer import Delivery, PullConsumer
from services._runtime.errors import Interrupted, Permanent, Transient
from services._runtime.journal import Activation
from services._runtime.publisher import About, Publisher, Sent
from services._runtime.service import Runtime, run, serve
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Worker

STEPS: Final = ("before", "profile", "train", "package")
QUESTIONS: Final = ("nfr.first", "nfr.second")
ANSWERS_EXPIRE_S: Final = 180.0
"""Longer than anything that a run does to a task that will be answered, wrong clocks included."""
NOBODY_ANSWERS_S: Final = 4.0
LONGEST_STEP_S: Final = 0.6
OVERDUE_STEP_S: Final = 300.0
CALL_S: Final = 5.0
Break = Literal["", "ack-first", "no-fence", "no-record"]


@dataclass(frozen=True, slots=True)
class Effects:
    """What steps do outside the bus."""

    directory: Path
    endpoint: str

    async def execute(self, key: str, claim: int, file: Path | None) -> None:
        """Counts the execution, writes the file, calls the endpoint."""
        with (self.directory / key.partition("/")[0]).open("a") as executions:
            executions.write(f"{key} {claim} {os.getpid()} {time.time()}\n")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{key}\n", encoding="utf-8")
        async with asyncio.timeout(CALL_S):
            await self._call(key, claim)

    async def _call(self, key: str, claim: int) -> None:
        place = urlsplit(self.endpoint)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            head = f"POST /effects HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\nContent-Length: 0\r\n"
            writer.write(f"{head}Idempotency-Key: {key}\r\nX-Claim: {claim}\r\n\r\n".encode())
            status = (await reader.readline()).split()
            if len(status) < 2 or status[1] != b"200":
                raise Transient(f"the endpoint did not take {key!r}: {status}")
        finally:
            writer.close()


@dataclass(frozen=True, slots=True)
class Stepper:
    """The TaskHandler."""

    settings: Settings
    effects: Effects
    broken: Break = ""

    async def engage(self, activation: Activation) -> None:
        """As far as the task goes now."""
        state = activation.state
        if state.report is not None:
            await self._end(activation)
        elif state.approval is not None and not state.approval.approve:
            await activation.append("canceled", Canceled(reason="not approved"))
        elif state.timeouts & {"answers", "approval"}:
            raise Permanent("nobody answered")
        elif state.waiting is not None:
            await activation.append("released", Released(reason=f"still waiting for {state.waiting}"))
        else:
            await self._work(activation, _request(activation))

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """Somebody cancelled, or the deadline passed."""
        if interrupt.cause == "cancel":
            await activation.append("canceled", Canceled(reason=interrupt.reason))
        else:
            await self._report(activation, "failed", interrupt.reason)

    async def failed(self, activation: Activation, reason: str) -> None:
        """It cannot succeed."""
        if activation.state.report is not None:
            await self._end(activation)
        else:
            await self._report(activation, "failed", reason)

    async def _work(self, activation: Activation, request: TaskSubmitted) -> None:
        state, wanted = activation.state, request.request
        if state.briefing is None:
            await self._brief(activation, request)
        if "ask" in wanted and state.asked is None and not set(QUESTIONS) <= set(activation.state.answers):
            await self._ask(activation, NOBODY_ANSWERS_S if "expire" in wanted else ANSWERS_EXPIRE_S)
            return
        if "approve" in wanted and activation.state.design is None:
            await self._propose(activation)
            return
        for name in STEPS:
            await self._step(activation, name, overdue="overdue" in wanted and name == "train")
        if "fail" in wanted:
            raise Permanent("it cannot be done")
        await self._deliver(activation)

    async def _brief(self, activation: Activation, request: TaskSubmitted) -> None:
        if request.constraints.deadline is not None:
            left = request.constraints.deadline - activation.publisher.clock()
            await activation.timer("deadline", max(0.0, left.total_seconds()))
        wanted = ContextRequest(
            requesting_agent=activation.state.agent,
            request_type="get_task_briefing",
            payload=Query(query=request.request),
        )
        about = About(task=activation.task, workspace=activation.state.workspace)
        answer = await activation.publisher.request(
            subjects.context_request(wanted.request_type), wanted, about, timeout_s=self.settings.briefing_timeout_s
        )
        briefing = Briefing.from_bytes(answer.data)
        if briefing.status == "error":
            raise Transient(f"no briefing: {briefing.briefing.summary}")
        await activation.append("briefed", briefing)

    async def _ask(self, activation: Activation, expire_s: float) -> None:
        open_questions = [name for name in QUESTIONS if name not in activation.state.answers]
        questions = tuple(Question(id=name, slot="nfr", field="f", text="How?", why="So.") for name in open_questions)
        await activation.timer("answers", expire_s)
        await activation.append("asked", QuestionsAsked(known=(), questions=questions))

    async def _propose(self, activation: Activation) -> None:
        await activation.timer("approval", ANSWERS_EXPIRE_S)
        await activation.append("designed", DesignProposed(digest="d", awaits_approval=True, sections=(), spec={}))

    async def _step(self, activation: Activation, name: str, *, overdue: bool) -> None:
        file = None if name == "before" else self._file(activation, name)

        async def effect() -> dict[str, str]:
            await self.effects.execute(activation.effect_key(name), activation.claim, file)
            await asyncio.sleep(OVERDUE_STEP_S if overdue else random.uniform(0.02, LONGEST_STEP_S))
            return {}

        if self.broken == "no-record":
            await effect()
        else:
            await activation.step(name, effect, result=dict[str, str])

    async def _deliver(self, activation: Activation) -> None:
        written = [(f"/ml/{activation.task}/{name}.txt", self._file(activation, name)) for name in STEPS[1:]]
        artifacts = tuple(
            Artifact(path=path, digest=hashlib.sha256(file.read_bytes()).hexdigest(), kind="code")
            for path, file in written
        )
        delivered = Delivered(
            system=activation.task,
            system_dir=f"/ml/{activation.task}",
            version=1,
            outcome="success",
            artifacts=artifacts,
        )
        if activation.state.delivered is None:
            await activation.append("delivered", delivered)
        await self._report(activation, "success", "done", files=tuple(path for path, _ in written))

    async def _report(
        self, activation: Activation, status: Literal["success", "failed"], summary: str, files: tuple[str, ...] = ()
    ) -> None:
        await activation.timer("summary", self.settings.summary_timeout_s)
        agent = activation.state.agent
        report = ActivityReport(reporting_agent=agent, status=status, summary=summary, files_modified=files)
        await activation.append("reported", report, ending=status == "failed")

    async def _end(self, activation: Activation) -> None:
        report = activation.state.report
        if activation.state.waiting == "summary":
            await activation.append("released", Released(reason="still waiting for the summary"))
        elif report is not None and report.status == "failed":
            await activation.append("failed", Failed(reason=report.summary))
        else:
            await activation.append("completed", Completed(reason="done"))

    def _file(self, activation: Activation, step: str) -> Path:
        return Path(activation.state.workspace) / "ml" / activation.task / f"{step}.txt"


def _request(activation: Activation) -> TaskSubmitted:
    assert activation.state.request is not None
    return activation.state.request


class Unfenced(Publisher):
    """Breaks the fence: an executor's events are stored whoever holds the task."""

    async def event(self, event: str, agent: str, body: Message, about: About, *, expect: Expect | None = None) -> Sent:
        """As the real one, without compare-and-set once the claim stands."""
        return await super().event(event, agent, body, about, expect=expect if event == "working" else None)


@dataclass(frozen=True, slots=True)
class AckFirst:
    """Breaks the doorbell: it is acknowledged before the work is done."""

    doorbells: Doorbells

    async def __call__(self, delivery: Delivery) -> None:
        """As the real one, too early."""
        await delivery.ack()
        await self.doorbells(delivery)


def skewed(file: Path) -> Callable[[], datetime]:
    """A clock that is wrong by the seconds in a file, if there are any."""

    def clock() -> datetime:
        wrong_s = float(file.read_text() or 0) if file.exists() else 0.0
        return datetime.now(UTC) + timedelta(seconds=wrong_s)

    return clock


async def main(directory: Path, endpoint: str, clock: Path, broken: Break) -> None:
    """Runs as the ml-engineer until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings.read()

    async def start(runtime: Runtime) -> None:
        work = PullConsumer(runtime.bus, subjects.WORK, subjects.ML_ENGINEER, slots=settings.activations)
        runtime.listeners.append(work)
        runtime.ready.set()
        kind = Unfenced if broken == "no-fence" else Publisher
        publisher = kind(runtime.bus, runtime.telemetry, skewed(clock))
        handler = Stepper(settings, Effects(directory, endpoint), broken)
        doorbells = Doorbells(publisher, handler, runtime.executor)
        handle = AckFirst(doorbells) if broken == "ack-first" else doorbells
        await Worker(publisher, work, handle).run(runtime.stop)

    await serve(subjects.ML_ENGINEER, start, settings, stop)


if __name__ == "__main__":
    telemetry.configure_logs(os.environ.get("MLMESH_LOG_LEVEL", "info"))
    how = cast("Break", sys.argv[4] if len(sys.argv) > 4 else "")
    assert how in get_args(Break)
    run(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), how))
