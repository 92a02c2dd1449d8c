"""A system with two registered versions, made once a process; tests work on copies."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from mlsystem.data.command import validate
from mlsystem.evaluation.command import evaluate
from mlsystem.output import Reporter
from mlsystem.packaging import package
from mlsystem.registry.command import promote
from mlsystem.stages import Workspace
from mlsystem.train.command import train
from tests.blueprint.made_tables import churn, write_csv

SPEC = """format = 1
name = "made"
[task]
kind = "binary"
target = "left"
[data]
source = ["rows.csv"]
[split]
folds = 2
[search]
budget = "20s"
[gates]
beats_trivial = false
[serving]
state = "sqlite:state/serving.db"
"""
ROWS = 240


def opened(root: Path) -> Workspace:
    """Open a system quietly."""
    return Workspace.open(root, Reporter("json"))


def make_version(root: Path) -> dict[str, Any]:
    """Go all the way from the source to a version."""
    workspace = opened(root)
    validate(workspace)
    train(workspace)
    evaluate(workspace, Namespace(latency_seconds=0.2))
    return package(workspace, Namespace())


def write_rows(root: Path, *, start: int = 0, new: int = 0, drop: tuple[str, ...] = ()) -> None:
    """Write the churn table from a row on and so many new rows, with a signal: whoever is new leaves."""
    old, added = churn(ROWS), churn(new, seed=9) if new else {}
    table = {name: values[start:] + added.get(name, []) for name, values in old.items()}
    table["left"] = ["Yes" if int(str(months)) < 24 else "No" for months in table["tenure"]]
    table["left"] = [("No" if i % 9 == 0 else label) for i, label in enumerate(table["left"])]
    write_csv(root / "rows.csv", {name: values for name, values in table.items() if name not in drop})


@functools.cache
def _made() -> Path:
    """The live one: all rows. The other: later rows without a column, another seed, linear alone."""
    root = Path(tempfile.mkdtemp(prefix="made-versions-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    write_rows(root)
    (root / "system.toml").write_text(SPEC)
    make_version(root)
    promote(opened(root), Namespace(version=1, by="a test", why=""))
    write_rows(root, start=40, new=160, drop=("country",))
    (root / "system.toml").write_text(SPEC.replace('budget = "20s"', 'budget = "20s"\nseed = 8\nfamilies = ["linear"]'))
    make_version(root)
    return root


def two_versions(target: Path) -> Path:
    """Return a copy of the system in `target`."""
    return Path(shutil.copytree(_made(), target / "system"))
