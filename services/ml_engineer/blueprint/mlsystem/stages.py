"""Stages: work that is done once for the same inputs, in `work/<stage>/<digest>/`.

Owns the digest of a stage (its name, the engine's version, the spec keys it reads, the digests of its inputs, the
lock file of the training environment) and the publication of its output by one rename, so that a stage is either
finished or absent, whatever kills the process. Leaves what a stage does to the function it is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import msgspec

from mlsystem import __version__
from mlsystem.errors import StageMissing
from mlsystem.output import Reporter, readable
from mlsystem.spec import Spec, placed, read_spec

RESULT = "result.json"
RUN = "run.json"
_LOCK = "requirements/train.lock"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A system's directory, its checked spec, and where the command reports to."""

    root: Path
    spec: Spec
    reporter: Reporter

    @classmethod
    def open(cls, root: Path, reporter: Reporter | None = None) -> Workspace:
        """Read and check `root/system.toml`; SpecError names everything that is wrong with it.

        State and registry are those of the environment where it names them.
        """
        return cls(root.resolve(), placed(read_spec(root), os.environ), reporter or Reporter("text"))


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage's output depends on: `keys` are dotted keys or tables of the spec, `inputs` other digests."""

    name: str
    keys: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    def digest(self, workspace: Workspace) -> str:
        """Return 32 hex digits that change when, and only when, the stage has to be run again."""
        lock = workspace.root / _LOCK
        parts = {
            "stage": self.name,
            "engine": __version__,
            "spec": {key: workspace.spec.value(key) for key in sorted(self.keys)},
            "inputs": self.inputs,
            "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "",
        }
        return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


class Run(msgspec.Struct, frozen=True):
    """When a stage was run."""

    started: datetime
    ended: datetime


def stage_dir(workspace: Workspace, name: str, digest: str) -> Path:
    """Return where the output of a stage is, or will be."""
    return workspace.root / "work" / name / digest


def run_stage(workspace: Workspace, stage: Stage, fn: Callable[[Path], Mapping[str, object]]) -> dict[str, object]:
    """Return the stage's result with its `digest`; run `fn(out_dir)` only if the stage is not finished.

    `fn` writes files into `out_dir` and returns a JSON object, kept as result.json. The directory appears under its
    final name when everything in it is on disk, never before. A second process that finishes first wins.
    """
    digest = stage.digest(workspace)
    final = stage_dir(workspace, stage.name, digest)
    with workspace.reporter.span(f"stage {stage.name}", digest=digest) as span:
        span.attributes["reused"] = final.is_dir()
        if not final.is_dir():
            _sweep(final.parent)
            with scratch_beside(final) as scratch:
                started = datetime.now(UTC)
                result = {"digest": digest, **fn(scratch)}
                (scratch / RESULT).write_bytes(readable(result))
                (scratch / RUN).write_bytes(readable(Run(started, datetime.now(UTC))))
                publish(scratch, final)
        else:
            workspace.reporter.progress(stage.name, 1.0, f"already done ({digest[:12]})")
    return read_result(workspace, stage.name, digest)


def read_result(workspace: Workspace, name: str, digest: str) -> dict[str, object]:
    """Return the result of a finished stage; StageMissing names the command to run first."""
    path = stage_dir(workspace, name, digest) / RESULT
    try:
        return cast("dict[str, object]", msgspec.json.decode(path.read_bytes()))
    except FileNotFoundError:
        raise StageMissing(
            "stage_missing", f"there is no finished {name} for this spec and data; run `python -m mlsystem {name}`"
        ) from None


def read_run(workspace: Workspace, name: str, digest: str) -> Run:
    """Return when a finished stage was run, not when its result was last used; StageMissing if it was not."""
    path = stage_dir(workspace, name, digest) / RUN
    if not path.is_file():
        raise StageMissing("stage_missing", f"there is no finished {name}; run `python -m mlsystem {name}`")
    return msgspec.json.decode(path.read_bytes(), type=Run)


def publish(scratch: Path, final: Path) -> None:
    """Make a finished directory appear as `final` in one step, with its content on disk; the first one wins."""
    for path in [*scratch.rglob("*"), scratch]:
        _sync(path)
    try:
        scratch.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    _sync(final.parent)


@contextlib.contextmanager
def scratch_beside(final: Path) -> Generator[Path]:
    """Give an empty directory beside `final` that is gone at the end, unless it was published."""
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = final.with_name(f".{final.name}.{os.getpid()}.{time.monotonic_ns()}")
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed have left behind."""
    for path in folder.glob(".*.*.*"):
        owner = path.name.split(".")[2]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
