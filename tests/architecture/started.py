"""Starts one service on a bus, and says what that took: modules, memory, time to ready.

`python -m tests.architecture.started SERVICE URL` prints one JSON object and stops the service again.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from services._runtime.service import Runtime, Start, load, serve
from services._runtime.settings import Settings


def resident_mb() -> float:
    """Memory of this process that is in RAM, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def age_s() -> float:
    """Time since this process was started, its imports included; in steps of 10 ms."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def until_ready(start: Start) -> Start:
    """The service, stopped as soon as it is ready and has been measured."""

    async def measured(runtime: Runtime) -> None:
        working = asyncio.ensure_future(start(runtime))
        ready = asyncio.ensure_future(runtime.ready.wait())
        await asyncio.wait({working, ready}, return_when=asyncio.FIRST_COMPLETED)
        took = {
            "modules": sorted({name.split(".")[0] for name in sys.modules}),
            "resident_mb": resident_mb(),
            "ready_s": age_s(),
        }
        sys.stdout.write(f"{json.dumps(took)}\n")
        runtime.stop.set()
        ready.cancel()
        await working

    return measured


if __name__ == "__main__":
    service, url = sys.argv[1:]
    asyncio.run(serve(service, until_ready(load(service)), Settings.read(), asyncio.Event(), url=url))
