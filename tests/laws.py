"""The laws of a task's life, checked on any journal: `violations` says which are broken, in words.

The journal is as the stream holds it, the workspace as the task left it: look before another task changes the same
system. `live` are states that executors held in memory, where a test has them.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, cast

from contracts.briefing import Briefing, Fact
from contracts.envelope import TaskEvent
from contracts.events import Delivered, QuestionsAnswered, QuestionsAsked, StepRecorded, TaskSubmitted, TimedOut
from contracts.report import ActivityReport
from contracts.task import FINAL_EVENTS, TaskState, fold
from services.ml_engineer.quantities import UnreadableError
from services.ml_engineer.slots import CERTAIN, SLOTS_BY_ID

OTHERS: Final = frozenset({"submitted", "answered", "approved", "cancel-requested", "timeout", "redriven"})
"""Events that are not the agent's: they may come at any time, and after the end they mean nothing."""
WORK: Final = frozenset({"asked", "designed", "step", "progressed", "delivered"})
"""What an agent does with a task, apart from claiming and ending it."""
ORDER: Final = ("delivered", "reported", "summarised", "completed")
_UNTOLD: Final = frozenset({"__pycache__", ".pytest_cache"})
_OWN_ID = re.compile(r".+/(\d+)/(\d+)")


def violations(history: Sequence[TaskEvent], workspace: Path, live: Sequence[TaskState] = ()) -> list[str]:
    """Every law that the journal or the workspace breaks; empty: none."""
    return [
        *_briefing_comes_first(history),
        *_nothing_known_is_asked(history),
        *_paths_of_briefings_exist(history, workspace),
        *_report_is_what_changed(history, workspace),
        *_ending_is_in_order(history),
        *_nothing_follows_the_end(history),
        *_only_the_holder_writes(history),
        *_steps_are_done_once(history),
        *_replay_is_live(history, live),
    ]


def _briefing_comes_first(history: Sequence[TaskEvent]) -> Iterator[str]:
    """A briefing precedes any question, and any other work."""
    briefed = next((event.seq for event in history if event.event == "briefed"), None)
    for event in history:
        work = event.event in WORK and not getattr(event.body, "handed_over", False)
        if work and (briefed is None or event.seq < briefed):
            yield f"{event.event} at {event.seq} comes before any briefing"


def _nothing_known_is_asked(history: Sequence[TaskEvent]) -> Iterator[str]:
    """A question is never asked about a field that the briefing or an earlier answer fills."""
    filled: dict[str, str] = {}
    columns: set[str] = set()
    facts: list[Fact] = []
    for event in history:
        match event.body:
            case TaskSubmitted(answers=answers) | QuestionsAnswered(answers=answers):
                filled |= {answer.question_id: f"an answer at {event.seq}" for answer in answers}
            case Briefing(briefing=briefing):
                facts += briefing.facts
            case StepRecorded(name="profile", result={"columns": profiled}):
                columns |= {column["name"] for column in cast("list[dict[str, str]]", profiled)}
            case QuestionsAsked(questions=questions):
                told = {f"{fact.slot}.{fact.field}": fact.source for fact in facts if _fills(fact, columns)}
                for question in questions:
                    if source := (told | filled).get(question.id):
                        yield f"{question.id} is asked at {event.seq} although {source} says it"
            case _:
                pass


def _fills(fact: Fact, columns: set[str]) -> bool:
    """Whether a fact is sure and says what its slot needs; a target must be a column of the data."""
    slot = SLOTS_BY_ID.get(f"{fact.slot}.{fact.field}")
    if slot is None or fact.confidence < CERTAIN:
        return False
    try:
        slot.effect(fact.value)
    except UnreadableError:
        return False
    return slot.id != "task.target" or fact.value in columns


def _paths_of_briefings_exist(history: Sequence[TaskEvent], workspace: Path) -> Iterator[str]:
    """Every path in a briefing exists."""
    for event in history:
        if isinstance(event.body, Briefing):
            told = event.body.briefing
            sources = [fact.source.rpartition(":")[0] or fact.source for fact in told.facts]
            for path in dict.fromkeys([*told.relevant_paths, *told.file_purposes, *sources]):
                if not (workspace / path.lstrip("/")).exists():
                    yield f"the briefing at {event.seq} names {path}, which is not there"


def _report_is_what_changed(history: Sequence[TaskEvent], workspace: Path) -> Iterator[str]:
    """Every file in a report exists and differs from before; every difference of the system is in the report."""
    report = next((event.body for event in history if isinstance(event.body, ActivityReport)), None)
    if report is None:
        return
    before, system = _before(history), _system(history)
    now = _files(workspace, system) if system else {}
    for path in report.files_modified:
        if not (workspace / path.lstrip("/")).is_file():
            yield f"the report names {path}, which is not there"
        elif before is None:
            yield f"the report names {path}, and nothing says what was there before"
        elif now.get(path) == before.get(path):
            yield f"the report names {path}, which is as it was before or none of the system's"
    if before is not None:
        missing = {path for path, digest in now.items() if before.get(path) != digest} - set(report.files_modified)
        yield from (f"{path} has changed and is not in the report" for path in sorted(missing))


def _before(history: Sequence[TaskEvent]) -> dict[str, str] | None:
    """What stood there before the build; None where nothing was built."""
    steps = (event.body for event in history if isinstance(event.body, StepRecorded))
    found = next((step.result for step in steps if step.name == "before"), None)
    return cast("dict[str, str] | None", found)


def _system(history: Sequence[TaskEvent]) -> str:
    """The system's directory, from the delivery or the design."""
    for event in history:
        match event.body:
            case Delivered(system_dir=directory):
                return directory.strip("/")
            case StepRecorded(name="design", result=dict() as design):
                return f"ml/{str(design['system']).replace('-', '_')}"
            case _:
                pass
    return ""


def _files(workspace: Path, system: str) -> dict[str, str]:
    """`/`-rooted path -> sha256 of all below a system's directory and of its workflow."""
    name = system.rpartition("/")[2].replace("_", "-")
    found = [*(workspace / system).rglob("*"), workspace / ".github" / "workflows" / f"ml-{name}.yml"]
    return {
        f"/{path.relative_to(workspace).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
        if path.is_file() and not _UNTOLD & set(path.relative_to(workspace).parts)
    }


def _ending_is_in_order(history: Sequence[TaskEvent]) -> Iterator[str]:
    """Delivered, reported, summarised, final: each once at most; the agent's final one waits for summary or timer."""
    names = [event.event for event in history]
    for name, times in Counter(name for name in names if name in ORDER).items():
        if times > 1:
            yield f"{name} {times} times"
    found = [names.index(name) for name in ORDER if name in names]
    if found != sorted(found):
        yield f"the ending is out of order: {', '.join(name for name in names if name in ORDER)}"
    if "summarised" in names and "reported" not in names:
        yield "summarised without a report"
    silence = any(isinstance(event.body, TimedOut) and event.body.timer in {"summary", "deadline"} for event in history)
    for event in history:
        concludes = event.event == "completed" or (event.event == "failed" and "reported" in names)
        if concludes and _OWN_ID.fullmatch(event.metadata.id) and not ("summarised" in names or silence):
            yield f"{event.event} with neither a summary nor the end of its time"
    if "completed" in names and "delivered" not in names:
        yield "completed without a delivery"


def _nothing_follows_the_end(history: Sequence[TaskEvent]) -> Iterator[str]:
    """One final event, and nothing of an agent after it."""
    finals = [event for event in history if event.event in FINAL_EVENTS]
    if len(finals) > 1:
        yield f"{len(finals)} final events: {', '.join(event.event for event in finals)}"
    for event in history:
        if finals and event.seq > finals[0].seq and event.event not in {*OTHERS, *FINAL_EVENTS}:
            yield f"{event.event} at {event.seq} follows the final event at {finals[0].seq}"


def _only_the_holder_writes(history: Sequence[TaskEvent]) -> Iterator[str]:
    """An executor's event carries its claim, and that claim is the newest: a zombie has written nothing."""
    claim, number = 0, 0
    for event in history:
        if event.event == "working":
            claim, number = event.seq, 0
        own = _OWN_ID.fullmatch(event.metadata.id) if event.event not in OTHERS else None
        if own is None:
            continue
        if int(own[1]) != claim:
            yield f"{event.event} at {event.seq} was written under claim {own[1]} while {claim} held the task"
        elif int(own[2]) <= number:
            yield f"{event.event} at {event.seq} has number {own[2]} after {number}"
        number = int(own[2])


def _steps_are_done_once(history: Sequence[TaskEvent]) -> Iterator[str]:
    """A step that is recorded for its inputs is not done again."""
    steps = [event.body for event in history if isinstance(event.body, StepRecorded)]
    done = Counter((step.name, step.input_digest) for step in steps if step.outcome == "ok")
    yield from (f"step {name} is recorded {times} times" for (name, _), times in done.items() if times > 1)


def _replay_is_live(history: Sequence[TaskEvent], live: Sequence[TaskState]) -> Iterator[str]:
    """Folding gives what executors held in memory, whatever is delivered twice."""
    if not history:
        return
    task = history[0].metadata.task
    whole = fold(task, history)
    if fold(task, [event for event in history for _ in range(2)]) != whole:
        yield "events that are seen twice change the fold"
    if [one for one, other in pairwise(history) if one.seq >= other.seq]:
        yield "the history is not in the order of its sequences"
    for state in live:
        if fold(state.task, [event for event in history if event.seq <= state.last_seq]) != state:
            yield f"the state that was held at {state.last_seq} is not the replay"
