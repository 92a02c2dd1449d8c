"""`mlmesh show`: the timeline of a task from its journal alone, without any trace backend."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.envelope import TaskEvent
from contracts.task import TaskState, fold
from services._runtime.home import Home
from services._runtime.publisher import utc_now
from services.gateway import requests
from services.gateway.attach import Desk, at_desk, place_of
from services.gateway.exits import Exit, outcome_of
from services.gateway.output import Output
from services.gateway.result import system_dir, told, wall_s
from services.gateway.timeline import duration, sentence, step_s

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    task: str
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Prints events, steps and places of files."""
    place = place_of(options.workspace)
    task = requests.checked_id(options.task)

    async def read(desk: Desk) -> list[TaskEvent]:
        return await requests.events_of(desk.bus, task)

    events = await at_desk(place, "bus", read)
    state = fold(task, events)
    files = _files(state, place.home)
    found: dict[str, Any] = {
        "task": task,
        "state": state.status,
        "outcome": outcome_of(state),
        "request": state.request.request if state.request else "",
        "trace_id": state.trace_id,
        "wall_s": round(wall_s(state, utc_now()), 3),
        "events": [_event(event) for event in events],
        "steps": [_step(state, name) for name in state.steps],
        "files": files,
    }
    places = [f"{name}: {where}" for name, where in files.items()]
    head = f"task {task}  {state.status}  trace {state.trace_id}  {duration(found['wall_s'])}"
    output.result(found, head, _timeline(events), *_steps(state), "", *places, "", told(state))
    return Exit.SUCCESS


def _event(event: TaskEvent) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "time": event.metadata.time.isoformat(),
        "event": event.event,
        "agent": event.agent,
        "source": event.metadata.source,
        "id": event.metadata.id,
        "text": sentence(event),
        "body": event.body.model_dump(mode="json", exclude_none=True) if event.body else None,
    }


def _step(state: TaskState, name: str) -> dict[str, Any]:
    step = state.steps[name]
    return {
        "name": name,
        "outcome": step.outcome,
        "attempt": step.attempt,
        "started_at": step.started_at.isoformat(),
        "ended_at": step.ended_at.isoformat(),
        "seconds": round(step_s(step), 3),
    }


def _files(state: TaskState, home: Home) -> dict[str, str]:
    """Where the task's files are on this machine; only places that exist."""
    places = {
        "workspace": state.workspace,
        "system": str(system_dir(state)) if state.delivered else "",
        "step logs": str(home.step_log(state.task, "x").parent),
        "log": str(home.logs),
    }
    exist = {name: where for name, where in places.items() if where}
    return {name: where for name, where in exist.items() if name == "workspace" or Path(where).exists()}


def _timeline(events: Sequence[TaskEvent]) -> "Table":
    from rich.table import Table

    table = Table("time", "after", "event", "by", "what", box=None, pad_edge=False)
    begun = events[0].metadata.time
    for event in events:
        after = (event.metadata.time - begun).total_seconds()
        when = event.metadata.time.astimezone().strftime("%H:%M:%S")
        by = event.metadata.source.removeprefix("urn:mlmesh:") or "outside"
        table.add_row(when, f"{after:.2f} s", event.event, by, sentence(event))
    return table


def _steps(state: TaskState) -> list[Any]:
    if not state.steps:
        return []
    from rich.table import Table

    table = Table("step", "outcome", "attempt", "took", box=None, pad_edge=False)
    for step in state.steps.values():
        table.add_row(step.name, step.outcome, str(step.attempt), duration(step_s(step)))
    return ["", table]
