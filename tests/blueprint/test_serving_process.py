"""The server as a process: switching versions under load, large requests beside small ones, starting and ending."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from mlsystem.errors import ServingError
from mlsystem.registry import Note
from mlsystem.serving.load import Window, open_loop, request, run
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.process import Listening, serving
from mlsystem.state import open_state
from tests.blueprint.asking import get, metric, predict
from tests.blueprint.small_system import (
    NOTE,
    ROW,
    classifier,
    make_system,
    package_files,
    register,
    slow_classifier,
    write_package,
)

PATIENCE_S = 30.0


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"


@contextlib.contextmanager
def under_load(server: Listening, *, rate_rps: float) -> Generator[list[Window]]:
    """Drive a server in a thread for the time of the context; the windows are complete at its end."""
    stop, windows = threading.Event(), list[Window]()
    payload = request(server, "/predict", {"rows": [ROW]})

    def drive() -> None:
        while not stop.is_set():
            windows.append(run(open_loop(server, [payload], rate_rps=rate_rps, seconds=0.5)))

    with ThreadPoolExecutor(1) as threads:
        driven = threads.submit(drive)
        try:
            yield windows
        finally:
            stop.set()
            driven.result()


def test_versions_are_switched_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """Promotions and rollbacks reach the server by themselves, and no request in between is lost."""
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    with serving(tmp_path) as server, under_load(server, rate_rps=150) as windows:
        for _ in range(3):
            registry.promote(2, NOTE)
            wait_until(lambda: get(server.url, "/version").json["version"] == 2)
            assert predict(server.url, ROW).json["model"]["version"] == 2
            registry.rollback(None, NOTE)
            wait_until(lambda: get(server.url, "/version").json["version"] == 1)
        assert metric(server.url, "model_switches_total") == 7
    assert sum(window.requests for window in windows) > 0
    assert sum(window.errors for window in windows) == 0


def test_a_server_that_started_without_a_version_takes_the_first_promotion(tmp_path: Path) -> None:
    registry = make_system(tmp_path, 0.0)
    with serving(tmp_path) as server:
        assert get(server.url, "/readyz").status == 503
        registry.promote(1, NOTE)
        wait_until(lambda: get(server.url, "/readyz").status == 200)
        assert predict(server.url, ROW).status == 200


def test_a_version_that_cannot_be_loaded_leaves_the_one_that_answers(tmp_path: Path) -> None:
    """What is no model never answers; it is counted and named, and the next sound version is taken."""
    registry = make_system(tmp_path, 0.0)
    registry.promote(1, NOTE)
    files = package_files(b"not a model")
    registry.register(files, "no model", Note("a test", "", {"servable": True}))
    register(registry, 2.0)
    with serving(tmp_path) as server:
        registry.promote(2, NOTE)
        wait_until(lambda: metric(server.url, 'mlsystem_model_refused{version="2"}') == 1)
        assert predict(server.url, ROW).json["model"]["version"] == 1
        assert [refused["version"] for refused in get(server.url, "/readyz").json["refused"]] == [2]
        registry.promote(3, NOTE)
        wait_until(lambda: predict(server.url, ROW).json["model"]["version"] == 3)
        wait_until(lambda: get(server.url, "/readyz").json == {"status": "ready", "version": 3})
        assert metric(server.url, "model_switch_failures_total") >= 1


def test_a_server_can_be_held_on_one_version(tmp_path: Path) -> None:
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    with serving(tmp_path, "--version", "2") as server:
        assert predict(server.url, ROW).json["model"]["version"] == 2


def test_a_large_request_that_takes_too_long_is_refused_while_small_questions_are_answered(tmp_path: Path) -> None:
    """The thread goes on unheard, and the request keeps its place until the thread is free again."""
    package = write_package(tmp_path, slow_classifier(), timeout="100ms", concurrency=1)
    with serving(package, "--package", str(package)) as server:
        refused = predict(server.url, *([ROW] * 60))
        turned_away = predict(server.url, *([ROW] * 60))
        assert get(server.url, "/healthz").status == 200
        wait_until(lambda: metric(server.url, "http_requests_in_progress") == 0)
    assert (refused.status, refused.error["limit"]) == (503, {"name": "serving.timeout", "value": 0.1})
    assert (turned_away.status, turned_away.error["limit"]["name"]) == (503, "serving.concurrency")


def test_sigterm_lets_requests_in_flight_end_and_is_a_success(tmp_path: Path) -> None:
    package = write_package(tmp_path, slow_classifier())
    with serving(package, "--package", str(package)) as server, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(predict, server.url, *([ROW] * 60))
        wait_until(lambda: metric(server.url, "http_requests_in_progress") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status == 200
        assert server.process.wait(PATIENCE_S) == 0


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also when that process is killed and can do nothing any more."""
    package = write_package(tmp_path, slow_classifier())
    script = (
        "import sys\nfrom pathlib import Path\nfrom mlsystem.serving.process import serving\n"
        "with serving(Path(sys.argv[1]), '--package', sys.argv[1]) as server:\n"
        "    print(server.url, flush=True)\n    sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(package)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert get(url, "/healthz").status == 200
        parent.kill()
    wait_until(lambda: not answers(url))


def answers(url: str) -> bool:
    try:
        return get(url, "/healthz").status == 200
    except OSError:
        return False


def cli(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlsystem", *arguments, "--dir", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_a_taken_port_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = cli(tmp_path, "serve", "--port", str(port), "--json")
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["code"]) == (4, "cannot_listen")
    assert "--port" in error["message"]


def test_serve_under_json_says_one_thing_on_stdout_at_the_end(tmp_path: Path) -> None:
    """Where it listens is then told on stderr, for stdout belongs to the result."""
    make_system(tmp_path, 0.0).promote(1, NOTE)
    command = [sys.executable, "-m", "mlsystem", "serve", "--port", "0", "--json", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = json.loads(process.stderr.readline())
        predict(told["url"], ROW)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert (told["event"], told["version"], told["pid"]) == ("serving", 1, process.pid)
    assert (process.returncode, json.loads(out)["requests"]) == (0, 1)


def test_the_serve_side_loads_nothing_of_the_train_side(tmp_path: Path) -> None:
    """What a server needs stays small: no training library is imported by anything that it imports."""
    heavy = ["duckdb", "lightgbm", "sklearn", "scipy", "onnx", "pandas", "pyarrow"]
    script = (
        "import sys, json\n"
        "import mlsystem.__main__, mlsystem.serving.command, mlsystem.serving.server, mlsystem.serving.files\n"
        f"found = [name for name in {heavy!r} if name in sys.modules]\n"
        "found += [n for n in sys.modules if n.startswith(('mlsystem.data', 'mlsystem.train', 'mlsystem.features',"
        " 'mlsystem.compile', 'mlsystem.evaluation', 'mlsystem.packaging'))]\n"
        "print(json.dumps(found))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(told.stdout) == []


def test_telemetry_is_off_before_onnx_runtime_is_loaded(tmp_path: Path) -> None:
    script = "import mlsystem.serving.model, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert told.stdout.strip() == "1"


def test_versions_made_while_a_server_runs_can_be_promoted_by_anybody(tmp_path: Path) -> None:
    """The command line of another process is enough; the server is not told, it looks."""
    registry = make_system(tmp_path, 0.0)
    registry.promote(1, Note("a person"))
    with serving(tmp_path) as server:
        assert register(registry, 3.0) == 2
        assert cli(tmp_path, "promote", "2", "--by", "ada").returncode == 0
        wait_until(lambda: predict(server.url, ROW).json["model"]["version"] == 2)


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("model.onnx", None, "no_package", "model.onnx is missing"),
        ("schema.json", "{}", "bad_package", "schema.json of version 0"),
        ("manifest.json", "[", "bad_package", "manifest.json of version 0"),
        ("model.onnx", "?", "bad_package", "cannot be loaded"),
    ],
    ids=["no model", "no contract", "no manifest", "damaged model"],
)
def test_a_directory_that_is_no_package_is_refused_with_the_file_named(
    tmp_path: Path, name: str, content: str | None, code: str, words: str
) -> None:
    package = write_package(tmp_path, classifier())
    (package / name).unlink()
    if content is not None:
        (package / name).write_text(content)
    with pytest.raises(ServingError, match=words) as refused:
        Model(Package.read(package), name="small")
    assert refused.value.code == code


def test_a_model_is_ready_when_any_of_its_rows_is_answered(tmp_path: Path) -> None:
    """A row of the source may hold a value that the contract does not take; the next one is tried."""
    package = write_package(tmp_path, classifier())
    (package / "reference.json").write_bytes(msgspec.json.encode([{**ROW, "tenure": "many"}, ROW]))
    assert Model(Package.read(package), name="small").example == ROW


class Caller:
    """A client that never stops asking on connections that it keeps, and notes what became of each request."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = str(parts.hostname), int(parts.port or 0)
        self.answered = 0
        self.lost: list[str] = []

    def ask_until_the_door_is_closed(self) -> None:
        body = json.dumps({"rows": [ROW]}).encode()
        connection = http.client.HTTPConnection(*self._address, timeout=PATIENCE_S)
        while True:
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            try:
                while connection.sock is not None:
                    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                    assert connection.getresponse().read().startswith(b'{"model"')
                    self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_stopped_under_load_answers_everything_that_reached_it(tmp_path: Path, workers: int) -> None:
    """Connections are closed by their last answer, never under a request; readiness is false at once."""
    make_system(tmp_path, 0.0, workers=workers).promote(1, NOTE)
    with serving(tmp_path, "--linger", "0.5") as server, ThreadPoolExecutor(4) as threads:
        callers = [Caller(server.url) for _ in range(4)]
        asking = [threads.submit(caller.ask_until_the_door_is_closed) for caller in callers]
        wait_until(lambda: all(caller.answered > 20 for caller in callers))
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server.url, "/readyz").status == 503)
        for done in asking:
            done.result(PATIENCE_S)
        assert server.process.wait(PATIENCE_S) == 0
    assert [caller.lost for caller in callers] == [[]] * 4
    kept = open_state("sqlite:state/serving.db", tmp_path).captures(since=0, until=time.time() + 60)
    assert len(list(kept)) == sum(caller.answered for caller in callers)


def test_a_model_that_is_slow_is_held_to_the_time_limit_for_a_single_row_too(tmp_path: Path) -> None:
    """It is asked in a thread: the event loop, and with it health, is never held by a model."""
    package = write_package(tmp_path, slow_classifier(), timeout="50ms")
    with serving(package, "--package", str(package)) as server:
        refused = predict(server.url, ROW)
    assert (refused.status, refused.error["limit"]) == (503, {"name": "serving.timeout", "value": 0.05})
