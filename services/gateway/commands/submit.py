"""`mlmesh submit`: gives a mesh that runs some work, and prints the task's id."""

from dataclasses import dataclass
from typing import Literal

from services.gateway import requests
from services.gateway.answers import gathered
from services.gateway.attach import Desk, at_desk, place_of
from services.gateway.exits import Exit
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    request: str
    workspace: str
    answers: str | None
    accept_defaults: bool
    time_budget: str
    approval: Literal["auto", "design"]
    task: str | None


async def execute(options: Options, output: Output) -> int:
    """Publishes and returns. Raises BusUnavailable without a mesh."""
    place = place_of(options.workspace)
    request = requests.Request(
        text=options.request,
        workspace=requests.checked_workspace(
            options.workspace, place.rooted(), elsewhere=bool(place.settings.nats_url)
        ),
        answers=gathered((), options.answers),
        accept_defaults=options.accept_defaults,
        time_budget=options.time_budget,
        approval=options.approval,
    )
    message = request.message()
    wanted = requests.checked_id(options.task) if options.task else ""

    async def publish(desk: Desk) -> str:
        return await requests.submit(desk.publisher, message, wanted)

    task = await at_desk(place, "live", publish)
    output.result({"task": task}, task)
    output.say(f"follow it: mlmesh watch {task}")
    return Exit.SUCCESS
