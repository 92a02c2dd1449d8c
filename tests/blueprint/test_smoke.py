"""`smoke`: the gate before anybody else asks a server, against real ones."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mlsystem.__main__ import main
from mlsystem.serving.process import serving
from tests.blueprint.small_system import NOTE, ROW, classifier, make_system, package_files


def smoke(directory: Path, *words: str) -> tuple[int, Any]:
    """Run the command with --json; return its exit code and its object."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(["smoke", *words, "--dir", str(directory), "--json"])
    return code, json.loads(said.getvalue())


def gates(told: Any) -> dict[str, bool]:
    return {gate["name"]: gate["passed"] for gate in told["gates"]}


PASSED = dict.fromkeys(("ready", "version", "contract", "latency"), True)


def test_without_a_url_it_starts_a_server_on_the_newest_version_and_ends_it(tmp_path: Path) -> None:
    """Nothing is live, nothing listens: the version that was just made is asked all the same."""
    make_system(tmp_path, 0.0, 1.0)
    code, told = smoke(tmp_path)
    assert (code, told["ok"], told["version"], told["prediction"]) == (0, True, 2, "Yes")
    assert told["row"] == {**ROW, "customer": None}  # who it is about is nobody's business here
    assert gates(told) == PASSED
    assert not (tmp_path / "state").exists()


def test_the_server_at_a_url_must_answer_with_the_live_version(tmp_path: Path) -> None:
    """A server that is held on another version fails the gate with 3, and what stands on it is not asked."""
    make_system(tmp_path, 0.0, 1.0).promote(1, NOTE)
    with serving(tmp_path) as server:
        code, told = smoke(tmp_path, "--url", server.url)
        assert (code, told["version"], told["url"], gates(told)) == (0, 1, server.url, {**PASSED, "state": True})
        code, told = smoke(tmp_path, "--url", server.url, "--version", "2", "--wait", "0")
    assert (code, gates(told), told["error"]["code"]) == (3, {"ready": True, "version": False}, "smoke_failed")
    assert "answers as version 1; wanted is digest-1.0, version 2: promote it" in told["error"]["message"]


def test_a_server_without_a_version_is_not_ready(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    with serving(tmp_path) as server:
        code, told = smoke(tmp_path, "--url", server.url, "--version", "1", "--wait", "0")
    assert (code, gates(told)) == (3, {"ready": False})


@pytest.mark.parametrize(("share", "passed"), [(0.7310585786300049, True), (0.9, False)])
def test_answers_that_are_not_the_recorded_ones_fail(tmp_path: Path, share: float, passed: bool) -> None:
    """The model answers otherwise than where it was made: another runtime, another file, another machine."""
    recorded = [{"prediction": "Yes", "probabilities": {"No": 1 - share, "Yes": share}}]
    row = {**ROW, "tenure": 5}  # 0.5 - 0.5 + 1: sigmoid(1)
    registry = make_system(tmp_path)
    files = {"reference.json": json.dumps([row]).encode()}
    metrics = json.dumps({"reference_predictions": recorded}).encode()
    manifest = json.dumps({"digest": "recorded"}).encode()
    package = package_files(classifier()) | files | {"metrics.json": metrics, "manifest.json": manifest}
    registry.register(package, "recorded", NOTE)
    code, told = smoke(tmp_path)
    assert (code, gates(told)["contract"]) == (0 if passed else 3, passed)


def test_a_server_that_is_slower_than_the_objective_fails(tmp_path: Path) -> None:
    """Half of the answers take longer than 99 in 100 may."""
    registry = make_system(tmp_path)
    spec = tmp_path / "system.toml"
    spec.write_text(spec.read_text() + "[objectives]\nlatency_ms_p99 = 0.01\n")
    files = package_files(classifier()) | {"manifest.json": json.dumps({"digest": "slow"}).encode()}
    registry.register(files, "slow", NOTE)
    code, told = smoke(tmp_path)
    assert (code, gates(told)) == (3, {**PASSED, "latency": False})


def test_a_server_that_cannot_keep_what_it_is_asked_fails(tmp_path: Path) -> None:
    """It answers all the same, so nobody would notice that monitoring and outcomes have nothing to stand on."""
    make_system(tmp_path, 0.0).promote(1, NOTE)
    (tmp_path / "state").write_text("no directory")
    with serving(tmp_path) as server:
        code, told = smoke(tmp_path, "--url", server.url)
    assert (code, gates(told)) == (3, {**PASSED, "state": False})
    assert "/healthz says degraded" in told["error"]["message"]


def test_where_nothing_answers_it_says_how_to_start_a_server(tmp_path: Path) -> None:
    """No gate has failed: there is nothing to ask."""
    make_system(tmp_path, 0.0).promote(1, NOTE)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    code, told = smoke(tmp_path, "--url", f"http://127.0.0.1:{port}", "--wait", "0")
    assert (code, told["error"]["code"]) == (4, "no_server")
    assert "python -m mlsystem serve" in told["error"]["message"]


def test_without_a_version_it_says_how_to_make_one(tmp_path: Path) -> None:
    make_system(tmp_path)
    code, told = smoke(tmp_path)
    assert (code, told["error"]["code"]) == (4, "nothing_registered")
