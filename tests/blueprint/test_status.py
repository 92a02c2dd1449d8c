"""How a system tells that it is well, and what is wrong when it is not."""

import argparse
import contextlib
import shutil
import socket
from pathlib import Path

import pytest

from mlsystem.monitoring import LAST_VERDICT
from mlsystem.output import Reporter
from mlsystem.serving.process import serving
from mlsystem.spec import read_spec
from mlsystem.stages import Workspace
from mlsystem.state import state_of
from mlsystem.status import status
from tests.blueprint import small_system


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small system with one live version, whose port nobody listens on."""
    registry = small_system.make_system(tmp_path, 0.0, port=_free_port())
    registry.promote(1, small_system.NOTE)
    return tmp_path


def told(root: Path) -> dict[str, object]:
    """What `status` says."""
    return status(Workspace.open(root, Reporter.from_environment("json")), argparse.Namespace())


def test_a_system_without_trouble_is_ok(root: Path) -> None:
    """A server that does not run is no trouble: nobody said that it should."""
    found = told(root)
    assert (found["name"], found["live"], found["versions"], found["health"], found["troubles"]) == (
        "small",
        1,
        [1],
        "ok",
        [],
    )
    assert found["server"] == {"url": f"http://127.0.0.1:{_port(root)}", "running": False}


def test_a_running_server_is_asked(root: Path) -> None:
    """Its version is told, as it answers."""
    with serving(root, "--port", str(_port(root))) as server:
        assert told(root)["server"] == {"url": server.url, "running": True, "version": 1}


def test_a_damaged_registry_is_trouble(root: Path) -> None:
    """Told, not raised: the other systems of a list are told of all the same."""
    shutil.rmtree(root / "registry" / "blobs")
    found = told(root)
    assert found["health"] == "degraded"
    assert "is missing" in str(found["troubles"])


def test_a_system_that_was_never_promoted_is_down(root: Path) -> None:
    """With what to do."""
    shutil.rmtree(root / "registry")
    found = told(root)
    assert (found["health"], found["troubles"]) == ("down", ["no version is live: python -m mlsystem promote"])


def test_what_monitoring_said_last_is_repeated(root: Path) -> None:
    """Its alerts are trouble."""
    workspace = Workspace.open(root, Reporter.from_environment("json"))
    with contextlib.closing(state_of(workspace)) as state:
        state.put(LAST_VERDICT, b'{"at": 1.0, "alerts": [{"text": "plan has drifted"}], "cause": "plan"}')
    found = told(root)
    assert (found["health"], found["troubles"]) == ("degraded", ["alert: plan has drifted"])


def _port(root: Path) -> int:
    return read_spec(root).serving.port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
