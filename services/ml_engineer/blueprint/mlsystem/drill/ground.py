"""Where a drill takes place: a copy of the system that may be hurt.

Owns the temporary directory: the spec, the contract, a registry of its own with the live version as version 2 and
the one before as version 1, and a state of its own. The real registry is read, the real state is not touched at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from mlsystem.errors import RegistryError
from mlsystem.registry import Note, Registry, registry_of
from mlsystem.serving.examples import Row, example_rows
from mlsystem.serving.keys import client_headers, own_key
from mlsystem.serving.package import MODEL, Package
from mlsystem.serving.process import Listening, python_path, serving
from mlsystem.spec import REGISTRY_VARIABLE, SPEC_FILE, STATE_VARIABLE, placed
from mlsystem.stages import Workspace
from mlsystem.state import State, state_of

STATE_FILE: Final = Path("state/serving.db")
REGISTRY: Final = "registry"
WHY: Final = "drill"

_BEFORE: Final = 1
LIVE: Final = 2
"""Versions of the copy's registry."""

_COPIED: Final = (SPEC_FILE, "schema.json", "hooks.py")
_PSEUDONYMS: Final = "keys/pseudonym"
"""Object of the registry with the key of pseudonyms, where a system has one."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command of the engine left behind."""

    code: int
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ground:
    """The copy, and how its commands and its server are run."""

    root: Path
    workspace: Workspace
    row: Row
    headers: Mapping[str, str]
    environment: Mapping[str, str]
    port: int

    @classmethod
    @contextlib.contextmanager
    def prepared(cls, workspace: Workspace) -> Generator[Ground]:
        """Give a copy of the system that is gone at the end; RegistryError if no version is live."""
        with tempfile.TemporaryDirectory(prefix=f"drill-{workspace.spec.name}-") as name:
            root = Path(name)
            live = _copy(workspace, root)
            row = example_rows(live.schema(), live.reference())[0]
            key, known = own_key(workspace.spec.serving)
            places = {STATE_VARIABLE: f"sqlite:{STATE_FILE}", REGISTRY_VARIABLE: REGISTRY}
            copy = Workspace.open(root, workspace.reporter)
            copy = replace(copy, spec=placed(copy.spec, places))
            yield cls(root, copy, row, client_headers(key), {**places, **known}, _free_port())

    @property
    def url(self) -> str:
        """Where the copy's server answers, whenever it runs."""
        return f"http://127.0.0.1:{self.port}"

    def registry(self) -> Registry:
        """Return the copy's registry."""
        return registry_of(self.workspace)

    @contextlib.contextmanager
    def state(self) -> Generator[State]:
        """Give the copy's state as a program of its own would open it."""
        state = state_of(self.workspace)
        try:
            yield state
        finally:
            state.close()

    def server(self) -> contextlib.AbstractContextManager[Listening]:
        """Run the copy's server, always on the same port."""
        return serving(self.root, "--port", str(self.port), environment=self.environment)

    def command(self, *words: str, file_bytes: int | None = None) -> Ran:
        """Run a command of the engine on the copy; `file_bytes` limits the size of what it writes, as a full disk."""
        limited = _LIMITED.format(file_bytes) if file_bytes is not None else _PLAIN
        done = subprocess.run(
            [sys.executable, "-c", limited, *words, "--json", "--dir", str(self.root)],
            env={**os.environ, **self.environment, "PYTHONPATH": python_path()},
            capture_output=True,
            check=False,
        )
        return Ran(done.returncode, msgspec.json.decode(done.stdout or b"{}", type=dict[str, Any]))

    def model_blob(self, version: int) -> Path:
        """Return the file in which the copy's registry holds a version's model."""
        ref = self.registry().ledger().versions[version].files[MODEL]
        return self.root / REGISTRY / "blobs" / "sha256" / ref.sha256


_PLAIN: Final = "import sys; from mlsystem.__main__ import main; sys.exit(main(sys.argv[1:]))"
_LIMITED: Final = (
    "import resource, sys; from mlsystem.__main__ import main;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); sys.exit(main(sys.argv[1:]))"
)


def _copy(workspace: Workspace, root: Path) -> Package:
    """Copy what serving needs, and register and promote two versions; return the live one."""
    source = registry_of(workspace)
    ledger = source.ledger()
    if ledger.active is None:
        raise RegistryError("nothing_active", "no version is live; promote one first, then drill")
    for name in _COPIED:
        if (workspace.root / name).is_file():
            shutil.copy2(workspace.root / name, root / name)
    copy = Registry.open(REGISTRY, root)
    if (secret := source.objects.read(_PSEUDONYMS)) is not None:
        copy.objects.create(_PSEUDONYMS, secret)
    live = Package.stored(source, ledger.active)
    before = Package.stored(source, ledger.previous) if ledger.previous else _twin(live)
    for number, package in ((_BEFORE, before), (LIVE, live)):
        note = Note(WHY, WHY, {"servable": True, "outcome": "success"})
        copy.register(package.files, f"{number}-{package.digest}", note)
        copy.promote(number, Note(WHY, WHY))
    return live


def _twin(package: Package) -> Package:
    """Return a package that answers the same from another file: what damages one may not damage both.

    A message of Protocol Buffers may be continued behind its end: here by a documentation string, field 6 of the model.
    """
    return replace(package, files={**package.files, MODEL: package.files[MODEL] + b"\x32\x05drill"})


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
