"""The same directory in another place: state and registry are where the environment says, as in the overlays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlsystem.registry import registry_of
from mlsystem.serving.process import serving
from mlsystem.spec import read_spec
from mlsystem.stages import Workspace
from mlsystem.state import state_of
from tests.blueprint.asking import get, predict
from tests.blueprint.small_system import NOTE, ROW, make_system, register
from tests.postgres import fresh_database
from tests.s3 import fresh_bucket


def test_a_system_that_says_sqlite_serves_from_a_bucket_and_counts_in_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of system.toml is edited: a version of the bucket answers, its captures are in the database."""
    make_system(tmp_path)
    bucket, database = fresh_bucket(), fresh_database()
    for name, value in {**bucket.environment, "MLSYSTEM_REGISTRY": bucket.url, "MLSYSTEM_STATE": database}.items():
        monkeypatch.setenv(name, value)
    workspace = Workspace.open(tmp_path)
    registry = registry_of(workspace)
    assert register(registry, 0.0) == 1
    registry.promote(1, NOTE)
    with serving(tmp_path) as server:
        answered = predict(server.url, ROW).json["predictions"][0]["id"]
        assert get(server.url, "/readyz").json == {"status": "ready", "version": 1}
    state = state_of(workspace)
    try:
        assert [joined.captured.id for joined in state.captures(since=0.0, until=2.0**40)] == [answered]
    finally:
        state.close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["live.package"]
    assert list((tmp_path / "registry").glob("**/*.json")) == []
    assert read_spec(tmp_path).serving.state == "sqlite:state/serving.db"


def test_without_these_variables_the_spec_says_where(tmp_path: Path) -> None:
    """Nothing else of the environment moves a system."""
    assert not {"MLSYSTEM_STATE", "MLSYSTEM_REGISTRY"} & os.environ.keys()
    make_system(tmp_path)
    assert Workspace.open(tmp_path).spec == read_spec(tmp_path)
