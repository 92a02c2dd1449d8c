"""`mlmesh run`: a request from words to its end, with a mesh of its own where none is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from contracts.events import AnswerValue
from contracts.task import TaskState
from services.gateway import requests
from services.gateway.answers import gathered
from services.gateway.attach import Desk, place_of
from services.gateway.errand import Errand, terminal
from services.gateway.exits import Usage
from services.gateway.following import Decision, Person
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    request: str | None
    workspace: str
    answers: str | None
    accept_defaults: bool
    time_budget: str
    approval: Literal["auto", "design"]
    mind: str | None
    task: str | None


async def execute(options: Options, output: Output) -> int:
    """Submits or resumes, follows to the end, tells how it came out."""
    if options.request is None and options.task is None:
        raise Usage("say what is wanted: mlmesh run 'Predict ... from data/...csv', or which task goes on: --task ID")
    named = requests.checked_id(options.task) if options.task is not None else ""
    place = place_of(options.workspace, **({"mind": options.mind} if options.mind else {}))
    workspace = requests.checked_workspace(options.workspace, place.rooted(), elsewhere=bool(place.settings.nats_url))
    given = gathered((), options.answers)
    request = None
    if options.request is not None:
        request = requests.Request(
            text=options.request,
            workspace=workspace,
            answers=given,
            accept_defaults=options.accept_defaults,
            time_budget=options.time_budget,
            approval=options.approval,
        )
        request.message()
    start = _Start(request, named, given, output)

    def person() -> Person | None:
        return Defaults(terminal(output)) if start.resumed and options.accept_defaults else terminal(output)

    return await Errand(start, output, person=person).run(place, "mesh")


@dataclass(slots=True)
class _Start:
    """Finds or submits the task."""

    request: requests.Request | None
    named: str
    given: Mapping[str, AnswerValue]
    output: Output
    resumed: bool = False

    async def __call__(self, desk: Desk) -> str:
        """The id of the task: the one that was named, an unfinished one alike, or a new one."""
        existing = await self._existing(desk)
        if existing is None:
            return await self._submit(desk)
        self.resumed = True
        how = "is over already" if existing.final else "goes on: it is this request, unfinished"
        self.output.say(f"task {existing.task} {how}")
        fresh = {key: value for key, value in self.given.items() if existing.answers.get(key) != value}
        if fresh and existing.final is None:
            await requests.answer(desk.publisher, existing, fresh)
        return existing.task

    async def _existing(self, desk: Desk) -> TaskState | None:
        if not self.named:
            return await requests.twin(desk.bus, self.request) if self.request else None
        if not await desk.bus.history(self.named):
            return None
        state = await requests.state_of(desk.bus, self.named)
        if self.request and state.request and not self.request.is_same_as(state.request):
            raise Usage(f"task id {self.named!r} is taken by another request: choose another, or leave the request out")
        return state

    async def _submit(self, desk: Desk) -> str:
        if self.request is None:
            raise Usage(f"there is no task {self.named!r} here: see the tasks there are with: mlmesh tasks")
        task = await requests.submit(desk.publisher, self.request.message(), self.named)
        self.output.say(f"task {task} submitted")
        return task


@dataclass(frozen=True, slots=True)
class Defaults:
    """Answers for somebody who accepts the defaults of a task that was submitted without that word."""

    person: Person | None
    """Who is asked where there is no default."""

    async def answer(self, state: TaskState) -> Mapping[str, AnswerValue] | None:
        """The defaults; the person's answers once none is left."""
        found = {q.id: q.default for q in state.open_questions if q.default is not None}
        return found or (await self.person.answer(state) if self.person else None)

    async def decide(self, state: TaskState) -> Decision | None:
        """No default: a design is approved by a person."""
        return await self.person.decide(state) if self.person else None
