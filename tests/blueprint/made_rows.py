"""Rows made by hand: datasets without a source file, and systems written as a CSV beside a spec."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn import datasets

from mlsystem.boundary import Boundary
from mlsystem.data import split
from mlsystem.data.dataset import Dataset
from mlsystem.features.arrays import Floats, Ints, Texts
from mlsystem.schema import Column, Kind, Schema, Table, TaskSchema

DAY_S = 86_400.0
Bundled = Literal["breast_cancer", "iris", "wine", "diabetes"]
BUNDLED: tuple[Bundled, ...] = ("breast_cancer", "iris", "wine", "diabetes")


def made(
    kind: Kind,
    numbers: Mapping[str, Floats],
    strings: Mapping[str, Texts],
    target: Floats | Ints,
    *,
    weight: Floats | None = None,
    by: tuple[split.Method, Floats | Texts] | None = None,
    seed: int = 7,
) -> Dataset:
    """Return a dataset as `load` does; `by` is how rows are split, and by what."""
    method, order = by or ("random", None)
    columns = {name: _texts(values) for name, values in numbers.items()} | dict(strings)
    described = [Column(name=name, type="number", nullable=True) for name in numbers]
    described += [Column(name=name, type="category") for name in strings]
    labels = tuple(f"class {index}" for index in range(0 if kind == "regression" else int(target.max()) + 1))
    task = TaskSchema(kind=kind, target="target", labels=labels, positive=labels[1] if kind == "binary" else None)
    schema = Schema(task=task, columns=(*described, Column(name="target", type="category", role="target")))
    table = Table(columns, len(target))
    time = np.asarray(order, np.float64) if method == "time" else None
    groups = np.asarray(order, object) if method == "group" else None
    parted = split.split_rows(
        split.Order(target, kind != "regression", time, groups), method, holdout=0.2, gap_s=0.0, seed=seed
    )
    return Dataset(
        table=table,
        encoded=Boundary.from_schema(schema).table(table),
        target=target,
        weight=weight,
        time=time,
        groups=groups,
        train=parted.train,
        holdout=parted.holdout,
        schema=schema,
        findings=(),
        method=method,
        seed=seed,
    )


def bundled(name: Bundled) -> Dataset:
    """Return one of scikit-learn's bundled data sets."""
    bunch: Any = getattr(datasets, f"load_{name}")()
    kind: Kind = "regression" if name == "diabetes" else "binary" if name == "breast_cancer" else "multiclass"
    numbers = {str(column): bunch.data[:, place] for place, column in enumerate(bunch.feature_names)}
    return made(kind, numbers, {}, bunch.target.astype(np.float64 if kind == "regression" else np.int64))


def churn(rows: int, seed: int = 0) -> tuple[dict[str, Floats], dict[str, Texts], Ints]:
    """Return numbers (one with gaps), strings (one of many levels) and a target that depends on both."""
    generator = np.random.default_rng(seed)
    tenure = generator.exponential(24, rows).round()
    charges = generator.normal(65, 30, rows).round(2)
    plan = generator.choice(["monthly", "yearly", "ünlimited"], rows, p=[0.55, 0.3, 0.15]).astype(object)
    city = generator.integers(40, size=rows)
    odds = 0.8 - 0.08 * tenure + 0.02 * charges * (plan == "monthly") + generator.normal(0, 1.0, 40)[city]
    target = (generator.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    charges[generator.random(rows) < 0.1] = np.nan
    return (
        {"tenure": tenure, "charges": charges},
        {"plan": plan, "city": np.array([f"city {place}" for place in city], object)},
        target,
    )


def demand(days: int, seed: int = 0) -> tuple[dict[str, Floats], Floats, Floats]:
    """Return numbers, a large target with a season, and the time of each row."""
    generator = np.random.default_rng(seed)
    day = np.arange(days)
    temperature = np.sin(day / 58) + generator.normal(0, 0.2, days)
    workday = (day % 7 < 5).astype(np.float64)
    target = 1e6 * (4 + 2 * temperature + 0.5 * workday + generator.normal(0, 0.3, days))
    return {"temperature": temperature, "workday": workday}, target, DAY_S * np.arange(days, dtype=np.float64)


def write_system(folder: Path, rows: Sequence[Mapping[str, object]], spec: str) -> Path:
    """Write `rows` as rows.csv and a system.toml with the tables in `spec`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "system.toml").write_text(f'format = 1\nname = "made"\n{spec}', encoding="utf-8")
    return folder


def records(columns: Mapping[str, Floats | Ints | Texts]) -> list[dict[str, object]]:
    """Return columns as rows; NaN becomes an empty cell."""
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [
        {
            name: "" if isinstance(value, float) and np.isnan(value) else value
            for name, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]


def _texts(values: Floats) -> Texts:
    return np.array(["" if np.isnan(value) else repr(value) for value in values.tolist()], object)
