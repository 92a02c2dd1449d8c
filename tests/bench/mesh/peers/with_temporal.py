# pyright: basic, reportMissingImports=false
"""Temporal with its dev server and a database file: a workflow of the same steps as activities, a worker, a client.

Guarantees what the mesh does and more: histories, retries, timers, signals, queries, replay of code that is checked
to be deterministic. The dev server is one process with SQLite, not how it is run in production. An activity that
was running when its worker died is found out by its timeout, here a heartbeat of 1 s; its workflow then waits 10 s
for the dead worker's own queue, the SDK's default.
"""

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import uuid
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from tests.bench.mesh.driver import Roles, drive, recovery, say, until_told
    from tests.bench.mesh.peers import work

QUEUE = "bench"
LIMITS = {"start_to_close_timeout": timedelta(seconds=60), "heartbeat_timeout": timedelta(seconds=1)}


@activity.defn
async def brief() -> str:
    """The briefing."""
    return work.read_briefing(work.brief(work.asked().to_bytes())).to_bytes().decode()


@activity.defn
async def step(name: str, slow: bool) -> dict:
    """One of the four; a slow one beats."""
    if not slow:
        return work.step(name)
    running = asyncio.create_task(asyncio.to_thread(work.step, name, slow=True))
    while not running.done():
        activity.heartbeat()
        await asyncio.wait({running}, timeout=0.2)
    return running.result()


@activity.defn
async def deliver() -> str:
    """The delivery."""
    return work.delivered().to_bytes().decode()


@activity.defn
async def tell() -> str:
    """The report."""
    return work.reported().to_bytes().decode()


@activity.defn
async def summarise(report: str) -> str:
    """The summary."""
    return work.summarised(report).to_bytes().decode()


@workflow.defn
class Task:
    """A task."""

    @workflow.run
    async def run(self, request: str, slow: bool) -> str:
        """From the briefing to the summary."""
        del request
        await workflow.execute_activity(brief, **LIMITS)
        for name in work.STEPS:
            await workflow.execute_activity(step, args=[name, slow], **LIMITS)
        await workflow.execute_activity(deliver, **LIMITS)
        report = await workflow.execute_activity(tell, **LIMITS)
        return await workflow.execute_activity(summarise, report, **LIMITS)


async def worker(address: str) -> None:
    """Carries out workflows and activities."""
    client = await Client.connect(address)
    activities = [brief, step, deliver, tell, summarise]
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        async with Worker(client, task_queue=QUEUE, workflows=[Task], activities=activities, activity_executor=pool):
            await until_told()
    os._exit(0)


async def task(client: Client, *, slow: bool = False) -> None:
    """One task to its end."""
    await client.execute_workflow(Task.run, args=[work.REQUEST, slow], id=uuid.uuid4().hex, task_queue=QUEUE)


async def _served(directory: str) -> tuple["subprocess.Popen[bytes]", Client, str]:
    """The dev server on a file."""
    port = _free_port()
    file = Path(directory) / "temporal.db"
    binary = Path(sys.executable).parent / "temporal"
    options = ["--headless", "--db-filename", str(file), "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen([str(binary), "server", "start-dev", *options], stdout=subprocess.DEVNULL)
    address = f"127.0.0.1:{port}"
    while True:
        try:
            return server, await Client.connect(address), address
        except RuntimeError:
            if server.poll() is not None:
                raise
            await asyncio.sleep(0.1)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def driver(directory: str) -> None:
    """Submits and waits."""
    server, client, address = await _served(directory)
    roles = Roles("tests.bench.mesh.peers.with_temporal", (address,))
    try:
        pids = await asyncio.to_thread(roles.start, "worker")
        await drive({"task": lambda: task(client)}, {**pids, "temporal-server": server.pid})
        await asyncio.to_thread(roles.stop)
    finally:
        server.terminate()
        server.wait(20)


async def recovered(directory: str) -> None:
    """Kill -9 in the middle; another worker at once."""
    server, client, address = await _served(directory)
    roles = Roles("tests.bench.mesh.peers.with_temporal", (address,))
    try:
        await asyncio.to_thread(roles.start, "worker")
        say(await recovery(lambda: task(client, slow=True), roles, "worker", Path(directory) / "mark"))
        await asyncio.to_thread(roles.stop)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    role, _argument = sys.argv[1:3]
    asyncio.run({"driver": driver, "worker": worker, "recovery": recovered}[role](_argument))
