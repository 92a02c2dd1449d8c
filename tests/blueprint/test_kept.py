"""A server whose registry is out of reach begins with what answered on its host last, and follows when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlsystem.errors import RegistryError
from mlsystem.output import Reporter
from mlsystem.registry import Registry
from mlsystem.serving.kept import FILE, Kept
from mlsystem.serving.live import Active, Live
from mlsystem.serving.metrics import Metrics
from tests.blueprint.small_system import NOTE, make_system


def far(root: Path) -> Registry:
    """A registry with two versions, of which the first is live, that counts as one in a bucket."""
    registry = make_system(root, 0.0, 1.0)
    registry.promote(1, NOTE)
    registry.objects.near = False
    return registry


def begun(root: Path, registry: Registry) -> tuple[Live, Metrics]:
    """What a server on this host begins with."""
    told: list[str] = []
    metrics = Metrics(())
    live = Live(
        Active(registry, Kept(root / FILE, told.append)), name="small", metrics=metrics, reporter=Reporter("json")
    )
    live.begin()
    return live, metrics


def cut_off(root: Path) -> Path:
    """Put a file where the registry was; return where it is now."""
    away = (root / "registry").rename(root / "elsewhere")
    (root / "registry").write_text("no directory")
    return away


def bring_back(root: Path) -> None:
    (root / "registry").unlink()
    (root / "elsewhere").rename(root / "registry")


def test_a_server_begins_with_what_answered_last_and_follows_when_the_registry_is_back(tmp_path: Path) -> None:
    """Metrics and readiness tell that it could not be asked, and no more once it can."""
    registry = far(tmp_path)
    begun(tmp_path, registry)
    registry.promote(2, NOTE)
    cut_off(tmp_path)
    live, metrics = begun(tmp_path, registry)
    up = metrics.slot("mlsystem_registry_up")
    alone = (live.require().name.version, "the registry cannot be used" in live.away, metrics.values[up])
    bring_back(tmp_path)
    live.refresh()
    back = (live.require().name.version, live.away, metrics.values[up])
    assert (alone, back) == ((1, True, 0), (2, "", 1))


def test_a_damaged_copy_is_not_used(tmp_path: Path) -> None:
    """Then the server does not start, and says why."""
    registry = far(tmp_path)
    begun(tmp_path, registry)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:-1] + b"?")
    cut_off(tmp_path)
    with pytest.raises(RegistryError, match="cannot be used"):
        begun(tmp_path, registry)
