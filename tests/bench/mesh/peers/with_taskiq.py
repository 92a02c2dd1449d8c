# pyright: basic, reportMissingImports=false
"""taskiq on JetStream with acknowledgements: each part of a task is a message that puts the next on the queue.

Guarantees that a part that was not acknowledged comes again after the broker's wait (30 s by default), as often as
that takes: no limit, no dead letter. Nothing ties the parts together: no journal, no fencing, and a part that runs
twice puts two successors on the queue. Results are kept in a bucket; who waits asks again and again.
"""

import asyncio
import os
import sys
import uuid
from pathlib import Path

import uvloop
from taskiq.api import run_receiver_task
from taskiq_nats import NATSObjectStoreResultBackend, PullBasedJetStreamBroker

from tests.bench.mesh.driver import Roles, drive, recovery, say, until_told
from tests.bench.mesh.peers import work

LOOK_S = 0.002
"""Between two looks for a result: the default, 0.2 s, would be most of a figure."""
URL = sys.argv[2]
broker = PullBasedJetStreamBroker(URL, pull_consume_timeout=5, pull_consume_batch=64).with_result_backend(
    NATSObjectStoreResultBackend(URL)
)


@broker.task("brief")
async def brief(task: str, slow: bool) -> None:
    """The briefing."""
    work.read_briefing(work.brief(work.asked().to_bytes()))
    await step.kiq(task, 0, slow)


@broker.task("step")
async def step(task: str, number: int, slow: bool) -> dict:
    """One of the four."""
    result = (
        await asyncio.to_thread(work.step, work.STEPS[number], slow=slow) if slow else work.step(work.STEPS[number])
    )
    if number + 1 < len(work.STEPS):
        await step.kiq(task, number + 1, slow)
    else:
        await deliver.kiq(task)
    return result


@broker.task("deliver")
async def deliver(task: str) -> str:
    """The delivery."""
    await tell.kiq(task)
    return work.delivered().to_bytes().decode()


@broker.task("tell")
async def tell(task: str) -> str:
    """The report."""
    report = work.reported().to_bytes().decode()
    await summarise.kicker().with_task_id(task).kiq(report)
    return report


@broker.task("summarise")
async def summarise(report: str) -> str:
    """The summary, under the task's id."""
    return work.summarised(report).to_bytes().decode()


async def worker() -> None:
    """Takes the parts."""
    await broker.startup()
    receiving = asyncio.create_task(run_receiver_task(broker, max_async_tasks=256))
    await until_told()
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)
    await broker.shutdown()


async def task(*, slow: bool = False) -> None:
    """One task to its end."""
    name = uuid.uuid4().hex
    await brief.kiq(name, slow)
    while not await broker.result_backend.is_result_ready(name):  # noqa: ASYNC110 - there is nothing to wait on
        await asyncio.sleep(LOOK_S)
    (await broker.result_backend.get_result(name)).raise_for_error()


async def driver() -> None:
    """Submits and waits."""
    await broker.startup()
    roles = Roles("tests.bench.mesh.peers.with_taskiq", (URL,))
    pids = await asyncio.to_thread(roles.start, "worker")
    await drive({"task": task}, pids)
    await broker.shutdown()
    await asyncio.to_thread(roles.stop)


async def recovered() -> None:
    """Kill -9 in the middle; another worker at once."""
    await broker.startup()
    roles = Roles("tests.bench.mesh.peers.with_taskiq", (URL,))
    await asyncio.to_thread(roles.start, "worker")
    say(await recovery(lambda: task(slow=True), roles, "worker", Path(os.environ[work.MARK])))
    await broker.shutdown()
    await asyncio.to_thread(roles.stop)


if __name__ == "__main__":
    uvloop.run({"driver": driver, "worker": worker, "recovery": recovered}[sys.argv[1]]())
