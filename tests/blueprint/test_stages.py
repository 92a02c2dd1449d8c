"""Stages: done once for the same inputs, published whole or not at all."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mlsystem.errors import StageMissing
from mlsystem.output import Reporter, Trace
from mlsystem.stages import Stage, Workspace, publish, read_result, read_run, run_stage, scratch_beside, stage_dir
from tests.blueprint.made_tables import churn, make_system

KEYS = ("search", "task.kind")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_system(tmp_path, churn(40), "left")


def changed(workspace: Workspace, more: str) -> Workspace:
    path = workspace.root / "system.toml"
    path.write_text(path.read_text() + more)
    return Workspace.open(workspace.root, workspace.reporter)


def test_a_stage_leaves_its_files_and_its_result(workspace: Workspace) -> None:
    def work(out: Path) -> Mapping[str, object]:
        (out / "model.txt").write_text("made")
        return {"rows": 3}

    stage = Stage("train", KEYS, ("abc",))
    result = run_stage(workspace, stage, work)
    folder = stage_dir(workspace, "train", stage.digest(workspace))
    assert (result, sorted(path.name for path in folder.iterdir())) == (
        {"digest": folder.name, "rows": 3},
        ["model.txt", "result.json", "run.json"],
    )


def test_a_stage_knows_when_it_was_run_and_not_when_it_was_used(workspace: Workspace) -> None:
    stage = Stage("train", KEYS, ("abc",))
    before = datetime.now(UTC)
    digest = str(run_stage(workspace, stage, lambda _: {})["digest"])
    first = read_run(workspace, "train", digest)
    run_stage(workspace, stage, lambda _: {})
    assert before <= first.started <= first.ended <= datetime.now(UTC)
    assert read_run(workspace, "train", digest) == first
    with pytest.raises(StageMissing, match="run `python -m mlsystem evaluate`"):
        read_run(workspace, "evaluate", digest)


def test_a_finished_stage_is_read_and_not_run(workspace: Workspace) -> None:
    runs: list[Path] = []
    results = [
        run_stage(workspace, Stage("train"), lambda out: {"run": len(runs), "n": runs.append(out)}) for _ in "ab"
    ]
    assert (len(runs), results[0]) == (1, results[1])


@pytest.mark.parametrize(
    ("more", "same"),
    [("", True), ("[objectives]\nrate_rps = 9\n", True), ("[search]\nseed = 8\n", False)],
)
def test_a_digest_changes_with_the_keys_that_the_stage_reads_and_no_others(
    workspace: Workspace, more: str, same: bool
) -> None:
    stage = Stage("train", KEYS, ("abc",))
    assert (stage.digest(workspace) == stage.digest(changed(workspace, more))) is same


def test_a_digest_changes_with_the_stage_its_inputs_and_the_lock(workspace: Workspace) -> None:
    digests = {Stage(name, KEYS, inputs).digest(workspace) for name in "ab" for inputs in ((), ("x",), ("y",))}
    (workspace.root / "requirements").mkdir()
    (workspace.root / "requirements" / "train.lock").write_text("numpy==2.1\n")
    assert len(digests | {Stage("a", KEYS).digest(workspace)}) == 7


def test_a_stage_that_fails_leaves_nothing(workspace: Workspace) -> None:
    def work(out: Path) -> Mapping[str, object]:
        (out / "half.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_stage(workspace, Stage("train"), work)
    assert list((workspace.root / "work" / "train").iterdir()) == []


def test_what_a_killed_process_left_is_swept_away_and_what_a_live_one_has_is_not(workspace: Workspace) -> None:
    """A scratch directory carries the id of the process that made it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = workspace.root / "work" / "train"
    mine = folder / ".abc.1.77"
    for path in (folder / f".abc.{dead.pid}.77", mine):
        path.mkdir(parents=True)
    run_stage(workspace, Stage("train"), lambda _: {})
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [mine.name]


def test_the_first_of_two_processes_that_finish_the_same_stage_wins(tmp_path: Path) -> None:
    final = tmp_path / "done"
    with scratch_beside(final) as first, scratch_beside(final) as second:
        for scratch, text in ((first, "first"), (second, "second")):
            (scratch / "result.json").write_text(text)
            publish(scratch, final)
    assert ([path.name for path in tmp_path.iterdir()], (final / "result.json").read_text()) == (["done"], "first")


def test_a_stage_that_was_not_run_names_the_command_to_run(workspace: Workspace) -> None:
    with pytest.raises(StageMissing, match="run `python -m mlsystem validate`"):
        read_result(workspace, "validate", "abc")


def test_a_stage_is_a_span_that_says_whether_it_was_run(workspace: Workspace) -> None:
    out = io.StringIO()
    reporter = Reporter("jsonl", out=out, trace=Trace("a" * 32, "b" * 16))
    traced = Workspace(workspace.root, workspace.spec, reporter)
    for _ in range(2):
        run_stage(traced, Stage("train"), lambda _: {})
    lines = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    spans = [line for line in lines if line["event"] == "span"]
    assert [(span["name"], span["parent_id"], span["attributes"]["reused"]) for span in spans] == [
        ("stage train", "b" * 16, False),
        ("stage train", "b" * 16, True),
    ]
