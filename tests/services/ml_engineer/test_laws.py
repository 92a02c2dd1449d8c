"""The laws can be broken: each is seen on a journal that breaks it, and a clean one breaks none."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.briefing import Briefing, BriefingBody
from contracts.envelope import Metadata, TaskEvent
from contracts.events import (
    EVENTS,
    CancelRequested,
    Completed,
    Delivered,
    Progressed,
    Question,
    QuestionsAnswered,
    QuestionsAsked,
    StepRecorded,
    TaskSubmitted,
    TimedOut,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from contracts.task import TaskState, fold
from services.ml_engineer.slots import SLOTS_BY_ID
from tests.laws import OTHERS, violations
from tests.services.ml_engineer.made import fact

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILE = "/ml/x/system.toml"
NEW = hashlib.sha256(b"new").hexdigest()
_NAMES = {model: name for name, model in EVENTS.items()}


def step(name: str, result: object = None, digest: str = "i") -> StepRecorded:
    """A step that worked."""
    return StepRecorded.model_validate(
        {
            "name": name,
            "attempt": 1,
            "input_digest": digest,
            "outcome": "ok",
            "result": result,
            "started_at": BEGUN,
            "ended_at": BEGUN,
        }
    )


def asked(slot: str) -> QuestionsAsked:
    """One question."""
    question: Question = SLOTS_BY_ID[slot].question()
    return QuestionsAsked(known=(), questions=(question,))


def briefed(*facts: str, paths: Sequence[str] = ()) -> Briefing:
    """A briefing with facts `slot=value`."""
    told = tuple(fact(slot, value) for slot, _, value in (text.partition("=") for text in facts))
    body = BriefingBody(summary="A shop.", relevant_paths=tuple(paths), facts=told)
    return Briefing(response_to="x", status="success", briefing=body)


SUBMITTED = TaskSubmitted(request="Predict")
WORKING = Working(executor="here", event_seq=1, work_seq=1)
ANSWERED = QuestionsAnswered.model_validate({"answers": {"nfr.latency": "20 ms"}})
DELIVERED = Delivered(system="x", system_dir="/ml/x", version=1, outcome="success")
REPORTED = ActivityReport(reporting_agent="ml-engineer", summary="built", files_modified=(FILE,))
SUMMARISED = Summary(text="It is there.", claims=(), outcome="success")
BUILT = (SUBMITTED, WORKING, briefed(), step("before", {}), DELIVERED)
WHOLE = (*BUILT, REPORTED, SUMMARISED, WORKING, Completed(reason="done"))


def journal(bodies: Sequence[Message]) -> list[TaskEvent]:
    """Events with these bodies, under ids as executors give them."""
    events: list[TaskEvent] = []
    claim, number = 0, 0
    for seq, body in enumerate(bodies, start=1):
        name = _NAMES[type(body)]
        claim, number = (seq, 0) if name == "working" else (claim, number + 1)
        own = name not in {*OTHERS, "working", "summarised"}
        metadata = Metadata(
            id=f"t1/{claim}/{number}" if own else f"m{seq}",
            type=f"mlmesh.task.{name}",
            source="urn:mlmesh:test",
            time=BEGUN + timedelta(seconds=seq),
            schema=body.data_schema(),
            task="t1",
        )
        events.append(TaskEvent(seq=seq, event=name, agent="ml-engineer", metadata=metadata, body=body))
    return events


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with a README and one new file in a system."""
    (tmp_path / "README.md").write_text("A shop.")
    (tmp_path / "ml" / "x").mkdir(parents=True)
    (tmp_path / FILE.lstrip("/")).write_text("new")
    return tmp_path


def test_a_task_that_went_well_breaks_no_law(workspace: Path) -> None:
    """Also when its summary never came, and when others speak after its end."""
    assert violations(journal(WHOLE), workspace) == []
    silent = (
        *BUILT,
        REPORTED,
        TimedOut(timer="summary"),
        WORKING,
        Completed(reason="done"),
        ANSWERED,
        CancelRequested(),
    )
    assert violations(journal(silent), workspace) == []


@pytest.mark.parametrize(
    ("bodies", "law"),
    [
        ((SUBMITTED, WORKING, asked("nfr.latency")), "asked at 3 comes before any briefing"),
        ((SUBMITTED, WORKING, step("profile"), briefed()), "step at 3 comes before any briefing"),
        (
            (SUBMITTED, WORKING, briefed("nfr.latency=20 ms"), asked("nfr.latency")),
            "nfr.latency is asked at 4 although /README.md:1 says it",
        ),
        (
            (SUBMITTED, WORKING, briefed(), asked("nfr.latency"), ANSWERED, WORKING, asked("nfr.latency")),
            "nfr.latency is asked at 7 although an answer at 5 says it",
        ),
        (
            (
                *(SUBMITTED, WORKING, briefed("task.target=y"), step("profile", {"columns": [{"name": "y"}]})),
                asked("task.target"),
            ),
            "task.target is asked at 5 although /README.md:1 says it",
        ),
        ((SUBMITTED, WORKING, briefed(paths=["/gone.md"])), "the briefing at 3 names /gone.md, which is not there"),
        (
            (*BUILT, REPORTED.model_copy(update={"files_modified": (FILE, "/ml/x/gone")}), SUMMARISED),
            "the report names /ml/x/gone, which is not there",
        ),
        (
            (*BUILT, REPORTED.model_copy(update={"files_modified": (FILE, "/README.md")}), SUMMARISED),
            "the report names /README.md, which is as it was before or none of the system's",
        ),
        (
            (*BUILT, REPORTED.model_copy(update={"files_modified": ()}), SUMMARISED),
            f"{FILE} has changed and is not in the report",
        ),
        (
            (*BUILT[:3], step("before", {FILE: NEW}), DELIVERED, REPORTED, SUMMARISED),
            f"the report names {FILE}, which is as it was before or none of the system's",
        ),
        (
            (SUBMITTED, WORKING, briefed(), REPORTED),
            f"the report names {FILE}, and nothing says what was there before",
        ),
        ((*BUILT, SUMMARISED, REPORTED), "the ending is out of order: delivered, summarised, reported"),
        ((*BUILT, REPORTED, REPORTED), "reported 2 times"),
        (
            (*BUILT, REPORTED, Completed(reason="done")),
            "completed with neither a summary nor the end of its time",
        ),
        ((SUBMITTED, WORKING, briefed(), Completed(reason="done")), "completed without a delivery"),
        ((*WHOLE, Completed(reason="again")), "2 final events: completed, completed"),
        ((*WHOLE, Progressed(step="train")), "progressed at 10 follows the final event at 9"),
        ((*WHOLE, WORKING), "working at 10 follows the final event at 9"),
        ((*BUILT, step("before", {})), "step before is recorded 2 times"),
    ],
)
def test_each_law_can_be_broken_and_is_then_told(workspace: Path, bodies: Sequence[Message], law: str) -> None:
    """In words that say where to look."""
    assert law in violations(journal(bodies), workspace)


def test_a_zombie_that_wrote_is_seen(workspace: Path) -> None:
    """An event under an older claim, and a number that goes back."""
    events = journal((SUBMITTED, WORKING, briefed(), WORKING, step("profile")))
    events[-1] = replace(events[-1], metadata=replace(events[-1].metadata, id="t1/2/9"))
    assert violations(events, workspace) == ["step at 5 was written under claim 2 while 4 held the task"]
    events = journal((SUBMITTED, WORKING, briefed(), step("profile")))
    events[-1] = replace(events[-1], metadata=replace(events[-1].metadata, id="t1/2/1"))
    assert violations(events, workspace) == ["step at 4 has number 1 after 1"]


def test_a_state_that_is_not_the_replay_is_seen(workspace: Path) -> None:
    """What an executor holds in memory is what anybody reads from the stream."""
    events = journal(WHOLE)
    held = fold("t1", events[:4])
    assert violations(events, workspace, [held]) == []
    strange: TaskState = replace(held, workspace="/elsewhere")
    assert violations(events, workspace, [strange]) == ["the state that was held at 4 is not the replay"]


@pytest.mark.parametrize(
    ("facts", "slot"),
    [("nfr.latency=fast", "nfr.latency"), ("task.target=gone", "task.target"), ("scale.rate=7 rps", "nfr.latency")],
)
def test_a_fact_that_says_nothing_usable_may_be_asked_about(workspace: Path, facts: str, slot: str) -> None:
    """A word that cannot be read, or a target that is no column, fills nothing."""
    bodies = (SUBMITTED, WORKING, briefed(facts), step("profile", {"columns": [{"name": "y"}]}), asked(slot))
    assert violations(journal(bodies), workspace) == []
