"""The last word of a command about a task: the object or the summary on stdout, what to type next on stderr."""

from contracts.task import TaskState
from services._runtime.publisher import utc_now
from services.gateway.exits import Exit, exit_of, outcome_of
from services.gateway.output import Output
from services.gateway.result import result_of, system_dir, told, waiting_text


def ended(state: TaskState, output: Output, *, stopped: bool = False) -> int:
    """Tells how the task stands and returns the exit code for it. `stopped`: by the person, before its end."""
    unfinished = outcome_of(state) is None
    found = result_of(state, utc_now())
    if unfinished:
        found["reason"] = _unfinished(state)
    parts = [waiting_text(state), ""] if outcome_of(state) == "waiting" else []
    output.result(found, *parts, _unfinished(state) if unfinished else told(state))
    for line in _next(state):
        output.say(line)
    return Exit.CANCELED if stopped and unfinished and state.cancel is not None else exit_of(state)


def recorded(state: TaskState, output: Output) -> int:
    """Tells that the command's word is stored; what comes of it is not waited for."""
    output.result(result_of(state, utc_now()), f"recorded for task {state.task}")
    output.say(f"it goes on where a mesh runs: mlmesh watch {state.task}, mlmesh run --task {state.task}, or mlmesh up")
    return Exit.SUCCESS


def _unfinished(state: TaskState) -> str:
    return f"task {state.task} has not ended; it goes on with: mlmesh run --task {state.task}"


def _next(state: TaskState) -> list[str]:
    """What to type next."""
    lines = [f"timeline: mlmesh show {state.task}"]
    if state.delivered is not None:
        lines.append(f"system:   {system_dir(state)}")
        if state.delivered.version is not None:
            lines.append(f"serve it: mlmesh serve {system_dir(state)}")
    return lines
