"""The pipeline of a delivered system, run as its owner's machines run it: in a fresh clone, line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.delivered import PLAIN, commit, git, lay_out
from tests.workflow import run, steps_of

pytestmark = pytest.mark.long

FAST: Final[dict[str, Any]] = {**PLAIN, "objectives": {"latency_ms_p99": 5000.0}}
"""The first window of a measurement that meets its objective ends it."""
ELSEWHERE: Final = frozenset({"Install the locks", "Install what serves", "Build the image and ask it"})
"""Steps that `python -m tests.isolated workflow` and `... image` run for real: they take minutes."""


def finished(directory: Path) -> dict[str, int]:
    """Every finished stage with the time at which it was finished."""
    return {
        result.parent.relative_to(directory).as_posix(): result.stat().st_mtime_ns
        for result in sorted((directory / "work").glob("*/*/result.json"))
    }


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of a repository that a system was delivered into, after its workflow has run."""
    root = tmp_path_factory.mktemp("pipeline")
    lay_out(root / "origin", spec=FAST)
    commit(root / "origin")
    git(root, "clone", "--quiet", "origin", "clone")
    steps = list(steps_of(root / "clone"))
    assert {step.name for step in steps} >= ELSEWHERE
    for step in steps:
        if step.name not in ELSEWHERE:
            run(step, root / "clone", Path(sys.executable).parent, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    return root / "clone"


def system(clone: Path) -> Path:
    return clone / "ml" / "customers_binary"


def command(directory: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command of the vendored engine with --json; return its code and its object."""
    (wheel,) = (directory / "vendor").glob("*.whl")
    done = subprocess.run(
        [sys.executable, "-m", "mlsystem", *words, "--json"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(200)
def test_every_line_of_the_workflow_runs_in_a_fresh_clone_and_ends_with_a_live_version(clone: Path) -> None:
    """From the data to a promotion by whoever pushed; git sees contract and bill of materials, ignored is the rest."""
    _, history = command(system(clone), "history")
    told = [(entry["event"], entry["version"], entry["by"]) for entry in history["entries"]]
    assert told[-1] == ("promoted", 1, "somebody")
    made = [line.split("/")[-1] for line in git(clone, "status", "--porcelain").splitlines()]
    assert made == ["sbom.json", "schema.json"]


@pytest.mark.timeout(200)
def test_nothing_that_is_finished_runs_twice(clone: Path) -> None:
    """The last stage asks for all that come before it: no new output, no new version, no second look at the holdout."""
    directory = system(clone)
    before, opened = finished(directory), (directory / "work" / "holdout.jsonl").read_bytes()
    code, result = command(directory, "package")
    assert (code, result["version"], result["created"]) == (0, 1, False)
    assert sorted(place.split("/")[1] for place in before) == ["evaluate", "package", "train", "validate"]
    assert finished(directory) == before
    assert (directory / "work" / "holdout.jsonl").read_bytes() == opened
