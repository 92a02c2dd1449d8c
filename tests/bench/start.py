"""How long the mesh and each service take to be ready, and how much memory they then hold."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts import subjects
from tests.architecture.tree import ROOT
from tests.server import NatsServer

READY_S = 2.0
"""From the start of the process to an embedded mesh in which every service is ready."""
RESIDENT_MB = 100.0
"""Of a service in a process of its own."""
_RUNS = 3

_MESH = """
import asyncio, json, sys
from pathlib import Path
from services._runtime.home import Home
from services._runtime.settings import Settings
from services.gateway.mesh import Mesh
from tests.architecture.started import age_s, resident_mb

mesh = Mesh(Home(Path(sys.argv[1])), Settings.read())

async def ready(bus):
    return {"resident_mb": resident_mb(), "ready_s": age_s()}

print(json.dumps(asyncio.run(mesh.run(ready))))
"""
_FLOOR = """
lines = open("/proc/self/status").read().splitlines()
print('{"resident_mb": %f}' % (next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024))
"""
"""An interpreter that only looks at itself."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One number, what was promised of it, and what the least would take."""

    what: str
    value: float
    unit: str
    floor: float
    promised: float = 0.0
    """0: nothing."""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return not self.promised or self.value < self.promised

    @property
    def ratio(self) -> float:
        """How many floors it is."""
        return self.value / self.floor


def measure() -> list[Measured]:
    """The best of three runs of each: what the code needs, not what else the machine was doing."""
    floor_mb, floor_s = _least("resident_mb", ["-c", _FLOOR]), _interpreter_s()
    found = [
        Measured("embedded mesh until ready", _mesh("ready_s"), "s", floor_s, READY_S),
        Measured("embedded mesh, resident", _mesh("resident_mb"), "MB", floor_mb),
    ]
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder))
        server.start()
        for name in subjects.SERVICES:
            command = ["-m", "tests.architecture.started", name, server.url]
            found.append(Measured(f"{name} until ready", _least("ready_s", command), "s", floor_s))
            found.append(Measured(f"{name}, resident", _least("resident_mb", command), "MB", floor_mb, RESIDENT_MB))
        server.stop()
    return found


def _mesh(key: str) -> float:
    with tempfile.TemporaryDirectory() as home:
        return _least(key, ["-c", _MESH, home])


def _least(key: str, command: Sequence[str]) -> float:
    return min(float(_told(command)[key]) for _ in range(_RUNS))


def _told(command: Sequence[str]) -> dict[str, Any]:
    """The JSON object that a Python process prints."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def _interpreter_s() -> float:
    """Starting and ending an interpreter that does nothing."""

    def once() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return time.perf_counter() - begun

    return min(once() for _ in range(_RUNS))
