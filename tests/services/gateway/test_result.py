"""What a task came to, as an object and in words."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.events import Canceled, CancelRequested, Completed, Failed
from contracts.message import Message
from contracts.task import fold
from services.gateway.exits import Exit, exit_of, waits_for_person
from services.gateway.result import result_of, system_dir, told, waiting_text
from tests.services.gateway.journals import (
    ANSWERED,
    BEGUN,
    BRIEFED,
    DESIGNED,
    FINDINGS,
    METRICS,
    SUBMITTED,
    TRACE,
    WAITING,
    WHOLE,
    WORKING,
    journal,
)

NOW = BEGUN + timedelta(seconds=90)
FAILED = (SUBMITTED, WORKING, Failed(reason="the file holds one row: bring more"))
CANCELED = (SUBMITTED, WORKING, CancelRequested(reason="no"), Canceled(reason="no"))
PARTIAL = (*WHOLE[:-1], Completed(outcome="partial", reason="latency was not met"))
APPROVAL = (SUBMITTED, WORKING, BRIEFED, DESIGNED.model_copy(update={"awaits_approval": True}))
QUESTIONS: list[dict[str, Any]] = [
    {
        "id": "nfr.latency",
        "text": "How fast must an answer be?",
        "evidence": ["/README.md:3"],
        "default": "none",
        "answer": "20 ms",
    },
    {"id": "task.target", "text": "Which column?", "evidence": [], "default": None, "answer": "Churn"},
]


def test_a_completed_task_is_told_whole() -> None:
    """Every field, in its order; the directory is absolute, the wall time ends with the task."""
    found = result_of(fold("t1", journal(WHOLE)), NOW)
    assert found == {
        "task": "t1",
        "state": "completed",
        "outcome": "success",
        "request": "Predict churn",
        "system": "churn",
        "system_dir": "/work space/ml/churn",
        "version": 2,
        "metrics": METRICS,
        "gates": [{"name": "parity", "value": 0.0, "threshold": 1e-5, "passed": True}],
        "findings": FINDINGS,
        "known": ["50 rps (/README.md:7)"],
        "questions": QUESTIONS,
        "assumptions": ["scale.spikes = 3x"],
        "summary": "The model is there.",
        "files_modified": ["/ml/churn/a"],
        "trace_id": TRACE,
        "wall_s": 12.0,
    }


def test_a_waiting_task_has_the_same_fields_and_a_reason() -> None:
    """What it has not got to is null or empty; the reason says what to type."""
    whole = result_of(fold("t1", journal(WHOLE)), NOW)
    found = result_of(fold("t1", journal(WAITING)), NOW)
    assert list(found) == [*whole, "reason"]
    assert found == {
        **dict.fromkeys(("system", "system_dir", "version")),
        "metrics": {},
        "gates": [],
        "findings": [],
        "assumptions": [],
        "files_modified": [],
        "summary": "",
        "task": "t1",
        "state": "input-required",
        "outcome": "waiting",
        "request": "Predict churn",
        "known": ["50 rps (/README.md:7)"],
        "questions": [{**question, "answer": None} for question in QUESTIONS],
        "trace_id": TRACE,
        "wall_s": 90.0,
        "reason": "2 questions to answer: mlmesh answer t1 nfr.latency=... task.target=...",
    }


def test_what_is_known_comes_from_the_briefing_where_nothing_was_asked() -> None:
    """With the value and its source."""
    found = result_of(fold("t1", journal((SUBMITTED, WORKING, BRIEFED))), NOW)
    assert found["known"] == ["scale.rate = 50 rps (/README.md:7)"]


@pytest.mark.parametrize(
    ("bodies", "outcome", "code", "reason"),
    [
        (WHOLE, "success", Exit.SUCCESS, None),
        (PARTIAL, "partial", Exit.PARTIAL, "latency was not met"),
        (FAILED, "failed", Exit.FAILED, "the file holds one row: bring more"),
        (CANCELED, "canceled", Exit.CANCELED, "no"),
        (APPROVAL, "waiting", Exit.WAITING, "the design waits for approval: mlmesh approve t1"),
        ((SUBMITTED, WORKING), None, Exit.ERROR, None),
    ],
)
def test_an_outcome_decides_the_exit_code(
    bodies: Sequence[Message], outcome: str | None, code: Exit, reason: str | None
) -> None:
    """And everything but a plain success, or work in hand, has a reason."""
    state = fold("t1", journal(bodies))
    found = result_of(state, NOW)
    assert (found["outcome"], exit_of(state), found.get("reason")) == (outcome, code, reason)


def test_a_task_that_was_answered_does_not_wait_until_the_agent_says_so() -> None:
    """The answer stands in the stream before the agent has taken it in: whoever follows must not stop there."""
    half = ANSWERED.model_copy(update={"answers": ANSWERED.answers[:1]})
    states = [fold("t1", journal(bodies)) for bodies in (WAITING, (*WAITING, half), (*WAITING, ANSWERED))]
    assert [waits_for_person(state) for state in states] == [True, False, False]


def test_plain_words_are_the_summary_or_what_is_in_the_way() -> None:
    """The last word of a command."""
    assert [told(fold("t1", journal(bodies))) for bodies in (WHOLE, FAILED, WAITING, (SUBMITTED,))] == [
        "The model is there.",
        "failed: the file holds one row: bring more",
        "2 questions to answer: mlmesh answer t1 nfr.latency=... task.target=...",
        "task t1 is at work",
    ]


def test_a_person_reads_why_something_is_asked() -> None:
    """What is known comes first; a question has its reason, its evidence and its default."""
    assert waiting_text(fold("t1", journal(WAITING))) == (
        "Known: 50 rps (/README.md:7)\n"
        "\n"
        "nfr.latency: How fast must an answer be?\n"
        "    why: It is a gate.\n"
        "    seen: /README.md:3\n"
        "    default: none\n"
        "\n"
        "task.target: Which column?\n"
        "    why: It is predicted."
    )
    assert waiting_text(fold("t1", journal(APPROVAL))) == "## Goal\n\nPredict."


def test_a_workspace_may_be_a_url() -> None:
    """The directory is the one that the URL means."""
    bodies = (SUBMITTED.model_copy(update={"workspace": "file:///work%20space"}), *WHOLE[1:])
    assert system_dir(fold("t1", journal(bodies))) == Path("/work space/ml/churn")
