"""Rollback and recovery, each for real: the system is hurt while it is asked, and no request fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from mlsystem.drill.command import record_of
from mlsystem.drill.field import Field
from mlsystem.drill.ground import Ground
from mlsystem.drill.scenarios import SCENARIOS, Trial, tried
from mlsystem.errors import RegistryError
from mlsystem.output import Reporter
from mlsystem.serving.load import Window, open_loop, request, run
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.process import Listening, serving
from mlsystem.stages import Workspace
from tests.blueprint.asking import get, predict
from tests.blueprint.made_tables import engine
from tests.blueprint.small_system import NOTE, ROW, make_system

LOAD_RPS = 150.0
ROLLBACK_S = 20.0
"""A rollback takes half a second; on a machine with ten others at work on each processor, ten times as long."""


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Generator[Field]:
    """The server of a copy of a system with two versions that were live, for all of these tests."""
    root = tmp_path_factory.mktemp("system")
    registry = make_system(root, 0.0, 1.0)
    registry.promote(1, NOTE)
    registry.promote(2, NOTE)
    with Ground.prepared(Workspace.open(root, Reporter("json"))) as ground, Field.open(ground) as opened:
        yield opened


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "killed_server"])
def test_the_system_recovers_and_no_request_fails(field: Field, name: str) -> None:
    """Each scenario says itself what should have come of it, and what did not."""
    trial = tried(name, field)
    assert (trial.ok, trial.failed, trial.requests > 0) == (True, 0, True), trial.text
    assert trial.recover_s is not None, trial.text
    assert (trial.detect_s is None) == (name == "rollback"), trial.text


def test_a_server_that_was_killed_answers_as_soon_as_it_has_started_again(field: Field) -> None:
    """What was asked while there was none is told as failed, and nothing after."""
    trial = tried("killed_server", field)
    assert trial.ok, trial.text
    assert 0 < trial.failed < trial.requests


def under_load(server: Listening, stop: threading.Event) -> list[Window]:
    windows, payload = list[Window](), request(server, "/predict", {"rows": [ROW]})
    while not stop.is_set():
        windows.append(run(open_loop(server, [payload], rate_rps=LOAD_RPS, seconds=0.5)))
    return windows


def test_a_rollback_under_a_steady_load_is_quick_and_no_request_fails(tmp_path: Path) -> None:
    """From the start of the command's process to the first answer of the version before; every request is counted."""
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    registry.promote(2, NOTE)
    stop = threading.Event()
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        load = threads.submit(under_load, server, stop)
        try:
            assert predict(server.url, ROW).json["model"]["version"] == 2
            began = time.monotonic()
            assert engine("rollback", "--why", "to see it", cwd=tmp_path).code == 0
            while predict(server.url, ROW).json["model"]["version"] != 1:
                assert time.monotonic() - began < ROLLBACK_S
        finally:
            stop.set()
            windows = load.result()
    assert sum(window.errors for window in windows) == 0
    assert sum(window.requests for window in windows) >= LOAD_RPS * 0.5


def test_a_server_that_starts_on_a_damaged_model_answers_with_the_version_before_and_says_so(tmp_path: Path) -> None:
    """Refused by its digest: in readiness, in a metric; with nothing before it, the server says why it cannot start."""
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    registry.promote(2, NOTE)
    sha256 = registry.ledger().versions[2].files["model.onnx"].sha256
    (tmp_path / "registry" / "blobs" / "sha256" / sha256).write_bytes(b"damaged")
    with serving(tmp_path) as server:
        told = get(server.url, "/readyz").json
        (refused,) = told["refused"]
        assert (told["version"], refused["version"]) == (1, 2)
        assert refused["reason"].startswith(f"blob {sha256} is not what was stored")
        assert 'mlsystem_model_refused{version="2"} 1.0' in get(server.url, "/metrics").body.decode()
    (tmp_path / "registry" / "blobs").rename(tmp_path / "elsewhere")
    refused_start = engine("serve", "--port", "0", "--json", cwd=tmp_path)
    assert (refused_start.code, refused_start.result["error"]["code"]) == (4, "tampered")


# ---- the drill as a command


def test_a_system_with_one_version_drills_with_a_twin_of_it(tmp_path: Path) -> None:
    """Other bytes, the same answers: damage to one file leaves a version that can be served."""
    make_system(tmp_path, 0.5).promote(1, NOTE)
    with Ground.prepared(Workspace.open(tmp_path, Reporter("json"))) as ground:
        packages = [Package.stored(ground.registry(), version) for version in (1, 2)]
        answers = [Model(package, name="small").answer([ROW], strict=False) for package in packages]
    assert packages[0].files["model.onnx"] != packages[1].files["model.onnx"]
    first, second = ([p.probabilities for p in answer.predictions] for answer in answers)
    assert first == second


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_drill_leaves_the_system_as_it_is_and_writes_a_record_for_the_documents(tmp_path: Path) -> None:
    """Registry and state are not touched; the record is all that is new."""
    registry = make_system(tmp_path, 0.0)
    registry.promote(1, NOTE)
    before = contents(tmp_path)
    done = engine("drill", "--only", "deleted_alias", "--json", cwd=tmp_path)
    after = contents(tmp_path)
    record, page = msgspec.json.decode(after.pop("docs/drill.json")), after.pop("docs/drill.md").decode()
    assert (done.code, after) == (0, before)
    assert done.result == {**record, "record": str(tmp_path / "docs" / "drill.json")}
    (trial,) = record["scenarios"]
    assert (record["version"], trial["name"]) == (1, "deleted_alias")
    assert f"| yes | {trial['detect_s']:.2f} s | {trial['recover_s']:.2f} s | {trial['requests']}, 0 |" in page


def test_a_drill_in_which_something_failed_is_not_ok() -> None:
    good = Trial(name="a", did="", expected="", ok=True, detect_s=None, recover_s=1.0)
    assert [record_of(1, [good])["ok"], record_of(1, [good, msgspec.structs.replace(good, ok=False)])["ok"]] == [
        True,
        False,
    ]


def test_a_drill_of_nothing_or_without_a_live_version_is_refused(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    refused = engine("drill", "--only", "fire", "--json", cwd=tmp_path)
    assert (refused.code, "there is no drill fire; there are rollback" in refused.result["error"]["message"]) == (
        2,
        True,
    )
    with (
        pytest.raises(RegistryError, match="promote one first"),
        Ground.prepared(Workspace.open(tmp_path, Reporter("json"))),
    ):
        pass
