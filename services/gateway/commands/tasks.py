"""`mlmesh tasks`: every task with its state, what waits for a person, and how many messages nobody could process."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from contracts.task import TaskState
from services._runtime.publisher import utc_now
from services.gateway import requests
from services.gateway.attach import Desk, at_desk, place_of
from services.gateway.exits import Exit, outcome_of
from services.gateway.output import Output
from services.gateway.result import question_text, reason_of, wall_s
from services.gateway.timeline import duration

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Lists the tasks of the bus, newest first."""

    async def read(desk: Desk) -> tuple[list[TaskState], int]:
        return await requests.all_tasks(desk.bus), await requests.dead_letters(desk.bus)

    states, dead = await at_desk(place_of(options.workspace), "bus", read)
    now = utc_now()
    found = {"tasks": [_row(state, now) for state in states], "dead_letters": dead}
    parts: list[Any] = [_table(states, now)] if states else ["no tasks yet"]
    parts += [part for state in states if outcome_of(state) == "waiting" for part in _waiting(state)]
    output.result(found, *parts, f"dead letters: {dead}{'; see: mlmesh dead list' if dead else ''}")
    return Exit.SUCCESS


def _row(state: TaskState, now: datetime) -> dict[str, Any]:
    return {
        "task": state.task,
        "state": state.status,
        "outcome": outcome_of(state),
        "waiting": state.waiting if outcome_of(state) == "waiting" else None,
        "questions": [{"id": q.id, "text": q.text, "default": q.default} for q in state.open_questions],
        "request": state.request.request if state.request else "",
        "workspace": state.workspace,
        "agent": state.agent,
        "submitted_at": state.submitted_at.isoformat() if state.submitted_at else None,
        "wall_s": round(wall_s(state, now), 3),
    }


def _table(states: list[TaskState], now: datetime) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("task", "state", "outcome", "since"):
        table.add_column(name, no_wrap=True)
    table.add_column("request", no_wrap=True, overflow="ellipsis", ratio=1)
    for state in states:
        request = state.request.request if state.request else "(cannot be read)"
        age = duration((now - state.submitted_at).total_seconds()) if state.submitted_at else ""
        table.add_row(state.task, state.status, outcome_of(state) or "", age, " ".join(request.split()))
    return table


def _waiting(state: TaskState) -> list[str]:
    """What one waiting task wants."""
    return ["", *(question_text(question) for question in state.open_questions), reason_of(state)]
