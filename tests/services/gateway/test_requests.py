"""Requests as they go on the bus and come back."""

import asyncio
from pathlib import Path

import pytest

from contracts.envelope import read_event
from contracts.events import TaskSubmitted
from contracts.subjects import TASKS
from contracts.task import fold
from services._runtime.publisher import About, Publisher, new_id
from services._runtime.settings import Settings
from services.gateway import requests
from services.gateway.exits import Usage
from services.gateway.requests import Request
from tests.server import NatsServer
from tests.services.gateway.journals import ASKED, BRIEFED, COMPLETED, WORKING


def request_for(workspace: Path, text: str = "Predict churn", **given: object) -> Request:
    return Request(text=text, workspace=str(workspace), answers={}, **given)  # pyright: ignore[reportArgumentType]


async def wrote(publisher: Publisher, task: str, *bodies: object) -> None:
    """Events of the agent, without an agent."""
    names = {type(WORKING): "working", type(BRIEFED): "briefed", type(ASKED): "asked", type(COMPLETED): "completed"}
    for body in bodies:
        await publisher.event(names[type(body)], "ml-engineer", body, About(task=task))  # pyright: ignore[reportArgumentType]


def test_a_command_line_becomes_a_message(tmp_path: Path) -> None:
    """Answers, limits and the wish to approve are in it."""
    request = Request(
        text="Predict churn",
        workspace=str(tmp_path),
        answers={"nfr.latency": "20 ms"},
        accept_defaults=True,
        time_budget="2m",
        approval="design",
    )
    assert request.message() == TaskSubmitted.model_validate(
        {
            "request": "Predict churn",
            "workspace": str(tmp_path),
            "answers": {"nfr.latency": "20 ms"},
            "accept_defaults": True,
            "constraints": {"train_budget_s": 120},
            "approval": "design",
        }
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"text": " \n "}, "the request is blank: say in plain words what is wanted"),
        ({"text": "x" * 20_001}, "request: String should have at most 20000 characters"),
        ({"time_budget": "0s"}, "'0s' is no duration between 1s and 24h: write it as 60s, 2m or 1h"),
        ({"time_budget": "25h"}, "'25h' is no duration between 1s and 24h: write it as 60s, 2m or 1h"),
        ({"time_budget": "1 minute"}, "'1 minute' is no duration between 1s and 24h: write it as 60s, 2m or 1h"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(given: dict[str, object], problem: str, tmp_path: Path) -> None:
    """Before anything is published."""
    with pytest.raises(Usage) as caught:
        request_for(tmp_path, **given).message()  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == problem


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("2m", 120), ("1h", 3600), ("0.5m", 30), (" 5s ", 5)])
def test_durations_are_written_with_their_unit(text: str, seconds: float) -> None:
    """Seconds, minutes, hours."""
    assert requests.seconds(text) == seconds


async def test_an_id_is_never_used_twice(publisher: Publisher, tmp_path: Path) -> None:
    """Not even by the same request: the first task keeps its history."""
    message = request_for(tmp_path).message()
    assert await requests.submit(publisher, message, "mine") == "mine"
    with pytest.raises(Usage, match="task id 'mine' is taken: choose another, or follow it with: mlmesh watch mine"):
        await requests.submit(publisher, message, "mine")
    assert len(await publisher.bus.history("mine")) == 1


async def test_a_submission_whose_answer_was_lost_is_found_again(
    publisher: Publisher, server: NatsServer, settings: Settings, tmp_path: Path
) -> None:
    """The retry is refused by compare-and-set: the task that is there is our own, stored once."""
    publisher.bus.settings = settings.model_copy(update={"publish_timeout_s": 0.2})
    server.pause()
    submitting = asyncio.create_task(requests.submit(publisher, request_for(tmp_path).message(), "lost"))
    done, _ = await asyncio.wait({submitting}, timeout=1)
    server.resume()
    assert (done, await submitting) == (set(), "lost")
    assert [read_event(stored).event for stored in await publisher.bus.history("lost")] == ["submitted"]


async def test_what_people_say_later_joins_the_trace_of_the_task(publisher: Publisher, tmp_path: Path) -> None:
    """Answers, decisions and cancels are part of one tree."""
    await requests.submit(publisher, request_for(tmp_path).message(), "traced")
    state = await requests.state_of(publisher.bus, "traced")
    await requests.answer(publisher, state, {"nfr.latency": "20 ms"})
    await requests.approve(publisher, state, agreed=False, comment="too slow")
    await requests.cancel(publisher, state, "no")
    events = await requests.events_of(publisher.bus, "traced")
    assert [event.event for event in events] == ["submitted", "answered", "approved", "cancel-requested"]
    assert {event.metadata.traceparent.split("-")[1] for event in events} == {state.trace_id}


async def test_the_same_words_for_the_same_workspace_are_the_same_request(publisher: Publisher, tmp_path: Path) -> None:
    """As long as its task has not ended."""
    request, other = request_for(tmp_path), request_for(tmp_path, "Predict demand")
    await requests.submit(publisher, request.message(), "t1")
    await requests.submit(publisher, other.message(), "t2")
    found = [await requests.twin(publisher.bus, each) for each in (request, other, request_for(tmp_path / "x"))]
    assert [state.task if state else None for state in found] == ["t1", "t2", None]
    await wrote(publisher, "t1", COMPLETED)
    assert await requests.twin(publisher.bus, request) is None


async def test_tasks_are_listed_newest_first_and_unfinished_ones_oldest_first(
    publisher: Publisher, tmp_path: Path
) -> None:
    """Timers and what no task can be are not tasks."""
    for task in ("t1", "t2", "t3"):
        await requests.submit(publisher, request_for(tmp_path, task).message(), task)
    await wrote(publisher, "t2", WORKING, COMPLETED)
    await publisher.timer("answers", "ml-engineer", 3600, About(task="t1"))
    await publisher.bus.publish("mesh.task.not.a.task.at.all", b"{}", {"Nats-Msg-Id": "x"})
    assert [state.task for state in await requests.all_tasks(publisher.bus)] == ["t3", "t2", "t1"]
    assert [state.task for state in await requests.unfinished(publisher.bus)] == ["t1", "t3"]
    assert {stored.subject for stored in await publisher.bus.read(TASKS, ">", 1)} >= {"mesh.task.not.a.task.at.all"}


async def test_dead_letters_are_counted(publisher: Publisher) -> None:
    """Whoever refused the messages."""
    assert await requests.dead_letters(publisher.bus) == 0
    for durable in ("gateway", "ml-engineer", "ml-engineer"):
        await publisher.bus.publish(f"mesh.dead.{durable}", b"{}", {"Nats-Msg-Id": new_id()})
    assert await requests.dead_letters(publisher.bus) == 3


async def test_a_task_that_is_not_there_or_over_takes_nothing(publisher: Publisher, tmp_path: Path) -> None:
    """The message says where to look."""
    await requests.submit(publisher, request_for(tmp_path).message(), "over")
    await wrote(publisher, "over", COMPLETED)
    with pytest.raises(Usage, match="there is no task 'none' on this bus: see the tasks there are with: mlmesh tasks"):
        await requests.open_state_of(publisher.bus, "none")
    with pytest.raises(Usage, match=r"task 'over' is over \(completed\): nothing can be added"):
        await requests.open_state_of(publisher.bus, "over")
    with pytest.raises(Usage, match="task id 'a b' is not 1 to 64 letters, digits, _ or -"):
        await requests.open_state_of(publisher.bus, "a b")


async def test_a_workspace_must_be_there_and_inside_the_roots(settings: Settings, tmp_path: Path) -> None:
    """`..` is refused wherever it leads; what another bus's mesh sees is for that mesh to judge."""
    inside = tmp_path / "project"
    inside.mkdir()
    assert requests.checked_workspace(str(inside), settings) == str(inside)
    assert requests.checked_workspace("/srv/elsewhere", settings, elsewhere=True) == "/srv/elsewhere"
    for given, problem in (
        (str(tmp_path / "none"), "is no directory here: create it"),
        ("/", "is outside the allowed roots"),
        (f"{inside}/../project", "contains '..': give the absolute path itself"),
    ):
        with pytest.raises(Usage) as caught:
            requests.checked_workspace(given, settings)
        assert problem in str(caught.value)


async def test_a_fold_of_what_was_published_is_what_was_asked(publisher: Publisher, tmp_path: Path) -> None:
    """Through the bus and back."""
    message = request_for(tmp_path, accept_defaults=True).message()
    task = await requests.submit(publisher, message)
    state = fold(task, await requests.events_of(publisher.bus, task))
    assert (state.request, state.workspace, state.agent, state.status) == (
        message,
        str(tmp_path),
        "ml-engineer",
        "submitted",
    )
