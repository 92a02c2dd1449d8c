"""`mlmesh` as people and scripts use it: a process of its own, with services that are fakes or the real ones.

Services are found through entry points, so a fake mesh is a distribution called `mlmesh` that is found first.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

ROOT: Final = Path(__file__).parents[2]
FAKES: Final = {
    "context-manager": "tests.fakes.services:start_context_manager",
    "ml-engineer": "tests.fakes.services:start_engineer",
    "summarizer": "tests.fakes.services:start_summarizer",
    "gateway": "tests.fakes.services:start_gateway",
}
_LONGEST_S: Final = 60
_CAP_DAC_OVERRIDE, _PR_CAPBSET_DROP = 1, 24


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object on stdout; fails when there is anything else."""
        return json.loads(self.stdout)


@dataclass(frozen=True, slots=True)
class Cli:
    """The command line in one workspace."""

    workspace: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def run(self, *words: str, **settings: str) -> Done:
        """One command to its end, in this process: the same without the time that an interpreter takes to start."""
        from services.gateway.cli import main

        stdout, stderr = io.StringIO(), io.StringIO()
        with self._here(settings), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            try:
                code = main(words)
            except SystemExit as ended:  # argparse ends `--help` so
                code = int(ended.code or 0)
        return Done(code, stdout.getvalue(), stderr.getvalue())

    def process(self, *words: str, **settings: str) -> Done:
        """One command to its end, in a process of its own and without a terminal."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.workspace,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def started(self, *words: str, **settings: str) -> Generator["subprocess.Popen[str]"]:
        """A command at work; killed at the end of the block if it still is."""
        with subprocess.Popen(
            self.command(*words),
            cwd=self.workspace,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.communicate(timeout=_LONGEST_S)

    @contextlib.contextmanager
    def _here(self, settings: Mapping[str, str]) -> Generator[None]:
        """The workspace, the environment and the fakes of the command, for this process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.workspace)
            for name in os.environ:
                if name.startswith(("MLMESH_", "NATS_", "OTEL_")):
                    patch.delenv(name)
            for name, value in {**self.environment, **settings}.items():
                patch.setenv(name, value)
            patch.syspath_prepend(self.environment["PYTHONPATH"].split(os.pathsep)[0])
            yield
        structlog.reset_defaults()

    def command(self, *words: str) -> list[str]:
        """The words as a process is started with."""
        return [sys.executable, "-m", "services.gateway.cli", *words]


def environment(directory: Path | None, **starts: str) -> dict[str, str]:
    """Environment of a command. `directory` gets a fake mesh; None: the real services.

    `starts` replaces fakes, as `ml_engineer="module:function"`.
    """
    found = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    quick = {"MLMESH_ACK_WAIT_S": "3", "MLMESH_HEARTBEAT_S": "0.5", "MLMESH_RETRY_DELAY_S": "0.05"}
    if directory is None:
        return {**found, **quick, "PYTHONPATH": str(ROOT)}
    services = {**FAKES, **{name.replace("_", "-"): start for name, start in starts.items()}}
    made = directory / "mlmesh-0.1.0.dist-info"
    made.mkdir(parents=True, exist_ok=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: mlmesh\nVersion: 0.1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {start}\n" for name, start in services.items())
    (made / "entry_points.txt").write_text(f"[mlmesh.services]\n{lines}", encoding="utf-8")
    return {**found, **quick, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}


def until(process: "subprocess.Popen[str]", text: str) -> str:
    """What the process says on stderr up to a line with `text`. Raises AssertionError when it ends before."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return "".join(said)
    raise AssertionError(f"{text!r} was not said, but: {''.join(said)}")


def obey_permissions() -> None:
    """For `preexec_fn`: root loses the right to write where permissions forbid it."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)
