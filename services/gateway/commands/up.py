"""`mlmesh up`: the embedded mesh in the foreground, until Ctrl-C."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from contracts.task import TaskState
from services.gateway import requests
from services.gateway.attach import Desk, as_owner, place_of
from services.gateway.exits import Exit, Usage
from services.gateway.following import Interrupts
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    port: int | None
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Runs until a signal. Raises Misconfigured: another mesh lives here, port taken, no room."""
    place = place_of(options.workspace)
    if place.settings.nats_url:
        raise Usage(f"NATS_URL is set to {place.settings.nats_url}: that is the mesh; unset it to start one here")
    requests.checked_workspace(options.workspace, place.rooted())
    port = place.settings.port if options.port is None else options.port

    async def stay(desk: Desk) -> None:
        interrupts = Interrupts(cancels=False)
        with interrupts.heard():
            _introduce(desk, await requests.unfinished(desk.bus), output)
            await interrupts.stop.wait()
        output.say("stopping: unfinished tasks go on when a mesh runs here again")

    async with AsyncExitStack() as stack:
        stack.enter_context(place.home.hold())
        await as_owner(place, stay, port=port)
    return Exit.SUCCESS


def _introduce(desk: Desk, unfinished: list[TaskState], output: Output) -> None:
    about: dict[str, Any] = {
        "url": desk.how.url,
        "home": str(desk.place.home.path),
        "workspace": str(desk.place.workspace),
        "started_s": round(desk.how.started_s, 3),
        "unfinished": [state.task for state in unfinished],
    }
    resumed = [f"goes on: {state.task} ({state.status})" for state in unfinished]
    lines = (
        f"the mesh is ready after {desk.how.started_s:.1f} s: bus {desk.how.url}, home {desk.place.home.path}",
        *resumed,
        "give it work:  mlmesh submit 'Predict ... from data/...csv'",
        "               or publish to mesh.task.<id>.submitted.ml-engineer from anywhere",
        "look at it:    mlmesh tasks, mlmesh watch TASK, mlmesh show TASK",
        "stop it:       Ctrl-C; nothing is lost",
    )
    if output.as_json:
        output.result(about)
    else:
        for line in lines:
            output.say(line)
