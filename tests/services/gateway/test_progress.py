"""The life of a task as people watch it."""

import io
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from contracts.events import Failed, Progressed
from contracts.message import Message
from contracts.task import TaskState
from services.gateway.progress import PHASES, Course, LineView, LiveView, Row, advance, clock, elapsed_s, rows
from services.gateway.timeline import duration
from tests.services.gateway.journals import (
    ANSWERED,
    BEGUN,
    BRIEFED,
    DESIGNED,
    SUBMITTED,
    WAITING,
    WHOLE,
    WORKING,
    journal,
)

NOW = BEGUN + timedelta(seconds=30)
TRAINING = Progressed(step="train", fraction=0.4, message="trees", metrics={"roc_auc": 0.8312})


def course_of(bodies: Sequence[Message]) -> Course:
    course = Course(TaskState("t1"))
    for event in journal(bodies):
        course = advance(course, event)
    return course


def test_every_phase_has_a_row_from_the_start() -> None:
    """The first is at work, the rest lie ahead."""
    assert rows(course_of((SUBMITTED, WORKING)), NOW) == (
        Row("brief", "now", "", 30.0),
        *(Row(phase, "ahead") for phase in PHASES[1:]),
    )


def test_a_task_that_waits_says_for_what() -> None:
    """Waiting has no clock: it takes as long as a person takes."""
    assert rows(course_of(WAITING), NOW)[:3] == (
        Row("brief", "done", "1 thing known already", 2.0),
        Row("clarify", "waiting", "2 of 2 questions open"),
        Row("design", "ahead"),
    )


def test_the_build_shows_its_steps() -> None:
    """What is done with its time, what is at work with its share and numbers."""
    course = course_of((*WAITING, ANSWERED, WORKING, DESIGNED, TRAINING))
    assert rows(course, NOW)[2:6] == (
        Row("design", "done", "1 assumption", 2.0),
        Row("build", "now", "", 24.0),
        Row("train", "now", "trees roc_auc 0.8312", None, 0.4),
        Row("report", "ahead"),
    )


def test_a_step_that_is_recorded_is_no_longer_at_work() -> None:
    """Its row turns into the time that it took."""
    events = (*WAITING, ANSWERED, WORKING, DESIGNED, TRAINING)
    recorded = WHOLE[WHOLE.index(DESIGNED) + 1]
    assert rows(course_of((*events, recorded)), NOW)[3:6] == (
        Row("build", "now", "", 24.0),
        Row("train", "done", "", 62.0),
        Row("report", "ahead"),
    )


def test_a_completed_task_has_every_phase_behind_it() -> None:
    """With what came of each."""
    course = course_of(WHOLE)
    assert [(row.name, row.mark, row.text) for row in rows(course, NOW)] == [
        ("brief", "done", "1 thing known already"),
        ("clarify", "done", "2 questions answered"),
        ("design", "done", "1 assumption"),
        ("build", "done", "churn version 2, 1 of 1 gates passed"),
        ("train", "done", ""),
        ("report", "done", "1 file"),
        ("summary", "done", "success"),
    ]
    assert elapsed_s(course, NOW) == 12.0


def test_a_task_that_failed_stops_where_it_was() -> None:
    """The reason stands beside the phase."""
    course = course_of((SUBMITTED, WORKING, BRIEFED, Failed(reason="one row")))
    assert [(row.name, row.mark, row.text) for row in rows(course, NOW)[:3]] == [
        ("brief", "done", "1 thing known already"),
        ("clarify", "stopped", "one row"),
        ("design", "ahead", ""),
    ]


@given(st.lists(st.integers(0, len(WHOLE) - 1), max_size=40))
def test_seeing_an_event_again_changes_nothing(order: list[int]) -> None:
    """A watcher may be told of the same events twice, live and from the stream."""
    events = journal(WHOLE)
    course, once = Course(TaskState("t1")), Course(TaskState("t1"))
    newest = 0
    for index in order:
        course = advance(advance(course, events[index]), events[index])
        if index + 1 > newest:
            once, newest = advance(once, events[index]), index + 1
    assert course == once


def test_without_a_terminal_an_event_is_a_line() -> None:
    """With its time; claims say nothing to people; the same event twice is one line."""
    stream = io.StringIO()
    with LineView(stream, Course(TaskState("t1"))) as view:
        for event in [*journal(WHOLE), *journal(WHOLE)]:
            view.seen(event)
        view.hinted(TRAINING)
    assert stream.getvalue().splitlines() == [
        "00:00 submitted: Predict churn",
        "00:02 briefed: 1 fact from 1 file: A shop.",
        "00:03 asked: asks for nfr.latency, task.target",
        "00:04 answered: nfr.latency = 20 ms, task.target = Churn",
        "00:06 designed: 1 section, decided, 1 assumption",
        "00:07 step: train ok in 1 min 02 s",
        "00:08 delivered: churn version 2 in /ml/churn: 1 of 1 gates passed",
        "00:09 reported: success, 1 file: churn is built",
        "00:10 summarised: summary for people: success",
        "00:12 completed: success: done",
    ]


def test_on_a_terminal_the_picture_is_drawn_again_in_place() -> None:
    """What is left on the screen at the end is the last picture, once."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    with LiveView(console, Course(TaskState("t1")), clock=lambda: NOW) as view:
        for event in journal((*WAITING, ANSWERED, WORKING, DESIGNED)):
            view.seen(event)
        view.hinted(TRAINING)
    drawn = Console(width=100, color_system=None, file=io.StringIO(), record=True)
    drawn.print(view.picture())
    assert [" ".join(line.split()) for line in drawn.export_text().splitlines()] == [
        "task t1 00:30",
        "✓ brief 1 thing known already 2.0 s",
        "✓ clarify 2 questions answered 2.0 s",
        "✓ design 1 assumption 2.0 s",
        "▸ build 24 s",
        "▸ train ━━━━━━━━━╸ trees roc_auc 0.8312",
        "· report",
        "· summary",
    ]
    assert "\x1b[" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text", "watch"),
    [(0.04, "0.0 s", "00:00"), (9.94, "9.9 s", "00:09"), (59.4, "59 s", "00:59"), (185, "3 min 05 s", "03:05")],
)
def test_times_are_as_precise_as_they_are_long(seconds: float, text: str, watch: str) -> None:
    """Tenths below ten seconds, no seconds above an hour."""
    assert (duration(seconds), clock(seconds)) == (text, watch)


def test_hours_have_minutes() -> None:
    """A task may wait for days."""
    assert (duration(7_500), clock(7_500)) == ("2 h 05 min", "2:05:00")
