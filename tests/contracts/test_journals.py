"""The promise to a stream that is older than the code: journals of this version are read by every later one.

The journals are of real tasks (journals.py). They are folded by the code of the day; then as if the version before had
written them, as if a newer minor version had, and with events of a major version that nobody here knows.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from pydantic import TypeAdapter

from contracts.envelope import Stored, TaskEvent, read_event
from contracts.task import TaskState, transition
from services.gateway.handlers import judge
from services.ml_engineer import build
from services.ml_engineer.dossier import Design
from services.ml_engineer.engine import Evaluation, Packaged, Profile, Training, Validation
from services.ml_engineer.evidence import Tested
from tests.contracts.journals import EXPECTED, NAMES, facts, folded, journal

RESULTS: Final[dict[str, Any]] = {
    "profile": Profile,
    "design": Design,
    "before": dict[str, str],
    "scaffold": build.Scaffolded,
    "validate": Validation,
    "train": Training,
    "evaluate": Evaluation,
    "package": Packaged,
    "promote": build.Promotion,
    "document": bool,
    "test": Tested,
}
"""Step -> what the ml-engineer of the day reads its recorded result as."""

every_journal = pytest.mark.parametrize("name", NAMES)


def expected(name: str) -> dict[str, Any]:
    """The fold that was stored with a journal."""
    return json.loads(EXPECTED.read_text(encoding="utf-8"))[name]


def versioned(stored: Stored, version: str) -> Stored:
    """The message as a publisher of that schema version would have marked it."""
    schema = re.sub(r":\d+$", f":{version}", stored.headers["ce-dataschema"])
    return replace(stored, headers={**stored.headers, "ce-dataschema": schema})


def older(stored: Stored) -> Stored:
    """The message of the major version before."""
    return versioned(stored, "0")


def newer(stored: Stored) -> Stored:
    """The message with fields that only a newer minor version knows."""
    body = {"aaa": [1, {"b": None}], **json.loads(stored.data), "zzz": "new"}
    return versioned(replace(stored, data=json.dumps(body).encode()), "1.7")


def states(history: list[TaskEvent]) -> list[TaskState]:
    """The state before each event, and the last one."""
    found = [TaskState(history[0].metadata.task)]
    for event in history:
        found.append(transition(found[-1], event))
    return found


@every_journal
def test_a_journal_is_read_as_it_was_written(name: str) -> None:
    """Every event can be read, and the fold is the one that was stored beside it."""
    assert [event.problem for event in map(read_event, journal(name)) if event.problem] == []
    assert facts(folded(journal(name))) == expected(name)


@every_journal
def test_recorded_results_are_what_the_engineer_of_the_day_reads(name: str) -> None:
    """A task that was begun by the version before goes on: what is recorded is read, not done again."""
    steps = folded(journal(name)).steps

    assert set(steps) - set(RESULTS) == set()
    for step in steps.values():
        TypeAdapter[Any](RESULTS[step.name]).validate_python(step.result)


@every_journal
@pytest.mark.parametrize("published", [older, newer])
def test_a_known_version_means_the_same(name: str, published: Callable[[Stored], Stored]) -> None:
    """N-1 is read, and so is what a newer publisher of the same major added."""
    assert facts(folded(map(published, journal(name)))) == expected(name)


@every_journal
def test_an_unknown_major_has_no_effect(name: str) -> None:
    """It keeps its place in the stream, so that compare-and-set goes on, and means nothing, wherever it stands."""
    history = journal(name)
    before = states([read_event(stored) for stored in history])
    read = [read_event(versioned(stored, "2")) for stored in history]
    moved = [
        {"last_seq": event.seq, "first_seq": state.first_seq or event.seq}
        for event, state in zip(read, before, strict=False)
    ]

    assert [event.body for event in read] == [None] * len(history)
    assert [transition(state, event) for state, event in zip(before, read, strict=False)] == [
        replace(state, **place)  # pyright: ignore[reportArgumentType] - fields of the state
        for state, place in zip(before, moved, strict=False)
    ]


@every_journal
def test_an_unknown_major_is_refused_at_the_desk(name: str) -> None:
    """A dead letter that says to upgrade the reader; a submission that nobody here can read ends as failed."""
    history = journal(name)
    before = states([read_event(stored) for stored in history])
    verdicts = [
        judge(versioned(stored, "2"), state, {"ml-engineer"}) for stored, state in zip(history, before, strict=False)
    ]

    assert [verdict.kind for verdict in verdicts] == ["failed", *["dead"] * (len(history) - 1)]
    assert [verdict.reason for verdict in verdicts if "upgrade the reader" not in verdict.reason] == []


def test_the_journals_show_every_event() -> None:
    """Whatever the contracts call an event is in one of them: a new event is recorded before it is published."""
    from contracts.events import EVENTS

    spoken = {read_event(stored).event for name in NAMES for stored in journal(name)}

    assert set(EVENTS) - spoken == set()
