"""Starts one service on a bus, and says what that took: modules, memory, time to ready.

`python -m tests.architecture.started SERVICE URL` prints one JSON object and stops the service again.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from services._runtime.service import Runtime, Start, load, serve
from services._runtime.settings import Settings

BEGUN = time.perf_counter()


def resident_mb() -> float:
    """Memory of this process that is in RAM, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def until_ready(start: Start) -> Start:
    """The service, stopped as soon as it is ready and has been measured."""

    async def measured(runtime: Runtime) -> None:
        working = asyncio.ensure_future(start(runtime))
        ready = asyncio.ensure_future(runtime.ready.wait())
        await asyncio.wait({working, ready}, return_when=asyncio.FIRST_COMPLETED)
        took = {
            "modules": sorted({name.split(".")[0] for name in sys.modules}),
            "resident_mb": resident_mb(),
            "ready_s": time.perf_counter() - BEGUN,
        }
        sys.stdout.write(f"{json.dumps(took)}\n")
        runtime.stop.set()
        ready.cancel()
        await working

    return measured


if __name__ == "__main__":
    service, url = sys.argv[1:]
    asyncio.run(serve(service, until_ready(load(service)), Settings.read(), asyncio.Event(), url=url))
