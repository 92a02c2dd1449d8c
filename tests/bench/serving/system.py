"""The system that is served: a made table of twenty columns, and a model that the engine makes of it.

Owns the table, the commands that turn it into a version, and where the result is kept: below `.bench/`, so that it is
trained once. Whoever measures against it gets its package and its rows.
"""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np

import mlsystem
from tests.environments import BENCH

ROWS: Final = 4000
NUMBERS: Final = 12
CATEGORIES: Final = 8
_LEVELS: Final = (2, 3, 4, 5, 8, 12, 20, 40)
_COMMANDS: Final = (
    ("validate",),
    ("train",),
    ("evaluate", "--latency-seconds", "1"),
    ("package",),
    ("promote", "1", "--why", "to measure it"),
)
SPEC: Final = """format = 1
name = "served"
[task]
kind = "binary"
target = "left"
[data]
source = ["rows.csv"]
entity = "customer"
[split]
method = "random"
[search]
budget = "20s"
[gates]
ece = 0
[capture]
sample = 1.0
"""


@dataclass(frozen=True, slots=True)
class Served:
    """A trained system and what is known of it."""

    root: Path
    package: Path
    """The newest package's files, as peers take them."""
    rows: list[dict[str, Any]]
    """Rows as a client sends them: the 64 that come along with the package."""


def served(*, fresh: bool = False) -> Served:
    """The system, trained if that was not done for this table and spec; `fresh` trains it again."""
    table = _table()
    digest = blake2b(f"{SPEC}{table}".encode(), digest_size=6).hexdigest()
    root = BENCH / "serving" / digest
    if fresh or not (root / "complete").exists():
        _make(root, table)
    packages = sorted((root / "work" / "package").iterdir(), key=lambda path: path.stat().st_mtime)
    rows = json.loads((packages[-1] / "reference.json").read_bytes())
    return Served(root, packages[-1], [_natural(row) for row in rows])


def _make(root: Path, table: list[dict[str, object]]) -> None:
    subprocess.run(["rm", "-rf", str(root)], check=True)
    root.mkdir(parents=True)
    (root / "system.toml").write_text(SPEC, encoding="utf-8")
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    environment = {**os.environ, "PYTHONPATH": str(Path(mlsystem.__file__).parents[1])}
    for words in _COMMANDS:
        command = [sys.executable, "-m", "mlsystem", *words, "--dir", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode not in {0, 3}:  # a missed gate is told, not hidden; it does not change what serving costs
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-1000:]}")
    (root / "complete").touch()


def _table() -> list[dict[str, object]]:
    """Numbers with gaps, categories of two to forty levels, an entity, and a label that depends on some of them."""
    generator = np.random.default_rng(11)
    numbers = {f"number_{i}": generator.normal(50, 12, ROWS).round(2) for i in range(NUMBERS)}
    codes = {f"category_{i}": generator.integers(_LEVELS[i], size=ROWS) for i in range(CATEGORIES)}
    odds = 0.06 * (numbers["number_0"] - 50) - 0.04 * (numbers["number_1"] - 50) * (codes["category_0"] == 1)
    odds = odds + 0.3 * (codes["category_3"] == 2) + generator.normal(0, 0.8, 40)[codes["category_7"]] - 0.9
    label = generator.random(ROWS) < 1 / (1 + np.exp(-odds))
    gaps = generator.random(ROWS) < 0.05
    rows: list[dict[str, object]] = []
    for i in range(ROWS):
        row: dict[str, object] = {"customer": f"C-{i // 2}"}
        row |= {name: float(values[i]) for name, values in numbers.items()}
        row |= {name: f"level {int(values[i])}" for name, values in codes.items()}
        if gaps[i]:
            row["number_5"] = ""
        rows.append({**row, "left": "Yes" if label[i] else "No"})
    return rows


def _natural(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a program sends it: numbers as numbers, nothing as null, without the answer."""
    found: dict[str, Any] = {}
    for name, text in row.items():
        if name.startswith("number_"):
            found[name] = float(text) if text != "" else None
        elif name != "left":
            found[name] = text
    return found
