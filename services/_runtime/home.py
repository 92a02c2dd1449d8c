"""The home of an embedded mesh: `<workspace>/.mlmesh`, owned by one process at a time.

`lock` is held by flock for as long as the owner lives; `bus.json` tells others where its bus is. The home
ignores itself in git.
"""

import fcntl
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services._runtime.errors import Misconfigured
from services._runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Home:
    """A home directory. Nothing is made before `hold`."""

    path: Path

    @property
    def logs(self) -> Path:
        """Where the services' log lines go."""
        return self.path / "logs" / "mesh.jsonl"

    def step_log(self, task: str, step: str) -> Path:
        """Where a step's subprocess writes what it has to say."""
        return self.path / "tasks" / task / f"{step}.log"

    @property
    def knowledge(self) -> Path:
        """Where the context-manager keeps its databases."""
        return self.path / "context"

    def living_bus(self) -> str:
        """URL of the bus of the process that holds this home; empty when nobody does."""
        lock = self.path / "lock"
        if not lock.exists():
            return ""
        with lock.open("r") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._told_url()
            fcntl.flock(handle, fcntl.LOCK_UN)
        return ""

    @contextmanager
    def hold(self) -> Generator[None]:
        """Owns the home while the block runs. Raises Misconfigured: somebody else does, or no room to write."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
            handle = (self.path / "lock").open("a")
        except OSError as error:
            raise Misconfigured(
                f"cannot write to {self.path}: {error.strerror}: free space, or choose another place with MLMESH_HOME"
            ) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Misconfigured(
                    f"another mesh lives in {self.path} ({self._told_url() or 'starting'}): use it, or stop it first"
                ) from error
            try:
                yield
            finally:
                (self.path / "bus.json").unlink(missing_ok=True)

    def tell(self, url: str) -> None:
        """Writes where the bus is."""
        told = self.path / "bus.json"
        draft = told.with_suffix(".new")
        draft.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
        draft.replace(told)

    def _told_url(self) -> str:
        try:
            told: dict[str, str] = json.loads((self.path / "bus.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return told.get("url", "")


def home_of(settings: Settings, workspace: Path) -> Home:
    """MLMESH_HOME, else `.mlmesh` in the workspace."""
    return Home((settings.home or workspace / ".mlmesh").absolute())
