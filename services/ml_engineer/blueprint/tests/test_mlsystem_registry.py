"""The history is whole, and a way back exists: tried on a copy, the registry itself is only read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlsystem.registry import Entry, Registry
    from mlsystem.stages import Workspace


@pytest.fixture
def copy(workspace: Workspace, registry: Registry, tmp_path: Path) -> Registry:
    """A copy of the registry that may be changed."""
    from mlsystem.registry import Registry as Copied

    assert registry.verify() == []
    shutil.copytree(workspace.root / workspace.spec.registry.url, tmp_path / "registry")
    return Copied.open("registry", tmp_path)


def test_the_history_and_every_file_verify(registry: Registry) -> None:
    """No entry was changed, none is missing, every kept package is what was registered."""
    assert registry.verify() == []


def test_the_active_version_may_be_served(registry: Registry) -> None:
    ledger = registry.ledger()
    assert ledger.active is None or ledger.versions[ledger.active].evidence["servable"] is True


def test_a_promotion_can_be_taken_back(copy: Registry, version: Entry, files: dict[str, bytes]) -> None:
    """A new version goes live and is rolled back: the one before answers again, and the history tells all of it."""
    from mlsystem.registry import Note

    note = Note("the delivered tests", "to see that there is a way back", {"servable": True, "outcome": "success"})
    if copy.ledger().active is None:
        copy.promote(copy.register(files, f"{version.digest}-first", note, keep=1000)[0], note)
    before = copy.ledger().active
    new, created = copy.register(files, f"{version.digest}-again", note, keep=1000)
    assert (created, copy.promote(new, note).previous) == (True, before)
    assert copy.rollback(None, note).version == before
    assert (copy.ledger().active, copy.verify()) == (before, [])
    assert [entry.event.value for entry in copy.entries()][-3:] == ["registered", "promoted", "rolled-back"]
