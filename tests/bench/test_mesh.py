"""The benchmark itself: its figures, its promises, the past that it makes up, and one whole look at the mesh."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts import subjects
from contracts.envelope import Metadata, encode, read_event
from contracts.events import Completed, TaskSubmitted, Working
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from contracts.task import fold
from services._runtime.bus import Bus
from services._runtime.provision import provision
from services._runtime.settings import Settings
from services.gateway.supervisor import unfinished_ids
from tests.architecture.tree import ROOT
from tests.bench.mesh import contest, filling, growth, told
from tests.bench.mesh.figures import Figure, Figures, percentile
from tests.bench.mesh.peer import PEERS
from tests.bench.mesh.program import Program, ProgramError, clean_environment
from tests.bench.mesh.promises import judged
from tests.bench.start import Measured
from tests.server import NatsServer

WORKSPACE = "/somewhere"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A real bus."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


def test_a_figure_is_a_median_with_its_range() -> None:
    """No round is left out, and a single one has no range."""
    found = Figure.of([3.0, 1.0, 100.0])

    assert (found, str(found), str(Figure.of([2.5]))) == (Figure(3.0, 1.0, 100.0, 3), "3.00 (1.00-100)", "2.50")


def test_systems_are_compared_round_by_round() -> None:
    """A slow minute hits both: the median is of the ratios, not the ratio of medians."""
    figures = Figures()
    for ours, theirs in ((2.0, 1.0), (30.0, 10.0), (4.0, 1.0)):
        figures.add("p50", "ours", ours)
        figures.add("p50", "theirs", theirs)

    assert (figures.ratio("p50", "ours", "theirs"), figures.ratio("p50", "ours", "nobody")) == (3.0, None)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: nothing is made up between two values."""
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]


def test_a_promise_that_is_not_kept_is_told() -> None:
    """Each on its own side of its limit; of what was not measured nothing is promised."""
    figures = Figures()
    figures.add(contest.P50, contest.OURS, 8.5)
    figures.add(contest.RATE, contest.OURS, 100.0)
    figures.add(contest.P50, "dbos", 10.0)
    figures.add(contest.P50, "raw", 1.0)
    figures.add(contest.CALLERS, contest.OURS, 5.0)
    figures.add(contest.CALLERS, "raw", 10.0)
    for finished, spent in ((10, 10.0), (1000, 13.5)):
        figures.add(growth.CPU, growth.named(finished), spent)

    found = judged(figures, [Measured("ready", 2.5, "s", 0.1, 2.0)], (10, 1000))

    assert [(round(one.measured, 2), one.limit, one.holds) for one in found] == [
        (8.5, 8.0, False),
        (100.0, 100.0, True),
        (0.85, 1.0, True),
        (0.5, 0.6, False),
        (2.5, 2.0, False),
        (1.35, 1.3, False),
    ]


async def test_a_made_up_past_reads_as_a_real_one(server: NatsServer) -> None:
    """Tasks of other ids that have ended, nothing rings, and the gateway has seen it all."""
    bus = await Bus.connect(Settings(), "bench", url=server.url)
    await provision(bus)
    pipe = filling.Pipe(server.port)
    try:
        await asyncio.to_thread(pipe.store, _journal("once"))
        template = await bus.history("once")
        count = await asyncio.to_thread(pipe.store, filling.finished(template, 50))
        await asyncio.to_thread(pipe.store, filling.waiting("waits", events=20, workspace=WORKSPACE))
        reports = await filling.taken_in(bus, stored=count)

        ended = await bus.subjects_of(subjects.TASKS, subjects.events_named("completed"))
        tasks = {subjects.task_in(subject) for subject in ended} - {"once"}
        folds = [fold(task, map(read_event, await bus.history(task))) for task in (*sorted(tasks)[:3], "waits")]
        work = await bus.api(f"STREAM.INFO.{subjects.WORK}", {})
        gateway = await bus.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.GATEWAY}", {})
    finally:
        pipe.close()
        await bus.close()

    assert len(tasks) == 50
    assert [state.status for state in folds] == [*["completed"] * 3, "input-required"]
    assert (reports, work["state"]["messages"], gateway["num_pending"]) == (51, 0, 0)


async def test_what_the_server_dropped_is_noticed(server: NatsServer) -> None:
    """A bus with less past than it should have would flatter the figures."""
    bus = await Bus.connect(Settings(), "bench", url=server.url)
    try:
        await provision(bus)
        with pytest.raises(RuntimeError, match="1 messages were sent, 0 are stored"):
            await filling.taken_in(bus, stored=1)
    finally:
        await bus.close()


async def test_a_waiting_task_is_the_only_unfinished_one(server: NatsServer) -> None:
    """What the supervisor looks after does not grow with what has ended."""
    bus = await Bus.connect(Settings(), "bench", url=server.url)
    await provision(bus)
    pipe = filling.Pipe(server.port)
    try:
        await asyncio.to_thread(pipe.store, _journal("once"))
        await asyncio.to_thread(pipe.store, filling.waiting("waits", events=5, workspace=WORKSPACE))

        assert await unfinished_ids(bus) == ("waits",)
    finally:
        pipe.close()
        await bus.close()


def test_a_program_that_ends_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """A peer that cannot run is told with its reason, not waited for."""
    command = [sys.executable, "-c", "import sys; sys.exit('no database')"]

    with pytest.raises(ProgramError, match="no database"):
        Program.start(command, log=tmp_path / "log", environment=clean_environment())


def test_every_peer_has_its_list_and_says_what_it_guarantees() -> None:
    """Fair: a table of figures alone would say that the cheapest is the best."""
    folder = Path(told.__file__).parent / "peers"
    lists = {path.stem for path in folder.glob("*.txt")}
    programs = {path.stem.removeprefix("with_"): path.read_text(encoding="utf-8") for path in folder.glob("with_*.py")}
    table = told.README.read_text(encoding="utf-8")

    assert lists == programs.keys() == PEERS.keys()
    assert [name for name, text in programs.items() if "\nGuarantees " not in text] == []
    assert [name for name in PEERS if f"| {name} |" not in table] == []


def test_the_mesh_can_be_looked_at() -> None:
    """Server, services and submitter start, carry out tasks, and end: what the long run stands on."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.mesh", "--look", "--tasks", "3", "--burst", "6"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (done.returncode, "tasks/s" in done.stdout) == (0, True), done.stderr[-2000:]


def _journal(task: str) -> Iterator[filling.Line]:
    """A short life, from its submission to its end."""
    bodies: list[tuple[str, Message]] = [
        ("submitted", TaskSubmitted(request="Predict fraud.", workspace=WORKSPACE)),
        ("working", Working(executor="one", event_seq=1, work_seq=1)),
        ("reported", ActivityReport(reporting_agent=subjects.ML_ENGINEER, summary="done")),
        ("summarised", Summary(text="done", claims=(), outcome="success")),
        ("completed", Completed(reason="done")),
    ]
    for number, (event, body) in enumerate(bodies):
        metadata = Metadata(
            id=f"{task}/{number}",
            type=f"mlmesh.task.{event}",
            source="urn:mlmesh:test",
            time=datetime.now(UTC),
            schema=body.data_schema(),
            task=task,
            workspace=WORKSPACE,
        )
        subject = subjects.task_event(task, event, subjects.ML_ENGINEER)
        yield filling.Line(subject, encode(metadata), body.to_bytes())
