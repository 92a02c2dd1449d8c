"""Following a task to where only a person can help, through a real mesh with fake services."""

import asyncio
import io
import os
import signal
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from contracts import subjects
from contracts.envelope import read_event
from contracts.events import AnswerValue, Progressed
from contracts.task import TaskState
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from services.gateway import requests
from services.gateway.attach import Desk, Place, at_desk
from services.gateway.following import Decision, Interrupts, Journey, Person
from services.gateway.progress import Course, LineView
from services.gateway.requests import Request
from tests.fakes.services import STARTS
from tests.server import NatsServer
from tests.services.gateway.journals import BRIEFED, COMPLETED


@pytest.fixture(autouse=True)
def _logs() -> Generator[None]:
    """Attaching configures logs for the process: not for the next test."""
    yield
    structlog.reset_defaults()


@dataclass(slots=True)
class Somebody:
    """A person with prepared answers, who remembers what they were asked."""

    answers: list[Mapping[str, AnswerValue]] = field(default_factory=list[Mapping[str, AnswerValue]])
    """One after the other; then nothing more."""
    decision: Decision | None = None
    asked: list[str] = field(default_factory=list[str])
    thinking: asyncio.Event | None = None
    """Set by a person who never comes to an answer."""

    async def answer(self, state: TaskState) -> Mapping[str, AnswerValue] | None:
        self.asked += [question.id for question in state.open_questions]
        if self.thinking is not None:
            self.thinking.set()
            await asyncio.Event().wait()
        return self.answers.pop(0) if self.answers else None

    async def decide(self, state: TaskState) -> Decision | None:
        self.asked.append(f"design {state.design.digest}" if state.design else "")
        return self.decision


async def in_mesh(workspace: Path, work: Callable[[Desk], Awaitable[TaskState]]) -> TaskState:
    settings = Settings.read(heartbeat_s=0.5, ack_wait_s=1, retry_delay_s=0.05, publish_timeout_s=1)
    return await at_desk(Place(settings, workspace, STARTS.__getitem__), "mesh", work)


async def followed(
    workspace: Path, text: str, person: Person | None = None, interrupts: Interrupts | None = None, **given: object
) -> tuple[TaskState, list[str]]:
    """The state at the end of the journey, and the lines that were shown."""
    stream = io.StringIO()

    async def work(desk: Desk) -> TaskState:
        request = Request(text=text, workspace=str(workspace), answers={}, **given)  # pyright: ignore[reportArgumentType]
        task = await requests.submit(desk.publisher, request.message(), "t1")
        view = LineView(stream, Course(TaskState(task)))
        return await Journey(desk, TaskState(task), view, person, interrupts or Interrupts()).run()

    state = await in_mesh(workspace, work)
    return state, [line.split(" ")[1].rstrip(":") for line in stream.getvalue().splitlines()]


async def test_with_nobody_to_ask_a_journey_ends_at_the_question(tmp_path: Path) -> None:
    """It waits there for an answer from anywhere."""
    state, shown = await followed(tmp_path, "do it")
    assert (state.status, shown) == ("input-required", ["submitted", "briefed", "asked"])


async def test_a_person_is_asked_and_the_work_goes_on(tmp_path: Path) -> None:
    """Each event is shown once."""
    person = Somebody([{"nfr.latency": "20 ms"}])
    state, shown = await followed(tmp_path, "do it", person)
    assert (state.status, person.asked, dict(state.answers)) == (
        "completed",
        ["nfr.latency"],
        {"nfr.latency": "20 ms"},
    )
    assert shown == [
        *("submitted", "briefed", "asked", "answered", "designed", "progressed", "step", "step"),
        *("delivered", "reported", "summarised", "completed"),
    ]


async def test_a_person_who_answers_a_part_is_asked_for_the_rest(tmp_path: Path) -> None:
    """The agent says what is still missing."""
    person = Somebody([{"nfr.latency": "20 ms"}, {"task.target": "Churn"}])
    state, _ = await followed(tmp_path, "target", person)
    assert (state.status, person.asked) == ("completed", ["nfr.latency", "task.target", "task.target"])


async def test_a_person_may_leave_it_open(tmp_path: Path) -> None:
    """The task waits on."""
    state, _ = await followed(tmp_path, "do it", Somebody())
    assert state.status == "input-required"


@pytest.mark.parametrize(
    ("decision", "status"),
    [
        (Decision(agreed=True), "completed"),
        (Decision(agreed=False, comment="too slow"), "failed"),
        (None, "input-required"),
    ],
)
async def test_a_design_is_built_when_a_person_approves_it(
    decision: Decision | None, status: str, tmp_path: Path
) -> None:
    """Refused, the task ends with the reason that was given; left open, it waits."""
    person = Somebody(decision=decision)
    state, _ = await followed(tmp_path, "do it", person, accept_defaults=True, approval="design")
    assert (state.status, person.asked) == (status, ["design d1"])
    if status == "failed":
        assert state.final is not None
        assert state.final.reason == "the design was refused: too slow"


async def test_ctrl_c_once_cancels_the_task_and_waits_for_its_end(tmp_path: Path) -> None:
    """The agent ends it, in the middle of a step."""
    interrupts = Interrupts()
    stream = io.StringIO()

    async def work(desk: Desk) -> TaskState:
        request = Request(text="slow", workspace=str(tmp_path), answers={}, accept_defaults=True)
        task = await requests.submit(desk.publisher, request.message())

        async def press(_: object) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        end = await desk.bus.subscribe(subjects.live(task), press)
        state = await Journey(desk, TaskState(task), LineView(stream, Course(TaskState(task))), None, interrupts).run()
        await end()
        return state

    state = await in_mesh(tmp_path, work)
    assert (state.status, state.cancel and state.cancel.reason) == ("canceled", "Ctrl-C")


async def test_ctrl_c_twice_leaves_the_task_as_it_is(tmp_path: Path) -> None:
    """Without waiting for its end."""
    interrupts = Interrupts()
    interrupts.stop.set()
    state, _ = await followed(tmp_path, "slow", interrupts=interrupts, accept_defaults=True)
    assert state.final is None


async def test_ctrl_c_while_a_person_thinks_cancels_the_task(tmp_path: Path) -> None:
    """Nothing is left blocked."""
    thinking = asyncio.Event()
    person = Somebody(thinking=thinking)
    running = asyncio.create_task(followed(tmp_path, "do it", person))
    await thinking.wait()
    os.kill(os.getpid(), signal.SIGINT)
    state, _ = await running
    assert state.status == "canceled"


async def test_progress_that_is_not_stored_reaches_the_view(tmp_path: Path) -> None:
    """A message that is none is ignored."""
    heard: list[Progressed] = []

    class Seeing(LineView):
        def hinted(self, progress: Progressed) -> None:
            heard.append(progress)

    async def work(desk: Desk) -> TaskState:
        request = Request(text="slow", workspace=str(tmp_path), answers={}, accept_defaults=True)
        task = await requests.submit(desk.publisher, request.message())

        async def go_on(message: object) -> None:
            assert message is not None
            await desk.bus.send(subjects.live(task), b"no progress")
            (tmp_path / "go").touch()

        end = await desk.bus.subscribe(subjects.live(task), go_on)
        state = await Journey(desk, TaskState(task), Seeing(io.StringIO(), Course(TaskState(task)))).run()
        await end()
        return state

    assert (await in_mesh(tmp_path, work)).status == "completed"
    assert heard == [Progressed(step="train", fraction=0.5, message="linear", metrics={"auc": 0.8})]


async def test_a_server_that_dies_and_comes_back_is_only_a_pause(
    server: NatsServer, publisher: Publisher, tmp_path: Path
) -> None:
    """What was written meanwhile is shown once, in order."""
    stream = io.StringIO()
    message = Request(text="do it", workspace=str(tmp_path), answers={}).message()
    await requests.submit(publisher, message, "t1")

    async def work(desk: Desk) -> TaskState:
        view = LineView(stream, Course(TaskState("t1")))
        following = asyncio.create_task(Journey(desk, TaskState("t1"), view).run())
        while not stream.getvalue():  # noqa: ASYNC110 - the view is a stream of text
            await asyncio.sleep(0.01)
        server.kill()
        server.start()
        await publisher.event("briefed", "ml-engineer", BRIEFED, About(task="t1"))
        await publisher.event("completed", "ml-engineer", COMPLETED, About(task="t1"))
        return await asyncio.wait_for(following, 20)

    settings = Settings.read(nats_url=server.url, heartbeat_s=0.3, publish_timeout_s=1)
    state = await at_desk(Place(settings, tmp_path), "live", work)
    assert (state.status, [line.partition(" ")[2] for line in stream.getvalue().splitlines()]) == (
        "completed",
        ["submitted: do it", "briefed: 1 fact from 1 file: A shop.", "completed: success: done"],
    )


async def test_the_view_and_the_stream_tell_the_same_story(tmp_path: Path) -> None:
    """What was followed live is what the journal replays."""

    async def work(desk: Desk) -> TaskState:
        request = Request(text="do it", workspace=str(tmp_path), answers={}, accept_defaults=True)
        task = await requests.submit(desk.publisher, request.message())
        view = LineView(io.StringIO(), Course(TaskState(task)))
        state = await Journey(desk, TaskState(task), view).run()
        replayed = LineView(io.StringIO(), Course(TaskState(task)))
        for stored in await desk.bus.history(task):
            replayed.seen(read_event(stored))
        assert view.stream.getvalue() == replayed.stream.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert view.course == replayed.course
        return state

    assert (await in_mesh(tmp_path, work)).status == "completed"
