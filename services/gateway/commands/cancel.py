"""`mlmesh cancel`: asks the agent to end a task."""

from dataclasses import dataclass

from services.gateway import requests
from services.gateway.attach import Desk, place_of
from services.gateway.errand import Errand
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    task: str
    reason: str
    wait: bool
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Publishes the wish; with `--wait` the end is waited for, with a mesh of its own where none is there."""
    task = requests.checked_id(options.task)

    async def tell(desk: Desk) -> str:
        await requests.cancel(desk.publisher, await requests.open_state_of(desk.bus, task), options.reason)
        return task

    errand = Errand(tell, output, wait=options.wait)
    return await errand.run(place_of(options.workspace), "resume" if options.wait else "bus")
