"""Tables and systems that tests make for themselves, and the engine run as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import mlsystem
from mlsystem.output import Reporter
from mlsystem.stages import Workspace

Columns = Mapping[str, Sequence[object]]

SPEC = """format = 1
name = "made"
[task]
kind = "{kind}"
target = "{target}"
[data]
source = ["rows.csv"]
{more}
"""


def write_csv(path: Path, columns: Columns, delimiter: str = ",") -> Path:
    """Write columns as a CSV file; None is a blank."""
    lines = [delimiter.join(columns)]
    lines += [delimiter.join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_system(root: Path, columns: Columns, target: str, kind: str = "binary", more: str = "") -> Workspace:
    """Write rows.csv and system.toml into a directory and open it; `more` goes into [data] and after it."""
    root.mkdir(parents=True, exist_ok=True)
    write_csv(root / "rows.csv", columns)
    (root / "system.toml").write_text(SPEC.format(kind=kind, target=target, more=more), encoding="utf-8")
    return Workspace.open(root, Reporter("json"))


def churn(rows: int = 200, seed: int = 3) -> dict[str, list[object]]:
    """Return an ordinary table: an id, a number with gaps, a category, a constant and the label `left`."""
    generator = np.random.default_rng(seed)
    tenure = generator.integers(1, 72, rows).tolist()
    charge: list[object] = [round(float(value), 2) for value in generator.normal(70, 20, rows)]
    charge[5] = None
    return {
        "customer": [f"C-{generator.integers(10**6, 10**7)}-{i}" for i in range(rows)],
        "tenure": tenure,
        "charge": charge,
        "plan": generator.choice(["basic", "plus", "pro"], rows).tolist(),
        "country": ["NL"] * rows,
        "left": np.where(generator.random(rows) < 0.3, "Yes", "No").tolist(),
    }


@dataclass(frozen=True)
class Ran:
    """What a process of the engine left behind."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


def engine(*words: str, cwd: Path, **environment: str) -> Ran:
    """Run `python -m mlsystem` with these words and wait for it."""
    command = [sys.executable, "-m", "mlsystem", *words]
    env = own_environment() | environment
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def python(code: str, cwd: Path) -> Ran:
    """Run a piece of Python that imports the engine, and wait for it."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, env=own_environment(), capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def own_environment() -> dict[str, str]:
    """Return an environment in which a process imports the engine that this test has imported."""
    return os.environ | {"PYTHONPATH": str(Path(mlsystem.__file__).parents[1])}
