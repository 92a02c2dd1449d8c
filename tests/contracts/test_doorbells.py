"""The executor's rules, `decide` and `transition`, under anything that may happen to doorbells and executors.

A world of one task: TASKS is a log with compare-and-set, WORK holds doorbells that may be given twice, doubled, lost or
come back after they were acknowledged; executors crash or stall at any point; people answer late or never; the
summarizer is not always there. Hypothesis chooses what happens. Then faults stop, and the task must end, once.

What the executor does with a fold is the journal's and the engineer's protocol in small; what an event means and who
may claim is the contracts' own.
"""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.envelope import Metadata, TaskEvent
from contracts.events import (
    EVENTS,
    Answer,
    Approved,
    Canceled,
    CancelRequested,
    Completed,
    DesignProposed,
    Failed,
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
from contracts.subjects import WAKING
from contracts.summary import Summary
from contracts.task import FINAL_EVENTS, TaskState, decide, fold, lets_go

TASK: Final = "t1"
NOW: Final = datetime(2026, 3, 4, tzinfo=UTC)
NAMES: Final = {model: event for event, model in EVENTS.items()}
STEPS: Final = ("profile", "design", "train")
QUESTIONS: Final = tuple(
    Question(id=name, slot="nfr", field="latency", text="How?", why="It matters.") for name in ("nfr.a", "nfr.b")
)
ASKERS: Final = (*WAKING, "progressed")
SCHEDULES: Final = int(os.environ.get("MLMESH_TEST_DOORBELLS", "150"))
"""How many are tried; some rules are missed by one in thousands only."""
DOUBLED: Final = 3
"""Doorbells of one task at a time, up to which one is doubled."""
SETTLED_WITHIN: Final = 60
"""Rounds without a fault after which every task has ended: some closings, each rung by the supervisor."""

Answered = QuestionsAnswered
Run = Generator[None, None, bool]
"""An activation: each `yield` is a point where anything else may happen. Returns whether to acknowledge."""


@dataclass
class Item:
    """A doorbell in WORK."""

    work_seq: int
    event_seq: int
    held: bool = False


@dataclass
class World:
    """The bus, as far as one task sees it."""

    log: list[TaskEvent] = field(default_factory=list[TaskEvent])
    work: list[Item] = field(default_factory=list[Item])
    rung: int = 0
    timers: set[str] = field(default_factory=set[str])
    effects: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """(step, claim) of every effect outside the bus."""

    def append(self, body: Message, *, expect: int | None = None) -> int:
        """The sequence, or 0 when compare-and-set refuses it."""
        if expect is not None and expect != len(self.log):
            return 0
        seq, name = len(self.log) + 1, NAMES[type(body)]
        metadata = Metadata(id=f"TASKS-{seq}", type="", source="", time=NOW, schema="", task=TASK)
        self.log.append(TaskEvent(seq=seq, event=name, agent="ml-engineer", metadata=metadata, body=body))
        if name in WAKING:
            self.ring(seq)
        return seq

    def ring(self, event_seq: int) -> None:
        """A new doorbell for an event."""
        self.rung += 1
        self.work.append(Item(self.rung, event_seq))

    def state(self, upto: int | None = None) -> TaskState:
        """The fold, now or as it was."""
        return fold(TASK, self.log[:upto])


def activation(world: World, item: Item) -> Run:
    """Claim and engage, as journal.py and worker.py do it."""
    while True:
        state = world.state()
        yield
        if decide(state, event_seq=item.event_seq, work_seq=item.work_seq) != "claim":
            return True
        body = Working(executor="x", event_seq=item.event_seq, work_seq=item.work_seq)
        claim = world.append(body, expect=state.last_seq)
        yield
        if claim:
            return (yield from engagement(world, item, claim))


def engagement(world: World, item: Item, claim: int) -> Run:
    """The handler, until it lets go, ends the task, or finds that another executor holds it."""
    while True:
        known = world.state()
        yield
        body = yield from chosen(world, known, claim)
        while True:  # append: fold what is new, write again what was decided
            state = world.state()
            yield
            if state.final is not None or state.claim is None or state.claim.seq != claim:
                return state.claim is None or state.claim.work_seq != item.work_seq
            if state.cancel is not None and not isinstance(body, Canceled | Completed | Failed):
                body = Canceled(reason="enough")
            if lets_go(body) and any(seq > known.last_seq for seq in state.pending):
                break  # decide again: it was not decided on
            if world.append(body, expect=state.last_seq):
                if world.state().claim is None:
                    return True
                break
            yield


def chosen(world: World, state: TaskState, claim: int) -> Generator[None, None, Message]:  # noqa: PLR0911 - a protocol
    """What the engineer does next; its effects happen before it is written down."""
    if state.report is not None:
        if state.waiting == "summary":
            return Released(reason="still waiting")
        return Failed(reason="no") if state.report.status == "failed" else Completed(reason="done")
    if state.approval is not None and not state.approval.approve:
        return Canceled(reason="not approved")
    if state.timeouts & {"answers", "approval"}:
        world.timers.add("summary")
        yield
        return ActivityReport(reporting_agent="x", status="failed", summary="nobody answered")
    if state.waiting is not None:
        return Released(reason="still waiting")
    todo = [name for name in STEPS if name not in state.steps]
    if len(todo) == len(STEPS) - 1 and state.asked is None:
        world.timers.add("answers")
        yield
        return QuestionsAsked(known=(), questions=QUESTIONS)
    if len(todo) == len(STEPS) - 2 and state.design is None:
        world.timers.add("approval")
        yield
        return DesignProposed(digest="d", awaits_approval=True, sections=(), spec={})
    if todo:
        world.effects.append((todo[0], claim))
        yield
        return StepRecorded(name=todo[0], attempt=1, input_digest="i", outcome="ok", started_at=NOW, ended_at=NOW)
    world.timers.add("summary")
    yield
    return ActivityReport(reporting_agent="x", summary="done")


def answered(*names: str) -> Answered:
    """Answers to these questions."""
    return QuestionsAnswered(answers=tuple(Answer(question_id=name, value="1") for name in names))


SPOKEN: Final[dict[str, Message]] = {
    "one answer": answered("nfr.a"),
    "the other": answered("nfr.b"),
    "both": answered("nfr.a", "nfr.b"),
    "approve": Approved(),
    "refuse": Approved(approve=False),
    "again": TaskSubmitted(request="something else"),
    "cancel": CancelRequested(),
}
STAGES: Final[dict[str, tuple[str, ...]]] = {
    "submitted": (),
    "half answered": ("one answer",),
    "answered": ("both",),
    "approved": ("both", "approve"),
}


class Doorbells(RuleBasedStateMachine):
    """One task, and everything that may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.running: list[tuple[Run, Item]] = []
        self.lost = False
        """Whether a doorbell was lost: only then is the supervisor needed, and there."""
        self.world.append(TaskSubmitted(request="predict churn"))

        self.words = 0
        """How often a person will still say something: each of them rings, and so could hide what was missed."""
        self.losses = 0
        """How many doorbells may still be lost."""

    @initialize(stage=st.sampled_from(sorted(STAGES)), words=st.integers(0, 3), losses=st.sampled_from([0, 0, 1, 2]))
    def begin(self, stage: str, words: int, losses: int) -> None:
        """The task has come so far without a fault."""
        self.words, self.losses = words, losses
        for said in STAGES[stage]:
            self._round()
            self.world.append(SPOKEN[said])

    # What goes well

    @precondition(lambda self: any(not item.held for item in self.world.work))
    @rule(pick=st.integers(0, 99))
    def deliver(self, pick: int) -> None:
        """A doorbell is given to an executor."""
        free = [item for item in self.world.work if not item.held]
        item = free[pick % len(free)]
        item.held = True
        self.running.append((activation(self.world, item), item))

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99), steps=st.integers(1, 20))
    def run(self, pick: int, steps: int) -> None:
        """An executor gets some way."""
        for _ in range(steps):
            if not self._step(pick % len(self.running)):
                return

    @precondition(lambda self: self.words > 0)
    @rule(what=st.sampled_from(sorted(SPOKEN)))
    def speak(self, what: str) -> None:
        """A person says something, in time or not."""
        self.words -= 1
        self.world.append(SPOKEN[what])

    @precondition(lambda self: self.world.state().report is not None)
    @rule()
    def summarise(self) -> None:
        """The summarizer is there. It may be doubled, and late."""
        self.world.append(Summary(text="Done.", claims=(), outcome="success"))

    @precondition(lambda self: self._due())
    @rule(pick=st.integers(0, 99))
    def fire(self, pick: int) -> None:
        """The server's timer is due, as soon as it is set or later."""
        self._fire(self._due()[pick % len(self._due())])

    @precondition(lambda self: self.lost)
    @rule()
    def supervise(self) -> None:
        """A task that needs a doorbell and has none gets one. Where none was lost, nobody has to look."""
        state = self.world.state()
        if state.needs_doorbell and not self.world.work:
            self.world.append(Redriven(), expect=state.last_seq)

    # What goes wrong

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99))
    def crash(self, pick: int) -> None:
        """Kill -9; its doorbell is given again."""
        _, item = self.running.pop(pick % len(self.running))
        item.held = False

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 99))
    def stall(self, pick: int) -> None:
        """The acknowledgement wait passes while the executor lives on: a zombie."""
        self.running[pick % len(self.running)][1].held = False

    @precondition(lambda self: not self.world.work)
    @rule(chance=st.integers(0, 3))
    def source_again(self, chance: int) -> None:
        """A restart of a drained WORK: what was acknowledged comes back under new sequences."""
        if chance == 0:
            for event in self.world.log:
                if event.event in WAKING:
                    self.world.ring(event.seq)

    @precondition(lambda self: 0 < len(self.world.work) < DOUBLED)
    @rule(pick=st.integers(0, 99))
    def double(self, pick: int) -> None:
        """The same event rings twice."""
        self.world.ring(self.world.work[pick % len(self.world.work)].event_seq)

    @precondition(lambda self: self.world.work and self.losses > 0)
    @rule(pick=st.integers(0, 99))
    def vanish(self, pick: int) -> None:
        """A doorbell is lost."""
        self.losses -= 1
        self.lost = True
        self.world.work.pop(pick % len(self.world.work))

    # What must hold

    @invariant()
    def nothing_of_the_agent_follows_the_end(self) -> None:
        ends = [event.seq for event in self.world.log if event.event in FINAL_EVENTS]
        later = [event.event for event in self.world.log if ends and event.seq > ends[0]]
        assert [name for name in later if name not in ASKERS] == []

    @invariant()
    def nothing_is_done_twice(self) -> None:
        done = [getattr(event.body, "name", event.event) for event in self.world.log if event.event in DONE_ONCE]
        assert len(done) == len(set(done))

    @invariant()
    def what_is_recorded_is_not_done_again(self) -> None:
        """An effect repeats only where a claim found its step unrecorded: the step in flight."""
        assert [step for step, claim in self.world.effects if step in self.world.state(claim).steps] == []

    def teardown(self) -> None:
        """Without another fault, and with nobody who answers, the task ends, once."""
        for _ in range(SETTLED_WITHIN):
            if self.world.state().final is not None:
                break
            self._round()
        finals = [event.event for event in self.world.log if event.event in FINAL_EVENTS]
        assert len(finals) == 1, [event.event for event in self.world.log]
        self.nothing_of_the_agent_follows_the_end()
        self.nothing_is_done_twice()

    def _round(self) -> None:
        """Every doorbell is heard, every executor comes to rest, the supervisor looks; then the next timer fires."""
        before = len(self.world.log)
        held = [item for _, item in self.running]
        for item in self.world.work:
            item.held = any(item is other for other in held)
        while any(not item.held for item in self.world.work):
            self.deliver(0)
        while self.running:
            self._step(0)
        if self.lost or "summary" in self.world.state().timeouts:  # its timer may come before `reported` closes over it
            self.supervise()
        if len(self.world.log) == before and self._due():
            self._fire(self._due()[0])

    def _due(self) -> list[str]:
        """Timers that may fire. The summary's is short: `reported`, before which it is set, may take longer."""
        state = self.world.state()
        begun = (
            {"summary"} | ({"answers"} if state.asked else set[str]()) | ({"approval"} if state.design else set[str]())
        )
        return sorted(self.world.timers & begun)

    def _fire(self, timer: str) -> None:
        self.world.timers.discard(timer)
        self.world.append(TimedOut(timer=timer))

    def _step(self, index: int) -> bool:
        """One step of an executor; False when it has come to rest."""
        run, item = self.running[index]
        try:
            next(run)
        except StopIteration as rest:
            self.running.pop(index)
            if rest.value:  # an acknowledgement counts for the item, whoever holds it by now
                self.world.work = [other for other in self.world.work if other.work_seq != item.work_seq]
            return False
        return True


DONE_ONCE: Final = ("step", "reported", "asked", "designed")

TestDoorbells: Callable[..., Any] = Doorbells.TestCase
TestDoorbells.settings = settings(max_examples=SCHEDULES, stateful_step_count=60)  # pyright: ignore[reportFunctionMemberAccess]
