"""A quick look at the mesh alone: one run, told by process, with a profile of one of them where it is wanted."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from contracts import subjects
from contracts.envelope import Stored
from services._runtime.bus import Bus
from services._runtime.settings import Settings
from tests.bench.mesh import profile
from tests.bench.mesh.contest import Load, asking_driver, running
from tests.bench.mesh.figures import percentile
from tests.bench.mesh.ours import Mesh, folder
from tests.environments import BENCH
from tests.server import NatsServer

_SECONDS: Final = 10
_WIDTH: Final = 140
_OF_CALLS: Final = {"answering": "answering", "asking": "submitter"}
"""The two sides of requests and replies -> the process, as its driver names it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at."""

    load: Load
    process: str = ""
    """Profiled; empty: none."""
    alone: bool = False
    """Profiled with one task at a time instead of many."""
    sync_always: bool = False


def look(wanted: Look) -> None:
    """Prints what it sees. Raises ProfileError when the sampler cannot run."""
    if wanted.process in _OF_CALLS:
        _calls_profiled(wanted)
        return
    console = Console(width=_WIDTH)
    with folder("look") as directory:
        mesh = Mesh(directory, sync_always=wanted.sync_always)
        with running(mesh.start, mesh.stop):
            one = mesh.submitter.run("task", times=wanted.load.tasks)
            gaps = asyncio.run(_gaps(mesh.server.url))
            many = mesh.submitter.run("task", times=wanted.load.burst, in_flight=wanted.load.in_flight)
            table = Table("CPU ms a task", *mesh.submitter.pids, "all", title=f"ready after {mesh.ready_s:.2f} s")
            for name, run in (("one at a time", one), ("many in flight", many)):
                spent = [run.cpu_ms[process] for process in mesh.submitter.pids]
                table.add_row(name, *(f"{ms:.2f}" for ms in spent), f"{sum(spent):.2f}")
            console.print(table)
            p50, p99 = (percentile(one.took, share) * 1000 for share in (0.5, 0.99))
            console.print(f"one at a time: p50 {p50:.2f} ms, p99 {p99:.2f} ms; many: {many.per_second:.1f} tasks/s")
            console.print(_told(gaps))
            if wanted.process:
                _profiled(mesh, wanted)


async def _gaps(url: str) -> dict[str, list[float]]:
    """Milliseconds between the storing of one event of a task and of the next, over all tasks, in their order."""
    bus = await Bus.connect(Settings(), "bench", url=url)
    try:
        stored = await bus.read(subjects.TASKS, subjects.ALL_TASKS, 1)
    finally:
        await bus.close()
    before: dict[str, list[Stored]] = {}
    gaps: dict[str, list[float]] = {}
    for one in stored:
        past = before.setdefault(subjects.task_in(one.subject), [])
        if past:
            names = [subjects.parse_task_event(event.subject).event for event in (past[-1], one)]
            place = f"{len(past)}: {names[0]} to {names[1]}"
            gaps.setdefault(place, []).append((one.time - past[-1].time).total_seconds() * 1000)
        past.append(one)
    return gaps


def _told(gaps: Mapping[str, Sequence[float]]) -> Table:
    table = Table("from event to event, one task at a time", "p50 (ms)", "p99 (ms)")
    usual = max(map(len, gaps.values()), default=0) / 2
    for place, took in gaps.items():
        if len(took) > usual:
            table.add_row(place, *(f"{percentile(took, share):.2f}" for share in (0.5, 0.99)))
    return table


def _calls_profiled(wanted: Look) -> None:
    """One side of requests and replies, asked by 64 callers, or by one."""
    with folder("look") as directory:
        server = NatsServer(directory / "nats")
        with running(server.start, server.stop):
            driver = asking_driver(server.url, directory / "driver.log")
            try:
                target = BENCH / f"profile-{wanted.process}.txt"
                sampling = profile.begin(driver.pids[_OF_CALLS[wanted.process]], target, seconds=_SECONDS)
                while sampling.poll() is None:
                    driver.run("call", times=1000, in_flight=1 if wanted.alone else 64)
                profile.told(sampling, target, wanted.process)
            finally:
                driver.stop()


def _profiled(mesh: Mesh, wanted: Look) -> None:
    pids = mesh.submitter.pids
    if wanted.process not in pids:
        raise profile.ProfileError(f"no process is named {wanted.process!r}: choose one of {', '.join(pids)}")
    target = BENCH / f"profile-{wanted.process}.txt"
    sampling = profile.begin(pids[wanted.process], target, seconds=_SECONDS)
    while sampling.poll() is None:
        if wanted.alone:
            mesh.submitter.run("task", times=50)
        else:
            mesh.submitter.run("task", times=wanted.load.burst // 2, in_flight=wanted.load.in_flight)
    profile.told(sampling, target, wanted.process)
