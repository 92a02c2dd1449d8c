"""The laws of a task's life, under any order of events, any duplicates and any replay.

`histories` are deliberately impossible ones too: an agent that misbehaves, people who answer late, timers
that fire twice. The fold has one meaning for each of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from contracts import subjects
from contracts.briefing import Briefing, BriefingBody
from contracts.envelope import Metadata, TaskEvent
from contracts.events import (
    EVENTS,
    Answer,
    Approved,
    Canceled,
    CancelRequested,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    Progressed,
    Question,
    QuestionsAnswered,
    QuestionsAsked,
    Redriven,
    Released,
    StepRecorded,
    TaskSubmitted,
    TimedOut,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from contracts.task import FINAL_EVENTS, TaskState, decide, fold, timer_id, transition

TASK = "t1"
START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
NAMES = {model: event for event, model in EVENTS.items()}

QUESTION_IDS = ("nfr.latency", "scale.rate", "task.target")
TIMERS = ("answers", "approval", "summary", "deadline", "coffee")


def question(question_id: str) -> Question:
    slot, field = question_id.split(".")
    return Question(id=question_id, slot=slot, field=field, text="How?", why="It matters.")


def asked(*question_ids: str) -> QuestionsAsked:
    return QuestionsAsked(known=(), questions=tuple(question(question_id) for question_id in question_ids))


def answered(**values: str) -> QuestionsAnswered:
    answers = tuple(Answer(question_id=name.replace("_", ".", 1), value=value) for name, value in values.items())
    return QuestionsAnswered(answers=answers)


def designed(digest: str = "d1", *, awaits_approval: bool = False) -> DesignProposed:
    return DesignProposed(digest=digest, awaits_approval=awaits_approval, sections=(), spec={})


def step(name: str = "train", attempt: int = 1) -> StepRecorded:
    return StepRecorded(
        name=name, attempt=attempt, input_digest="i", outcome="ok", started_at=START, ended_at=START + timedelta(1)
    )


def working(work_seq: int) -> Working:
    return Working(executor="a", event_seq=1, work_seq=work_seq)


SUBMITTED = TaskSubmitted(request="predict churn")
BRIEFED = Briefing(response_to="ml-engineer", status="success", briefing=BriefingBody(summary="A shop."))
REPORTED = ActivityReport(reporting_agent="ml-engineer", summary="Done.")
SUMMARISED = Summary(text="Done.", claims=(), outcome="success")
COMPLETED = Completed(outcome="success", reason="Done.")

bodies: st.SearchStrategy[Message] = st.one_of(
    st.just(SUBMITTED),
    st.just(TaskSubmitted(request="another", answers=(Answer(question_id="scale.rate", value=9),))),
    st.builds(Working, executor=st.sampled_from("ab"), event_seq=st.integers(0, 30), work_seq=st.integers(1, 4)),
    st.just(Released(reason="nothing to do")),
    st.just(BRIEFED),
    st.lists(st.sampled_from(QUESTION_IDS), min_size=1, max_size=3, unique=True).map(lambda ids: asked(*ids)),
    st.lists(st.builds(Answer, question_id=st.sampled_from(QUESTION_IDS), value=st.text(max_size=2)), min_size=1).map(
        lambda answers: QuestionsAnswered(answers=tuple(answers))
    ),
    st.builds(designed, st.sampled_from(["d1", "d2"]), awaits_approval=st.booleans()),
    st.builds(Approved, design_digest=st.sampled_from(["", "d1", "d2"]), approve=st.booleans()),
    st.builds(step, st.sampled_from(["train", "evaluate"]), st.integers(1, 2)),
    st.just(Progressed(step="train", fraction=0.5)),
    st.just(Delivered(system="churn", system_dir="/ml/churn", outcome="success")),
    st.just(REPORTED),
    st.just(SUMMARISED),
    st.builds(TimedOut, timer=st.sampled_from(TIMERS)),
    st.just(CancelRequested(reason="enough")),
    st.just(Redriven(reason="lost")),
)
finals: st.SearchStrategy[Message] = st.sampled_from([COMPLETED, Failed(reason="broken"), Canceled(reason="enough")])


def event(body: Message | None, seq: int) -> TaskEvent:
    """The event that carries `body`; None stands for one that could not be read."""
    metadata = Metadata(
        id=f"TASKS-{seq}", type="", source="", time=START + timedelta(seconds=seq), schema="", task=TASK
    )
    name = "working" if body is None else NAMES[type(body)]
    return TaskEvent(seq=seq, event=name, agent="ml-engineer", metadata=metadata, body=body)


def story(*told: Message | None) -> list[TaskEvent]:
    """Events 1, 2, 3 ... of a task."""
    return [event(body, seq) for seq, body in enumerate(told, start=1)]


def numbered(told: Sequence[Message | None], gaps: Sequence[int]) -> list[TaskEvent]:
    """Events with other tasks' events between them, as in a stream."""
    seqs = [sum(gaps[: index + 1]) for index in range(len(told))]
    return [event(body, seq) for body, seq in zip(told, seqs, strict=True)]


@st.composite
def anything(draw: st.DrawFn) -> list[TaskEvent]:
    """Events in any order, with other tasks' events between them."""
    told = draw(st.lists(bodies | finals | st.none(), max_size=25))
    return numbered(told, draw(st.lists(st.integers(1, 3), min_size=len(told), max_size=len(told))))


@st.composite
def living(draw: st.DrawFn) -> list[TaskEvent]:
    """Events in any order of a task that was submitted and has not ended."""
    told = [SUBMITTED, *draw(st.lists(bodies | st.none(), max_size=20))]
    return numbered(told, draw(st.lists(st.integers(1, 3), min_size=len(told), max_size=len(told))))


histories = anything() | living()


def states(history: Iterable[TaskEvent]) -> list[TaskState]:
    """The state after each event."""
    told = [TaskState(TASK)]
    for one in history:
        told.append(transition(told[-1], one))
    return told[1:]


def after(state: TaskState, body: Message | None) -> TaskState:
    """The state after one more event."""
    return transition(state, event(body, state.last_seq + 1))


def unchanged(state: TaskState, later: TaskState) -> bool:
    """Whether nothing but the place in the stream has moved."""
    place = {"last_seq": later.last_seq, "first_seq": later.first_seq}
    return replace(state, **place) == later  # pyright: ignore[reportArgumentType]


# Replays and duplicates


@given(histories, st.data())
def test_the_fold_of_a_part_goes_on_with_the_rest(history: list[TaskEvent], data: st.DataObject) -> None:
    """A reader that kept its state and one that starts anew see the same task."""
    cut = data.draw(st.integers(0, len(history)))
    state = fold(TASK, history[:cut])
    for later in history[cut:]:
        state = transition(state, later)

    assert state == fold(TASK, history)


@given(histories, st.data())
def test_duplicates_by_sequence_change_nothing(history: list[TaskEvent], data: st.DataObject) -> None:
    """Redelivered or replayed events, any number of them, at any later time."""
    redelivered: list[TaskEvent] = []
    for index, one in enumerate(history):
        redelivered += [one, *data.draw(st.lists(st.sampled_from(history[: index + 1]), max_size=3))]

    assert fold(TASK, redelivered) == fold(TASK, history)


@given(histories)
def test_a_whole_replay_on_top_changes_nothing(history: list[TaskEvent]) -> None:
    """Reading the stream again from its start gives the same object, not only an equal one."""
    state = fold(TASK, history)

    assert [again for again in history if transition(state, again) is not state] == []


@given(histories)
def test_an_event_that_cannot_be_read_changes_nothing(history: list[TaskEvent]) -> None:
    """It keeps its place, so that compare-and-set goes on, and has no meaning."""
    state = fold(TASK, history)

    assert unchanged(state, after(state, None))


# The beginning


@given(st.lists(bodies.filter(lambda body: not isinstance(body, TaskSubmitted))))
def test_nothing_has_a_meaning_before_the_submission(told: list[Message]) -> None:
    """Only a final event, which the supervisor writes for a submission nobody could read, counts without one."""
    state = fold(TASK, story(*told))

    assert unchanged(TaskState(TASK), state)


@given(histories)
def test_a_task_nobody_submitted_is_unknown(history: list[TaskEvent]) -> None:
    """A stray answer or cancel does not make a task."""
    alive = [state for state in states(history) if state.final is None]

    assert [s for s in alive if (s.status == "unknown") != (s.request is None)] == []


@given(living())
def test_a_second_submission_changes_nothing(history: list[TaskEvent]) -> None:
    """The id is taken: the gateway refuses the message, the task goes on."""
    state = fold(TASK, history)

    assert unchanged(state, after(state, TaskSubmitted(request="something else", workspace="/elsewhere")))


def test_a_submission_opens_the_task_with_what_it_says() -> None:
    """Answers given in advance are answers; the root of the trace is reserved."""
    body = TaskSubmitted(
        request="predict churn", workspace="/shop", answers=(Answer(question_id="scale.rate", value=50),)
    )
    state = fold(TASK, [event(body, 4)])

    assert state == TaskState(
        task=TASK,
        agent="ml-engineer",
        first_seq=4,
        last_seq=4,
        pending=(4,),
        request=body,
        workspace="/shop",
        trace_id=state.trace_id,
        submitted_at=START + timedelta(seconds=4),
        answers={"scale.rate": 50},
    )
    assert len(state.trace_id) == 32


def test_the_submitters_span_is_the_parent_of_the_task() -> None:
    """A task that was submitted within a trace belongs to that trace."""
    bare = event(SUBMITTED, 1)
    traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
    traced = replace(bare, metadata=replace(bare.metadata, traceparent=traceparent, workspace="/from-header"))

    state = fold(TASK, [traced])

    assert (state.trace_id, state.root_parent, state.workspace) == ("a" * 32, "b" * 16, "/from-header")


# The end


@given(living(), bodies | finals)
def test_nothing_after_the_final_event_changes_the_state(history: list[TaskEvent], body: Message) -> None:
    """Late answers, cancels, timers, another final event: they stay in the stream."""
    state = after(fold(TASK, history), COMPLETED)

    assert unchanged(state, after(state, body))


@given(histories)
def test_the_first_final_event_is_the_end(history: list[TaskEvent]) -> None:
    """There is one final event, and it is the first after the submission."""
    begun = next((one.seq for one in history if one.event == "submitted"), 99)
    ends = [one for one in history if one.event in FINAL_EVENTS and one.body is not None and one.seq > begun]
    state = fold(TASK, history)

    assert (state.final, state.final_event) == ((ends[0].body, ends[0].event) if ends else (None, ""))


@given(living(), finals)
def test_a_task_that_is_over_holds_nothing(history: list[TaskEvent], final: Message) -> None:
    """No claim, no doorbell, nothing to wait for, and the status is the final event's."""
    state = after(fold(TASK, history), final)

    held = (state.claim, state.pending, state.waiting, state.needs_doorbell, state.status)
    assert held == (None, (), None, False, NAMES[type(final)])


# Waiting and doorbells


@given(histories)
def test_a_task_that_waits_for_a_person_has_no_open_claim(history: list[TaskEvent]) -> None:
    """Waiting costs no process: `input-required` means that nobody holds the task."""
    waiting = [state for state in states(history) if state.status == "input-required"]

    assert [s for s in waiting if s.claim is not None or s.waiting not in {"answers", "approval"}] == []


@given(histories)
def test_closing_events_let_go(history: list[TaskEvent]) -> None:
    """`asked`, a design that waits, `reported`, `released`: nobody holds the task and nothing is left to take in."""
    state = TaskState(TASK)
    for one in history:
        over = state.final is not None
        state = transition(state, one)
        waits = isinstance(one.body, DesignProposed) and one.body.awaits_approval
        closes = isinstance(one.body, QuestionsAsked | ActivityReport | Released) or waits
        if closes and state.request is not None and not over:
            assert (state.closed_seq, state.claim, state.pending) == (one.seq, None, ())


@given(histories)
def test_what_woke_the_agent_stays_pending_until_something_closes(history: list[TaskEvent]) -> None:
    """Pending events are waking ones, after the last closing event, in order."""
    state = fold(TASK, history)
    waking = [one.seq for one in history if one.event in subjects.WAKING and one.seq > state.closed_seq]

    assert list(state.pending) == [seq for seq in waking if seq in state.pending]


@given(histories)
def test_a_task_that_neither_ended_nor_waits_needs_a_doorbell(history: list[TaskEvent]) -> None:
    """The invariant that the supervisor keeps: without a doorbell such a task would never go on."""
    going_on = [s for s in states(history) if s.request is not None and s.final is None and s.waiting is None]

    assert [state for state in going_on if not state.needs_doorbell] == []


@given(histories)
def test_a_held_task_needs_a_doorbell(history: list[TaskEvent]) -> None:
    """An executor may die: the item that woke it must be there to wake another."""
    held = [state for state in states(history) if state.claim is not None]

    assert [state for state in held if not state.needs_doorbell] == []


@given(living(), st.sampled_from(TIMERS))
def test_a_timer_that_guards_nothing_any_more_changes_nothing(history: list[TaskEvent], timer: str) -> None:
    """The question was answered before the timer fired. The deadline and the summary's timer always count."""
    state = fold(TASK, history)
    assume(timer not in {state.waiting, "deadline", "summary"})

    assert unchanged(state, after(state, TimedOut(timer=timer)))


@pytest.mark.parametrize(
    ("told", "timer"),
    [
        ((SUBMITTED, asked("scale.rate")), "answers"),
        ((SUBMITTED, designed(awaits_approval=True)), "approval"),
        ((SUBMITTED, REPORTED), "summary"),
        ((SUBMITTED,), "deadline"),
    ],
)
def test_a_timer_that_fires_in_time_wakes_the_agent(told: tuple[Message, ...], timer: str) -> None:
    """What was waited for did not come: the agent decides."""
    state = after(fold(TASK, story(*told)), TimedOut(timer=timer))

    assert (timer in state.timeouts, state.needs_doorbell) == (True, True)


@pytest.mark.parametrize(
    ("told", "timer"),
    [((SUBMITTED, asked("scale.rate")), "answers"), ((SUBMITTED, designed(awaits_approval=True)), "approval")],
)
def test_a_wait_that_timed_out_needs_a_doorbell_whoever_closes_over_it(told: tuple[Message, ...], timer: str) -> None:
    """The time is over, and an agent that did not see it let go of the task: it must be woken once more."""
    state = fold(TASK, story(*told, TimedOut(timer=timer), Working(executor="a", event_seq=3, work_seq=2)))

    assert after(state, Released(reason="still waiting")).needs_doorbell


def test_a_summary_timer_that_fires_before_the_report_ends_the_wait_for_the_summary() -> None:
    """It is set before `reported`, which may be delayed: no other timer would follow."""
    state = fold(TASK, story(SUBMITTED, TimedOut(timer="summary"), REPORTED))

    assert (state.waiting, state.needs_doorbell) == (None, True)


def test_questions_asked_again_have_a_timer_of_their_own() -> None:
    """An expiry belongs to the questions that it was set for."""
    state = fold(TASK, story(SUBMITTED, asked("scale.rate"), TimedOut(timer="answers"), asked("nfr.latency")))

    assert (state.timeouts, state.waiting) == (frozenset(), "answers")


# Whose events count


@given(living(), bodies | finals)
def test_an_event_of_another_agent_changes_nothing(history: list[TaskEvent], body: Message) -> None:
    """Who may publish for one agent cannot end, claim or answer another agent's task."""
    state = fold(TASK, history)

    assert unchanged(state, transition(state, replace(event(body, state.last_seq + 1), agent="intruder")))


@given(st.lists(bodies | finals), living())
def test_what_stands_before_the_submission_means_nothing(before: list[Message], history: list[TaskEvent]) -> None:
    """A history is read from its first `submitted` on: whoever reads the whole stream sees the same task."""
    stray = story(*(body for body in before if not isinstance(body, TaskSubmitted)))
    told = [replace(one, seq=one.seq + len(stray)) for one in history]

    assert fold(TASK, [*stray, *told]) == fold(TASK, told)


def test_a_submission_that_nobody_can_read_can_be_ended() -> None:
    """The supervisor writes `failed`; what is submitted under the id later does not begin it anew."""
    unreadable = replace(event(None, 1), event="submitted")
    state = fold(TASK, [unreadable, event(Failed(reason="not a request"), 2), event(SUBMITTED, 3)])

    assert (state.first_seq, state.status, state.request) == (1, "failed", None)


# Answers and approval


@given(living())
def test_a_question_is_open_until_it_is_answered(history: list[TaskEvent]) -> None:
    """Open questions are those of the last batch that no answer names."""
    state = fold(TASK, history)
    asked_last = [] if state.asked is None else [one.id for one in state.asked.questions]

    assert [one.id for one in state.open_questions] == [one for one in asked_last if one not in state.answers]


def test_the_last_answer_to_a_question_counts() -> None:
    """People change their minds; other answers stay."""
    told = story(SUBMITTED, answered(scale_rate="50", nfr_latency="20 ms"), answered(scale_rate="80"))

    assert dict(fold(TASK, told).answers) == {"scale.rate": "80", "nfr.latency": "20 ms"}


@given(living(), st.text(min_size=1, max_size=3), st.booleans())
def test_an_approval_of_another_design_changes_nothing(history: list[TaskEvent], digest: str, approve: bool) -> None:
    """A decision counts for the design that was read."""
    state = fold(TASK, history)
    assume(state.design is None or not state.design.awaits_approval or state.design.digest != digest)

    assert unchanged(state, after(state, Approved(design_digest=digest, approve=approve)))


@pytest.mark.parametrize("digest", ["", "d1"])
def test_an_approval_of_the_proposed_design_counts(digest: str) -> None:
    """Named by its digest, or without one: the one proposed last."""
    approval = Approved(design_digest=digest)
    state = fold(TASK, story(SUBMITTED, designed("d1", awaits_approval=True), approval))

    assert (state.approval, state.waiting, state.needs_doorbell) == (approval, None, True)


def test_a_new_design_needs_a_new_approval() -> None:
    """An approval is of one design."""
    told = (SUBMITTED, designed("d1", awaits_approval=True), Approved(), designed("d2", awaits_approval=True))
    state = fold(TASK, story(*told))

    assert (state.approval, state.waiting) == (None, "approval")


def test_a_step_is_known_by_its_name() -> None:
    """The journal's steps are there for the next executor."""
    state = fold(TASK, story(SUBMITTED, step("train"), step("evaluate"), step("train", attempt=2)))

    assert dict(state.steps) == {"train": step("train", attempt=2), "evaluate": step("evaluate")}


# Summaries


@given(living())
def test_the_first_summary_after_the_report_stands(history: list[TaskEvent]) -> None:
    """A summary of what is not reported says nothing; a second one is a duplicate."""
    state = fold(TASK, history)
    assume(state.report is None or state.summary is not None)

    assert unchanged(state, after(state, Summary(text="Another.", claims=(), outcome="failed")))


# A life told in full

LIFE: list[tuple[Message, str, str | None, bool]] = [
    # event, status, waiting, needs a doorbell
    (SUBMITTED, "submitted", None, True),
    (Working(executor="a", event_seq=1, work_seq=1), "working", None, True),
    (BRIEFED, "working", None, True),
    (asked("scale.rate", "nfr.latency"), "input-required", "answers", False),
    (answered(scale_rate="50"), "input-required", "answers", True),
    (answered(nfr_latency="20 ms"), "working", None, True),
    (Working(executor="b", event_seq=6, work_seq=2), "working", None, True),
    (designed("d1", awaits_approval=True), "input-required", "approval", False),
    (Approved(design_digest="d1"), "working", None, True),
    (Working(executor="a", event_seq=9, work_seq=3), "working", None, True),
    (step("train"), "working", None, True),
    (Progressed(step="evaluate"), "working", None, True),
    (Delivered(system="churn", system_dir="/ml/churn", outcome="success"), "working", None, True),
    (REPORTED, "working", "summary", False),
    (SUMMARISED, "working", None, True),
    (Working(executor="a", event_seq=15, work_seq=4), "working", None, True),
    (COMPLETED, "completed", None, False),
]


def test_a_life_from_request_to_end() -> None:
    """Status, what is waited for and whether a doorbell is needed, after each event of an engagement."""
    history = story(*(told for told, *_ in LIFE))
    states = [fold(TASK, history[: count + 1]) for count in range(len(history))]

    assert [(s.status, s.waiting, s.needs_doorbell) for s in states] == [tuple(expected) for _, *expected in LIFE]


# What a doorbell means for an executor


@given(histories, st.integers(0, 80), st.integers(0, 5))
def test_nobody_claims_what_is_over_or_taken_in(history: list[TaskEvent], event_seq: int, work_seq: int) -> None:
    """A doorbell of a finished task, or of an event before the last closing one, is acknowledged and forgotten."""
    settled = [s for s in states(history) if s.final is not None or s.request is None or event_seq < s.closed_seq]

    assert {decide(state, event_seq=event_seq, work_seq=work_seq) for state in settled} <= {"done"}


@given(living(), st.integers(0, 80))
def test_the_same_doorbell_again_is_a_takeover(history: list[TaskEvent], event_seq: int) -> None:
    """The executor that held it has not acknowledged in time: whoever hears it goes on."""
    state = after(fold(TASK, history), Working(executor="a", event_seq=1, work_seq=7))
    assume(event_seq >= state.closed_seq)

    assert decide(state, event_seq=event_seq, work_seq=7) == "claim"


@given(living())
def test_another_doorbell_leaves_the_running_executor_alone(history: list[TaskEvent]) -> None:
    """The open activation folds the event; only `redriven` takes over whoever holds the task."""
    state = after(fold(TASK, history), Working(executor="a", event_seq=1, work_seq=7))
    rung = range(state.closed_seq, state.last_seq + 2)
    redriven = {one.seq for one in history if one.event == "redriven" and one.seq >= state.closed_seq}

    assert {seq for seq in rung if decide(state, event_seq=seq, work_seq=8) == "claim"} == redriven
    assert {seq for seq in rung if decide(state, event_seq=seq, work_seq=8) == "running"} == set(rung) - redriven


@given(living())
def test_the_doorbell_of_a_pending_event_is_answered(history: list[TaskEvent]) -> None:
    """While nobody holds the task, whatever is pending can be claimed: no event is lost between two activations."""
    free = [state for state in states(history) if state.claim is None]

    assert {decide(state, event_seq=seq, work_seq=99) for state in free for seq in state.pending} <= {"claim"}


@pytest.mark.parametrize(
    ("told", "attempts"),
    [
        ((), 0),
        ((working(1),), 1),
        ((working(1), working(1)), 2),
        ((working(1), Progressed(step="train"), working(1)), 2),
        ((working(1), Progressed(step="train", handed_over=True), working(1)), 1),
        ((working(1), working(1), BRIEFED), 0),
        ((working(1), step(), working(1)), 1),
        ((working(1), CancelRequested(), working(1)), 2),
        ((Progressed(step="train", handed_over=True), working(1)), 1),
    ],
)
def test_attempts_are_the_claims_in_a_row_that_came_to_nothing(told: tuple[Message, ...], attempts: int) -> None:
    """What kills its executor each time is found by them; restarts in good order and progress are none."""
    assert fold(TASK, story(SUBMITTED, *told)).attempts == attempts


def test_what_a_closing_event_did_not_know_stays_pending() -> None:
    """In a cluster compare-and-set does not see what is on its way: the doorbell of what was passed by is answered."""
    history = story(SUBMITTED, working(1), asked("nfr.latency"), answered(nfr_latency="20 ms"), working(2))
    overlooked = event(CancelRequested(reason="enough"), seq=6)
    released = replace(event(Released(reason="nothing to do"), seq=7), expected=5)
    state = fold(TASK, [*history, overlooked, released])
    assert (state.closed_seq, state.pending, state.needs_doorbell) == (7, (6,), True)
    assert decide(state, event_seq=6, work_seq=3) == "claim"
    assert decide(state, event_seq=4, work_seq=2) == "done"


@pytest.mark.parametrize(
    ("timer", "waits"), [("answers", asked("nfr.latency")), ("approval", designed(awaits_approval=True))]
)
@pytest.mark.parametrize(("under", "counts"), [(2, True), (1, False)])
def test_a_timer_that_fires_before_the_wait_it_guards_ends_it(
    timer: str, waits: Message, under: int, *, counts: bool
) -> None:
    """An executor's clock was behind: nobody sets it again. One that another claim set is about another wait."""
    fired = event(TimedOut(timer=timer), seq=3)
    early = replace(fired, metadata=replace(fired.metadata, id=timer_id(TASK, under, timer)))
    state = fold(TASK, [*story(SUBMITTED, working(1)), early, event(waits, seq=4)])
    assert (state.waiting, timer in state.timeouts, state.needs_doorbell) == (timer, counts, counts)
    assert decide(state, event_seq=3, work_seq=9) == ("claim" if counts else "done")
