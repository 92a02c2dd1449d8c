"""The rows of a validated source, encoded, with the holdout behind a counted door.

Owns loading what `validate` decided: the same contract, the same rows, the same split. Training uses `train` and
`folds()`; only an evaluation calls `open_holdout`, and every call leaves a line in `work/holdout.jsonl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.boundary import Encoded, Numbers, Strings, category_column, moment_column, number_column
from mlsystem.data import snapshot, split
from mlsystem.data.audit import copies
from mlsystem.data.derived import require_hooked
from mlsystem.data.privacy import Masked
from mlsystem.data.reader import Rows, read_files
from mlsystem.hooked import boundary_of
from mlsystem.hooks import read_hooks
from mlsystem.schema import Column, Role, Schema, Table, read_schema
from mlsystem.spec import seconds
from mlsystem.stages import Workspace, read_result, stage_dir

HOLDOUT_LOG: Final = "holdout.jsonl"
SPLIT_FILE: Final = "split.npy"
SIDES: Final = {"train": 0, "holdout": 1, "neither": 2}
"""What a row is in SPLIT_FILE; `neither` are rows in the gap before a holdout in time."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The held-out rows, and how often they have been looked at, this time included."""

    rows: split.Indices
    opened: int


@dataclass(frozen=True)
class Dataset:
    """All rows that have a target, in the order of the source; indices count these rows."""

    table: Table
    """The source's columns as text, personal data blank; a column is read when it is asked for."""
    encoded: Encoded
    """The boundary tensors of all rows."""
    target: npt.NDArray[Any]
    """Label indices (intp) in the order of `schema.task.labels`, or float64."""
    weight: Numbers | None
    time: Numbers | None
    """Seconds since 1970 UTC (or the number in a numeric time column), NaN where unknown."""
    groups: Strings | None
    train: split.Indices
    holdout: split.Indices
    """Not to be read but through `open_holdout`."""
    schema: Schema
    findings: tuple[dict[str, Any], ...]
    method: split.Method
    fold_count: int = 5
    gap_s: float = 0.0
    seed: int = 7
    log: Path | None = None
    """Where openings of the holdout are written; None counts nothing."""
    digest: str = ""
    copies: split.Indices | None = None
    """For each row the first one that is equal to it, where rows are copies of others."""
    ordinal: bool = False
    """Whether `time` is a place in the order of the rows, as masked rows have it of dates of people."""

    @property
    def dates(self) -> Numbers | None:
        """`time` where it is seconds since 1970 UTC."""
        column = _with_role(self.schema, "time")
        return self.time if column and column.type in {"date", "datetime"} and not self.ordinal else None

    @property
    def together(self) -> Strings | None:
        """Names of what was split as one: entities, or rows with their copies; None where every row stands alone."""
        if self.method == "group":
            return self.groups
        return None if self.method == "time" or self.copies is None else self.copies.astype(object)

    def folds(self) -> list[split.Fold]:
        """Return (fit, valid) row indices within `train`; with time, every fold is validated on later rows."""
        order = split.Order(self.target, self.schema.task.kind != "regression", self.time, self.groups, self.copies)
        return split.folds(order, self.train, self.method, count=self.fold_count, gap_s=self.gap_s, seed=self.seed)

    def open_holdout(self, reason: str) -> Holdout:
        """Return the held-out rows and leave a record of who looked; call it once an evaluation."""
        if self.log is None:
            return Holdout(self.holdout, 1)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"at": at, "data": self.digest, "rows": len(self.holdout), "reason": reason}
        with self.log.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        lines = [msgspec.json.decode(line, type=dict[str, Any]) for line in self.log.read_bytes().splitlines()]
        return Holdout(self.holdout, sum(1 for line in lines if line["data"] == self.digest))

    def records(self, rows: split.Indices) -> list[dict[str, str]]:
        """Return source rows as JSON objects with every column."""
        return self.table.records(rows)


def load(workspace: Workspace, digest: str) -> Dataset:
    """Return the dataset of a finished `validate`; StageMissing if there is none."""
    result = read_result(workspace, "validate", digest)
    folder, spec = stage_dir(workspace, "validate", digest), workspace.spec
    schema = read_schema(folder / "schema.json")
    kept = snapshot.record_of(result)
    paths = snapshot.locate(spec.data, kept.digest, workspace.root)
    rows = read_files(paths, spec.data.reader, threads=spec.search.threads)
    target = _target(rows, schema)
    sides = np.load(folder / SPLIT_FILE, allow_pickle=False)
    findings = tuple(cast("list[dict[str, Any]]", result["findings"]))
    described = {column.name: column for column in schema.columns}
    table = Table(Masked(rows.columns(), described, spec), rows.count)
    return Dataset(
        table=table,
        encoded=require_hooked(boundary_of(schema, read_hooks(workspace.root)).table(table)),
        target=target,
        weight=_numbers(rows, schema, "weight"),
        time=_numbers(rows, schema, "time") if kept.ordinal else _time(rows, schema),
        ordinal=kept.ordinal,
        groups=_groups(rows, schema),
        copies=copies(rows, _features(rows, schema)),
        train=np.flatnonzero(sides == SIDES["train"]),
        holdout=np.flatnonzero(sides == SIDES["holdout"]),
        schema=schema,
        findings=findings,
        method=cast("dict[str, split.Method]", result["split"])["method"],
        fold_count=spec.split.folds,
        gap_s=seconds(spec.split.gap),
        seed=spec.search.seed,
        log=workspace.root / "work" / HOLDOUT_LOG,
        digest=digest,
    )


def _features(rows: Rows, schema: Schema) -> dict[str, int]:
    """Return the features that the rows have, with how many values each has."""
    found = (column for column in schema.columns if column.role == "feature" and column.name in rows.names)
    return {column.name: column.distinct for column in found}


def _target(rows: Rows, schema: Schema) -> npt.NDArray[Any]:
    """Read the target as the contract has it, and leave out the rows without one."""
    task, column = schema.task, schema.column(schema.task.target)
    texts = rows.column(column.name)
    if task.kind == "regression":
        values: npt.NDArray[Any] = number_column(texts, column.decimal, schema.reader.null)[0]
        present = ~np.isnan(values)
    else:
        labels = category_column(texts, schema.reader.null)
        index = {label: i for i, label in enumerate(task.labels)}
        values = np.array([index.get(label, -1) for label in labels.tolist()], dtype=np.intp)
        present = values >= 0
    rows.keep(present)
    return values[present]


def _time(rows: Rows, schema: Schema) -> Numbers | None:
    column = _with_role(schema, "time")
    if column is None or column.type in {"number", "integer"}:
        return _numbers(rows, schema, "time")
    return moment_column(rows.column(column.name), column.format or "iso", schema.reader.null)[0]


def _groups(rows: Rows, schema: Schema) -> Strings | None:
    column = _with_role(schema, "entity")
    return category_column(rows.column(column.name), schema.reader.null) if column else None


def _numbers(rows: Rows, schema: Schema, role: Role) -> Numbers | None:
    column = _with_role(schema, role)
    return number_column(rows.column(column.name), column.decimal, schema.reader.null)[0] if column else None


def _with_role(schema: Schema, role: Role) -> Column | None:
    return next((column for column in schema.columns if column.role == role), None)
