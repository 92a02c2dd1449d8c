"""What is kept of the traffic: every answered row once, within bounds, and never at the cost of an answer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlsystem.monitoring.profile import Feature, Profile, read_profile
from mlsystem.monitoring.sketch import Sketch
from mlsystem.output import Reporter
from mlsystem.registry import Note, Registry
from mlsystem.serving.live import Fixed, Live
from mlsystem.serving.metrics import Metrics
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.process import serving
from mlsystem.serving.recorder import MAX_ROWS, Recorder
from mlsystem.spec import Capture, read_spec
from mlsystem.state import Captured, State, open_state
from tests.blueprint.asking import ask, get, metric, predict
from tests.blueprint.small_system import (
    NOTE,
    ROW,
    SCHEMA,
    classifier,
    make_system,
    package_files,
    probability,
    spec_text,
    write_package,
)

PATIENCE_S = 30.0
DROPPED = 'mlsystem_captures_dropped_total{reason="state"}'
ENTITIES = msgspec.structs.replace(
    SCHEMA,
    columns=tuple(
        msgspec.structs.replace(column, role="entity") if column.name == "customer" else column
        for column in SCHEMA.columns
    ),
)


def number(name: str, column: str) -> Feature:
    return Feature(name=name, column=column, kind="number", edges=(5.0,), counts=((4, 5, 1),))


PROFILE = Profile(
    numbers=(
        number("tenure", "tenure"),
        number("charges", "charges"),
        *(number(name, "joined") for name in ("joined", "joined:month", "joined:weekday", "joined:dayofyear")),
    ),
    strings=(Feature(name="plan", column="plan", kind="category", levels=("monthly",), counts=((5, 4, 0, 1),)),),
    answers=(Feature(name="Yes", column="Yes", kind="number", edges=(0.5,), counts=((5, 5, 0),)),),
    labels=("No", "Yes"),
    rows=10,
)


def system(root: Path) -> Registry:
    """A system whose live version has a profile, and whose customers are its entities."""
    registry = make_system(root)
    files = {**package_files(classifier(), ENTITIES), "profile.json": msgspec.json.encode(PROFILE)}
    registry.register(files, "digest", Note("a test", "", {"outcome": "success", "servable": True}), keep=10)
    registry.promote(1, NOTE)
    return registry


def state_in(root: Path) -> State:
    return open_state("sqlite:state/serving.db", root)


def kept(root: Path) -> list[Captured]:
    return [joined.captured for joined in state_in(root).captures(since=0, until=time.time() + 60)]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"


def recorder(root: Path, metrics: Metrics, **capture: Any) -> tuple[Recorder, Model]:
    """A recorder whose thread has not started, and a model that answers."""
    package = Package.read(write_package(root / "package", classifier(), ENTITIES))
    reporter = Reporter("json")
    (root / "system.toml").write_text(spec_text())
    spec = msgspec.structs.replace(read_spec(root), capture=Capture(**capture))
    live = Live(Fixed(package), name="small", metrics=metrics, reporter=reporter)
    return Recorder(state_in(root), spec, live, metrics, reporter), Model(package, name="small")


def give(buffered: Recorder, model: Model, rows: list[dict[str, object]]) -> str:
    """A request of these rows, answered and taken; the id of its first prediction."""
    judged = model.judge(rows, strict=False)
    buffered.take(model, rows, judged, 0.001)
    return judged.answer.predictions[0].id


def test_what_was_answered_is_kept_when_the_server_has_stopped(tmp_path: Path) -> None:
    """Under the id of the answer, with entity, scores and features as they came; nothing waits for a full buffer."""
    system(tmp_path)
    rows = [{**ROW, "colour": "red"}, {**ROW, "customer": 7, "tenure": "3.5", "plan": None}]
    with serving(tmp_path) as server:
        answer = predict(server.url, *rows).json["predictions"]
    found = {captured.id: captured for captured in kept(tmp_path)}
    first, second = (found[prediction["id"]] for prediction in answer)
    assert (len(found), first.version, first.entity, second.entity) == (2, 1, "C-1", "7")
    assert (first.prediction, first.scores[1]) == ("Yes", pytest.approx(probability(ROW)))
    assert first.features == {name: ROW[name] for name in ("tenure", "charges", "plan", "joined")}
    assert second.features == {"tenure": "3.5", "charges": 50.0, "plan": None, "joined": "2024-02-29"}


def test_the_windows_of_a_server_add_up_to_what_it_answered(tmp_path: Path) -> None:
    """Large requests count as small ones do, and batches; a refused one is counted and none of its rows is."""
    system(tmp_path)
    profile = read_profile(msgspec.json.encode(PROFILE))
    lines = "".join(json.dumps(row) + "\n" for row in (ROW, {**ROW, "tenure": "x"}, ROW))
    with serving(tmp_path) as server:
        assert ask(server.url, "POST", "/batch", lines.encode(), {"Content-Type": "application/jsonl"}).status == 200
        for count in (1, 60, 2):
            assert predict(server.url, *([ROW] * count)).status == 200
        assert predict(server.url, {}).status == 422
        assert predict(server.url, ROW).status == 200
    whole = Sketch.empty(profile)
    for window in state_in(tmp_path).windows(since=0, until=time.time() + 60):
        whole.merge(Sketch.from_bytes(window.content, profile))
    assert (whole.rows, int(whole.latency.sum()), whole.refused, whole.failed) == (66, 4, 1, 0)
    assert whole.counts[whole.profile.places[6]].tolist() == [66, 0, 0, 0]
    assert len(kept(tmp_path)) == 64


def test_a_state_that_cannot_be_written_costs_no_answer_and_is_told(tmp_path: Path) -> None:
    """Losses are counted, health says why, the probes go on saying alive and ready; it heals by itself."""
    system(tmp_path)
    (tmp_path / "state").write_text("a file where the directory of the state should be")
    with serving(tmp_path) as server:
        assert predict(server.url, ROW).status == 200
        wait_until(lambda: metric(server.url, DROPPED) == 1)
        health = get(server.url, "/healthz")
        assert (health.status, health.json["status"]) == (200, "degraded")
        assert "serving.db" in health.json["reason"]
        assert (metric(server.url, "mlsystem_state_up"), get(server.url, "/readyz").status) == (0, 200)
        (tmp_path / "state").unlink()
        wait_until(lambda: get(server.url, "/healthz").json == {"status": "ok"})
        assert predict(server.url, ROW).status == 200
        assert metric(server.url, "mlsystem_state_up") == 1
    assert len(kept(tmp_path)) == 1


def test_rows_that_nobody_takes_away_are_dropped_oldest_first_and_counted(tmp_path: Path) -> None:
    metrics = Metrics(())
    buffered, model = recorder(tmp_path, metrics)
    for _ in range(MAX_ROWS // 1000 + 3):
        give(buffered, model, [ROW] * 1000)
    newest = give(buffered, model, [ROW])
    dropped = metrics.total()["mlsystem_captures_dropped", ("buffer",)]
    buffered.start()
    buffered.close()
    assert list(dropped) == [4000]
    assert newest in {captured.id for captured in kept(tmp_path)}


@pytest.mark.parametrize(
    ("capture", "rows", "features"),
    [({"sample": 0.0}, 0, set[bool]()), ({"columns": "none"}, 400, {True}), ({"sample": 0.25}, 100, {False})],
    ids=["nothing", "no columns", "a quarter"],
)
def test_as_much_is_kept_as_the_spec_says(
    tmp_path: Path, capture: dict[str, Any], rows: int, features: set[bool]
) -> None:
    """A share is drawn by id: a quarter of 400 rows within five standard deviations."""
    buffered, model = recorder(tmp_path, Metrics(()), **capture)
    give(buffered, model, [ROW] * 400)
    buffered.start()
    buffered.close()
    found = kept(tmp_path)
    assert abs(len(found) - rows) <= (44 if 0 < rows < 400 else 0)
    assert {captured.features is None for captured in found} == features


def test_what_is_older_than_it_may_be_is_let_go(tmp_path: Path) -> None:
    old = Captured("old", time.time() - 8 * 86_400, 1, "", "No", (1.0, 0.0), None)
    state_in(tmp_path).capture([old])
    buffered, model = recorder(tmp_path, Metrics(()), retention="7d")
    give(buffered, model, [ROW])
    buffered.start()
    buffered.close()
    assert ["old" in captured.id for captured in kept(tmp_path)] == [False]


def test_a_second_replica_on_one_sqlite_file_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    system(tmp_path)
    state_in(tmp_path).claim("another-host", 60)
    command = [sys.executable, "-m", "mlsystem", "serve", "--port", "0", "--json", "--dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    error = json.loads(ended.stdout)["error"]
    assert (ended.returncode, error["code"]) == (4, "replica_refused")
    assert "PostgreSQL" in error["message"]


def test_a_profile_that_cannot_be_read_costs_the_sketches_alone(tmp_path: Path) -> None:
    buffered, model = recorder(tmp_path, Metrics(()))
    model.profile = b"no profile"
    give(buffered, model, [ROW])
    buffered.start()
    buffered.close()
    assert (len(kept(tmp_path)), "profile.json" in buffered.trouble) == (1, True)
