"""The desk against a real server: no message and no task is lost without a word."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from nats.aio.msg import Msg

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import MSG_ID
from contracts.events import Completed, Failed, TaskSubmitted, Working
from services._runtime import telemetry
from services._runtime.bus import Bus, Expect
from services._runtime.provision import durables
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime
from services._runtime.settings import Settings
from services.gateway.__main__ import start
from services.gateway.supervisor import Supervisor
from tests.following import FINAL, eventually, history, state, until


@asynccontextmanager
async def gateway(bus: Bus, settings: Settings) -> AsyncGenerator[None]:
    """The gateway's service while the block runs."""
    runtime = Runtime("gateway", settings, bus, telemetry.start("gateway", settings), asyncio.Event())
    task = asyncio.create_task(start(runtime))
    try:
        yield
    finally:
        runtime.stop.set()
        await asyncio.wait_for(task, 30)


async def letters(bus: Bus, count: int) -> list[DeadLetter]:
    """The dead letters, once there are `count` of them."""

    async def look() -> list[DeadLetter] | None:
        found = await bus.read(subjects.DEAD, "mesh.dead.>", 1)
        return [DeadLetter.from_bytes(stored.data) for stored in found] if len(found) >= count else None

    return await eventually(look)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("mesh.task.t1.exploded.ml-engineer", "no event is named 'exploded'"),
        ("mesh.task.t1.submitted", "is not mesh.task.<task>.<event>.<agent>"),
        ("mesh.task.t1.submitted.ml-engineer.more", "is not mesh.task.<task>.<event>.<agent>"),
        ("mesh.task.t1.answered.ml-engineer", "not a QuestionsAnswered"),
    ],
)
async def test_what_cannot_be_routed_or_read_is_a_dead_letter(
    bus: Bus, settings: Settings, subject: str, reason: str
) -> None:
    """Stored all the same, and kept with its reason."""
    async with gateway(bus, settings):
        await bus.publish(subject, b"{}", {MSG_ID: "m1"})
        [letter] = await letters(bus, 1)
    assert reason in letter.reason
    assert (letter.subject, letter.durable, letter.stream, letter.stream_seq) == (subject, "gateway", "TASKS", 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{nope", "not a TaskSubmitted"),
        (b'{"request": 7}', "request: Input should be a valid string"),
        (b'{"request": "   "}', "the request is blank"),
        (b"\xff\xfe", "not a TaskSubmitted"),
    ],
)
async def test_a_malformed_request_ends_as_failed_and_is_a_dead_letter(
    bus: Bus, settings: Settings, body: bytes, reason: str
) -> None:
    """Whoever asked sees a failed task with a reason."""
    async with gateway(bus, settings):
        await bus.client.publish("mesh.task.t1.submitted.ml-engineer", body)
        final = await until(bus, "t1", FINAL)
        [letter] = await letters(bus, 1)
    assert isinstance(final.body, Failed)
    assert reason in final.body.reason
    assert letter.reason == final.body.reason


async def test_a_request_to_an_agent_that_nobody_is_ends_as_failed(bus: Bus, settings: Settings) -> None:
    """The reason names the agents there are."""
    async with gateway(bus, settings):
        await bus.client.publish("mesh.task.t1.submitted.wizard", b'{"request": "predict"}')
        final = await until(bus, "t1", FINAL)
    assert isinstance(final.body, Failed)
    assert final.body.reason == "no agent is named 'wizard': submit to one of ml-engineer"


async def test_a_second_submission_of_an_id_is_a_dead_letter_and_changes_nothing(
    bus: Bus, settings: Settings, publisher: Publisher
) -> None:
    """The first task goes on."""
    async with gateway(bus, settings):
        for number in (1, 2):
            body = TaskSubmitted(request=f"request {number}")
            await publisher.event("submitted", "ml-engineer", body, About(task="t1"))
        [letter] = await letters(bus, 1)
    assert letter.stream_seq == 2
    assert "is taken" in letter.reason
    found = await state(bus, "t1")
    assert (found.status, found.request) == ("submitted", TaskSubmitted(request="request 1"))


async def test_an_unknown_major_version_is_a_dead_letter(bus: Bus, settings: Settings) -> None:
    """Readers know their version and the one before."""
    headers = {MSG_ID: "m1", "ce-dataschema": "urn:mlmesh:TaskSubmitted:9"}
    async with gateway(bus, settings):
        await bus.publish("mesh.task.t1.submitted.ml-engineer", b'{"request": "predict"}', headers)
        [letter] = await letters(bus, 1)
    assert "major version 9" in letter.reason


async def test_work_that_used_up_its_deliveries_is_a_dead_letter_and_its_task_failed(
    bus: Bus, settings: Settings, publisher: Publisher
) -> None:
    """Where an operator has set a limit: the advisory ends what nobody else can, and the item is taken away."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    async with tried_in_vain(bus, subjects.WORK, subjects.ML_ENGINEER), gateway(bus, settings):
        final = await until(bus, "t1", FINAL)
        [letter] = await letters(bus, 1)
        await eventually(partial(nothing_rings, bus))
    assert isinstance(final.body, Failed)
    assert final.body.reason == (
        "the work was tried 2 times without an end: look at the ml-engineer's log, then submit it again"
    )
    assert (letter.stream, letter.durable, letter.deliveries) == ("WORK", "ml-engineer", 2)


async def test_any_message_that_used_up_its_deliveries_is_a_dead_letter(bus: Bus, settings: Settings) -> None:
    """Whatever the stream: its own reader had no word left to say about it."""
    await bus.publish("mesh.system.churn.trained", b'{"system":"churn","event":"trained"}', {MSG_ID: "m1"})
    async with tried_in_vain(bus, subjects.SYSTEMS, subjects.SYSTEMS_DURABLE), gateway(bus, settings):
        [letter] = await letters(bus, 1)
    assert (letter.stream, letter.stream_seq, letter.durable, letter.deliveries, letter.reason) == (
        "SYSTEMS",
        1,
        "ml-engineer-systems",
        2,
        "the message was tried 2 times without an end: look at the ml-engineer-systems's log, then redrive it again",
    )


@asynccontextmanager
async def tried_in_vain(bus: Bus, stream: str, durable: str) -> AsyncGenerator[None]:
    """A durable that may give a message twice, and a reader that refuses it each time without a word."""
    config = next(config for place, config in durables(bus) if (place, config["durable_name"]) == (stream, durable))
    limited = {"stream_name": stream, "config": {**config, "max_deliver": 2}}
    await bus.api(f"CONSUMER.DURABLE.CREATE.{stream}.{durable}", limited)

    async def refuse(message: Msg) -> None:
        if message.reply:
            await bus.client.publish(message.reply, b"-NAK")

    inbox = bus.client.new_inbox()
    end = await bus.subscribe(inbox, refuse)
    wanted = b'{"batch": 10, "expires": 20000000000}'
    await bus.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", wanted, reply=inbox)
    await eventually(lambda: bus.subjects_of(subjects.ADVISORIES, ">"))
    yield
    await end()


async def nothing_rings(bus: Bus) -> bool:
    """True when WORK is empty."""
    return not await bus.subjects_of(subjects.WORK, ">")


@pytest.mark.parametrize(
    "advisory",
    [
        b"{}",
        b"[" * 100_000,
        b'{"stream":"NOPE","consumer":"x","stream_seq":1,"deliveries":5,"timestamp":"2026-01-01T00:00:00Z"}',
        b'{"stream":"WORK","consumer":"x","stream_seq":1e999,"deliveries":5,"timestamp":"2026-01-01T00:00:00Z"}',
        b'{"stream":"WORK","consumer":"x","stream_seq":-1,"deliveries":5,"timestamp":"2026-01-01T00:00:00Z"}',
    ],
)
async def test_an_advisory_that_the_server_never_wrote_is_a_dead_letter(
    bus: Bus, settings: Settings, advisory: bytes
) -> None:
    """At once: looked for in the streams, it would hold up the others."""
    async with gateway(bus, settings):
        await bus.client.publish("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.WORK.x", advisory)
        [letter] = await letters(bus, 1)
    assert (letter.stream, letter.deliveries) == ("ADVISORIES", 1)


@pytest.mark.parametrize(
    ("subject", "body", "reason"),
    [
        ("mesh.system.churn", b"{}", "is not mesh.system.<system>.<event>"),
        ("mesh.system.churn.trained", b"{nope", "not a SystemEvent"),
        ("mesh.system.churn.trained", b'{"system":"churn","event":"drifted"}', "they must agree"),
    ],
)
async def test_what_no_system_can_have_said_is_a_dead_letter(
    bus: Bus, settings: Settings, subject: str, body: bytes, reason: str
) -> None:
    """An event that can be read, of the system that its subject names, is none."""
    async with gateway(bus, settings):
        await bus.publish("mesh.system.churn.drifted", b'{"system":"churn","event":"drifted"}', {MSG_ID: "m0"})
        await bus.publish(subject, body, {MSG_ID: "m1"})
        [letter] = await letters(bus, 1)
    assert (letter.stream, letter.stream_seq) == ("SYSTEMS", 2)
    assert reason in letter.reason


@pytest.mark.parametrize(
    ("subject", "headers", "reason"),
    [
        ("mesh.timer.t1", {}, "is not mesh.timer.<task>.<name>.<agent>"),
        ("mesh.timer.t1.answers.ml-engineer", {}, "no schedule: without Nats-Schedule nothing ever comes of"),
        (
            "mesh.timer.t1.answers.ml-engineer",
            {"Nats-Schedule": "@at 2040-01-01T00:00:00Z", "Nats-Schedule-Target": "mesh.due.other.answers.ml-engineer"},
            "a timer of task 't1' may ring `timeout` of that task alone",
        ),
        ("mesh.due.t1", {}, "is not mesh.due.<task>.<name>.<agent>"),
    ],
)
async def test_what_can_be_no_timer_is_a_dead_letter(
    bus: Bus, settings: Settings, subject: str, headers: dict[str, str], reason: str
) -> None:
    """Nothing would ever come of it, or something that is not the timer's to say."""
    async with gateway(bus, settings):
        await bus.schedule(
            "t2", "answers", datetime(2040, 1, 1, tzinfo=UTC), agent="ml-engineer", body=b"{}", headers={MSG_ID: "m0"}
        )
        await bus.publish(subject, b"{}", {MSG_ID: "m1", **headers})
        [letter] = await letters(bus, 1)
    assert (letter.stream, letter.stream_seq) == ("TIMERS", 2)
    assert reason in letter.reason


async def test_a_word_to_an_agent_that_nobody_is_is_a_dead_letter_and_its_doorbell_goes(
    bus: Bus, settings: Settings, publisher: Publisher
) -> None:
    """Nobody would ever take the item from WORK; a subject that looks like a filter takes nobody else's along."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    for agent in ("wizard", "*"):
        await bus.client.publish(f"mesh.task.t1.cancel-requested.{agent}", b"{}")
    runtime = Runtime("gateway", settings, bus, telemetry.start("gateway", settings), asyncio.Event())
    await eventually(partial(rung, bus, 3))
    await Supervisor(runtime).clear_doorbells()
    async with gateway(bus, settings):
        found = await letters(bus, 2)
    assert [letter.reason for letter in found] == [
        "no agent is named 'wizard': submit to one of ml-engineer",
        "'*' is no agent's token; '*' is written '%2A'",
    ]
    assert await bus.subjects_of(subjects.WORK, ">") == {"mesh.work.ml-engineer.t1": 1}


async def rung(bus: Bus, count: int) -> bool:
    """True when so many items stand in WORK."""
    return sum((await bus.subjects_of(subjects.WORK, ">")).values()) == count


async def test_a_task_whose_doorbell_was_lost_is_rung_again(bus: Bus, settings: Settings, publisher: Publisher) -> None:
    """Rule 5: neither final nor waiting means that a doorbell stands in WORK. Two rounds make it certain."""
    sent = await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    working = Working(executor="dead", event_seq=sent.ack.seq, work_seq=1)
    await publisher.event(
        "working", "ml-engineer", working, About(task="t1"), expect=Expect("mesh.task.t1.>", sent.ack.seq)
    )
    runtime = Runtime("gateway", settings, bus, telemetry.start("gateway", settings), asyncio.Event())
    supervisor = Supervisor(runtime)
    await eventually(lambda: bus.subjects_of(subjects.WORK, ">"))
    assert await supervisor.ring_missing() == frozenset()
    await bus.api(f"STREAM.PURGE.{subjects.WORK}", {})
    supervisor.suspects = await supervisor.ring_missing()
    assert supervisor.suspects == {"t1"}
    assert await supervisor.ring_missing() == frozenset()
    assert [event.event for event in await history(bus, "t1")] == ["submitted", "working", "redriven"]


async def test_a_task_that_ended_is_not_looked_after(bus: Bus, settings: Settings, publisher: Publisher) -> None:
    """Finished and waiting tasks cost nothing."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task="t1"))
    await publisher.event("completed", "ml-engineer", Completed(reason="done"), About(task="t1"))
    await bus.api(f"STREAM.PURGE.{subjects.WORK}", {})
    runtime = Runtime("gateway", settings, bus, telemetry.start("gateway", settings), asyncio.Event())
    assert await Supervisor(runtime).ring_missing() == frozenset()
