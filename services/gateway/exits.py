"""How a command ends: the table of exit codes, and the error for a wrong command line.

Scripts decide by these numbers, so they never change. The outcome of a task decides the number of the commands
that follow it.
"""

from enum import IntEnum

from contracts.task import TaskState
from services._runtime.errors import MeshError


class Exit(IntEnum):
    """Exit codes of `mlmesh`."""

    SUCCESS = 0
    ERROR = 1
    """Internal error, or no bus."""
    USAGE = 2
    """The command line or a file it names is wrong; nothing was published."""
    PARTIAL = 3
    FAILED = 4
    CANCELED = 5
    WAITING = 6
    """The task waits for a person."""


class Usage(MeshError):  # noqa: N818 - reads as an outcome, like the rest of the tree
    """What was asked for cannot be meant; nothing was published. The text says what to do."""


_BY_OUTCOME = {
    "success": Exit.SUCCESS,
    "partial": Exit.PARTIAL,
    "failed": Exit.FAILED,
    "canceled": Exit.CANCELED,
    "waiting": Exit.WAITING,
}


def outcome_of(state: TaskState) -> str | None:
    """success, partial, failed, canceled or waiting; None for a task that is at work."""
    if state.final is not None:
        return state.final.outcome
    return "waiting" if waits_for_person(state) else None


def waits_for_person(state: TaskState) -> bool:
    """True when nothing happens until somebody answers or approves, and nobody has yet."""
    return state.status == "input-required" and not state.pending


def exit_of(state: TaskState) -> Exit:
    """The exit code that tells how a task stands."""
    outcome = outcome_of(state)
    return _BY_OUTCOME[outcome] if outcome else Exit.ERROR
