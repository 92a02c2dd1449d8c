"""A program that obeys the benchmark, seen from the benchmark: started, told what to do, ended.

The other end of driver.py.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from services._runtime.embedded import die_with_parent
from tests.architecture.tree import ROOT
from tests.bench.mesh.cost import Bill

PATIENCE_S: Final = 120.0


class ProgramError(Exception):
    """A program that says nothing, or ends; the text is the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one order took."""

    seconds: float
    took: tuple[float, ...]
    """Seconds of each piece of work."""
    cpu_ms: Mapping[str, float]
    """Processor time for each piece of work, by process."""

    @property
    def per_second(self) -> float:
        """Pieces of work a second."""
        return len(self.took) / self.seconds


@dataclass(slots=True)
class Program:
    """One program. `pids` are the processes whose cost is counted: what it says, and what is added."""

    process: "subprocess.Popen[bytes]"
    log: Path
    pids: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def start(cls, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> "Program":
        """Starts it; returns when it is ready to obey."""
        program = cls.start_silent(command, log=log, environment=environment)
        try:
            program.pids |= program.heard()["pids"]
        except ProgramError:
            program.stop()
            raise
        return program

    @classmethod
    def start_silent(cls, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> "Program":
        """Starts one that says only what came of it."""
        with log.open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        return cls(process, log)

    def run(self, kind: str, *, times: int, in_flight: int = 1) -> Run:
        """Has it do something `times` times, so many at a time."""
        self.tell({"kind": kind, "times": times, "in_flight": in_flight})
        self.heard()  # it is warm and begins
        before = Bill.of(self.pids)
        told = self.heard()
        return Run(told["seconds"], tuple(told["took"]), Bill.of(self.pids).since(before, times=times))

    def tell(self, order: Mapping[str, Any]) -> None:
        """Sends an order without waiting for what comes of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        """Ends it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()

    def heard(self) -> dict[str, Any]:
        """The next line that is an object: whatever else a framework prints is passed over."""
        assert self.process.stdout is not None
        until = time.monotonic() + PATIENCE_S
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while time.monotonic() < until and ready.select(max(0.0, until - time.monotonic())):
                line = self.process.stdout.readline()
                if not line:
                    break
                if line.startswith(b"{"):
                    return json.loads(line)
        said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:] if self.log.exists() else ""
        raise ProgramError(f"{self.process.args!r} does not answer: {said}")


def clean_environment(**added: str) -> dict[str, str]:
    """The environment without what would configure a measured program; the repository can be imported from."""
    foreign = ("MLMESH_", "OTEL_", "ANTHROPIC_", "NATS_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), **added}
