"""`mlmesh watch`: shows a task as it happens, until it ends or waits for a person."""

from dataclasses import dataclass

from contracts.task import TaskState
from services.gateway import requests
from services.gateway.attach import Desk, at_desk, place_of
from services.gateway.ending import ended
from services.gateway.following import Interrupts, Journey
from services.gateway.output import Output
from services.gateway.progress import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    task: str
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Follows without a say: Ctrl-C ends the watching alone."""
    task = requests.checked_id(options.task)

    async def look(desk: Desk) -> TaskState:
        events = await requests.events_of(desk.bus, task)
        if desk.works:
            return await Journey(desk, TaskState(task), view_of(task), None, Interrupts(cancels=False)).run()
        view = view_of(task)
        with view:
            for event in events:
                view.seen(event)
        return await requests.state_of(desk.bus, task)

    return ended(await at_desk(place_of(options.workspace), "bus", look), output)
