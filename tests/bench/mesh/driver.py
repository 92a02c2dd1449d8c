"""How the benchmark talks with a program that it measures: one JSON object a line, orders in, figures out.

The same in every system, in whatever environment it runs: the program says its processes, then does what it is told
and says how long that took. Clocks run in the program that submits, so no talk is part of a figure. Only the
standard library is needed here.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WARM_UP: Final = 8
"""Tasks or calls before the first figure: imports, prepared statements, a workspace's first reading."""
PATIENCE_S: Final = 60.0
"""For one task."""

Work = Callable[[], Awaitable[object]]


def say(told: Mapping[str, Any]) -> None:
    """One line to the benchmark."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def drive(kinds: Mapping[str, Work], pids: Mapping[str, int]) -> None:
    """Obeys until the benchmark is done. `kinds` name what there is to do once, such as a task or a call."""
    warm: set[str] = set()
    say({"pids": {**pids, "submitter": os.getpid()}})
    while order := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(order)
        work = kinds[wanted["kind"]]
        if wanted["kind"] not in warm and wanted["times"] > 1:
            warm.add(wanted["kind"])
            for _ in range(WARM_UP):
                await work()
        say({"begun": True})
        say(await _measured(work, wanted["times"], wanted["in_flight"]))


async def _measured(work: Work, times: int, in_flight: int) -> dict[str, Any]:
    took: list[float] = []
    left = iter(range(times))

    async def some() -> None:
        for _ in left:
            begun = time.perf_counter()
            async with asyncio.timeout(PATIENCE_S):
                await work()
            took.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(in_flight)))
    return {"seconds": time.perf_counter() - begun, "took": took}


def drive_threads(work: Callable[[], object], pids: Mapping[str, int]) -> None:
    """As `drive`, for a system whose tasks are plain calls: one after the other, or many in threads."""
    say({"pids": {**pids, "submitter": os.getpid()}})
    warm = False
    for order in sys.stdin:
        wanted = json.loads(order)
        if not warm:
            warm = True
            for _ in range(WARM_UP):
                work()
        say({"begun": True})
        say(_measured_threads(work, wanted["times"], wanted["in_flight"]))


def _measured_threads(work: Callable[[], object], times: int, in_flight: int) -> dict[str, Any]:
    took: list[float] = []
    lock = threading.Lock()

    def one(_: int) -> None:
        begun = time.perf_counter()
        work()
        with lock:
            took.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    if in_flight == 1:
        for number in range(times):
            one(number)
    else:
        with ThreadPoolExecutor(in_flight) as pool:
            list(pool.map(one, range(times)))
    return {"seconds": time.perf_counter() - begun, "took": took}


@dataclass(slots=True)
class Roles:
    """The other processes of a system, each this module with the name of a role. They end when their stdin does."""

    module: str
    arguments: tuple[str, ...]
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])

    def start(self, *names: str) -> dict[str, int]:
        """Starts them; returns when each has said that it is ready. Process ids by name."""
        for name in names:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", self.module, name, *self.arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        for name in names:
            output = self.running[name].stdout
            if output is None or output.readline() == b"":
                raise RuntimeError(f"{name} did not start")
        return {name: process.pid for name, process in self.running.items()}

    def kill(self, name: str) -> None:
        """Kill -9."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running.pop(name).wait(10)

    def stop(self) -> None:
        """Ends them."""
        for process in self.running.values():
            if process.stdin is not None:
                process.stdin.close()
        for process in self.running.values():
            process.wait(10)


async def until_told() -> None:
    """For a role: says that it is ready, returns when it is to end."""
    say({"ready": True})
    await asyncio.to_thread(sys.stdin.read)


async def recovery(begin: Work, roles: Roles, role: str, mark: Path) -> dict[str, float]:
    """Seconds from a kill -9 of `role` in the middle of a task to the task's end, with another process at once.

    `begin` submits a task and waits for its end; its third step makes `mark` and waits for ever the first time.
    """
    working = asyncio.ensure_future(begin())
    while not mark.exists():
        await asyncio.sleep(0.005)
        if working.done():
            raise RuntimeError(f"the task ended before its process was killed: {working.result()}")
    roles.kill(role)
    begun = time.perf_counter()
    await asyncio.to_thread(roles.start, role)
    await working
    return {"seconds": time.perf_counter() - begun}
