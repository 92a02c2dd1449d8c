# pyright: basic, reportMissingImports=false
"""The floor: nats-py without a framework, the same processes and as many stored messages as a task of the mesh has.

Guarantees little: messages are stored and acknowledged, and what dies in the middle of a task begins it again from
the start and repeats its effects. No journal, no fencing, no dead letters, no retries of a publish, no traces.
"""

import asyncio
import sys
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import nats
import uvloop
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from contracts.events import Completed, StepRecorded, TaskSubmitted, Working
from contracts.message import Message
from contracts.summary import Summary
from tests.bench.mesh.driver import Roles, drive, until_told
from tests.bench.mesh.peers import work

Heard = Callable[[Msg], Coroutine[Any, Any, None]]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def agent(url: str) -> None:
    """Takes tasks: briefing, events, report, and the end when the summary is there."""
    client = await nats.connect(url)
    js = client.jetstream()
    running: set[asyncio.Task] = set()

    async def store(task: str, event: str, body: Message) -> None:
        await js.publish(f"raw.task.{task}.{event}", body.to_bytes(), headers={"Nats-Msg-Id": f"{task}/{event}"})

    async def engage(message: Msg) -> None:
        task = message.subject.split(".")[2]
        TaskSubmitted.from_bytes(message.data)
        await store(task, "working", Working(executor="agent", event_seq=1, work_seq=1))
        answer = await client.request("raw.context", work.asked().to_bytes(), timeout=5)
        await store(task, "briefed", work.read_briefing(answer.data))
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
        await store(task, "delivered", work.delivered())
        await store(task, "timer", work.delivered())
        await store(task, "reported", work.reported())
        await message.ack()

    async def end(message: Msg) -> None:
        task = message.subject.split(".")[2]
        Summary.from_bytes(message.data)
        await store(task, "working-again", Working(executor="agent", event_seq=1, work_seq=1))
        await store(task, "completed", Completed(reason="done"))
        await message.ack()

    def beside(handle: Heard) -> Heard:
        async def heard(message: Msg) -> None:
            one = asyncio.create_task(handle(message))
            running.add(one)
            one.add_done_callback(running.discard)

        return heard

    await _listen(js, "submitted", beside(engage))
    await _listen(js, "summarised", beside(end))
    await until_told()
    await client.close()


async def summarizer(url: str) -> None:
    """Answers reports."""
    client = await nats.connect(url)
    js = client.jetstream()

    async def summarise(message: Msg) -> None:
        body = work.summarised(message.data).to_bytes()
        task = message.subject.split(".")[2]
        await js.publish(f"raw.task.{task}.summarised", body, headers={"Nats-Msg-Id": f"{task}/summarised"})
        await message.ack()

    await _listen(js, "reported", summarise)
    await until_told()
    await client.close()


async def context(url: str) -> None:
    """Answers requests for briefings."""
    client = await nats.connect(url)

    async def answer(message: Msg) -> None:
        await message.respond(work.brief(message.data))

    await client.subscribe("raw.context", queue="context", cb=answer)
    await client.flush()
    await until_told()
    await client.close()


async def _listen(js: JetStreamContext, event: str, heard: Heard) -> None:
    config = ConsumerConfig(max_ack_pending=10_000)
    await js.subscribe(f"raw.task.*.{event}", durable=f"raw-{event}", cb=heard, manual_ack=True, config=config)


async def driver(url: str) -> None:
    """Submits and waits for the ends."""
    client = await nats.connect(url)
    js = client.jetstream()
    await js.add_stream(name="RAW", subjects=["raw.task.>"])
    ends: dict[str, asyncio.Future] = {}

    async def ended(message: Msg) -> None:
        Completed.from_bytes(message.data)
        if waiting := ends.pop(message.subject.split(".")[2], None):
            waiting.set_result(None)

    await client.subscribe("raw.task.*.completed", cb=ended)

    async def task() -> None:
        name = uuid.uuid4().hex
        ends[name] = waiting = asyncio.get_running_loop().create_future()
        body = TaskSubmitted(request=work.REQUEST).to_bytes()
        await js.publish(f"raw.task.{name}.submitted", body, headers={"Nats-Msg-Id": name})
        await waiting

    async def call() -> None:
        work.read_briefing((await client.request("raw.context", work.asked().to_bytes(), timeout=5)).data)

    roles = Roles("tests.bench.mesh.peers.with_raw", (url,))
    pids = await asyncio.to_thread(roles.start, "context", "summarizer", "agent")
    await drive({"task": task, "call": call}, pids)
    await client.close()
    roles.stop()


if __name__ == "__main__":
    role, _url = sys.argv[1:3]
    uvloop.run({"agent": agent, "summarizer": summarizer, "context": context, "driver": driver}[role](_url))
