"""Turns a request into an Understanding: what it says, what the workspace and the data say, what is left to ask.

Looks at files and has the data profiled, as a recorded step; what follows from it is pure (understanding.py). Left
out: asking, and everything after it (handlers.py).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from contracts.briefing import Briefing
from contracts.events import AnswerValue, Question, TaskSubmitted
from contracts.task import fold
from services._runtime.errors import Permanent
from services._runtime.home import Home
from services._runtime.journal import Activation
from services._runtime.systems import system_directory
from services.ml_engineer import delivery, sources
from services.ml_engineer import intent as intents
from services.ml_engineer.build import watchers
from services.ml_engineer.dossier import read_record
from services.ml_engineer.engine import Engine, Profile
from services.ml_engineer.intent import Intent
from services.ml_engineer.playbook import slug
from services.ml_engineer.request import read
from services.ml_engineer.slots import SLOTS_BY_ID, Known, fill, listed
from services.ml_engineer.understanding import (
    Understanding,
    with_defaults,
    with_missing,
    with_standing,
    with_target,
)

Systems = Mapping[str, Mapping[str, JsonValue]]


@dataclass(frozen=True, slots=True)
class Discovery:
    """Discovery for one activation."""

    activation: Activation
    engine: Engine
    home: Home
    workspace: Path

    @property
    def request(self) -> TaskSubmitted:
        """What was asked for. Raises Permanent."""
        if self.activation.state.request is None:
            raise Permanent("the task has no request")
        return self.activation.state.request

    def system_meant(self, systems: Systems) -> str | Question:
        """The delivered system that is meant, or the question for it. Raises Permanent when there is none."""
        if not systems:
            raise Permanent("no system is delivered in this workspace yet: ask for one first, such as 'predict ...'")
        if (answered := answers(self.activation).get("task.system")) is not None:
            name = str(SLOTS_BY_ID["task.system"].effect(answered)["name"])
            if name not in systems:
                raise Permanent(f"no system {name!r} is delivered here: there are {', '.join(systems)}. Submit again.")
            return name
        meant = intents.systems_meant(self.request.request, systems)
        return meant[0] if len(meant) == 1 else SLOTS_BY_ID["task.system"].question(meant)

    async def of_new(self, briefing: Briefing, intent: Intent) -> Understanding:
        """What is known of a request for a new system, of a model to be trained or of one that is brought along."""
        request, facts = self.request, briefing.briefing.facts
        reading, model = read(request.request), ""
        known = fill(reading.slots, answers(self.activation), facts)
        if intent.action == "adopt":
            model = await asyncio.to_thread(sources.own_model, self.workspace, intent.model)
            named = Known("task.system", slug(PurePosixPath(model).stem), "request", "the model's name")
            known = {"task.system": named, **known}
        said = request.inputs or reading.paths
        found = await asyncio.to_thread(
            lambda: sources.find(self.workspace, said=said, answered=known.get("task.data"), facts=facts)
        )
        understanding = Understanding(
            request=request.request, reading=reading, known=known, facts=facts, data=found.paths, model=model
        )
        if found.known is not None:
            profile = await self._profile(found.paths, model)
            understanding = replace(understanding, known={**known, "task.data": found.known})
            understanding = with_target(understanding, profile)
        elif found.question is not None:
            understanding = replace(understanding, questions=(found.question,))
        target = understanding.known.get("task.target")
        unnamed = not reading.named and (target is None or target.origin == "workspace")
        if unnamed and (why := intents.unlearnt(request.request)):
            raise Permanent(why)
        understanding = with_missing(understanding)
        return with_defaults(understanding) if request.accept_defaults else understanding

    async def of_standing(self, system: str, intent: Intent) -> Understanding:
        """What is known of a system that is trained again: its own spec, and the data that are meant."""
        request, directory = self.request, self.workspace / system_directory(system)
        reading, spec = read(request.request), delivery.read_spec(directory)
        known = fill(reading.slots, answers(self.activation), ())
        before = await asyncio.to_thread(sources.standing, self.workspace, directory, spec)
        understanding = Understanding(request=request.request, reading=reading, known=known, facts=(), data=before)
        answered = known.get("task.data")
        named = listed(answered.value) if answered is not None else [*(request.inputs or reading.paths)]
        if named:
            data = await asyncio.to_thread(sources.existing, self.workspace, named)
            understanding = replace(understanding, data=data)
        elif intent.new_data:
            found = await asyncio.to_thread(sources.newer, self.workspace, before)
            if len(found) != 1:
                evidence = found or (f"no file like {', '.join(before) or 'the source'} is newer",)
                return replace(understanding, questions=(SLOTS_BY_ID["task.data"].question(evidence),))
            understanding = replace(understanding, data=found)
        profile = await self._profile(understanding.data) if understanding.data else read_record(directory).profile
        return with_standing(replace(understanding, profile=profile), spec, system)

    async def _profile(self, data: tuple[str, ...], model: str = "") -> Profile:
        paths = [str(self.workspace / path.lstrip("/")) for path in data]
        own = ("--model", str(self.workspace / model.lstrip("/"))) if model else ()

        async def run() -> Profile:
            return await self.engine.run(
                ("profile", "--data", *paths, *own),
                self.workspace,
                Profile,
                watchers=watchers(self.activation, "profile"),
                log_file=self.home.step_log(self.activation.task, "profile"),
            )

        return await self.activation.step("profile", run, result=Profile, inputs=[*data, *own[1:]])


def answers(activation: Activation) -> Mapping[str, AnswerValue]:
    """What was answered before the design: it stands, whatever somebody says while it is built."""
    designed = next((event.seq for event in activation.history if event.event == "designed"), None)
    if designed is None:
        return activation.state.answers
    return fold(activation.task, [event for event in activation.history if event.seq < designed]).answers
