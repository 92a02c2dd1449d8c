"""Any NATS client gives the mesh work: no headers, no library of ours, answers from anywhere."""

import json
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from contracts import subjects
from contracts.events import QuestionsAsked
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable
from services._runtime.health import trouble
from tests.following import FINAL, eventually, history, is_event, state, until
from tests.processes import Services
from tests.server import NatsServer
from tests.workspaces import REQUEST, churn

pytestmark = pytest.mark.timeout(180)
context_manager_alone = pytest.mark.parametrize("running", [(subjects.CONTEXT_MANAGER,)], indirect=True)
"""Each service runs alone against any NATS."""

SEED_REQUEST = b"""{
  "requesting_agent": "ml-engineer",
  "request_type": "get_task_briefing",
  "payload": {
    "query": "Initial briefing required for ML system deployment. Provide overview of existing ML models, \
training data, inference infrastructure, and relevant MLOps configuration files."
  }
}"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with churn data and a README that says something."""
    found = churn(tmp_path / "shop")
    (found / "README.md").write_text("# Shop\n\nA web shop. The checkout calls us at about 120 requests per second.\n")
    return found


@pytest.fixture
def running(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The services that a test needs: all of them, unless it says otherwise."""
    return getattr(request, "param", subjects.SERVICES)


@pytest.fixture
def services(server: NatsServer, tmp_path: Path, workspace: Path, running: tuple[str, ...]) -> Generator[Services]:
    """They run; the workspace is the default one."""
    found = Services(server.url, tmp_path, MLMESH_WORKSPACE=str(workspace))
    found.start(*running)
    yield found
    found.stop()


@pytest.fixture
async def client(server: NatsServer, services: Services, running: tuple[str, ...], bus: Bus) -> AsyncIterator[Client]:
    """A bare connection, once the services are ready."""
    assert services is not None

    async def ready() -> bool:
        try:
            return not [name for name in running if await trouble(bus, name)]
        except BusUnavailable:
            return False

    await eventually(ready, within_s=60)
    found = await nats.connect(server.url)
    yield found
    await found.close()


@context_manager_alone
async def test_the_seeds_request_gets_a_briefing(client: Client, workspace: Path) -> None:
    """Byte for byte as the role's definition sends it; every path in the answer exists."""
    answer = await client.request("mesh.context.get-task-briefing", SEED_REQUEST, timeout=30)
    told: dict[str, Any] = json.loads(answer.data)
    assert (told["response_to"], told["status"]) == ("ml-engineer", "success")
    assert "/data/churn.csv" in told["briefing"]["relevant_paths"]
    assert [path for path in told["briefing"]["relevant_paths"] if not (workspace / path[1:]).exists()] == []
    rates = [fact for fact in told["briefing"]["facts"] if (fact["slot"], fact["field"]) == ("scale", "rate")]
    assert [(fact["value"], fact["source"]) for fact in rates] == [("120 rps", "/README.md:3")]


@context_manager_alone
async def test_a_request_that_cannot_be_read_is_answered_with_the_reason(client: Client) -> None:
    """Request/reply: nobody waits for a timeout, and the next one is answered."""
    answer = await client.request("mesh.context.get-task-briefing", b'{"request_type": "get_lost"}', timeout=30)
    told: dict[str, Any] = json.loads(answer.data)
    assert told["status"] == "error"
    assert "requesting_agent: Field required" in told["briefing"]["summary"]
    location = {"requesting_agent": "tester", "request_type": "get_file_location", "payload": {"query": "churn.csv"}}
    answer = await client.request("mesh.context.get-file-location", json.dumps(location).encode(), timeout=30)
    assert json.loads(answer.data)["status"] == "success"


async def test_an_event_without_headers_is_asked_and_answered_on_the_bus(
    client: Client, bus: Bus, workspace: Path
) -> None:
    """What is missing is asked once, what the workspace says is not; the answer resumes the task to its end."""
    body = json.dumps({"request": REQUEST, "workspace": str(workspace)}).encode()
    await client.publish("mesh.task.bare-1.submitted.ml-engineer", body)
    asked = (await until(bus, "bare-1", is_event("asked"))).body
    assert isinstance(asked, QuestionsAsked)
    assert "scale.rate" not in {question.id for question in asked.questions}
    assert any("120 rps (/README.md:3)" in known for known in asked.known)
    answers = {"answers": {question.id: question.default for question in asked.questions}}
    await client.publish("mesh.task.bare-1.answered.ml-engineer", json.dumps(answers).encode())
    await until(bus, "bare-1", FINAL, within_s=120)
    ended = await state(bus, "bare-1")
    assert ended.final is not None
    assert ended.final.outcome == "success", ended.final.reason
    assert ended.report is not None
    missing = [path for path in ended.report.files_modified if not (workspace / path[1:]).is_file()]
    assert missing == []
    names = [event.event for event in await history(bus, "bare-1")]
    assert names.index("briefed") < names.index("asked") < names.index("designed") < names.index("delivered")
    assert names[-1] == "completed"
    assert names.index("reported") < names.index("summarised")
    await assert_next_briefing_tells(client, ended.report.summary)


async def assert_next_briefing_tells(client: Client, summary: str) -> None:
    """Reports go back to the context-manager and show up in the next briefing."""

    async def told() -> bool:
        answer = await client.request("mesh.context.get-task-briefing", SEED_REQUEST, timeout=30)
        activity: list[dict[str, Any]] = json.loads(answer.data)["briefing"]["related_activity"]
        return [found["summary"] for found in activity if found["agent"] == "ml-engineer"] == [summary]

    await eventually(told)
