"""The history is whole, and a way back exists: tried on a copy, the registry itself is only read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlsystem.registry import Entry, Registry


@pytest.fixture
def copy(registry: Registry, tmp_path: Path) -> Registry:
    """A copy of the registry that may be changed."""
    from mlsystem.registry import Registry as Copied

    assert wrong(registry) == []
    copied = Copied.open("registry", tmp_path)
    for folder in ("history", "blobs"):
        for path, _ in registry.objects.paths(folder):
            copied.objects.replace(path, registry.objects.read(path) or b"")
    return copied


def wrong(registry: Registry) -> list[str]:
    """Return what is wrong with history and files; derived files can be made anew any time."""
    from mlsystem.registry.care import verify

    return [finding.message for finding in verify(registry)[1] if not finding.fault.value.startswith("derived")]


def test_the_history_and_every_file_verify(registry: Registry) -> None:
    """No entry was changed, none is missing, every kept package is what was registered."""
    assert wrong(registry) == []


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
    assert (copy.ledger().active, wrong(copy)) == (before, [])
    assert [entry.event.value for entry in copy.entries()][-3:] == ["registered", "promoted", "rolled-back"]
