"""What comes over the bus and cannot be used: it ends with a reason that says what to do, and nothing is lost.

One set of services works on all cases at once, before a disk that takes no file over 1 MiB and under permissions that
root feels too. What the command line refuses before anything is published is in `test_cli.py`.
"""

import asyncio
import fnmatch
import json
import resource
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from nats.errors import MaxPayloadError

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.events import Failed, QuestionsAsked, TaskSubmitted
from contracts.task import FINAL_EVENTS
from services._runtime.bus import Bus
from services._runtime.errors import TooLarge
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from services._runtime.telemetry import start as start_telemetry
from tests.conftest import fast_settings
from tests.fakes.cli import obey_permissions
from tests.following import FINAL, eventually, history, is_event, state, until
from tests.laws import violations
from tests.processes import Services
from tests.server import NatsServer

pytestmark = pytest.mark.timeout(180)

LARGEST: Final = 2**20
"""Bytes of the largest file that the services may write."""
HEADER = "customer,tenure,charges,plan,churned"
REST = is_event("asked", *FINAL_EVENTS)


def table(rows: int, *, header: str = HEADER, churned: str = "", note: str = "") -> str:
    """A CSV of customers; `churned` is the outcome of all of them, `note` ends each row."""
    lines = [header]
    for row in range(rows):
        plan, outcome = ("monthly", "yearly")[row % 2], churned or ("Yes", "No")[row % 3 > 0]
        lines.append(f"C{row:04d},{row % 72},{20 + row % 90}.5,{plan},{outcome}{note}")
    return "\n".join([*lines, ""])


def large_table() -> str:
    """More than the disk takes: 400 rows with a note of 5 kB each."""
    return table(400, header=f"{HEADER},note", note=f",{'n' * 5000}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request, the files it finds, and the whole reason that it ends with."""

    reason: str
    """`{workspace}` and `{roots}` stand for paths of the run."""
    request: str = "Predict churned from data/customers.csv"
    files: Mapping[str, str | bytes] = field(default_factory=dict[str, "str | bytes"])
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    mode: int = 0o755
    """Permissions of the workspace."""
    log_mode: int = 0o755
    """Permissions of the directory for the task's logs."""


def customers(content: str | bytes) -> dict[str, str | bytes]:
    """A workspace's one file."""
    return {"data/customers.csv": content}


REFUSED: dict[str, Case] = {
    "no-such-file": Case(
        request="Predict churned from data/custmers.csv",
        files=customers(table(300)),
        reason="there is no file 'data/custmers.csv' in the workspace {workspace}: the nearest are /data/customers.csv."
        " Name an existing file.",
    ),
    "empty-file": Case(
        files=customers(""), reason="customers.csv is empty; give a file with a line of names and rows below it"
    ),
    "header-only": Case(
        files=customers(table(0)),
        reason="customers.csv has a line of names and no rows; give a file with data below the names",
    ),
    "binary-file": Case(
        files=customers(bytes(range(256)) * 40),
        reason="customers.csv is a binary file, not a table of text; export it as CSV, or as Parquet",
    ),
    "one-row": Case(
        files=customers(table(1)),
        reason="customers.csv has one row; a model needs many examples, give a file with more rows",
    ),
    "one-outcome": Case(
        files=customers(table(300, churned="No")),
        reason="the target 'churned' has the same value in all rows, so there is nothing to tell apart: give rows with"
        " other outcomes too, or name another target",
    ),
    "target-absent-in-an-answer": Case(
        request="Learn from data/customers.csv",
        body={"answers": {"task.target": "churnd"}},
        files=customers(table(300)),
        reason="the data has no column 'churnd' to predict: the nearest are churned. Submit again with one of them.",
    ),
    "duplicate-columns": Case(
        files=customers(table(300, header="customer,tenure,tenure,plan,churned")),
        reason="customers.csv has more than one column called 'tenure'; rename them so that each name occurs once",
    ),
    "workspace-outside-the-roots": Case(
        body={"workspace": "/etc"},
        reason="workspace '/etc' is outside the allowed roots ({roots}): move it there, or add its directory to"
        " MLMESH_WORKSPACE_ROOTS",
    ),
    "workspace-with-dots": Case(
        body={"workspace": "{roots}/../etc"},
        reason="workspace '{roots}/../etc' contains '..': give the absolute path itself",
    ),
    "workspace-not-there": Case(
        body={"workspace": "{roots}/nowhere"},
        reason="workspace '{roots}/nowhere' is no directory here: create it, or mount it where this service runs",
    ),
    "workspace-not-absolute": Case(
        body={"workspace": "shop"},
        reason="workspace 'shop' is not an absolute path: give it from the root on, as in '/srv/shop'",
    ),
    "file-with-dots": Case(
        request="Predict churned from ../one-row/data/customers.csv",
        files=customers(table(300)),
        reason="path '../one-row/data/customers.csv' leads out of the workspace: name a file inside it",
    ),
    "answer-that-says-nothing": Case(
        body={"answers": {"nfr.latency": "fast"}},
        files=customers(table(300)),
        reason="the answer to nfr.latency cannot be used: 'fast' is no latency such as '20 ms'; submit the request"
        " again",
    ),
    "no-write-permission": Case(
        files=customers(table(300)),
        mode=0o555,
        reason="cannot write to {workspace}/ml/customers: Permission denied. Grant access or free space, submit again.",
    ),
    "no-place-for-logs": Case(
        files=customers(table(300)),
        log_mode=0o555,
        reason="cannot use {roots}/home/tasks/no-place-for-logs/profile.log: Permission denied. Grant access or free"
        " space, submit again.",
    ),
}

DISK_FULL = Case(
    files=customers(large_table()),
    reason="File too large ({workspace}/ml/customers/data/snapshots/*/customers.csv); nothing half-done was kept, free"
    " the disk or grant access and run again",
)
"""Its reason holds the name of a directory that was made for the moment: `*`."""

ASKED: dict[str, tuple[Case, str, tuple[str, ...]]] = {
    "target-absent": (
        Case(request="Predict the column churnd from data/customers.csv", files=customers(table(300)), reason=""),
        "task.target",
        ("the data has no column 'churnd'; nearest: churned",),
    ),
    "two-targets": (
        Case(request="Predict churned or plan from data/customers.csv", files=customers(table(300)), reason=""),
        "task.target",
        ("the request may mean churned, plan",),
    ),
    "no-data": (Case(request="Predict who will churn", reason=""), "task.data", ("no data file was found here",)),
}
"""Case, the question that no default answers, and what led to it."""

UNREADABLE: dict[str, tuple[str, bytes, str]] = {
    "not-json": ("ml-engineer", b'{"request": "predict', "not a TaskSubmitted: body: Invalid JSON: EOF while parsing"),
    "not-text": ("ml-engineer", b"\xff\xfe\x00", "not a TaskSubmitted: body: Invalid JSON"),
    "not-an-object": ("ml-engineer", b"[]", "not a TaskSubmitted: body: Input should be an object"),
    "wrong-types": (
        "ml-engineer",
        b'{"request": 7, "inputs": "data.csv"}',
        "not a TaskSubmitted: request: Input should be a valid string; inputs: Input should be a valid array",
    ),
    "blank-request": (
        "ml-engineer",
        b'{"request": "  "}',
        "not a TaskSubmitted: request: Value error, the request is blank",
    ),
    "unknown-agent": ("wizard", b'{"request": "predict"}', "no agent is named 'wizard': submit to one of ml-engineer"),
}
"""Agent, body, and how the reason begins."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """The running services, with every case submitted."""

    url: str
    directory: Path

    def workspace(self, task: str) -> Path:
        """Where a case's files are."""
        return self.directory / task

    def logs(self, task: str) -> Path:
        """Where the engine writes what it has to say about a task."""
        return self.directory / "home" / "tasks" / task

    def told(self, text: str, task: str) -> str:
        """A reason with the paths of this run."""
        return text.format(workspace=self.workspace(task), roots=self.directory)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mesh]:
    """All services and all cases."""
    directory = tmp_path_factory.mktemp("bad").resolve()
    server = NatsServer(directory / "nats")
    server.start()
    services = Services(server.url, directory)
    services.start(arrange=_limited)
    found = Mesh(server.url, directory)
    cases = {**REFUSED, "disk-full": DISK_FULL, **{task: case for task, (case, _, _) in ASKED.items()}}
    try:
        for task, case in cases.items():
            _lay_out(found, task, case)
        asyncio.run(_submit_all(found, cases))
        yield found
    finally:
        for task in cases:
            found.workspace(task).chmod(0o755)
            found.logs(task).chmod(0o755)
        services.stop()
        server.stop()


@pytest.fixture
def settings(mesh: Mesh) -> Settings:
    """Settings of a client."""
    return fast_settings(mesh.url, mesh.directory)


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    """A client of the bus."""
    found = await Bus.connect(settings, "test")
    yield found
    await found.close()


def _limited() -> None:
    """A disk that takes no large file, and permissions that count."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    obey_permissions()


def _lay_out(mesh: Mesh, task: str, case: Case) -> None:
    workspace = mesh.workspace(task)
    workspace.mkdir()
    for name, content in case.files.items():
        file = workspace / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    workspace.chmod(case.mode)
    mesh.logs(task).mkdir(parents=True)
    mesh.logs(task).chmod(case.log_mode)


async def _submit_all(mesh: Mesh, cases: Mapping[str, Case]) -> None:
    bus = await Bus.connect(fast_settings(mesh.url, mesh.directory), "test")
    await provision(bus)
    for task, case in cases.items():
        body = {"request": case.request, "workspace": "{workspace}", "accept_defaults": True, **case.body}
        workspace = mesh.told(str(body["workspace"]), task)
        await _submit(bus, task, json.dumps({**body, "workspace": workspace}).encode())
    for task, (agent, body, _) in UNREADABLE.items():
        await _submit(bus, task, body, agent)
    await bus.close()


async def _submit(bus: Bus, task: str, body: bytes, agent: str = subjects.ML_ENGINEER) -> None:
    await bus.client.publish(subjects.task_event(task, "submitted", agent), body)
    await bus.flush()


async def letters(bus: Bus, about: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    """The dead letters of a kind, once there are any."""

    async def look() -> list[DeadLetter]:
        found = await bus.read(subjects.DEAD, subjects.ALL_DEAD, 1)
        return [letter for stored in found if about(letter := DeadLetter.from_bytes(stored.data))]

    return await eventually(look)


def files_of(workspace: Path) -> set[str]:
    """Everything that a task left in a workspace, as a report spells it."""
    left = [*workspace.glob("ml/**/*"), *workspace.glob(".github/**/*")]
    return {f"/{path.relative_to(workspace).as_posix()}" for path in left if path.is_file()}


@pytest.mark.parametrize("task", REFUSED)
async def test_what_cannot_be_built_fails_with_a_reason_that_says_what_to_do(task: str, mesh: Mesh, bus: Bus) -> None:
    """One final event, reported and summarised; whatever was written by then is in the report."""
    assert await reason_of_failure(bus, task, mesh) == mesh.told(REFUSED[task].reason, task)


async def test_a_full_disk_in_the_middle_of_a_build_is_told_with_the_place(mesh: Mesh, bus: Bus) -> None:
    """The directory that stands by then is in the report."""
    reason = await reason_of_failure(bus, "disk-full", mesh)
    assert fnmatch.fnmatchcase(reason, mesh.told(DISK_FULL.reason, "disk-full")), reason
    assert "/ml/customers/system.toml" in files_of(mesh.workspace("disk-full"))


async def reason_of_failure(bus: Bus, task: str, mesh: Mesh) -> str:
    """The reason of a task that failed once, was reported and summarised with it, and hid no file."""
    final = await until(bus, task, REST, within_s=120)
    assert isinstance(final.body, Failed), final.body
    events = await history(bus, task)
    assert violations(events, mesh.workspace(task)) == []
    names = [event.event for event in events]
    assert [names.count(name) for name in ("reported", "summarised", *FINAL_EVENTS)] == [1, 1, 0, 1, 0]
    found = await state(bus, task)
    assert found.report is not None
    assert found.summary is not None
    assert (found.report.status, found.summary.outcome) == ("failed", "failed")
    assert final.body.reason in found.summary.text
    assert set(found.report.files_modified) == files_of(mesh.workspace(task))
    return final.body.reason


@pytest.mark.parametrize("task", ASKED)
async def test_what_only_a_person_can_say_waits_although_defaults_are_accepted(task: str, mesh: Mesh, bus: Bus) -> None:
    """Nothing is built meanwhile."""
    _, question_id, evidence = ASKED[task]
    asked = await until(bus, task, REST, within_s=120)
    assert isinstance(asked.body, QuestionsAsked), asked.body
    (question,) = asked.body.questions
    assert (question.id, question.default, question.evidence) == (question_id, None, evidence)
    assert (await state(bus, task)).status == "input-required"
    assert violations(await history(bus, task), mesh.workspace(task)) == []
    assert files_of(mesh.workspace(task)) == set()


@pytest.mark.parametrize("task", UNREADABLE)
async def test_a_submission_that_nobody_can_take_fails_and_is_kept(task: str, bus: Bus) -> None:
    """The gateway ends the task; the message is a dead letter with the same reason."""
    agent, body, reason = UNREADABLE[task]
    final = await until(bus, task, FINAL)
    assert isinstance(final.body, Failed)
    assert final.body.reason.startswith(reason)
    subject = subjects.task_event(task, "submitted", agent)
    (letter,) = await letters(bus, lambda letter: letter.subject == subject)
    assert (letter.reason, b64decode(letter.body_base64)) == (final.body.reason, body)
    assert [event.event for event in await history(bus, task)] == ["submitted", "failed"]


async def test_a_second_submission_of_an_id_changes_nothing(mesh: Mesh, bus: Bus) -> None:
    """It is a dead letter; the first task goes on waiting."""
    first = {"request": "Predict who will churn", "workspace": str(mesh.workspace("no-data"))}
    await _submit(bus, "twice", json.dumps(first).encode())
    await until(bus, "twice", is_event("asked"))
    await _submit(bus, "twice", json.dumps({**first, "request": "Something else"}).encode())
    subject = subjects.task_event("twice", "submitted", subjects.ML_ENGINEER)
    (letter,) = await letters(bus, lambda letter: letter.subject == subject)
    assert letter.reason == "the id of this task is taken: submit with a new id; the first task goes on"
    await until(bus, "twice", is_event("released"))  # it rang, and there was nothing to do
    found = await state(bus, "twice")
    assert (found.status, found.request and found.request.request) == ("input-required", first["request"])


async def test_a_message_over_the_servers_limit_is_an_error_where_it_is_published(bus: Bus, settings: Settings) -> None:
    """Typed, with the numbers and the way out; nothing is stored, and the connection lives."""
    unchecked = settings.model_copy(update={"claim_check_bytes": 2**30})
    connection = await Bus.connect(unchecked, "test")
    publisher = Publisher(connection, start_telemetry("test", unchecked))
    body = TaskSubmitted(request="predict", inputs=("x" * 2**21,))
    with pytest.raises(TooLarge) as refused:
        await publisher.event("submitted", subjects.ML_ENGINEER, body, About(task="too-large"))
    with pytest.raises(MaxPayloadError):
        await bus.client.publish(refused.value.subject, body.to_bytes())
    limit = bus.client.max_payload - 4096
    assert str(refused.value) == (
        f"a message on 'mesh.task.too-large.submitted.ml-engineer' has {refused.value.size} bytes, over the limit of"
        f" {limit}: send a reference instead, or raise max_payload on the server"
    )
    assert await connection.history("too-large") == []
    await connection.close()


async def test_a_request_too_large_for_a_message_travels_beside_it(mesh: Mesh, bus: Bus, settings: Settings) -> None:
    """As a claim check: the task gets it whole."""
    workspace = mesh.workspace("one-row")
    names = tuple(f"data/{number:06d}.csv" for number in range(120_000))
    body = TaskSubmitted(request="Predict churned", workspace=str(workspace), inputs=names)
    publisher = Publisher(bus, start_telemetry("test", settings))
    await publisher.event("submitted", subjects.ML_ENGINEER, body, About(task="large"))
    final = await until(bus, "large", FINAL)
    assert isinstance(final.body, Failed)
    assert final.body.reason.startswith(f"there is no file 'data/000000.csv' in the workspace {workspace}")
