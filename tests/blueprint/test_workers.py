"""Several server processes on one port: one truth, a dead one replaced, all of them ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlsystem.serving.board import Board, read_board
from mlsystem.serving.process import Listening, serving
from mlsystem.state import open_state
from tests.blueprint.asking import get, metric, predict
from tests.blueprint.small_system import NOTE, ROW, make_system

PATIENCE_S = 30.0
ANSWERED = 'http_requests_total{method="POST",route="/predict",status="200"}'


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"


def workers_of(server: Listening) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_workers_answer_count_and_switch_as_one_server(tmp_path: Path) -> None:
    """Whichever worker is asked for the numbers, they are all workers'; a dead one's stay, and another takes its place.

    Everything that was answered by workers that were not killed is kept when all have ended.
    """
    registry = make_system(tmp_path, 0.0, 1.0, workers=2)
    registry.promote(1, NOTE)
    with serving(tmp_path) as server:
        first = workers_of(server)
        assert all(predict(server.url, ROW).status == 200 for _ in range(10))
        wait_until(lambda: {metric(server.url, ANSWERED) for _ in range(6)} == {10})  # counted once it is written
        assert metric(server.url, "mlsystem_workers") == 2
        wait_until(lambda: metric(server.url, "mlsystem_captures_total") == 10)
        os.kill(first[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(server)) - set(first)) == 1)
        wait_until(lambda: metric(server.url, "process_open_fds") > 0 and predict(server.url, ROW).status == 200)
        answered = metric(server.url, ANSWERED)
        registry.promote(2, NOTE)
        wait_until(lambda: all(get(server.url, "/version").json["version"] == 2 for _ in range(10)))
        assert {predict(server.url, ROW).json["model"]["version"] for _ in range(10)} == {2}
        wait_until(lambda: metric(server.url, ANSWERED) == answered + 10)
        assert answered >= 11
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
    kept = open_state("sqlite:state/serving.db", tmp_path).captures(since=0, until=time.time() + 60)
    assert len(list(kept)) == answered + 10


def test_workers_that_cannot_start_end_the_command_with_their_reason(tmp_path: Path) -> None:
    make_system(tmp_path, workers=2)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "system.toml").write_text((tmp_path / "system.toml").read_text())
    command = [sys.executable, "-m", "mlsystem", "serve", "--port", "0", "--json", "--package", "package"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["code"]) == (4, "server_did_not_start")


def test_a_worker_that_takes_a_place_goes_on_counting_where_the_dead_one_was(tmp_path: Path) -> None:
    """Counters never fall, as whoever scrapes them expects; numbers of what is gone are set back."""
    board = Board(tmp_path / "0")
    board.values[board.block("answered", ("200",))] += 3
    block = board.block("waiting", (), 2)
    board.values[block + 1] = 5
    with (tmp_path / "0.keys").open("ab") as keys:
        keys.write(b'["half a line')
    successor = Board(tmp_path / "0")
    successor.forget("waiting")
    successor.values[successor.block("answered", ("200",))] += 1
    found = {key: list(numbers) for key, numbers in read_board(tmp_path / "0")}
    assert found == {("answered", ("200",)): [4], ("waiting", ()): [0, 0]}
