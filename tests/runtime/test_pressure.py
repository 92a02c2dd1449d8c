"""More work than can be done at once: it waits where waiting costs nothing, and nothing fails because of a queue."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contracts import subjects
from contracts.briefing import Briefing, BriefingBody, ContextRequest, Query
from contracts.envelope import MSG_ID, Metadata
from contracts.events import Canceled, CancelRequested, Completed, Failed, Released, TaskSubmitted
from contracts.report import ActivityReport
from contracts.summary import Summary
from services._runtime import telemetry
from services._runtime.ahead import Ahead
from services._runtime.bus import Bus, new_nonce
from services._runtime.consumer import PullConsumer
from services._runtime.embedded import EmbeddedServer
from services._runtime.errors import Interrupted, StoreFull
from services._runtime.executor import Executor
from services._runtime.journal import Activation
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.responder import Responder
from services._runtime.service import Runtime, gather
from services._runtime.settings import Settings
from services._runtime.worker import Doorbells, Worker
from services.gateway import requests
from tests.conftest import fast_settings
from tests.fakes.cli import Cli, environment
from tests.following import FINAL, eventually, history, is_event, state, until
from tests.server import NatsServer

SLOTS = 4
WORD = "get_task_briefing"


@dataclass
class Agent:
    """Takes one step and reports; `long` in a request makes the step last until `go` is set."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most: int = 0

    async def engage(self, activation: Activation) -> None:
        """As far as the task goes now."""
        if activation.state.report is None:
            await activation.step("work", lambda: self._work(activation), result=str)
            report = ActivityReport(reporting_agent=activation.state.agent, status="success", summary="done")
            await activation.append("reported", report)
        elif activation.state.waiting == "summary":
            await activation.append("released", Released(reason="still waiting"))
        else:
            await activation.append("completed", Completed(reason="done"))

    async def interrupted(self, activation: Activation, interrupt: Interrupted) -> None:
        """Somebody cancelled."""
        await activation.append("canceled", Canceled(reason=interrupt.reason))

    async def failed(self, activation: Activation, reason: str) -> None:
        """It cannot succeed."""
        await activation.append("failed", Failed(reason=reason))

    async def _work(self, activation: Activation) -> str:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        assert activation.state.request is not None
        if "long" in activation.state.request.request:
            await self.go.wait()
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return "done"


@asynccontextmanager
async def working(publisher: Publisher, agent: Agent, *, slots: int = SLOTS) -> AsyncGenerator[PullConsumer]:
    """The agent as the ml-engineer while the block runs."""
    stop = asyncio.Event()
    consumer = PullConsumer(publisher.bus, subjects.WORK, subjects.ML_ENGINEER, slots=slots)
    doorbells = Doorbells(publisher, agent, Executor("tester", stop))
    ahead = Ahead(consumer, doorbells, subjects.ML_ENGINEER)
    running = asyncio.create_task(gather(Worker(publisher, consumer, doorbells).run(stop), ahead.run(stop)))
    try:
        yield consumer
    finally:
        agent.go.set()
        stop.set()
        await asyncio.wait_for(running, 30)


async def submit(publisher: Publisher, task: str, request: str = "short") -> None:
    """A submitted task."""
    await publisher.event("submitted", subjects.ML_ENGINEER, TaskSubmitted(request=request), About(task=task))


async def summarise(publisher: Publisher, task: str) -> None:
    """What the summarizer says once a task is reported."""
    await until(publisher.bus, task, is_event("reported"))
    body = Summary(text="Done.", claims=(), outcome="success")
    await publisher.event("summarised", subjects.ML_ENGINEER, body, About(task=task))


async def consumer_info(bus: Bus) -> dict[str, int]:
    """What the server says of the ml-engineer's durable."""
    return await bus.api(f"CONSUMER.INFO.{subjects.WORK}.{subjects.ML_ENGINEER}", {})


async def test_a_service_with_full_slots_stops_pulling_and_what_waits_is_not_given_again(
    publisher: Publisher, bus: Bus, settings: Settings
) -> None:
    """A hundred tasks at once wait in the stream for longer than ack_wait: each is delivered once."""
    agent, tasks = Agent(), [f"t{number}" for number in range(100)]
    async with working(publisher, agent, slots=SLOTS):
        long = [f"long{number}" for number in range(SLOTS)]
        for task in long:
            await submit(publisher, task, "long")

        async def all_busy() -> bool:
            return agent.at_once == SLOTS

        await eventually(all_busy)
        await asyncio.gather(*(submit(publisher, task) for task in tasks))
        await asyncio.sleep(1.5 * settings.ack_wait_s)  # the time that a queued delivery would have
        waiting = await consumer_info(bus)
        assert (waiting["num_ack_pending"], waiting["num_pending"]) == (SLOTS, len(tasks))
        agent.go.set()
        for task in (*long, *tasks):
            await until(bus, task, is_event("reported"))
        assert (await consumer_info(bus))["num_redelivered"] == 0
    assert agent.most == SLOTS
    claims = [sum(event.event == "working" for event in await history(bus, task)) for task in tasks]
    assert Counter(claims) == {1: len(tasks)}


async def test_endings_and_cancels_do_not_wait_for_strangers_work(publisher: Publisher, bus: Bus) -> None:
    """Every slot is taken and others stand in line: a summarised task ends, a cancelled one too, begun or not."""
    agent = Agent()
    async with working(publisher, agent, slots=2):
        await submit(publisher, "ending")
        await until(bus, "ending", is_event("reported"))
        for task in ("long1", "long2", "queued1", "queued2"):
            await submit(publisher, task, "long")
            if task == "long2":
                await until(bus, "long2", is_event("working"))
        await summarise(publisher, "ending")
        await until(bus, "ending", is_event("completed"), within_s=30)
        for task in ("queued2", "long1"):
            body = CancelRequested(reason="enough")
            await publisher.event("cancel-requested", subjects.ML_ENGINEER, body, About(task=task))
            await until(bus, task, is_event("canceled"), within_s=30)
        assert (await state(bus, "queued1")).status in {"submitted", "working"}
        agent.go.set()
        for task in ("queued1", "long2"):
            await summarise(publisher, task)
            await until(bus, task, FINAL)

        async def nothing_waits() -> bool:
            return not await bus.subjects_of(subjects.WORK, subjects.work_of(subjects.ML_ENGINEER))

        await eventually(nothing_waits)
    for task in ("ending", "long1", "long2", "queued1", "queued2"):
        assert sum(FINAL(event) for event in await history(bus, task)) == 1


@asynccontextmanager
async def responding(bus: Bus, settings: Settings, gate: asyncio.Event, answered: list[str]) -> AsyncGenerator[None]:
    """A context-manager that answers once the gate is open."""
    runtime = Runtime("context-manager", settings, bus, telemetry.start("context-manager", settings), asyncio.Event())

    async def answer(request: ContextRequest, _: Metadata) -> Briefing:
        await gate.wait()
        answered.append(request.payload.query)
        return Briefing(response_to="x", status="success", briefing=BriefingBody(summary=request.payload.query))

    def refuse(reason: str) -> Briefing:
        return Briefing(response_to="x", status="error", briefing=BriefingBody(summary=reason))

    responder = Responder(runtime, [subjects.context_request(WORD)], ContextRequest, answer, refuse)
    running = asyncio.create_task(responder.run(runtime.stop))
    await runtime.ready.wait()
    try:
        yield
    finally:
        gate.set()
        runtime.stop.set()
        await asyncio.wait_for(running, 30)


async def test_a_request_that_waits_in_line_is_told_so_and_asked_again_until_it_is_answered(
    bus: Bus, settings: Settings, publisher: Publisher
) -> None:
    """The line lasts longer than the asker's patience: nobody gives up, and nothing is answered in vain."""
    gate, answered = asyncio.Event(), list[str]()

    async def ask(number: int) -> str:
        request = ContextRequest(requesting_agent="a", request_type=WORD, payload=Query(query=f"q{number}"))
        answer = await publisher.request(subjects.context_request(WORD), request, About(), timeout_s=3)
        return Briefing.from_bytes(answer.data).briefing.summary

    async with responding(bus, settings, gate, answered):
        asking = [asyncio.create_task(ask(number)) for number in range(40)]
        await asyncio.sleep(3.5)  # the rule is about time
        assert not any(task.done() for task in asking)
        gate.set()
        assert await asyncio.gather(*asking) == [f"q{number}" for number in range(40)]
    assert len(answered) < 40 + 16  # some are answered in the moment in which they are told to wait


@asynccontextmanager
async def tiny(tmp_path: Path) -> AsyncGenerator[tuple[Bus, Publisher]]:
    """A bus whose server has room for next to nothing more."""
    settings = fast_settings("", tmp_path, store_max_bytes=400_000, claim_check_bytes=4096)
    server = EmbeddedServer(tmp_path / "tiny", settings)
    await server.start()
    bus = await Bus.connect(settings.model_copy(update={"nats_url": server.url}), "test", url=server.url)
    await provision(bus)
    await bus.api("STREAM.CREATE.FILLING", {"name": "FILLING", "subjects": ["filling"], "storage": "file"})
    yield bus, Publisher(bus, telemetry.start("test", settings))
    await bus.close()
    await server.stop()


async def fill(bus: Bus) -> None:
    """Until the server takes no more."""
    stored = [bus.publish("filling", b"x" * 4000, {MSG_ID: new_nonce()}, patient=False) for _ in range(110)]
    with pytest.raises(StoreFull, match="the bus has no room to store 'filling'"):
        await asyncio.gather(*stored)


async def test_a_full_store_is_told_to_the_submitter_at_once_and_ridden_out_by_what_runs(tmp_path: Path) -> None:
    """With what to do. A running task writes nothing, loses nothing, and goes on when there is room again."""
    agent = Agent()
    async with tiny(tmp_path) as (bus, publisher), working(publisher, agent):
        await submit(publisher, "running", "long")
        await until(bus, "running", is_event("working"))
        await fill(bus)
        message = TaskSubmitted(request="one more")
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreFull, match="free space on its disk, or raise its limit"):
            await requests.submit(publisher, message, "refused")
        with pytest.raises(StoreFull, match="mesh-payloads"):
            await requests.submit(publisher, message.model_copy(update={"request": "x" * 19_000}), "refused")
        assert asyncio.get_running_loop().time() - began < bus.settings.bus_patience_s / 2
        agent.go.set()
        await asyncio.sleep(bus.settings.ack_wait_s + 0.5)  # longer than an executor's silence would be borne
        assert [event.event for event in await history(bus, "running")][-1] == "working"
        assert bus.no_room.startswith("the bus has no room to store 'mesh.task.running.step.ml-engineer'")
        await bus.api("STREAM.DELETE.FILLING", {})
        await summarise(publisher, "running")
        await until(bus, "running", is_event("completed"))
        assert [event.event for event in await history(bus, "running")].count("working") == 2
        assert bus.no_room == ""
        assert await bus.history("refused") == []
        await submit(publisher, "later")
        await until(bus, "later", is_event("reported"))


async def test_a_stream_at_its_limit_refuses_what_is_new_and_keeps_what_is_old(
    server: NatsServer, tmp_path: Path
) -> None:
    """The same word as of a full store. A timer that is due meanwhile fires when there is room again."""
    settings = fast_settings(server.url, tmp_path, tasks_max_bytes=20_000)
    bus = await Bus.connect(settings, "test")
    await provision(bus)
    publisher = Publisher(bus, telemetry.start("test", settings))
    await submit(publisher, "first")
    notes = [bus.publish("mesh.task.first.noted.nobody", b"", {MSG_ID: new_nonce()}, patient=False) for _ in range(300)]
    with pytest.raises(StoreFull, match="maximum bytes exceeded"):
        await asyncio.gather(*notes)
    await publisher.timer("deadline", subjects.ML_ENGINEER, 1, About(task="first"))
    with pytest.raises(StoreFull, match="maximum bytes exceeded"):
        await requests.submit(publisher, TaskSubmitted(request="x"), "refused")
    await asyncio.sleep(2.2)  # schedules are of whole seconds
    told = {event.event for event in await history(bus, "first")}
    assert told == {"submitted", "noted"}
    roomy = await Bus.connect(settings.model_copy(update={"tasks_max_bytes": 10_000_000}), "test")
    await provision(roomy)
    await until(bus, "first", is_event("timeout"))
    await requests.submit(publisher, TaskSubmitted(request="x"), "last")
    await roomy.close()
    await bus.close()


async def test_the_command_line_says_that_there_is_no_room_and_exits(tmp_path: Path) -> None:
    """Exit code 1 with the reason, well before the patience for a bus that is away is over."""
    async with tiny(tmp_path) as (bus, _):
        await fill(bus)
        workspace = tmp_path / "shop"
        workspace.mkdir()
        cli = Cli(workspace, {**environment(tmp_path / "fakes"), "NATS_URL": bus.settings.nats_url})
        done = await asyncio.to_thread(cli.run, "submit", "predict it", "--json")
    assert done.code == 1
    assert "the bus has no room to store 'mesh.task." in done.object["error"]
