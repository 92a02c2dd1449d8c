"""Processes by their ids: whether they still run."""

import asyncio
from pathlib import Path


async def gone(*pids: int) -> bool:
    """Whether all of them end within a moment."""
    for _ in range(1500):
        if not any(alive(pid) for pid in pids):
            return True
        await asyncio.sleep(0.01)
    return False


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
