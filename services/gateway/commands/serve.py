"""`mlmesh serve`: boots the server of a delivered system, from the engine in its own `vendor/`, until Ctrl-C.

The server gets the whole environment of the person who starts it, since a spec may name variables of it. Left out:
everything about serving itself (the system's engine).
"""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services._runtime.embedded import die_with_parent
from services._runtime.errors import Misconfigured, Permanent
from services._runtime.systems import SYSTEMS, delivered_systems, engine_environment, find_engine, system_directory
from services.gateway.attach import place_of
from services.gateway.exits import Exit, Usage
from services.gateway.following import Interrupts, first_of
from services.gateway.output import Output

_STOP_S: Final = 40.0
"""A little more than the server takes to let requests end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    system: str
    port: int | None
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Starts it, says where it listens, waits. Raises Usage: no such system; Misconfigured: it does not start."""
    directory = find_system(options.system, place_of(options.workspace).workspace)
    try:
        find_engine(directory)
    except Permanent as error:
        raise Usage(str(error)) from error
    interrupts = Interrupts(cancels=False)
    with interrupts.heard():
        server = await _start(directory, options.port)
        try:
            await first_of(interrupts.stop.wait(), _announced(server, directory, output))
        finally:
            await _stop(server)
    return Exit.SUCCESS if interrupts.stop.is_set() else Exit.ERROR


async def _announced(server: asyncio.subprocess.Process, directory: Path, output: Output) -> None:
    """Says where it listens; returns when it ends on its own."""
    told = await _listening(server)
    where = {name: told.get(name) for name in ("url", "host", "port", "version")}
    output.result({"system_dir": str(directory), "pid": server.pid, **where}, str(told["url"]))
    output.say(f"{directory.name} answers; Ctrl-C ends it")
    await server.wait()


def find_system(given: str, workspace: Path) -> Path:
    """The directory of a system, by its path or its name. Raises Usage naming what there is."""
    candidates = (Path(os.path.abspath(given)), workspace / system_directory(given))  # noqa: PTH100
    for candidate in candidates:
        if (candidate / "system.toml").is_file():
            return candidate
    there = [directory.name for directory in delivered_systems(workspace)]
    known = f"systems here: {', '.join(there)}" if there else f"no system stands in {workspace / SYSTEMS}"
    raise Usage(f"{given!r} is no delivered system: {known}")


async def _start(directory: Path, port: int | None) -> asyncio.subprocess.Process:
    words = [] if port is None else ["--port", str(port)]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mlsystem", "serve", *words),
        cwd=directory,
        env=engine_environment(directory),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGTERM),
        start_new_session=True,
    )


async def _listening(server: asyncio.subprocess.Process) -> dict[str, Any]:
    """What the server's first line says. Raises Misconfigured when it ends before."""
    assert server.stdout is not None  # noqa: S101 - it was asked for
    async for line in server.stdout:
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if "url" in told:
            return told
    raise Misconfigured(f"the server did not start (exit code {await server.wait()}): its words are above")


async def _stop(server: asyncio.subprocess.Process) -> None:
    if server.returncode is not None:
        return
    server.terminate()
    try:
        await asyncio.wait_for(server.wait(), _STOP_S)
    except TimeoutError:
        server.kill()
        await server.wait()
