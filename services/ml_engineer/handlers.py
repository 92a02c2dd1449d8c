"""What the ml-engineer does with a task: brief -> clarify -> design -> build -> report, then the final event.

The order is code. Each doorbell carries the task on from where its journal stands; nothing is kept in memory
between activations. A mind designs, gates decide.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

import structlog

from contracts.briefing import Briefing, ContextRequest, Query
from contracts.events import (
    Canceled,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Question,
    QuestionsAsked,
    Released,
    TaskSubmitted,
    TimedOut,
    Totals,
)
from contracts.report import ActivityReport
from contracts.subjects import context_request
from contracts.task import TaskState
from services._runtime.errors import Interrupted, Permanent, Transient
from services._runtime.home import Home, home_of
from services._runtime.journal import Activation, digest_of
from services._runtime.publisher import About
from services._runtime.settings import Settings
from services._runtime.systems import system_directory
from services._runtime.workspace import resolve
from services.ml_engineer import delivery
from services.ml_engineer import intent as intents
from services.ml_engineer.build import Builder, watchers
from services.ml_engineer.discovery import Discovery
from services.ml_engineer.dossier import Design
from services.ml_engineer.engine import EngineShelf
from services.ml_engineer.intent import Intent
from services.ml_engineer.operations import OPERATIONS
from services.ml_engineer.playbook import Budget, Mind, target_of, without
from services.ml_engineer.site import Site
from services.ml_engineer.understanding import (
    Understanding,
    acknowledged,
)
from services.ml_engineer.wall import WallTime

BRIEFING_QUERY: Final = (
    "Initial briefing required for ML system deployment. Provide overview of existing ML models, training data,"
    " inference infrastructure, and relevant MLOps configuration files."
)

_REFUSED: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the operating system says when permissions, the disk or a limit refuse a file: trying again does not help."""

_ON_EXISTING: Final = frozenset({"retrain", *OPERATIONS})
"""What is done with a system that stands."""
_NEEDS_ONE: Final = frozenset({"retrain", "rollback", "promote", "upgrade"})
"""Of these, what means nothing without one; the others may be words of a request for a new system."""

log = structlog.get_logger()


@dataclass(slots=True)
class Engineer:
    """The TaskHandler of the ml-engineer."""

    settings: Settings
    mind: Mind
    shelf: EngineShelf
    trainings: asyncio.Semaphore = field(init=False)
    building: dict[Path, asyncio.Lock] = field(default_factory=dict[Path, asyncio.Lock])
    """One lock for each system's directory."""

    def __post_init__(self) -> None:
        """Training is what is scarce: it has its own limit, so that it never delays an ending."""
        self.trainings = asyncio.Semaphore(self.settings.trainings)

    async def engage(self, activation: Activation) -> None:
        """Carries the task on as far as it goes now."""
        state = activation.state
        if state.report is not None:
            await self._conclude(activation)
            return
        if state.approval is not None and not state.approval.approve:
            reason = f"the design was not approved: {state.approval.comment or 'no reason given'}"
            await activation.append("canceled", Canceled(reason=reason, totals=_totals(activation)))
            return
        if expired := state.timeouts & {"answers", "approval"}:
            raise Permanent(f"nobody gave the {' and '.join(sorted(expired))} in time: submit the request again")
        if state.waiting is not None:
            await activation.append("released", Released(reason=f"still waiting for {state.waiting}"))
            return
        await self._set_deadline(activation)
        wall = WallTime(_request(state).constraints.max_wall_s)
        try:
            async with wall:
                await self._work(activation, wall)
        except TimeoutError as error:
            if not wall.over:
                raise
            raise Permanent(
                f"the work took longer than the {wall.limit_s:g} s of max_wall_s: submit again with more"
            ) from error
        except OSError as error:
            if error.errno in _REFUSED:
                raise Permanent(_refused(error)) from error
            raise

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """A cancelled task ends at once; a deadline is a failure that is reported."""
        if interrupt.cause == "cancel":
            await activation.append("canceled", Canceled(reason=interrupt.reason, totals=_totals(activation)))
            return
        await self._report(activation, "failed", f"{interrupt.reason}: submit again with a later deadline")

    async def failed(self, activation: Activation, reason: str) -> None:
        """Reports the failure; the final event follows the summary."""
        if activation.state.report is not None:
            await self._conclude(activation)
            return
        await self._report(activation, "failed", reason)

    async def _work(self, activation: Activation, wall: WallTime) -> None:
        request = _request(activation.state)
        workspace = resolve(activation.state.workspace, self.settings)
        briefing = activation.state.briefing or await self._brief(activation)
        intent = intents.read(request.request)
        discovery = Discovery(activation, await self.shelf.engine(), self._home(workspace), workspace)
        systems = await asyncio.to_thread(delivery.systems, workspace) if intent.action in _ON_EXISTING else {}
        if systems or intent.action in _NEEDS_ONE:
            system = discovery.system_meant(systems)
            if isinstance(system, Question):
                await self._ask(activation, Understanding.of_question(request.request, system))
                return
            if intent.action != "retrain":
                await self._operate(activation, workspace, system, intent, wall=wall)
                return
            understanding = await discovery.of_standing(system, intent)
        else:
            understanding = await discovery.of_new(briefing, intent)
        if understanding.questions:
            await self._ask(activation, understanding)
            return
        design = await self._design(activation, workspace, understanding)
        if activation.state.waiting is not None:
            return
        async with wall.turn(self._system_lock(workspace, design.system)):
            await self._build(activation, workspace, design, understanding, wall=wall)

    async def _operate(
        self, activation: Activation, workspace: Path, system: str, intent: Intent, *, wall: WallTime
    ) -> None:
        """Something is done with, or told of, a system that stands; then the report, as after a build."""
        if activation.state.delivered is None:
            site = Site(
                activation=activation,
                engine=await self.shelf.engine(),
                home=self._home(workspace),
                workspace=workspace,
                system=system,
                request=_request(activation.state).request,
            )
            async with wall.turn(self._system_lock(workspace, system)):
                await site.note_before()
                outcome = await OPERATIONS[intent.action](site, intent)
            await activation.step("told", _saying(outcome.told), result=str, inputs=system)
            await activation.append("delivered", outcome.delivered)
        told, delivered = activation.state.steps["told"].result, activation.state.delivered
        if delivered is None:
            raise Transient("the delivery was appended and is not there")
        await self._report(activation, delivered.outcome, str(told))

    async def _build(
        self, activation: Activation, workspace: Path, design: Design, understanding: Understanding, *, wall: WallTime
    ) -> None:
        """From the design to the report. Two tasks never build one system at a time: neither could tell its changes."""
        if understanding.profile is None:
            raise Permanent("the data was not profiled: name the file to learn from")
        stands = delivery.read_spec(workspace / system_directory(design.system))
        if stands and target_of(stands) != target_of(design.spec):
            raise Permanent(
                f"{design.system} has become a system for {target_of(stands)!r} since the design was drawn: submit the"
                " request again, it gets another name"
            )
        builder = await self._builder(activation, workspace, design, wall)
        delivered = activation.state.delivered or await builder.build(understanding, understanding.profile)
        if activation.state.delivered is None:
            await activation.append("delivered", delivered)
        await self._report(activation, delivered.outcome, _told(delivered))

    def _system_lock(self, workspace: Path, system: str) -> asyncio.Lock:
        return self.building.setdefault(workspace / system_directory(system), asyncio.Lock())

    async def _brief(self, activation: Activation) -> Briefing:
        """The mandatory first step: nothing is asked before the context-manager has said what is known."""
        request = ContextRequest(
            requesting_agent=activation.state.agent,
            request_type="get_task_briefing",
            payload=Query(query=f"{_request(activation.state).request}\n\n{BRIEFING_QUERY}"),
        )
        about = About(task=activation.task, workspace=activation.state.workspace)
        answer = await activation.publisher.request(
            context_request(request.request_type),
            request,
            about,
            timeout_s=self.settings.briefing_timeout_s,
        )
        briefing = Briefing.from_bytes(answer.data)
        if briefing.status == "error":
            raise Permanent(f"the context-manager could not read the workspace: {briefing.briefing.summary}")
        await activation.append("briefed", briefing)
        return briefing

    async def _ask(self, activation: Activation, understanding: Understanding) -> None:
        """Waiting costs nothing: the timer is the server's, the work item is acknowledged, all is forgotten."""
        await activation.timer("answers", self.settings.answers_expire_s)
        asked = QuestionsAsked(known=acknowledged(understanding), questions=understanding.questions)
        await activation.append("asked", asked)

    async def _design(self, activation: Activation, workspace: Path, understanding: Understanding) -> Design:
        """The recorded design, or a new one, checked by the engine: keys without effect become unmet requirements."""
        if activation.state.design is not None:
            return await activation.step("design", _unreachable, result=Design)
        request = _request(activation.state)
        budget = Budget(self.settings.train_budget_s, request.constraints.train_budget_s)

        async def draft() -> Design:
            existing = await asyncio.to_thread(delivery.systems, workspace)
            drawn = self.mind.design(understanding, budget=budget, existing=existing)
            unserved = intents.refused_servers(request.request)
            drawn = drawn.model_copy(update={"unmet": (*drawn.unmet, *unserved)})
            if drawn.system not in existing:  # what stands there, if anything, could not be read: never built over
                delivery.read_spec(workspace / system_directory(drawn.system))
            return await self._supported(activation, workspace, drawn)

        design = await activation.step("design", draft, result=Design)
        waits = request.approval == "design"
        if waits:
            await activation.timer("approval", self.settings.answers_expire_s)
        proposed = DesignProposed(
            digest=digest_of(design.spec),
            awaits_approval=waits,
            sections=design.sections,
            spec=design.spec,
            assumptions=design.assumptions,
        )
        await activation.append("designed", proposed)
        return design

    async def _supported(self, activation: Activation, workspace: Path, design: Design) -> Design:
        """The design without keys that the engine refuses as not supported yet; each is told as unmet."""
        engine = await self.shelf.engine()
        home = self._home(workspace)
        scratch = home.path / "tasks" / activation.task / "draft"
        delivery.write(scratch, {"system.toml": delivery.toml(design.spec)})
        said = await engine.say(
            ("check",),
            scratch,
            watchers=watchers(activation, "check"),
            log_file=home.step_log(activation.task, "check"),
        )
        error = cast("dict[str, Any]", said.get("error") or {})
        problems = cast("list[dict[str, Any]]", error.get("details") or [])
        refused = [problem for problem in problems if problem.get("code") != "not_supported_yet"]
        if refused or (error and not problems):
            reasons = "; ".join(str(problem.get("message")) for problem in refused) or str(error.get("message"))
            raise Permanent(f"the spec cannot be used: {reasons}. Mend system.toml or the answers, submit again.")
        spec, unmet = design.spec, list(design.unmet)
        for problem in problems:
            spec = without(spec, str(problem["key"]))
            unmet.append(str(problem["message"]))
        return design.model_copy(update={"spec": spec, "unmet": tuple(unmet)})

    async def _builder(self, activation: Activation, workspace: Path, design: Design, wall: WallTime) -> Builder:
        return Builder(
            activation=activation,
            engine=await self.shelf.engine(),
            home=self._home(workspace),
            workspace=workspace,
            design=design,
            trainings=self.trainings,
            wall=wall,
            latency_s=self.settings.latency_s,
            proofs=self.settings.proofs,
        )

    async def _report(
        self, activation: Activation, status: Literal["success", "partial", "failed"], summary: str
    ) -> None:
        """The report in the seed's JSON; the summary's timer stands before it, so the task cannot be left alone."""
        summary_timer = activation.timer("summary", self.settings.summary_timeout_s)
        files, _ = await asyncio.gather(self._files(activation), summary_timer)
        report = ActivityReport(
            reporting_agent=activation.state.agent, status=status, summary=summary, files_modified=files
        )
        await activation.append("reported", report, ending="deadline" in activation.state.timeouts)

    async def _files(self, activation: Activation) -> tuple[str, ...]:
        """Every file of the system that differs from before the task."""
        before, design = activation.state.steps.get("before"), activation.state.steps.get("design")
        delivered = activation.state.delivered
        if before is None or not isinstance(before.result, dict):
            return ()
        if delivered is None and design is None:
            return ()  # an operation that was not carried out to its end
        workspace = resolve(activation.state.workspace, self.settings)
        system = delivered.system if delivered else Design.model_validate(design and design.result).system
        after = await asyncio.to_thread(delivery.digests, workspace, system)
        return delivery.changed({key: str(value) for key, value in before.result.items()}, after)

    async def _conclude(self, activation: Activation) -> None:
        """The final event, once the summary is there or its time is over, or the asker's: the work is done by then."""
        state = activation.state
        if state.waiting == "summary" and not _overdue(activation):
            await activation.append("released", Released(reason="still waiting for the summary"))
            return
        report = state.report
        if report is None:
            raise Transient("a task without a report cannot be concluded")
        totals = _totals(activation)
        if report.status == "failed":
            await activation.append("failed", Failed(reason=report.summary, totals=totals))
        else:
            await activation.append("completed", Completed(outcome=report.status, reason=report.summary, totals=totals))

    async def _set_deadline(self, activation: Activation) -> None:
        """A deadline that the asker set is a timer of the server's, set by the first activation."""
        deadline = activation.state.deadline
        if deadline is None or activation.state.briefing is not None:
            return
        left = (deadline - activation.publisher.clock()).total_seconds()
        if left <= 0:
            raise Interrupted("deadline", f"the deadline {deadline.isoformat()} had passed before the work began")
        await activation.timer("deadline", left)

    def _home(self, workspace: Path) -> Home:
        return home_of(self.settings, workspace)


def _saying(text: str) -> Callable[[], Awaitable[str]]:
    async def say() -> str:
        return text

    return say


def _request(state: TaskState) -> TaskSubmitted:
    if state.request is None:
        raise Permanent("the task has no request")
    return state.request


def _refused(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    return f"cannot use{where}: {error.strerror}. Grant access or free space, submit again."


def _overdue(activation: Activation) -> bool:
    """True when the deadline passed after the report: a report that tells of the deadline is still summarised."""
    reported = next((event.seq for event in activation.history if event.event == "reported"), 0)
    return any(
        isinstance(event.body, TimedOut) and event.body.timer == "deadline" and event.seq > reported
        for event in activation.history
    )


def _totals(activation: Activation) -> Totals:
    begun = activation.state.submitted_at or activation.publisher.clock()
    return Totals(wall_s=max(0.0, (activation.publisher.clock() - begun).total_seconds()))


def _told(delivered: Delivered) -> str:
    """The report's one sentence: what stands where, what it is worth, what is missing."""
    failed = [gate.name for gate in delivered.gates if not gate.passed]
    gates = "all gates passed" if not failed else f"gates not passed: {', '.join(failed)}"
    unmet = f"; not done: {'; '.join(delivered.unmet)}" if delivered.unmet else ""
    built = f"Built {delivered.system} version {delivered.version} in {delivered.system_dir}"
    return f"{built}: {gates}{unmet}.{delivery.told_of(delivered.kept)}"


async def _unreachable() -> Design:
    raise Permanent("the design of this task was proposed but not recorded: submit the request again")
