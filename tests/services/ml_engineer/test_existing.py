"""Requests about a system that is delivered already, on a real bus, with an engine that learns nothing.

`house.ended` checks every law of a task's life on every one of them.
"""

import asyncio
import json
import os
import shutil
import tomllib
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.events import Completed, Delivered, Failed, QuestionsAsked
from contracts.report import ActivityReport
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.publisher import Publisher
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.fakes.engine import WHEEL
from tests.following import history, is_event, is_step, state, until
from tests.server import NatsServer
from tests.services.ml_engineer.house import House, opened
from tests.services.ml_engineer.test_engagement import answers
from tests.workspaces import churn

SYSTEM = "ml/churn"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which `churn` was delivered, to be copied."""
    directory = tmp_path_factory.mktemp("built")
    server = NatsServer(directory / "nats")
    server.start()
    workspace = asyncio.run(_build(fast_settings(server.url, directory), directory))
    server.stop()
    return workspace


async def _build(settings: Settings, directory: Path) -> Path:
    bus = await Bus.connect(settings, "test")
    await provision(bus)
    async with opened(bus, Publisher(bus, telemetry.start("test", settings)), settings, directory) as found:
        await found.submit()
        assert (await found.ended()).event == "completed"
    await bus.close()
    return found.workspace


@pytest.fixture
async def house(
    bus: Bus, publisher: Publisher, settings: Settings, tmp_path: Path, built: Path
) -> AsyncGenerator[House]:
    """A workspace with everybody at work, and `churn` delivered in it."""
    async with opened(bus, publisher, settings, tmp_path) as found:
        shutil.copytree(built, found.workspace, dirs_exist_ok=True)
        yield found


async def asked_for(house: House, request: str, task: str) -> tuple[Any, Delivered]:
    """What a request came to: its final event's body, and what it delivered."""
    await house.submit(task, request)
    final = (await house.ended(task)).body
    return final, await delivered(house, task)


async def delivered(house: House, task: str) -> Delivered:
    found = (await state(house.bus, task)).delivered
    assert found is not None
    return found


def entries(house: House) -> list[tuple[str, int]]:
    """The system's history: what happened to which version."""
    files = sorted((house.workspace / SYSTEM / "registry" / "history").glob("*.json"))
    return [(entry["event"], entry["version"]) for entry in (json.loads(file.read_text()) for file in files)]


def newer_file(house: House, name: str = "churn_2026.csv") -> Path:
    """Other rows of the same table, a second younger."""
    made = churn(house.workspace.parent / "made", rows=300, seed=9) / "data" / "churn.csv"
    file = house.workspace / "data" / name
    file.write_bytes(made.read_bytes())
    late = (house.workspace / "data" / "churn.csv").stat().st_mtime + 5
    os.utime(file, (late, late))
    return file


async def test_a_system_is_trained_again_on_the_new_file(house: House) -> None:
    """Version n+1 of the same system, registered and not live; nothing is asked that its spec says."""
    newer_file(house)
    await house.submit("again", "Retrain churn on the new file", accept_defaults=False)
    assert isinstance((await house.ended("again")).body, Completed)
    found = await delivered(house, "again")
    assert (found.system, found.version) == ("churn", 2)
    assert 'source = ["../../data/churn_2026.csv"]' in (house.workspace / SYSTEM / "system.toml").read_text()
    assert entries(house) == [("registered", 1), ("promoted", 1), ("registered", 2)]


async def test_several_new_files_are_a_question(house: House) -> None:
    """Which of them is meant decides what the model learns: the answer carries the task on."""
    for name in ("churn_a.csv", "churn_b.csv"):
        newer_file(house, name)
    await house.submit("again", "Please retrain churn on the newest data")
    asked = (await until(house.bus, "again", is_event("asked"))).body
    assert isinstance(asked, QuestionsAsked)
    assert [question.id for question in asked.questions] == ["task.data"]
    await house.tell("answered", answers(task_data="data/churn_b.csv"), "again")
    assert isinstance((await house.ended("again")).body, Completed)
    assert "churn_b.csv" in (house.workspace / SYSTEM / "system.toml").read_text()


async def test_a_version_is_promoted_and_rolled_back(house: House) -> None:
    """Each names what is live now, and is one entry in the system's history that says who and why."""
    newer_file(house)
    await asked_for(house, "retrain churn on data/churn_2026.csv", "again")
    final, found = await asked_for(house, "Promote churn version 2", "up")
    assert (final.outcome, found.version) == ("success", 2)
    final, found = await asked_for(house, "Roll back churn", "down")
    assert (final.outcome, found.version, found.system) == ("success", 1, "churn")
    assert "version 1 is live, in the place of version 2" in final.reason
    assert entries(house)[3:] == [("promoted", 2), ("rolled-back", 1)]
    last = max((house.workspace / SYSTEM / "registry" / "history").glob("*.json"))
    assert json.loads(last.read_text())["why"] == "Roll back churn (down/rollback)"


async def test_a_rollback_that_a_killed_executor_made_is_not_made_again(house: House) -> None:
    """Its entry carries the task's key; rolling back once more would reach a version that nobody meant."""
    newer_file(house)
    await asked_for(house, "retrain churn on data/churn_2026.csv", "again")
    await asked_for(house, "promote churn", "up")
    folder = house.workspace / SYSTEM / "registry" / "history"
    entry = {"number": 5, "event": "rolled-back", "version": 1, "digest": "", "why": "by hand (down/rollback)"}
    (folder / "000005.json").write_text(json.dumps(entry))
    final, found = await asked_for(house, "roll back churn", "down")
    assert (final.outcome, found.version) == ("success", 1)
    assert entries(house)[3:] == [("promoted", 2), ("rolled-back", 1)]


async def test_a_rollback_with_nothing_to_return_to_fails_with_the_reason(house: House) -> None:
    """The engine's own words; the history is as it was."""
    await house.submit("down", "roll back churn")
    final = (await house.ended("down")).body
    assert isinstance(final, Failed)
    assert final.reason == "no other version was live before"
    assert entries(house) == [("registered", 1), ("promoted", 1)]


async def test_what_was_live_is_told(house: House) -> None:
    """In the engine's words, of the moment as it was understood."""
    final, found = await asked_for(house, "What was live yesterday at noon?", "when")
    assert found.version == 1
    asked_at = (await state(house.bus, "when")).submitted_at
    assert asked_at is not None
    noon = (asked_at.astimezone() - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    assert final.reason == f"at {noon.isoformat()} version [1] was live"


async def test_why_it_got_worse_is_told(house: House) -> None:
    """The suspected cause first, then what led to it, and where the page is."""
    final, found = await asked_for(house, "Why did churn get worse since Monday?", "why")
    assert (final.outcome, found.system) == ("success", "churn")
    assert ": plan has drifted since " in final.reason
    assert final.reason.endswith("\n- plan: PSI 0.4\nThe whole page: page.html")
    summary = (await state(house.bus, "why")).summary
    assert summary is not None
    assert summary.text.startswith(final.reason)


async def test_one_of_several_systems_is_asked_for(house: House) -> None:
    """A request that does not say which is a question with their names, and the answer decides."""
    await house.submit("second", "Predict the plan from data/churn.csv")
    await house.ended("second")
    await house.submit("down", "roll back, please")
    asked = (await until(house.bus, "down", is_event("asked"))).body
    assert isinstance(asked, QuestionsAsked)
    assert [(question.id, question.evidence) for question in asked.questions] == [
        ("task.system", ("churn", "churn-plan"))
    ]
    await house.tell("answered", answers(task_system="churn"), "down")
    assert (await house.ended("down")).event == "failed"


async def test_without_a_system_there_is_nothing_to_roll_back(
    bus: Bus, publisher: Publisher, settings: Settings, tmp_path: Path
) -> None:
    """It says so, instead of building what nobody asked for."""
    async with opened(bus, publisher, settings, tmp_path) as found:
        await found.submit("down", "Roll back churn")
        final = (await found.ended("down")).body
        assert isinstance(final, Failed)
        assert final.reason.startswith("no system is delivered in this workspace yet")


async def test_a_server_that_is_not_delivered_is_refused_with_the_reason(house: House) -> None:
    """The system is built all the same, and what is not met is told."""
    request = "Predict the plan from data/churn.csv and serve it with TorchServe"
    final, found = await asked_for(house, request, "torch")
    assert (final.outcome, found.outcome) == ("partial", "partial")
    assert [text.split(":")[0] for text in found.unmet] == ["TorchServe is unmaintained and gets no security fixes"]
    assert "export.kserve" in found.unmet[0]


async def test_an_owners_edits_survive_a_second_request(house: House) -> None:
    """What was edited stays and is told; what would have been written lies beside; the rest is renewed."""
    readme = house.workspace / SYSTEM / "README.md"
    delivered_text = readme.read_text()
    readme.write_text("ours")
    newer_file(house)
    final, found = await asked_for(house, "retrain churn on data/churn_2026.csv", "again")
    assert found.kept == (f"{SYSTEM}/README.md",)
    assert readme.read_text() == "ours"
    beside = readme.with_name("README.md.new").read_text()
    assert beside != delivered_text
    assert "version 2" in beside.lower() or "churn_2026" in beside
    assert f"Kept as you edited them, with ours beside as .new: {SYSTEM}/README.md." in final.reason


async def test_a_system_gets_the_engine_of_this_mesh(house: House) -> None:
    """The wheel, locks, tests and untouched files are new; the owner's edits stay; the tests ran with it.

    What is written from the spec is written from the spec as its owner has it now.
    """
    old = house.workspace / SYSTEM / "vendor" / WHEEL
    with (house.workspace / SYSTEM / "system.toml").open("a") as spec:
        spec.write("\n[serving]\nport = 9417\n")
    (house.workspace / SYSTEM / "Makefile").write_text("all:\n")
    old.write_bytes(b"an older engine")
    final, found = await asked_for(house, "Upgrade the engine of churn", "up")
    assert (final.outcome, found.kept) == ("success", (f"{SYSTEM}/Makefile",))
    assert old.read_bytes() == house.wheel.read_bytes()
    assert "127.0.0.1:9417:9417" in (house.workspace / SYSTEM / "deploy" / "compose.yml").read_text()
    assert [(gate.name, gate.passed) for gate in found.gates] == [("spec", True), ("delivered_tests", True)]
    report = next(event.body for event in await history(house.bus, "up") if isinstance(event.body, ActivityReport))
    assert f"/{SYSTEM}/vendor/{WHEEL}" in report.files_modified


async def test_an_engine_that_does_not_fit_is_taken_back(house: House) -> None:
    """Red tests: every file is as it was before, and the task has failed with the reason."""
    wheel = house.workspace / SYSTEM / "vendor" / WHEEL
    before = {path: path.read_bytes() for path in (wheel, house.workspace / SYSTEM / "README.md")}
    house.behave({"errors": {"test": {"message": "red"}}})
    await house.submit("up", "upgrade the engine of churn")
    final = (await house.ended("up")).body
    assert isinstance(final, Failed)
    assert "does not fit, its tests fail with it (1 failed, 6 passed)" in final.reason
    assert {path: path.read_bytes() for path in before} == before


async def test_an_ejected_engine_is_its_owners(house: House) -> None:
    """It is never replaced."""
    (house.workspace / SYSTEM / "engine").mkdir()
    await house.submit("up", "upgrade the engine of churn")
    final = (await house.ended("up")).body
    assert isinstance(final, Failed)
    assert final.reason.startswith("the engine of churn was ejected into engine/")
    assert is_step("replace") not in [is_step(event.event) for event in await history(house.bus, "up")]


async def test_a_persons_own_model_is_deployed(house: House) -> None:
    """A system named after the file, judged on the data; columns that it does not take are no features."""
    (house.workspace / "risk.onnx").write_text("inputs: tenure, plan")
    request = "Deploy this ONNX model: risk.onnx, it predicts churned, judged on data/churn.csv"
    final, found = await asked_for(house, request, "own")
    assert (final.outcome, found.system, found.version) == ("success", "risk", 1)
    spec = tomllib.loads((house.workspace / "ml" / "risk" / "system.toml").read_text())
    assert spec["search"]["model"] == "../../risk.onnx"
    assert {name: rule["role"] for name, rule in spec["columns"].items()} == {
        "customer": "ignore",
        "charges": "ignore",
        "country": "ignore",
    }


@pytest.mark.parametrize(
    ("request_text", "why"),
    [
        ("Deploy models/risk.pt with TorchServe", "models/risk.pt cannot be served: it needs the code"),
        (
            "Deploy our ONNX model",
            "name the .onnx file that is to be served, by its path in the workspace: it holds none",
        ),
    ],
)
async def test_a_model_that_cannot_be_served_is_refused(house: House, request_text: str, why: str) -> None:
    """With why not, and what can be done."""
    await house.submit("own", request_text)
    final = (await house.ended("own")).body
    assert isinstance(final, Failed)
    assert final.reason.startswith(why)
