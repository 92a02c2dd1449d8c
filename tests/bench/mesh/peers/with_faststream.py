# pyright: basic, reportMissingImports=false
"""FastStream on JetStream, as its documentation shows it: subscribers with pydantic models, request and reply.

Guarantees that a message is stored and acknowledged after its handler; by default one whose handler raises is
dropped. It has no durable tasks: what dies in the middle of a handler begins it again from the start, and there is
no journal, no fencing and no dead letter. Tracing is a middleware that is left out here.
"""

import asyncio
import logging
import sys
import uuid
from datetime import UTC, datetime

import uvloop
from faststream import Path
from faststream.nats import JStream, NatsBroker
from nats.js.api import ConsumerConfig

from contracts.briefing import Briefing, ContextRequest
from contracts.events import Completed, Delivered, StepRecorded, TaskSubmitted, Working
from contracts.message import Message
from contracts.report import ActivityReport
from contracts.summary import Summary
from tests.bench.mesh.driver import Roles, drive, until_told
from tests.bench.mesh.peers import work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STREAM = JStream("FASTSTREAM", subjects=["fast.task.>"], declare=False)


def _many() -> dict:
    """Of a subscriber that takes several at a time. The configuration becomes its own: it is filled in."""
    return {"max_workers": 64, "config": ConsumerConfig(max_ack_pending=10_000)}


def _broker(url: str) -> NatsBroker:
    return NatsBroker(url, logger=None, log_level=logging.WARNING)


async def _run(broker: NatsBroker) -> None:
    await broker.start()
    await broker._connection.flush()  # the server knows of the subscriptions
    await until_told()
    await broker.stop()


async def agent(url: str) -> None:
    """Takes tasks: briefing, events, report, and the end when the summary is there."""
    broker = _broker(url)

    async def store(task: str, event: str, body: Message) -> None:
        headers = {"Nats-Msg-Id": f"{task}/{event}"}
        await broker.publish(body, f"fast.task.{task}.{event}", headers=headers, stream="FASTSTREAM")

    @broker.subscriber("fast.task.{task}.submitted", stream=STREAM, durable="fast-submitted", **_many())
    async def engage(submitted: TaskSubmitted, task: str = Path()) -> None:
        del submitted
        await store(task, "working", Working(executor="agent", event_seq=1, work_seq=1))
        answer = await broker.request(work.asked(), "fast.context", timeout=5)
        await store(task, "briefed", work.read_briefing(answer.body))
        for name in work.STEPS:
            body = StepRecorded(
                name=name,
                attempt=1,
                input_digest="0" * 32,
                outcome="ok",
                result=work.step(name),
                started_at=NOW,
                ended_at=NOW,
            )
            await store(task, f"step-{name}", body)
        done: Delivered = work.delivered()
        await store(task, "delivered", done)
        await store(task, "reported", work.reported())

    @broker.subscriber("fast.task.{task}.summarised", stream=STREAM, durable="fast-summarised", **_many())
    async def end(summary: Summary, task: str = Path()) -> None:
        del summary
        await store(task, "completed", Completed(reason="done"))

    await _run(broker)


async def summarizer(url: str) -> None:
    """Answers reports."""
    broker = _broker(url)

    @broker.subscriber("fast.task.{task}.reported", stream=STREAM, durable="fast-reported", **_many())
    async def summarise(report: ActivityReport, task: str = Path()) -> None:
        await broker.publish(work.summarised(report.to_bytes()), f"fast.task.{task}.summarised", stream="FASTSTREAM")

    await _run(broker)


async def context(url: str) -> None:
    """Answers requests for briefings."""
    broker = _broker(url)

    @broker.subscriber("fast.context", queue="context", max_workers=64)
    async def answer(request: ContextRequest) -> Briefing:
        return work.answer(request)

    await _run(broker)


async def driver(url: str) -> None:
    """Submits and waits for the ends."""
    broker = _broker(url)
    ends: dict[str, asyncio.Future] = {}

    @broker.subscriber("fast.task.{task}.completed")
    async def ended(end: Completed, task: str = Path()) -> None:
        del end
        if waiting := ends.pop(task, None):
            waiting.set_result(None)

    await broker.connect()
    await broker._connection.jetstream().add_stream(name="FASTSTREAM", subjects=["fast.task.>"])
    await broker.start()

    async def task() -> None:
        name = uuid.uuid4().hex
        ends[name] = waiting = asyncio.get_running_loop().create_future()
        submitted = TaskSubmitted(request=work.REQUEST)
        headers = {"Nats-Msg-Id": name}
        await broker.publish(submitted, f"fast.task.{name}.submitted", headers=headers, stream="FASTSTREAM")
        await waiting

    async def call() -> None:
        work.read_briefing((await broker.request(work.asked(), "fast.context", timeout=5)).body)

    roles = Roles("tests.bench.mesh.peers.with_faststream", (url,))
    pids = await asyncio.to_thread(roles.start, "context", "summarizer", "agent")
    await drive({"task": task, "call": call}, pids)
    await broker.stop()
    roles.stop()


if __name__ == "__main__":
    role, _url = sys.argv[1:3]
    uvloop.run({"agent": agent, "summarizer": summarizer, "context": context, "driver": driver}[role](_url))
