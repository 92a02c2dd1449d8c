"""Engagements from the first event to the last, on a real bus, with an engine that learns nothing.

`house.ended` checks every law of a task's life on every one of them.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.envelope import MSG_ID
from contracts.events import (
    Approved,
    Canceled,
    CancelRequested,
    Completed,
    Delivered,
    DesignProposed,
    Failed,
    QuestionsAnswered,
    QuestionsAsked,
    TaskSubmitted,
)
from contracts.report import ActivityReport
from contracts.task import TaskState
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.publisher import Publisher
from services._runtime.settings import Settings
from services.ml_engineer.handlers import BRIEFING_QUERY
from tests.conftest import fast_settings
from tests.fakes.engine import Behaviour, gate
from tests.following import eventually, history, is_event, is_step, state, until
from tests.server import NatsServer
from tests.services.ml_engineer.house import REQUEST, House, opened
from tests.services.ml_engineer.made import fact
from tests.services.ml_engineer.pids import gone

BUILD = (
    "before",
    "scaffold",
    "validate",
    "train",
    "evaluate",
    "package",
    "promote",
    "sbom",
    "openapi",
    "document",
    "test",
    "drill",
    "evidence",
)
COMMANDS = (
    "profile",
    "check",
    "validate",
    "train",
    "evaluate",
    "package",
    "history",
    "promote",
    "sbom",
    "openapi",
    "test",
    "drill",
)
ANSWERS = {
    "scale.rate": "10 rps",
    "scale.spikes": "2x",
    "data.known_at_prediction": "yes",
    "nfr.latency": "200 ms",
    "nfr.availability": "99 %",
    "security.pii": "none",
    "security.regime": "none",
}


@pytest.fixture
async def house(bus: Bus, publisher: Publisher, settings: Settings, tmp_path: Path) -> AsyncGenerator[House]:
    """A workspace with everybody at work."""
    async with opened(bus, publisher, settings, tmp_path) as found:
        yield found


@pytest.fixture
async def lasting(server: NatsServer, settings: Settings, tmp_path: Path) -> AsyncGenerator[House]:
    """The same for a test that stops everybody: nobody listens to `>`, which would keep dead pulls alive."""
    bus = await Bus.connect(settings, "test")
    await provision(bus)
    async with opened(bus, Publisher(bus, telemetry.start("test", settings)), settings, tmp_path) as found:
        assert server.pid
        yield found
    await bus.close()


@pytest.fixture
async def impatient(bus: Bus, publisher: Publisher, server: NatsServer, tmp_path: Path) -> AsyncGenerator[House]:
    """The same with the shortest timers, and nobody who summarises."""
    settings = fast_settings(server.url, tmp_path, answers_expire_s=2, summary_timeout_s=1)
    async with opened(bus, publisher, settings, tmp_path, summarizer=False) as found:
        yield found


def answers(**given: str) -> QuestionsAnswered:
    """Answers to all that is asked by default, and to what is given: `task_target` is `task.target`."""
    more = {name.replace("_", ".", 1): value for name, value in given.items()}
    return QuestionsAnswered.model_validate({"answers": ANSWERS | more})


async def waiting(house: House, event: str, task: str = "t1") -> TaskState:
    """The task, once it waits after this event."""
    await until(house.bus, task, is_event(event))
    return await state(house.bus, task)


async def recorded(house: House, task: str = "t1") -> list[str]:
    """Names of the steps that are recorded, in order."""
    return [getattr(event.body, "name", "") for event in await history(house.bus, task) if event.event == "step"]


async def test_without_a_live_version_there_is_no_drill(house: House) -> None:
    """The first version failed and was never promoted, the second waits for a person: nothing is live to be hurt."""
    house.behave({"errors": {"drill": {"code": "nothing_active", "message": "no version is live"}}})
    await house.submit()
    final = (await house.ended()).body
    delivered = (await state(house.bus, "t1")).delivered
    assert isinstance(final, Completed)
    assert delivered is not None
    assert (final.outcome, [gate.name for gate in delivered.gates if gate.name == "recovery"]) == ("success", [])


async def test_a_request_with_defaults_is_built_without_a_question(house: House) -> None:
    """Brief, design, build, report, summary, end: each once, in this order, each command of the engine once."""
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Completed)
    assert (final.body.outcome, final.body.reason) == (
        "success",
        "Built churn version 1 in /ml/churn: all gates passed.",
    )
    assert await house.events() == [
        *("submitted", "working", "briefed", "step", "step", "designed"),
        *("step" for _ in BUILD),
        *("delivered", "reported", "summarised", "working", "completed"),
    ]
    assert await recorded(house) == ["profile", "design", *BUILD]
    assert house.calls() == list(COMMANDS)


async def test_the_first_step_is_the_seeds_request_to_the_context_manager(house: House) -> None:
    """In the name of the agent, with the request and the seed's words."""
    await house.submit()
    await house.ended()
    (request,) = house.asked
    assert (request.requesting_agent, request.request_type) == ("ml-engineer", "get_task_briefing")
    assert request.payload.query == f"{REQUEST}\n\n{BRIEFING_QUERY}"


async def test_a_whole_conversation_from_brief_to_summary(house: House) -> None:
    """Known first, the rest asked in one batch; the design waits for a person; nobody's time is asked for twice."""
    house.facts = (fact("scale.rate", "7 rps"), fact("stack.language", "node 20"))
    await house.submit(accept_defaults=False, approval="design")
    asked = (await waiting(house, "asked")).asked
    assert asked is not None
    assert [question.id for question in asked.questions] == [slot for slot in ANSWERS if slot != "scale.rate"]
    assert asked.known[0] == "data: /data/churn.csv, 60 rows, 6 columns"
    assert "scale rate: 7 rps (/README.md:1)" in asked.known
    assert "language: node 20 (/README.md:1)" in asked.known
    await house.tell("answered", answers())
    designed = await waiting(house, "designed")
    assert (designed.status, designed.waiting) == ("input-required", "approval")
    assert designed.design is not None
    assert designed.design.assumptions == ()
    assert designed.design.spec["objectives"] == {
        "rate_rps": 10.0,
        "peak_factor": 2.0,
        "latency_ms_p99": 200.0,
        "availability": 0.99,
    }
    assert "validate" not in house.calls()
    await house.tell("approved", Approved(design_digest=designed.design.digest))
    final = await house.ended()
    assert isinstance(final.body, Completed)
    whole = await state(house.bus, "t1")
    assert whole.summary is not None
    assert "churn" in whole.summary.text
    assert [name for name in await house.events() if name != "step"] == [
        *("submitted", "working", "briefed", "asked", "answered", "working", "designed"),
        *("approved", "working", "delivered", "reported", "summarised", "working", "completed"),
    ]


async def test_a_refused_design_ends_the_task_with_the_persons_reason(house: House) -> None:
    """Canceled: nothing is built, nothing is reported."""
    await house.submit(approval="design")
    design = (await waiting(house, "designed")).design
    assert design is not None
    await house.tell("approved", Approved(design_digest=design.digest, approve=False, comment="use another file"))
    final = await house.ended()
    assert isinstance(final.body, Canceled)
    assert final.body.reason == "the design was not approved: use another file"
    assert not {"delivered", "reported", "summarised"} & set(await house.events())
    assert not (house.workspace / "ml").exists()


async def test_an_approval_of_another_design_is_no_approval(house: House) -> None:
    """A person who read something else has decided on something else; the right one goes on."""
    await house.submit(approval="design")
    design = (await waiting(house, "designed")).design
    assert design is not None
    await house.tell("approved", Approved(design_digest="another"))
    await house.tell("approved", Approved(design_digest="another", approve=False))
    await until(house.bus, "t1", is_event("released"))
    assert (await state(house.bus, "t1")).waiting == "approval"
    assert "validate" not in house.calls()
    await house.tell("approved", Approved(design_digest=design.digest))
    assert (await house.ended()).event == "completed"


async def test_without_a_summary_the_agent_ends_the_task_in_its_own_words(impatient: House) -> None:
    """Thirty seconds of silence, here one: the timer is the server's."""
    await impatient.submit()
    final = await impatient.ended()
    assert isinstance(final.body, Completed)
    assert final.body.reason == "Built churn version 1 in /ml/churn: all gates passed."
    assert (await impatient.events())[-4:] == ["reported", "timeout", "working", "completed"]


@pytest.mark.parametrize("approval", ["auto", "design"])
async def test_a_question_or_a_design_that_nobody_answers_expires(impatient: House, approval: str) -> None:
    """The task fails with what to do; that is reported like any failure."""
    await impatient.submit(accept_defaults=approval == "design", approval=approval)
    final = await impatient.ended()
    assert isinstance(final.body, Failed)
    what = "approval" if approval == "design" else "answers"
    assert final.body.reason == f"nobody gave the {what} in time: submit the request again"
    assert not (impatient.workspace / "ml").exists()


async def test_an_answer_in_time_makes_its_timer_meaningless(impatient: House) -> None:
    """The timer that was set for the question fires while the task is at work, and changes nothing."""
    impatient.behave({"holds": {"train": impatient.path("go")}})
    await impatient.submit(accept_defaults=False)
    await waiting(impatient, "asked")
    await impatient.tell("answered", answers())
    await until(impatient.bus, "t1", is_event("timeout"))
    await impatient.running("train")
    Path(impatient.path("go")).touch()
    assert (await impatient.ended()).event == "completed"


async def test_a_deadline_stops_the_running_step_and_fails_the_task(house: House) -> None:
    """Reported and summarised, as any failure; what stood there by then is in the report."""
    house.behave({"holds": {"train": house.path("go")}, "child": house.path("child")})
    await house.submit(constraints={"deadline": datetime.now(UTC) + timedelta(seconds=6)})
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "the deadline passed: submit again with a later deadline"
    assert await gone(int(Path(house.path("child")).read_text()))
    report = (await state(house.bus, "t1")).report
    assert report is not None
    assert (report.status, "/ml/churn/system.toml" in report.files_modified) == ("failed", True)
    assert (await recorded(house))[-1] == "validate"


async def test_a_deadline_that_passed_before_the_work_began_fails_at_once(house: House) -> None:
    """Not even a briefing is asked for."""
    await house.submit(constraints={"deadline": datetime.now(UTC) - timedelta(seconds=1)})
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert "had passed before the work began: submit again with a later deadline" in final.body.reason
    assert (house.asked, house.calls()) == ([], [])


async def test_a_deadline_passes_while_a_question_waits(house: House) -> None:
    """Waiting for a person does not stop the clock that the asker set."""
    await house.submit(accept_defaults=False, constraints={"deadline": datetime.now(UTC) + timedelta(seconds=3)})
    await waiting(house, "asked")
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "the deadline passed: submit again with a later deadline"


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_cancel_stops_whatever_step_runs(house: House, command: str) -> None:
    """At once and with its whole process group: canceled, no report, no command after it."""
    behaviour: Behaviour = {"holds": {command: house.path("go")}, "child": house.path("child")}
    house.behave(behaviour)
    await house.submit()
    await house.running(command)
    child = await eventually(lambda: _read(Path(house.path("child"))))
    await house.tell("cancel-requested", CancelRequested(reason="enough"))
    final = await house.ended()
    assert isinstance(final.body, Canceled)
    assert (final.body.reason, final.body.outcome) == ("enough", "canceled")
    assert await gone(int(child))
    assert house.calls() == list(COMMANDS[: COMMANDS.index(command) + 1])
    assert not {"reported", "summarised"} & set(await house.events())


async def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("event", ["asked", "designed"])
async def test_a_cancel_ends_a_task_that_waits(house: House, event: str) -> None:
    """Waiting holds nothing; the cancel wakes the task for the last time."""
    await house.submit(accept_defaults=event == "designed", approval="design")
    await waiting(house, event)
    await house.tell("cancel-requested", CancelRequested())
    final = await house.ended()
    assert isinstance(final.body, Canceled)
    assert final.body.reason == "cancelled on request"


@pytest.mark.parametrize(
    ("behaviour", "event", "outcome", "reason"),
    [
        (
            {"results": {"evaluate": {"outcome": "failed", "gates": [gate("beats_trivial", -0.1, 0, passed=False)]}}},
            "failed",
            "failed",
            "Built churn version 1 in /ml/churn: gates not passed: beats_trivial.",
        ),
        (
            {"results": {"evaluate": {"outcome": "partial", "gates": [gate("latency_ms_p99", 31, 20, passed=False)]}}},
            "completed",
            "partial",
            "Built churn version 1 in /ml/churn: gates not passed: latency_ms_p99.",
        ),
        (
            {"errors": {"test": {}}},
            "completed",
            "partial",
            "Built churn version 1 in /ml/churn: gates not passed: delivered_tests.",
        ),
    ],
    ids=["a gate that decides", "a gate that does not", "red tests"],
)
async def test_gates_decide_how_a_task_ends(
    house: House, behaviour: Behaviour, event: str, outcome: str, reason: str
) -> None:
    """Done is what the gates say: the delivery, the report, the summary and the final event agree."""
    house.behave(behaviour)
    await house.submit()
    final = await house.ended()
    assert (final.event, getattr(final.body, "outcome", ""), getattr(final.body, "reason", "")) == (
        event,
        outcome,
        reason,
    )
    whole = await state(house.bus, "t1")
    assert whole.delivered is not None
    assert whole.report is not None
    assert whole.summary is not None
    assert (whole.delivered.outcome, whole.report.status, whole.summary.outcome) == (outcome, outcome, outcome)


async def test_a_model_that_may_not_serve_is_not_made_live(house: House) -> None:
    """It is registered as a record of what was tried."""
    house.behave({"results": {"package": {"servable": False}, "evaluate": {"outcome": "failed"}}})
    await house.submit()
    assert (await house.ended()).event == "failed"
    assert "promote" not in house.calls()


async def test_a_second_request_makes_the_next_version_and_keeps_the_owners_keys(house: House) -> None:
    """The same system, with what its owner wrote; a person decides when the new version goes live."""
    await house.submit()
    await house.ended()
    directory = house.workspace / "ml" / "churn"
    with (directory / "system.toml").open("a") as spec:
        spec.write("\n[gates]\nece = 0.2\n\n[registry]\nkeep = 3\n")
    with (house.workspace / "data" / "churn.csv").open("a") as data:
        data.write("C99999,5,50.0,monthly,NL,Yes\n")
    await house.submit("t2", f"{REQUEST}, p99 under 100 ms")
    final = await house.ended("t2")
    assert isinstance(final.body, Completed)
    assert final.body.reason.startswith("Built churn version 2 in /ml/churn")
    delivered = (await state(house.bus, "t2")).delivered
    assert isinstance(delivered, Delivered)
    assert delivered.version == 2
    spec_now = (directory / "system.toml").read_text()
    assert "ece = 0.2" in spec_now
    assert "keep = 3" in spec_now
    assert "latency_ms_p99 = 100" in spec_now
    assert (house.calls().count("promote"), "promote" in await recorded(house, "t2")) == (1, False)
    assert "make promote VERSION=2" in (directory / "docs" / "model_card.md").read_text()


async def test_the_same_request_again_makes_no_new_version(house: House) -> None:
    """The same package is the same version; what is reported is what really changed."""
    await house.submit()
    await house.ended()
    await house.submit("t2")
    await house.ended("t2")
    whole = await state(house.bus, "t2")
    assert whole.delivered is not None
    assert whole.delivered.version == 1
    entries = sorted((house.workspace / "ml" / "churn" / "registry" / "history").iterdir())
    assert [json.loads(entry.read_text())["event"] for entry in entries] == ["registered", "promoted"]


async def test_another_target_of_the_same_data_is_another_system(house: House) -> None:
    """The first one stays as it is."""
    await house.submit()
    await house.ended()
    before = {path: path.read_bytes() for path in (house.workspace / "ml" / "churn").rglob("*") if path.is_file()}
    await house.submit("t2", "Predict the plan from data/churn.csv")
    assert (await house.ended("t2")).event == "completed"
    assert (house.workspace / "ml" / "churn_plan" / "system.toml").is_file()
    after = {path: path.read_bytes() for path in (house.workspace / "ml" / "churn").rglob("*") if path.is_file()}
    assert after == before


async def test_an_answer_whose_key_has_no_effect_yet_is_unmet_and_told(house: House) -> None:
    """Never ignored: the outcome is partial, the design, the report and the summary say why."""
    await house.submit(answers={"business.cost_of_error": "1 and 5"})
    final = await house.ended()
    assert isinstance(final.body, Completed)
    assert final.body.outcome == "partial"
    whole = await state(house.bus, "t1")
    assert whole.delivered is not None
    assert whole.design is not None
    assert whole.summary is not None
    (unmet,) = whole.delivered.unmet
    assert unmet.startswith("decision.cost.false_negative = 5.0 is not supported yet")
    assert "false_negative" not in str(whole.design.spec)
    assert unmet in final.body.reason
    assert "false_negative" in whole.summary.text
    written = (house.workspace / "ml" / "churn" / "docs" / "design.md").read_text()
    assert "decision.cost.false_negative" in written


async def test_what_comes_after_the_end_changes_nothing(house: House) -> None:
    """Late answers, approvals and cancels stay in the stream; nobody wakes for them."""
    await house.submit()
    await house.ended()
    over = await state(house.bus, "t1")
    await house.tell("answered", answers())
    await house.tell("approved", Approved())
    await house.tell("cancel-requested", CancelRequested())
    await house.submit("t2")
    await house.ended("t2")  # an ml-engineer that had been woken by the late ones had its turn before this
    later = await state(house.bus, "t1")
    assert (later.final, later.status, later.answers, later.cancel) == (over.final, "completed", over.answers, None)
    assert [event.event for event in await history(house.bus, "t1")][-4:] == [
        *("completed", "answered", "approved", "cancel-requested"),
    ]


async def test_waiting_survives_a_restart_of_everybody(lasting: House) -> None:
    """It holds no process and no memory: an answer that comes while nobody is there is taken up by the next."""
    await lasting.submit(accept_defaults=False)
    await waiting(lasting, "asked")
    await lasting.close()
    await lasting.tell("answered", answers())
    await lasting.open()
    assert (await lasting.ended()).event == "completed"
    assert lasting.calls().count("profile") == 1


@pytest.mark.long
@pytest.mark.parametrize("step", ["scaffold", "train", "package", "document"])
async def test_a_restart_in_the_middle_of_a_build_repeats_no_recorded_step(lasting: House, step: str) -> None:
    """A service that is stopped gives its work back at once; the next one goes on where the journal ends."""
    after = (
        COMMANDS[COMMANDS.index(step) + 1] if step in COMMANDS else {"scaffold": "validate", "document": "test"}[step]
    )
    lasting.behave({"holds": {after: lasting.path("go")}})
    await lasting.submit()
    await until(lasting.bus, "t1", is_step(step))
    await lasting.running(after)
    await lasting.close()
    Path(lasting.path("go")).touch()
    await lasting.open()
    assert (await lasting.ended()).event == "completed"
    assert sorted(lasting.calls()) == sorted([*COMMANDS, after])


async def test_a_killed_engine_is_run_again_and_nothing_else_is(house: House) -> None:
    """Out of memory once: the work item comes back, finished steps are read."""
    house.behave({"dies": {"train": 9}})
    await house.submit()
    await house.running("train")
    house.behave({})
    assert (await house.ended()).event == "completed"
    calls = house.calls()
    assert [calls.count(name) for name in ("profile", "check", "validate", "evaluate")] == [1, 1, 1, 1]
    assert calls.count("train") > 1


async def test_a_refusal_of_the_engine_fails_the_task_with_its_reason(house: House) -> None:
    """What was written until then is reported: nothing half-done is left unsaid."""
    error: dict[str, Any] = {
        "code": "constant_target",
        "message": "all rows have the same target: give others",
        "details": [],
    }
    house.behave({"errors": {"validate": error}})
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "all rows have the same target: give others"
    report = (await state(house.bus, "t1")).report
    assert isinstance(report, ActivityReport)
    assert "/ml/churn/system.toml" in report.files_modified


async def test_data_that_nobody_named_are_asked_for_whatever_the_defaults(house: House) -> None:
    """Of several data sets none is guessed; the answer brings the next question, once, and the task goes on."""
    (house.workspace / "two.csv").write_text("a,b,c\n" + "1,x,p\n2,y,q\n" * 30)
    house.facts = (
        fact("data.dataset", "/data/churn.csv: 6 columns", source="/data/churn.csv:1"),
        fact("data.dataset", "/two.csv: 3 columns", source="/two.csv:1"),
    )
    await house.submit(request="Predict what matters")
    asked = (await waiting(house, "asked")).asked
    assert isinstance(asked, QuestionsAsked)
    assert [(question.id, question.default) for question in asked.questions] == [("task.data", None)]
    assert asked.questions[0].evidence == ("/data/churn.csv (/data/churn.csv:1)", "/two.csv (/two.csv:1)")
    house.behave({"results": {"profile": {"candidates": []}}})
    await house.tell("answered", QuestionsAnswered.model_validate({"answers": {"task.data": "two.csv"}}))
    again = await eventually(lambda: _second_question(house))
    assert [question.id for question in again.questions] == ["task.target"]
    await house.tell("answered", QuestionsAnswered.model_validate({"answers": {"task.target": "c"}}))
    assert (await house.ended()).event == "completed"
    assert (house.workspace / "ml" / "two" / "system.toml").is_file()


async def _second_question(house: House) -> QuestionsAsked | None:
    bodies = [event.body for event in await history(house.bus, "t1")]
    asked = [body for body in bodies if isinstance(body, QuestionsAsked)]
    return asked[1] if len(asked) > 1 else None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"answers": {"nfr.speed": "fast"}},
            "nothing is asked under 'nfr.speed': answer one of task.data, task.target",
        ),
        (
            {"answers": {"nfr.latency": "fast"}},
            "the answer to nfr.latency cannot be used: 'fast' is no latency such as",
        ),
        ({"answers": {"security.pii": "emial"}}, "the answer to security.pii names 'emial', which is no column"),
        ({"answers": {"task.target": "churnd"}}, "the data has no column 'churnd' to predict: the nearest are churned"),
        ({"request": "Predict churned from data/gone.csv"}, "there is no file 'data/gone.csv' in the workspace"),
        ({"request": "Predict churned from s3://b/c.csv"}, "the data lies behind a s3:// address, which is not read"),
        ({"inputs": ["a\x00b.csv"]}, "'a\\x00b.csv' can be no path here: embedded null byte"),
        ({"inputs": ["a" * 300 + ".csv"]}, f"'{'a' * 80}' is no path of a file: name an existing file"),
        ({"inputs": ["../x.csv"]}, "path '../x.csv' leads out of the workspace: name a file inside it"),
        ({"answers": {"data.freshness": "1d", "task.kind": "clustering"}}, "the answer to task.kind cannot be used"),
    ],
)
async def test_what_cannot_be_used_fails_the_task_with_what_to_do(
    house: House, given: dict[str, object], reason: str
) -> None:
    """And writes nothing into the workspace."""
    await house.submit(**given)  # pyright: ignore[reportArgumentType] - fields of the request
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason.startswith(reason)
    assert not (house.workspace / "ml").exists()


async def test_a_workspace_that_the_context_manager_cannot_read_fails_the_task(house: House) -> None:
    """No briefing, no work."""
    house.missing = True
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "the context-manager could not read the workspace: it is gone"


async def test_a_foreign_directory_fails_the_task_and_stays_as_it_is(house: House) -> None:
    """Nothing of somebody else is built over, nothing is reported as changed."""
    (house.workspace / "ml" / "churn").mkdir(parents=True)
    (house.workspace / "ml" / "churn" / "notes.txt").write_text("mine")
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert "exists and is no system of ours: move it away" in final.body.reason
    assert [path.name for path in (house.workspace / "ml" / "churn").iterdir()] == ["notes.txt"]


async def test_a_broken_system_beside_it_is_nobody_elses_trouble(house: House) -> None:
    """The system itself is refused when its own spec cannot be read."""
    for name in ("other", "churn"):
        (house.workspace / "ml" / name).mkdir(parents=True)
        (house.workspace / "ml" / name / "system.toml").write_text("format = \n")
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert "ml/churn/system.toml cannot be read" in final.body.reason
    (house.workspace / "ml" / "churn" / "system.toml").unlink()
    await house.submit("t2")
    assert (await house.ended("t2")).event == "completed"


async def test_a_spec_that_its_owner_broke_is_refused_with_each_key(house: House) -> None:
    """The engine names them, before anything is built."""
    (house.workspace / "ml" / "churn").mkdir(parents=True)
    spec = (
        'format = 1\nname = "churn"\n[task]\nkind = "binary"\ntarget = "churned"\n[serch]\nseed = 1\n[gates]\nece = 7\n'
    )
    (house.workspace / "ml" / "churn" / "system.toml").write_text(spec)
    await house.submit()
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert "unknown key serch" in final.body.reason
    assert "gates.ece" in final.body.reason
    assert final.body.reason.endswith("Mend system.toml or the answers, submit again.")
    assert (house.workspace / "ml" / "churn" / "system.toml").read_text() == spec


async def test_trainings_take_turns_and_a_task_in_the_queue_can_be_cancelled(house: House) -> None:
    """What is scarce has its own limit: it delays neither an ending nor a cancel."""
    house.behave({"holds": {"train": house.path("go")}})
    await house.submit()
    await house.running("train")
    await house.submit("t2", "Predict the plan from data/churn.csv")
    await until(house.bus, "t2", is_step("validate"))
    await house.submit("t3", "Predict churned from data/gone.csv")
    assert (await house.ended("t3")).event == "failed"
    await house.tell("cancel-requested", CancelRequested(reason="enough"), "t2")
    assert (await house.ended("t2")).event == "canceled"
    assert house.calls().count("train") == 1
    Path(house.path("go")).touch()
    assert (await house.ended()).event == "completed"


async def test_two_tasks_build_the_same_system_one_after_the_other(house: House) -> None:
    """Each can tell its own changes: the second begins where the first one has reported."""
    house.behave({"holds": {"train": house.path("go")}})
    await house.submit()
    await house.running("train")
    await house.submit("t2")
    await until(house.bus, "t2", is_event("designed"))
    Path(house.path("go")).touch()
    await house.ended("t2")
    reported = await until(house.bus, "t1", is_event("reported"))
    begun = await until(house.bus, "t2", is_step("before"))
    assert reported.seq < begun.seq
    assert (await until(house.bus, "t1", is_event("completed"))).event == "completed"


@pytest.mark.long
async def test_two_targets_of_new_data_at_once_do_not_take_the_same_name(house: House) -> None:
    """Both designs were drawn before either was built: the later one is told to come again, nothing is overwritten."""
    house.behave({"holds": {"train": house.path("go")}})
    await house.submit()
    await house.running("train")
    system = house.workspace / "ml" / "churn" / "system.toml"
    hidden = system.rename(house.workspace / "hidden.toml")
    await house.submit("t2", "Predict the plan from data/churn.csv")
    await until(house.bus, "t2", is_event("designed"))
    spec = hidden.rename(system).read_text()
    Path(house.path("go")).touch()
    final = await house.ended("t2")
    assert isinstance(final.body, Failed)
    assert final.body.reason == (
        "churn has become a system for 'churned' since the design was drawn: submit the request again, it gets"
        " another name"
    )
    assert system.read_text() == spec
    await house.submit("t3", "Predict the plan from data/churn.csv")
    assert (await house.ended("t3")).event == "completed"


async def test_an_answer_that_comes_while_the_system_is_built_changes_nothing_of_it(lasting: House) -> None:
    """The design stands: also an executor that takes over builds what was designed, whatever was said since."""
    lasting.behave({"holds": {"train": lasting.path("go")}})
    await lasting.submit()
    await lasting.running("train")
    late = {"nfr.latency": "1 ms", "task.data": "gone.csv", "nfr.speed": "fast"}
    await lasting.tell("answered", QuestionsAnswered.model_validate({"answers": late}))
    await lasting.close()
    Path(lasting.path("go")).touch()
    await lasting.open()
    final = await lasting.ended()
    assert isinstance(final.body, Completed)
    assert final.body.outcome == "success"
    assert lasting.calls().count("profile") == 1
    assert "1 ms" not in (lasting.workspace / "ml" / "churn" / "docs" / "design.md").read_text()


@pytest.mark.long
async def test_many_tasks_at_once_each_keep_the_laws(house: House) -> None:
    """Different systems of one workspace, at the same time, in one service."""
    for number in range(4):
        (house.workspace / f"rows{number}.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20)
        await house.submit(f"m{number}", f"Predict b from rows{number}.csv")
    finals = await asyncio.gather(*(house.ended(f"m{number}") for number in range(4)))
    assert [final.event for final in finals] == ["completed"] * 4


def test_a_designs_digest_is_of_its_spec() -> None:
    """What an approval refers to does not depend on the order of keys."""
    from services._runtime.journal import digest_of

    one = DesignProposed(digest=digest_of({"a": 1, "b": 2}), awaits_approval=True, sections=(), spec={"a": 1, "b": 2})
    assert one.digest == digest_of({"b": 2, "a": 1})


async def test_work_that_takes_longer_than_its_wall_time_fails(house: House) -> None:
    """`max_wall_s` limits the work, not the waiting: the running step is stopped."""
    house.behave({"holds": {"train": house.path("go")}, "child": house.path("child")})
    await house.submit(constraints={"max_wall_s": 3})
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert final.body.reason == "the work took longer than the 3 s of max_wall_s: submit again with more"
    assert await gone(int(Path(house.path("child")).read_text()))


async def test_a_deadline_in_the_header_counts_too(house: House) -> None:
    """`mesh-deadline` is for publishers whose body is not theirs to write."""
    deadline = datetime.now(UTC) - timedelta(seconds=1)
    body = TaskSubmitted(request=REQUEST, workspace=str(house.workspace), accept_defaults=True).to_bytes()
    headers = {MSG_ID: "late", "mesh-deadline": deadline.isoformat()}
    await house.bus.publish("mesh.task.t1.submitted.ml-engineer", body, headers)
    final = await house.ended()
    assert isinstance(final.body, Failed)
    assert "had passed before the work began" in final.body.reason
