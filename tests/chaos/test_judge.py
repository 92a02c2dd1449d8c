"""The verdict on made-up evidence: each thing that can go wrong is found, and what is right is not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.briefing import Briefing, BriefingBody
from contracts.dead import DeadLetter
from contracts.envelope import Metadata, Stored, encode
from contracts.events import (
    Completed,
    Delivered,
    QuestionsAnswered,
    Redriven,
    StepRecorded,
    TaskSubmitted,
    Working,
)
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from tests.chaos.endpoint import Endpoint
from tests.chaos.faults import Met
from tests.chaos.judge import Evidence, Execution, judge
from tests.chaos.people import REQUESTS, Said
from tests.chaos.schedule import KILLS, LOSES_DOORBELLS, ONE_NODE, THREE_NODES, by_kind, plan
from tests.chaos.stepper import STEPS

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
GO = REQUESTS[0]


@dataclass
class Run:
    """A run of one task, made up; its events are a second apart."""

    workspace: Path
    tasks: list[Stored] = field(default_factory=list[Stored])
    said: list[Said] = field(default_factory=list[Said])
    dead: list[Stored] = field(default_factory=list[Stored])
    reports: list[Stored] = field(default_factory=list[Stored])
    executions: list[Execution] = field(default_factory=list[Execution])
    endpoint: Endpoint = field(default_factory=Endpoint)
    met: list[Met] = field(default_factory=list[Met])
    doorbells: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, event: str, body: Message, message_id: str = "") -> int:
        """The next event; its sequence."""
        seq = len(self.tasks) + 1
        time = BEGAN + timedelta(seconds=seq)
        metadata = Metadata(
            id=message_id or f"m{seq}", type="", source="", time=time, schema=body.data_schema(), task="t0"
        )
        subject = f"mesh.task.t0.{event}.ml-engineer"
        headers = encode(metadata)
        self.tasks.append(
            Stored(stream="TASKS", seq=seq, subject=subject, time=time, headers=headers, data=body.to_bytes())
        )
        if event == "reported":
            copied = {**headers, "Nats-Stream-Source": f"TASKS {seq} x y z"}
            self.reports.append(
                Stored(stream="REPORTS", seq=1, subject="mesh.report.x", time=time, headers=copied, data=b"")
            )
        return seq

    def say(self, event: str, body: Message) -> int:
        """The next event, by somebody whose words are accounted for."""
        seq = self.add(event, body)
        self.said.append(Said(f"m{seq}", "t0", event, seq))
        return seq

    def claim(self) -> int:
        """An executor takes the task."""
        seq = len(self.tasks) + 1
        return self.add("working", Working(executor="e@h:1", event_seq=1, work_seq=1), f"t0/claim/{seq}")

    def execute(self, claim: int, *steps: str) -> None:
        """An executor does these steps' effects."""
        for step in steps:
            self.executions.append(Execution(f"t0/{step}", claim, 1, 0))
            self.endpoint.take(f"t0/{step}", claim)

    def record(self, claim: int, number: int, step: str) -> None:
        """A step is recorded."""
        body = StepRecorded(
            name=step, attempt=1, input_digest="d", outcome="ok", result={}, started_at=BEGAN, ended_at=BEGAN
        )
        self.add("step", body, f"t0/{claim}/{number}")

    def end(self, claim: int, number: int) -> None:
        """The rest of a good task."""
        (self.workspace / "ml" / "t0").mkdir(parents=True, exist_ok=True)
        delivered = Delivered(system="t0", system_dir="/ml/t0", version=1, outcome="success")
        self.add("delivered", delivered, f"t0/{claim}/{number}")
        self.add(
            "reported",
            ActivityReport(reporting_agent="ml-engineer", status="success", summary="done"),
            f"t0/{claim}/{number + 1}",
        )
        self.add("summarised", Summary(text=".", claims=(), outcome="success"), "t0/summary/1")
        last = self.claim()
        self.add("completed", Completed(reason="done"), f"t0/{last}/1")

    def found(self) -> dict[str, list[str]]:
        """What the verdict finds."""
        evidence = Evidence(
            requests={"t0": GO},
            said=self.said,
            met=self.met,
            tasks=self.tasks,
            dead=self.dead,
            reports=self.reports,
            executions=self.executions,
            endpoint=self.endpoint,
            workspace=lambda _: self.workspace,
            doorbells=self.doorbells,
            unheard=0,
        )
        return {name: texts for name, texts in judge(evidence).findings().items() if texts}


def begun(workspace: Path) -> tuple[Run, int]:
    """A task that is submitted, claimed and briefed."""
    run = Run(workspace)
    run.say("submitted", TaskSubmitted(request="go"))
    claim = run.claim()
    run.add(
        "briefed",
        Briefing(response_to="ml-engineer", status="success", briefing=BriefingBody(summary=".")),
        f"t0/{claim}/1",
    )
    return run, claim


def good(workspace: Path) -> Run:
    """A task that went as it should."""
    run, claim = begun(workspace)
    for number, step in enumerate(STEPS, 2):
        run.execute(claim, step)
        run.record(claim, number, step)
    run.end(claim, 2 + len(STEPS))
    return run


def taken_over(workspace: Path) -> Run:
    """A task whose executor died in its second step."""
    run, claim = begun(workspace)
    run.execute(claim, *STEPS[:2])
    run.record(claim, 2, STEPS[0])
    second = run.claim()
    run.execute(second, *STEPS[1:])
    for number, step in enumerate(STEPS[1:], 1):
        run.record(second, number, step)
    run.end(second, len(STEPS))
    return run


def fault(kind: str, at: int = 4) -> Met:
    """One that came that many seconds after the beginning."""
    moment = (BEGAN + timedelta(seconds=at)).timestamp()
    return Met(kind, "ml-engineer-1", moment, moment)  # pyright: ignore[reportArgumentType] - the kinds below are some


def test_a_good_run_has_no_findings(tmp_path: Path) -> None:
    """Nothing is found where nothing is wrong."""
    assert good(tmp_path).found() == {}


def test_a_step_in_flight_may_be_repeated_after_a_fault(tmp_path: Path) -> None:
    """The repetition of one step by the next claim is what kill -9 may cost."""
    run = taken_over(tmp_path)
    run.met.append(fault("kill-service"))
    assert run.found() == {}


def no_fault(_: Run) -> None:
    """Nothing went wrong, and yet the task was taken over."""


def only_a_stop(run: Run) -> None:
    run.met.append(fault("terminate-service"))


def twice_under_one_claim(run: Run) -> None:
    run.met.append(fault("kill-service"))
    run.execute(2, STEPS[1])


def known_to_be_recorded(run: Run) -> None:
    run.met.append(fault("kill-service"))
    run.execute(6, STEPS[0])


def by_a_zombie(run: Run) -> None:
    """It wakes up when another has done the next step, and does it too."""
    run.met.append(fault("freeze-service"))
    recorded = (BEGAN + timedelta(seconds=len(run.tasks))).timestamp()
    run.executions.append(Execution(f"t0/{STEPS[2]}", 2, 1, recorded + 1))


@pytest.mark.parametrize(
    ("wrong", "finding"),
    [
        (no_fault, "doubled_effects"),
        (only_a_stop, "repeated_on_stop"),
        (twice_under_one_claim, "doubled_effects"),
        (known_to_be_recorded, "doubled_effects"),
        (by_a_zombie, "doubled_effects"),
    ],
)
def test_effects_that_are_repeated_for_no_reason_are_found(
    tmp_path: Path, wrong: Callable[[Run], None], finding: str
) -> None:
    """Without a fault, by a stop in good order, twice under one claim, or although the record was known."""
    run = taken_over(tmp_path)
    wrong(run)
    assert list(run.found()) == [finding]


def ends_never(run: Run) -> None:
    del run.tasks[-1]


def ends_twice(run: Run) -> None:
    run.add("completed", Completed(reason="done"), "t0/gateway/1")


def report_is_not_copied(run: Run) -> None:
    run.reports.clear()


def message_is_gone(run: Run) -> None:
    run.said.append(Said("gone", "t0", "answered", 99))


def second_submission_is_passed_over(run: Run) -> None:
    run.say("submitted", TaskSubmitted(request="go"))


def letter_for_no_reason(run: Run) -> None:
    body = DeadLetter(
        reason="?", stream="WORK", stream_seq=1, subject="mesh.work.ml-engineer.t0", durable="ml-engineer"
    )
    run.dead.append(Stored(stream="DEAD", seq=1, subject="mesh.dead.x", time=BEGAN, headers={}, data=body.to_bytes()))


def doorbell_is_left(run: Run) -> None:
    run.doorbells["mesh.work.ml-engineer.t0"] = 1


def doorbell_vanished(run: Run) -> None:
    run.tasks.pop()
    run.add("redriven", Redriven())
    run.add("completed", Completed(reason="done"), f"t0/{len(run.tasks) - 1}/1")


@pytest.mark.parametrize(
    ("wrong", "findings"),
    [
        (ends_never, ["lost", "stuck"]),
        (ends_twice, ["lost", "broken_laws"]),
        (report_is_not_copied, ["lost"]),
        (message_is_gone, ["unaccounted_messages"]),
        (second_submission_is_passed_over, ["unaccounted_messages"]),
        (letter_for_no_reason, ["unaccounted_messages"]),
        (doorbell_is_left, ["broken_laws"]),
        (doorbell_vanished, ["broken_laws"]),
    ],
)
def test_what_is_wrong_with_a_task_is_found(
    tmp_path: Path, wrong: Callable[[Run], None], findings: Sequence[str]
) -> None:
    """Each under its name."""
    run = good(tmp_path)
    wrong(run)
    assert list(run.found()) == findings


def test_a_doorbell_may_vanish_where_doorbells_are_taken_away(tmp_path: Path) -> None:
    """After WORK was purged the supervisor rings, as it should."""
    run = good(tmp_path)
    doorbell_vanished(run)
    run.met.append(fault(min(LOSES_DOORBELLS)))
    assert run.found() == {}


def test_what_comes_late_is_accounted_for(tmp_path: Path) -> None:
    """An answer after the end is stored, means nothing, and need not be a dead letter."""
    run = good(tmp_path)
    run.say("answered", QuestionsAnswered.model_validate({"answers": {"nfr.first": "yes"}}))
    assert run.found() == {}


@pytest.mark.parametrize(("nodes", "troubles"), [(1, ONE_NODE), (3, THREE_NODES)])
def test_a_seed_is_a_schedule(nodes: int, troubles: Sequence[str]) -> None:
    """The same seed is the same plan, another one another; each has the kills asked for and every kind of trouble."""
    faults = plan(5, 100, nodes=nodes)
    counts = by_kind(faults)
    assert plan(5, 100, nodes=nodes) == faults
    assert plan(6, 100, nodes=nodes) != faults
    assert sum(counts.get(kind, 0) for kind in KILLS) == 100
    assert set(troubles) <= set(counts)
