"""`mlmesh approve`: decides on a design that waits, and follows the task where this command has to run the mesh."""

from dataclasses import dataclass

from services.gateway import requests
from services.gateway.attach import Desk, place_of
from services.gateway.errand import Errand
from services.gateway.exits import Usage
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    task: str
    refuse: bool
    comment: str
    wait: bool | None
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Publishes the decision; with a mesh of its own the task is followed unless `--no-wait`."""
    task = requests.checked_id(options.task)

    async def tell(desk: Desk) -> str:
        state = await requests.open_state_of(desk.bus, task)
        if state.waiting != "approval":
            raise Usage(f"task {task!r} has no design that waits for approval; see: mlmesh show {task}")
        await requests.approve(desk.publisher, state, agreed=not options.refuse, comment=options.comment)
        return task

    errand = Errand(tell, output, wait=options.wait)
    return await errand.run(place_of(options.workspace), "bus" if options.wait is False else "resume")
