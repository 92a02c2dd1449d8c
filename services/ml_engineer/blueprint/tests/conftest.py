"""What the tests of this system stand on: its own engine, its spec, its registry, its server.

They read what is there and change nothing: what they write goes into temporary folders. The engine is the wheel in
`vendor/`. Run `pytest` in the system's directory; needed are pytest and the packages of requirements/serve.lock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

SYSTEM = Path(__file__).resolve().parent.parent

for wheel in sorted((SYSTEM / "vendor").glob("mlsystem-*.whl")):
    sys.path.insert(0, str(wheel))

if TYPE_CHECKING:
    from mlsystem.registry import Entry, Registry
    from mlsystem.serving.model import Model
    from mlsystem.serving.process import Listening
    from mlsystem.stages import Workspace


@pytest.fixture(scope="session")
def workspace() -> Workspace:
    """The system's directory with its checked spec."""
    from mlsystem.stages import Workspace

    return Workspace.open(SYSTEM)


@pytest.fixture(scope="session")
def registry(workspace: Workspace) -> Registry:
    """The system's registry; a fresh clone has none before it is fetched or a model is trained."""
    from mlsystem.registry import Registry

    url = workspace.spec.registry.url
    there = "://" in url or (workspace.root / url).is_dir()  # to look for a directory must not make it
    found = Registry.open(url, workspace.root) if there else None
    if found is None or not found.numbers():
        pytest.skip(f"no registry at {url!r}: fetch it, or run `python -m mlsystem package` to make a version")
    return found


@pytest.fixture(scope="session")
def version(registry: Registry) -> Entry:
    """The version under test: the active one, or the newest while none is active."""
    ledger = registry.ledger()
    return ledger.package_of(ledger.active or ledger.kept[-1])


@pytest.fixture(scope="session")
def files(registry: Registry, version: Entry) -> dict[str, bytes]:
    """The files of the version's package."""
    return registry.files(version)


@pytest.fixture(scope="session")
def model(workspace: Workspace, registry: Registry, version: Entry) -> Model:
    """The version's model, loaded."""
    from mlsystem.serving.model import Model
    from mlsystem.serving.package import Package

    return Model(Package.stored(registry, version.version), name=workspace.spec.name)


@pytest.fixture(scope="session")
def reference(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Rows of the source, as they stand there."""
    return msgspec.json.decode(files["reference.json"])


@pytest.fixture(scope="session")
def server(workspace: Workspace, version: Entry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """The real server, on a free port, answering with the version under test; what it keeps is gone at the end."""
    from mlsystem.serving.process import serving
    from mlsystem.spec import STATE_VARIABLE

    state = f"sqlite:{tmp_path_factory.mktemp('state') / 'serving.db'}"
    with serving(workspace.root, "--version", str(version.version), environment={STATE_VARIABLE: state}) as listening:
        yield listening
