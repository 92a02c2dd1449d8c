"""Builds a designed system, step by recorded step, by running the delivered engine in its directory.

Each step may run again after a crash: the engine keeps finished stages, files are written by rename, and a
promotion is looked up before it is made. Left out: what comes before the design and after the delivery
(handlers.py).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from contracts import subjects
from contracts.events import Delivered, Gate, Progressed
from contracts.system import SystemEvent, SystemEventName
from services._runtime.errors import Permanent
from services._runtime.home import Home
from services._runtime.journal import Activation
from services._runtime.publisher import About
from services._runtime.systems import system_directory
from services.ml_engineer import delivery, documents
from services.ml_engineer.dossier import RECORD, Design, Dossier, record
from services.ml_engineer.engine import (
    NOTHING_LIVE,
    Engine,
    Evaluation,
    Packaged,
    Profile,
    Promotion,
    Result,
    Sbom,
    Training,
    Validation,
    Watchers,
)
from services.ml_engineer.evidence import Tested, own_gates, read_results
from services.ml_engineer.understanding import Understanding
from services.ml_engineer.wall import WallTime

T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=Result)
_TRAINS_AGAIN: Final = "made_again"
"""In the name of the delivered test that takes as long as training did."""
_TESTS_S: Final = 900.0
"""How long the delivered tests may take; an owner's own tests run with them."""

Outcome = Literal["success", "partial", "failed"]


class Scaffolded(BaseModel):
    """The directory stands."""

    model_config = ConfigDict(frozen=True)

    wheel: str
    wheel_sha256: str
    kept: tuple[str, ...] = ()
    """Files that stay as their owner edited them; ours lie beside."""


class History(Result):
    """`mlsystem history`."""

    entries: tuple[dict[str, JsonValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Builder:
    """One build: of one design, in one activation."""

    activation: Activation
    engine: Engine
    home: Home
    workspace: Path
    design: Design
    trainings: asyncio.Semaphore
    wall: WallTime
    latency_s: float
    proofs: bool = True
    """Whether recovery and training once more are tried at the end."""

    @property
    def directory(self) -> Path:
        """The system's directory."""
        return self.workspace / system_directory(self.design.system)

    async def build(self, understanding: Understanding, profile: Profile) -> Delivered:
        """Everything from the empty directory to the gates."""
        await self._recorded("before", self._digests, dict[str, str])
        scaffolded = await self._recorded("scaffold", self._scaffold, Scaffolded)
        validation = await self._stage("validate", Validation)
        async with self.wall.turn(self.trainings):
            training = await self._stage("train", Training)
        evaluation = await self._stage("evaluate", Evaluation, ("--latency-seconds", f"{self.latency_s:g}"))
        packaged = await self._stage("package", Packaged)
        promoted = await self._promotion(packaged)
        await self._announce(evaluation, packaged, promoted)
        sbom = await self._stage("sbom", Sbom)
        await self._stage("openapi", Result, ("--out", "docs/openapi.json", "--version", str(packaged.version)))
        dossier = Dossier(
            request=understanding.request,
            task=self.activation.task,
            design=self.design,
            known=understanding.known,
            questions=self.activation.state.asked.questions if self.activation.state.asked else (),
            profile=profile,
            validation=validation,
            training=training,
            evaluation=evaluation,
            packaged=packaged,
            promoted=promoted,
            sbom=sbom,
            wheel=scaffolded.wheel,
            wheel_sha256=scaffolded.wheel_sha256,
        )
        kept = await self._recorded("document", lambda: self._document(dossier), tuple[str, ...])
        tested = await self._recorded("test", self._test, Tested)
        drilled: dict[str, JsonValue] = {}
        if self.proofs and packaged.servable:
            drilled = await self._recorded("drill", self._drill, dict[str, JsonValue])
        dossier = replace(dossier, tested=tested, drill=drilled)
        await self._recorded("evidence", lambda: self._document(dossier), tuple[str, ...])
        delivered = self._delivered(dossier, await self._digests())
        return delivered.model_copy(update={"kept": tuple(sorted({*scaffolded.kept, *kept}))})

    async def _recorded(self, name: str, run: Callable[[], Awaitable[T]], result: type[T]) -> T:
        return await self.activation.step(name, run, result=result, inputs=self._inputs())

    def _inputs(self) -> JsonValue:
        """A step belongs to a design: another design does everything anew."""
        return self.activation.state.design.digest if self.activation.state.design else None

    async def _stage(self, command: str, result: type[ResultT], arguments: Sequence[str] = ()) -> ResultT:
        async def run() -> ResultT:
            return await self.run((command, *arguments), result)

        return await self.activation.step(command, run, result=result, inputs=self._inputs())

    async def run(self, command: Sequence[str], result: type[ResultT]) -> ResultT:
        """One engine command in the system's directory, not recorded."""
        return await self.engine.run(
            command,
            self.directory,
            result,
            watchers=watchers(self.activation, command[0]),
            log_file=self.home.step_log(self.activation.task, command[0]),
        )

    async def _digests(self) -> dict[str, str]:
        return await asyncio.to_thread(delivery.digests, self.workspace, self.design.system)

    async def _scaffold(self) -> Scaffolded:
        directory = delivery.claim_directory(self.workspace, self.design.system)
        # The spec comes first: it makes the directory ours, so that a killed scaffold can be taken up again.
        delivery.put_spec(directory, self.design.spec)
        sha256 = delivery.put_wheel(self.engine.wheel, directory)
        files = documents.locks(self.engine.wheel.name, sha256) | delivery.delivered_tests()
        kept = delivery.deliver(self.workspace, self.design.system, files)
        return Scaffolded(wheel=self.engine.wheel.name, wheel_sha256=sha256, kept=kept)

    async def _promotion(self, packaged: Packaged) -> Promotion | None:
        """Version 1 goes live if its gates allow serving; later ones are a person's decision."""
        if not packaged.servable or packaged.version != 1:
            return None

        async def promote() -> Promotion:
            history = await self.run(("history",), History)
            if any(entry.get("event") == "promoted" for entry in history.entries):
                return Promotion(version=packaged.version)
            why = f"first version that may serve ({self.activation.effect_key('promote')})"
            return await self.run(("promote", "1", "--by", self.activation.state.agent, "--why", why), Promotion)

        return await self.activation.step("promote", promote, result=Promotion, inputs=self._inputs())

    async def _announce(self, evaluation: Evaluation, packaged: Packaged, promoted: Promotion | None) -> None:
        """Tells the bus of a new version."""
        numbers = {name: found["value"] for name, found in evaluation.metrics.items() if found.get("value") is not None}
        happened: dict[SystemEventName, bool] = {"trained": packaged.created, "promoted": promoted is not None}
        for event, did in happened.items():
            if not did:
                continue
            body = SystemEvent(
                system=self.design.system,
                event=event,
                model_version=packaged.version,
                metric={name: float(value) for name, value in numbers.items() if value is not None},
                evidence=packaged.digest,
            )
            await announce(self.activation, body)

    async def _document(self, dossier: Dossier) -> tuple[str, ...]:
        files = await asyncio.to_thread(documents.render, dossier) | {RECORD: record(dossier)}
        top = documents.render_repository(dossier)
        return delivery.deliver(self.workspace, self.design.system, files, top)

    async def _test(self) -> Tested:
        log_file = self.home.step_log(self.activation.task, "test")
        only = () if self.proofs else ("-k", f"not {_TRAINS_AGAIN}")
        return await run_tests(self.activation, self.engine, self.directory, log_file, only=only)

    async def _drill(self) -> dict[str, JsonValue]:
        """What failures on a copy of the system came to, well or not; empty while no version is live to be hurt."""
        said = await self.engine.say(
            ("drill",),
            self.directory,
            watchers=watchers(self.activation, "drill"),
            log_file=self.home.step_log(self.activation.task, "drill"),
        )
        error: Mapping[str, JsonValue] = said.get("error") or {}
        if error.get("code") == NOTHING_LIVE:
            return {}
        if error:
            raise Permanent(f"the drill could not be carried out: {error.get('message')}")
        return {name: value for name, value in said.items() if name != "record"}

    def _delivered(self, dossier: Dossier, after: Mapping[str, str]) -> Delivered:
        gates = [Gate.model_validate(gate.model_dump()) for gate in dossier.evaluation.gates]
        own = own_gates(dossier.tested, dossier.drill)
        gates += own
        unmet = self.design.unmet
        return Delivered(
            system=self.design.system,
            system_dir=f"/{system_directory(self.design.system)}",
            version=dossier.packaged.version,
            outcome=outcome(dossier.evaluation.outcome, proven=all(gate.passed for gate in own), unmet=bool(unmet)),
            artifacts=delivery.artifacts(after, self.design.system),
            gates=tuple(gates),
            metrics=json.loads(json.dumps(dossier.evaluation.metrics)),
            findings=[finding.model_dump(mode="json") for finding in dossier.validation.findings],
            unmet=unmet,
        )


async def announce(activation: Activation, body: SystemEvent) -> None:
    """Tells the bus what happened to a system; the id makes a repetition harmless."""
    about = About(task=activation.task, id=activation.effect_key(body.event), workspace=activation.state.workspace)
    subject = subjects.system_event(body.system, body.event)
    kind = f"mlmesh.system.{body.event}"
    await activation.publisher.store(subject, body, about, kind=kind, template=subject)


async def run_tests(
    activation: Activation, engine: Engine, directory: Path, log_file: Path, *, only: tuple[str, ...] = ()
) -> Tested:
    """Runs a system's tests as their owner would: `pytest` in its directory, with this engine. `only`: which."""
    await activation.progress(Progressed(step="test", message="running the delivered tests"))
    log_file.parent.mkdir(parents=True, exist_ok=True)
    results = log_file.with_suffix(".xml")
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}", *only, "tests")
    with log_file.open("wb") as output:
        async with engine.spawned(arguments, directory, stdout=output, stderr=output) as process:
            try:
                async with asyncio.timeout(_TESTS_S):
                    code = await process.wait()
            except TimeoutError:
                return Tested(passed=False, text=f"the delivered tests took longer than {_TESTS_S:g} s: see {log_file}")
    lines = (await asyncio.to_thread(log_file.read_text, "utf-8", "replace")).strip().splitlines()
    at, tests = await asyncio.to_thread(read_results, results)
    return Tested(passed=code == 0, text=lines[-1] if lines else f"pytest ended with {code}", at=at, tests=tests)


def outcome(measured: str, *, proven: bool, unmet: bool) -> Outcome:
    """What the gates say; unmet requirements and what is not proven make a success partial, never the other way."""
    if measured == "failed":
        return "failed"
    return "success" if measured == "success" and proven and not unmet else "partial"


def watchers(activation: Activation, step: str) -> Watchers:
    """Progress of the engine under the step's name, and its spans in the task's trace."""

    async def progress(body: Progressed) -> None:
        await activation.progress(body.model_copy(update={"step": step, "message": body.message or body.step}))

    return Watchers(progress, activation.publisher.telemetry.emit)
