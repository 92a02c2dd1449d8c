"""Who may do what on the bus, against a real server with the generated permissions, both ways.

What must be possible is in tests/e2e/test_compose.py too: a whole task under keys, without one violation.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from contracts import subjects
from contracts.channels import CHANNELS, CLIENT, OPERATOR, SERVER, SYSTEM
from contracts.envelope import MSG_ID, read_event
from contracts.events import TaskSubmitted
from contracts.message import Message
from contracts.permissions import BUCKETS, DURABLES, MONITOR, PROVISIONER, ROLES, inbox, permissions
from contracts.subjects import CONTEXT_MANAGER, GATEWAY, ML_ENGINEER, SERVICES, SUMMARIZER, TASKS
from contracts.task import fold
from services._runtime import credentials, provision, telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer, PullConsumer
from services._runtime.errors import Forbidden, Misconfigured
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.server import NatsServer

every_role = pytest.mark.parametrize("role", ROLES)


@dataclass(frozen=True)
class Guarded:
    """A server that knows every role by its key."""

    server: NatsServer
    directory: Path

    def settings(self, role: str, **given: object) -> Settings:
        """Settings of a process in a role; its waits are long, so that a refusal which is waited for is noticed."""
        file = self.directory / "keys" / role / f"{role}.nk"
        slow = {"publish_timeout_s": 20.0, "bus_patience_s": 20.0}
        return fast_settings(self.server.url, self.directory, **{"nkey_file": file, **slow, **given})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Keys, server and streams."""
    directory = tmp_path_factory.mktemp("guarded")
    seeds = credentials.make_seeds(directory / "keys")
    config = credentials.authorization({role: seed[1] for role, seed in seeds.items()})
    server = NatsServer(directory / "nats", config=config)
    server.start()
    found = Guarded(server, directory)
    asyncio.run(_provisioned(found))
    yield found
    server.stop()


async def _provisioned(guarded: Guarded) -> None:
    bus = await Bus.connect(guarded.settings(PROVISIONER), PROVISIONER)
    await provision.provision(bus)
    await bus.close()


@pytest.fixture
async def connect(guarded: Guarded) -> AsyncIterator[Callable[[str], Awaitable[Bus]]]:
    """Connects in a role."""
    open_ones: list[Bus] = []

    async def made(role: str) -> Bus:
        open_ones.append(await Bus.connect(guarded.settings(role), role))
        return open_ones[-1]

    yield made
    for bus in open_ones:
        await bus.close()


# The matrix.


def literal(address: str, agent: str) -> str:
    """A channel's address with a token for every parameter."""
    tokens = {"{task}": "t1", "{agent}": agent, "{durable}": agent, "{system}": "shop"}
    return ".".join(tokens.get(part, part.strip("{}")) for part in address.split("."))


def every_subject() -> list[str]:
    """Subjects that somebody may or may not use: each channel for two agents, every call, acknowledgement and inbox."""
    streams = (*subjects.STREAMS, *BUCKETS)
    calls = ("CREATE", "UPDATE", "DELETE", "INFO", "PURGE", "SNAPSHOT", "RESTORE", "MSG.GET", "MSG.DELETE")
    consumers = ("CREATE", "DURABLE.CREATE", "DELETE", "INFO", "MSG.NEXT", "PAUSE", "UNPIN", "LEADER.STEPDOWN")
    return [
        *(literal(channel.address, agent) for channel in CHANNELS for agent in (*SERVICES, "other")),
        *(f"$JS.API.STREAM.{call}.{stream}" for call in calls for stream in streams),
        *(f"$JS.API.DIRECT.GET.{stream}" for stream in streams),
        *(
            f"$JS.API.CONSUMER.{call}.{stream}.{name}"
            for call in consumers
            for stream, name in (*DURABLES, ("TASKS", "x"))
        ),
        *(f"$JS.API.CONSUMER.CREATE.{stream}" for stream in streams),
        *(f"$JS.API.CONSUMER.CREATE.{stream}.{GATEWAY}.mesh.task.t1.step.a" for stream in streams),
        "$JS.API.CONSUMER.CREATE.TASKS.x.mesh.task.t1.step.a",
        "$JS.API.CONSUMER.CREATE.REPORTS.x.mesh.report.a",
        *(f"$JS.API.CONSUMER.NAMES.{stream}" for stream in streams),
        *(f"$JS.ACK.{stream}.{name}.1.1.1.1.0" for stream, name in DURABLES),
        *(f"$JS.API.{call}" for call in ("INFO", "STREAM.NAMES", "STREAM.LIST", "META.LEADER.STEPDOWN")),
        *(f"{inbox(role)}.x.1" for role in (*ROLES, "nobody")),
        "_INBOX.x.1",
        *(f"$SRV.{verb}.{service}" for verb in ("PING", "INFO") for service in SERVICES),
        *(subjects.ready(service) for service in SERVICES),
        f"$O.{subjects.PAYLOADS_BUCKET}.C.x",
        f"$O.{subjects.PAYLOADS_BUCKET}.M.x",
        "$KV.other.key",
        "$SYS.REQ.SERVER.PING",
        "elsewhere",
    ]


WIDE = (">", "mesh.>", "mesh.task.>", "mesh.task.t1.>", "mesh.task.*.failed.*", "_INBOX.>", "$JS.>", "$SRV.>", "$KV.>")


def covers(pattern: str, subject: str) -> bool:
    """Whether everything that `subject` means is meant by `pattern`."""
    tokens, wanted = pattern.split("."), subject.split(".")
    for place, part in enumerate(tokens):
        if part == ">":
            return len(wanted) > place
        if place >= len(wanted) or wanted[place] == ">" or part not in {"*", wanted[place]}:
            return False
    return len(tokens) == len(wanted)


def allowed(role: str, subject: str) -> bool:
    """Whether the role may publish on a literal subject."""
    may = permissions(role)
    return any(covers(each, subject) for each in may.publish) and not any(covers(each, subject) for each in may.never)


async def denied(bus: Bus, use: Callable[[Client, str], Awaitable[Any]], tried: list[str]) -> set[str]:
    """Those of the subjects whose use the server forbids."""
    refused: list[Forbidden] = []
    with ExitStack() as stack:
        for subject in tried:
            stack.enter_context(bus.using(subject, refused.append))
            await use(bus.client, subject)
        await bus.flush()
    return {refusal.subject for refusal in refused}


@every_role
async def test_a_role_publishes_exactly_what_it_may(role: str, connect: Callable[[str], Awaitable[Bus]]) -> None:
    """Every subject is tried: what is not its own is refused, and nothing that is."""
    tried = every_subject()

    refused = await denied(await connect(role), lambda client, subject: client.publish(subject, b"x"), tried)

    assert refused == {subject for subject in tried if not allowed(role, subject)}


@every_role
async def test_a_role_hears_exactly_what_it_may(role: str, connect: Callable[[str], Awaitable[Bus]]) -> None:
    """Every subject is tried, and what is wider than any of them."""
    tried = [*every_subject(), *WIDE, *(f"{inbox(other)}.>" for other in ROLES)]
    may = permissions(role).subscribe

    refused = await denied(await connect(role), lambda client, subject: client.subscribe(subject), tried)

    assert refused == {subject for subject in tried if not any(covers(each, subject) for each in may)}


async def test_a_flush_waits_for_what_was_published_before(connect: Callable[[str], Awaitable[Bus]]) -> None:
    """The library's own PING overtakes it: then nothing would seem to be forbidden, and no subscription be in place."""
    bus, refused = await connect(SYSTEM), list[Forbidden]()

    with bus.using("elsewhere", refused.append):
        for _ in range(300):
            await bus.client.publish("elsewhere", b"x")
        await bus.client.flush()

    assert len(refused) == 300


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_a_channel_is_spoken_on_by_those_whom_the_registry_names(channel: Any) -> None:
    """And by the operator, who may say again what others said; the monitor asks whether anybody answers."""
    subject = literal(channel.address, ML_ENGINEER)
    speakers = {role for role in ROLES if allowed(role, subject)} - {OPERATOR, MONITOR}
    named = set(channel.senders) - {SERVER, OPERATOR}
    own = {"dead": {GATEWAY, ML_ENGINEER}, "agents": {ML_ENGINEER}}.get(channel.name, named)

    assert speakers == named & own


def test_no_role_but_the_provisioner_makes_or_removes_what_others_stand_on() -> None:
    """Streams, durables and their contents: who may change them is a list that fits on one hand."""
    dangerous = [
        subject
        for subject in every_subject()
        if subject.startswith("$JS.API.")
        and any(word in subject for word in ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "STEPDOWN", "PAUSE"))
    ]

    may = {role: [subject for subject in dangerous if allowed(role, subject)] for role in ROLES if role != PROVISIONER}

    assert {role: found for role, found in may.items() if found} == {
        CONTEXT_MANAGER: ["$JS.API.CONSUMER.CREATE.REPORTS.x.mesh.report.a"],
        ML_ENGINEER: ["$JS.API.STREAM.PURGE.TIMERS"],
        GATEWAY: ["$JS.API.STREAM.MSG.DELETE.WORK"],
        CLIENT: ["$JS.API.CONSUMER.DELETE.TASKS.x", "$JS.API.CONSUMER.CREATE.TASKS.x.mesh.task.t1.step.a"],
        OPERATOR: [
            "$JS.API.STREAM.MSG.DELETE.DEAD",
            "$JS.API.CONSUMER.DELETE.TASKS.x",
            "$JS.API.CONSUMER.CREATE.TASKS.x.mesh.task.t1.step.a",
        ],
    }


async def test_the_table_of_durables_is_the_provisioners(connect: Callable[[str], Awaitable[Bus]]) -> None:
    """Permissions name the durables that are made, and no other."""
    bus = await connect(PROVISIONER)

    assert tuple((stream, config["durable_name"]) for stream, config in provision.durables(bus)) == DURABLES


# A refusal is a typed error, whatever was tried, and at once: each wait in these settings is 20 s.

ATTEMPTS: dict[str, tuple[str, Callable[[Bus], Awaitable[Any]]]] = {
    "forge a final event": (ML_ENGINEER, lambda bus: bus.publish(event("failed", "other"), b"{}", {MSG_ID: "1"})),
    "end a task in the agent's place": (SUMMARIZER, lambda bus: bus.publish(event("completed"), b"{}", {MSG_ID: "1"})),
    "speak as another agent": (ML_ENGINEER, lambda bus: bus.publish(event("working", "other"), b"{}", {MSG_ID: "1"})),
    "answer its own question": (ML_ENGINEER, lambda bus: bus.publish(event("answered"), b"{}", {MSG_ID: "1"})),
    "approve its own design": (ML_ENGINEER, lambda bus: bus.publish(event("approved"), b"{}", {MSG_ID: "1"})),
    "set another agent's timer": (
        ML_ENGINEER,
        lambda bus: bus.schedule("t1", "deadline", datetime.now(UTC), agent="other", body=b"{}", headers={MSG_ID: "1"}),
    ),
    "submit": (MONITOR, lambda bus: bus.publish(event("submitted"), b"{}", {MSG_ID: "1"})),
    "say something that nobody keeps": (SUMMARIZER, lambda bus: bus.send(subjects.live("t1"), b"{}")),
    "ask": (SUMMARIZER, lambda bus: bus.request("mesh.context.get-task-briefing", b"{}", timeout_s=20)),
    "store a large body": (SYSTEM, lambda bus: bus.publish("mesh.system.a.b", b"x" * 300_000, {MSG_ID: "1"})),
    "read a task": (SYSTEM, lambda bus: bus.history("t1")),
    "read a stored message": (CLIENT, lambda bus: bus.get(subjects.SYSTEMS, 1)),
    "list subjects": (SUMMARIZER, lambda bus: bus.subjects_of(TASKS, ">")),
    "make a stream": (GATEWAY, lambda bus: bus.api("STREAM.CREATE.MINE", {"name": "MINE"})),
    "remove a stream": (PROVISIONER, lambda bus: bus.api("STREAM.DELETE.TASKS", {})),
    "listen to everything": (CLIENT, lambda bus: bus.subscribe(">", ignore)),
    "listen to another's inbox": (ML_ENGINEER, lambda bus: bus.subscribe(f"{inbox(GATEWAY)}.>", ignore)),
    "take requests in a queue": (
        ML_ENGINEER,
        lambda bus: bus.subscribe("mesh.context.get-task-briefing", ignore, queue=CONTEXT_MANAGER),
    ),
    "take another's work": (
        SUMMARIZER,
        lambda bus: anext(PullConsumer(bus, subjects.WORK, ML_ENGINEER).run(asyncio.Event())),
    ),
    "take the supervisor's messages": (
        CLIENT,
        lambda bus: anext(PullConsumer(bus, TASKS, GATEWAY).run(asyncio.Event())),
    ),
    "follow a stream": (ML_ENGINEER, lambda bus: anext(OrderedConsumer(bus, TASKS, ">").run(asyncio.Event()))),
    "leave another's card": (ML_ENGINEER, lambda bus: bus.publish(subjects.card(GATEWAY), b"{}", {MSG_ID: "1"})),
}


def event(name: str, agent: str = ML_ENGINEER) -> str:
    """An event's subject."""
    return subjects.task_event("t1", name, agent)


async def ignore(_: object) -> None:
    """Hears nothing."""


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_what_is_forbidden_is_told_at_once(attempt: str, connect: Callable[[str], Awaitable[Bus]]) -> None:
    """As `Forbidden`, which ends a service at its start and names the subject."""
    role, try_it = ATTEMPTS[attempt]
    bus = await connect(role)
    began = time.monotonic()

    with pytest.raises(Forbidden, match="the bus forbids this service to"):
        await try_it(bus)

    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "call", ["", f".{GATEWAY}", f".{GATEWAY}.mesh.task.t1.>", ".x", ".x.mesh.task.>", ".x.mesh.timer.>"]
)
async def test_a_durable_cannot_be_taken_over_by_making_it_anew(
    call: str, connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """Who may make consumers of their own names them in the call: a durable's name is refused, and a wide filter."""
    client = await connect(CLIENT)
    taken = {"name": GATEWAY, "ack_policy": "explicit", "filter_subject": "mesh.task.t1.>"}

    with pytest.raises(Forbidden):
        await client.api(f"CONSUMER.CREATE.{TASKS}{call}", {"stream_name": TASKS, "config": taken, "action": ""})


async def test_a_consumers_name_in_the_call_is_the_one_that_counts(connect: Callable[[str], Awaitable[Bus]]) -> None:
    """Whatever the body says: the server makes the one that was called, or refuses."""
    client = await connect(CLIENT)
    call = f"CONSUMER.CREATE.{TASKS}.x.mesh.task.t1.>"
    taken = {"ack_policy": "explicit", "filter_subject": "mesh.task.t1.>"}

    made = await client.api(call, {"stream_name": TASKS, "config": {**taken, "name": GATEWAY}, "action": ""})

    assert made["name"] == "x"
    with pytest.raises(Misconfigured, match="does not match"):
        await client.api(call, {"stream_name": TASKS, "config": {**taken, "durable_name": GATEWAY}, "action": ""})


async def test_a_client_follows_a_task(task: tuple[str, int], connect: Callable[[str], Awaitable[Bus]]) -> None:
    """What a person does all the time."""
    name, seq = task
    events = OrderedConsumer(await connect(CLIENT), TASKS, subjects.task_history(name)).run(asyncio.Event())

    stored = await anext(events)
    await events.aclose()

    assert (stored.subject, stored.seq) == (subjects.task_event(name, "submitted", ML_ENGINEER), seq)


# What permissions alone cannot keep: a request names its reply subject freely, a schedule its target.


@pytest.fixture
async def task(connect: Callable[[str], Awaitable[Bus]]) -> tuple[str, int]:
    """A submitted task, and its sequence."""
    bus = await connect(CLIENT)
    name = f"t{time.time_ns()}"
    about = About(task=name)
    publisher = Publisher(bus, telemetry.start("test", bus.settings))
    sent = await publisher.event("submitted", ML_ENGINEER, TaskSubmitted(request="predict"), about)
    return name, sent.ack.seq


async def _said(bus: Bus, task: str, event_name: str) -> list[tuple[Message | None, str]]:
    """(body, problem) of the events of a name, once there is one."""
    async with asyncio.timeout(10):
        while True:
            found = [read_event(stored) for stored in await bus.history(task)]
            told = [(each.body, each.problem) for each in found if each.event == event_name]
            if told:
                return told


async def test_the_answer_to_a_read_is_no_event(
    task: tuple[str, int], connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """An agent lets the server say in its place what it may not: it is stored, and means nothing to anybody."""
    name, _ = task
    agent = await connect(ML_ENGINEER)
    target = subjects.task_event(name, "failed", ML_ENGINEER)

    # Without a message id: within the duplicate window the stream would take a copy for a retry.
    await agent.send(subjects.task_event(name, "progressed", ML_ENGINEER), b'{"reason":"forged","step":"x"}')
    kept = (await agent.history(name))[-1]
    await agent.client.publish(f"$JS.API.DIRECT.GET.{TASKS}", json.dumps({"seq": kept.seq}).encode(), reply=target)
    told = await _said(agent, name, "failed")
    state = fold(name, [read_event(stored) for stored in await agent.history(name)])

    assert (told, state.final) == (
        [(None, "the answer to a read, sent here by whoever read: publish the message itself")],
        None,
    )


async def test_the_servers_word_on_a_publish_is_no_approval(
    task: tuple[str, int], connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """An acknowledgement is JSON, and `approved` needs no field: it is still nobody's approval."""
    name, _ = task
    agent = await connect(ML_ENGINEER)
    target = subjects.task_event(name, "approved", ML_ENGINEER)

    await agent.client.publish(
        subjects.task_event(name, "progressed", ML_ENGINEER), b'{"step":"x"}', reply=target, headers={MSG_ID: name}
    )
    told = await _said(agent, name, "approved")

    assert told == [(None, "no field of Approved, and no envelope: an answer to somebody's request?")]


def schedule(target: str) -> dict[str, str]:
    """Headers of a timer that is due."""
    due = (datetime.now(UTC) - timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {MSG_ID: f"schedule-{time.time_ns()}", "Nats-Schedule": f"@at {due}", "Nats-Schedule-Target": target}


@pytest.mark.parametrize("target", ["mesh.task.t1.failed.ml-engineer", "mesh.task.t1.timeout.ml-engineer", "elsewhere"])
async def test_a_timer_publishes_nothing_outside_its_stream(
    target: str, connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """The server checks who sets a timer and not what it will publish: timers have a stream without events."""
    agent = await connect(ML_ENGINEER)

    with pytest.raises(Misconfigured, match="target is invalid"):
        await agent.publish(subjects.timer("t1", "x", ML_ENGINEER), b"{}", schedule(target))


async def test_a_timer_is_due_on_its_own_task_alone(
    task: tuple[str, int], connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """In that stream it may name another task: the reader sees which timer spoke."""
    name, _ = task
    agent = await connect(ML_ENGINEER)
    timer = subjects.timer("other-task", f"x{name}", ML_ENGINEER)

    await agent.publish(timer, b'{"timer":"deadline"}', schedule(subjects.due(name, "deadline", ML_ENGINEER)))
    told = await _said(agent, name, "timeout")

    assert told == [(None, f"published by the timer {timer!r}: a timer may only say `timeout` on its own task")]


async def test_a_timer_of_its_own_task_is_heard(
    task: tuple[str, int], connect: Callable[[str], Awaitable[Bus]]
) -> None:
    """The way it is meant."""
    name, _ = task
    agent = await connect(ML_ENGINEER)

    publisher = Publisher(agent, telemetry.start("test", agent.settings))
    await publisher.timer("deadline", ML_ENGINEER, -5, About(task=name))
    told = await _said(agent, name, "timeout")

    assert [(type(body).__name__, problem) for body, problem in told] == [("TimedOut", "")]
