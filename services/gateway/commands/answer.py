"""`mlmesh answer`: answers what a task asked, and follows it where this command has to run the mesh."""

from dataclasses import dataclass

from services.gateway import requests
from services.gateway.answers import gathered
from services.gateway.attach import Desk, place_of
from services.gateway.errand import Errand
from services.gateway.exits import Usage
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    task: str
    pairs: list[str]
    answers: str | None
    wait: bool | None
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Publishes the answers; with a mesh of its own the task is followed unless `--no-wait`."""
    task = requests.checked_id(options.task)
    given = gathered(options.pairs, options.answers)
    if not given:
        raise Usage("no answer was given: write slot.field=value, or --answers FILE; the questions: mlmesh tasks")

    async def tell(desk: Desk) -> str:
        await requests.answer(desk.publisher, await requests.open_state_of(desk.bus, task), given)
        return task

    errand = Errand(tell, output, wait=options.wait)
    return await errand.run(place_of(options.workspace), "bus" if options.wait is False else "resume")
