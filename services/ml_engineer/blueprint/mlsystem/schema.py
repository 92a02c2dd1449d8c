"""The data contract of a system, schema.json, and the text table that it describes.

Owns the shape of the contract: the task with its labels, every column of the source with type and role, and how
the source was read. Written by `validate`, read by everything after it. Leaves coercion to `boundary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.errors import SpecError
from mlsystem.output import readable

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["binary", "multiclass", "regression"]
ColumnType = Literal["number", "integer", "date", "datetime", "category", "text"]
Role = Literal["feature", "ignore", "leak", "id", "weight", "target", "time", "entity", "label_time"]

NULLS = ("NA", "N/A", "#N/A", "NaN", "null", "<NA>", "NaT", "\\N")
"""Texts that mean "missing" besides blank ones, compared without regard to case; `data.reader.null` adds to them."""

MAX_LEVELS = 1000
"""Levels of a category that the contract lists, the most frequent first."""


class TaskSchema(msgspec.Struct, frozen=True, kw_only=True):
    """What is predicted."""

    kind: Kind
    target: str
    labels: tuple[str, ...] = ()
    """Classes in the order of the probabilities; binary: (negative, positive); regression: empty."""
    positive: str | None = None
    """Binary: the label that the probability is about."""


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """How the source was read; enough to read the next file in the same way."""

    format: Literal["csv", "parquet", "jsonl"] = "csv"
    delimiter: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    decimal: Literal[".", ","] = "."
    dayfirst: bool = True
    null: tuple[str, ...] = NULLS


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the source."""

    name: str
    type: ColumnType
    role: Role = "feature"
    reason: str = ""
    """Why the column has this role, in plain words; empty for an ordinary feature."""
    nullable: bool = False
    missing: float = 0.0
    """Share of rows without a value."""
    distinct: int = 0
    levels: tuple[str, ...] = ()
    """Category: at most 1,000 levels, the most frequent first."""
    low: float | None = None
    high: float | None = None
    """Smallest and largest value; dates in days since 1970-01-01."""
    format: str | None = None
    """Date, datetime: `iso`, or a format of strptime."""
    decimal: Literal[".", ","] = "."
    whole: bool = False
    """Time: whether its day reaches the model too, for what is derived of it; by itself it is no feature."""
    reduced: Literal["", "year", "capped"] = ""
    """What of personal data reaches the model where HIPAA allows that much: of a date its year, of an age no more than
    that it is over 89. Then the column is a feature and no identifier."""
    pii: str = ""
    """What personal data it holds: a kind of `governance.kinds`, or what the spec calls it; empty: none."""


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The contract between a source and a model."""

    format: Literal[1] = 1
    task: TaskSchema
    columns: tuple[Column, ...]
    made: tuple[Column, ...] = ()
    """Columns that hooks.py makes of the others; no request has them."""
    reader: Reader = Reader()

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The columns of the source and behind them those that hooks make: all that may be in a tensor."""
        return (*self.columns, *self.made)

    def column(self, name: str) -> Column:
        """Return the column called `name`, made ones included; KeyError if there is none."""
        for column in self.inputs:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as text: one object array of `str` a column, "" where there is nothing."""

    columns: Mapping[str, npt.NDArray[np.object_]]
    rows: int

    def records(self, indices: npt.NDArray[np.intp]) -> list[dict[str, str]]:
        """Return the rows at `indices` as JSON objects with every column of the source."""
        picked = {name: self.columns[name][indices] for name in self.columns}
        return [{name: str(values[i]) for name, values in picked.items()} for i in range(len(indices))]


def encode_schema(schema: Schema) -> bytes:
    """Return schema.json: readable, the same bytes for the same contract."""
    return readable(schema)


def read_schema(path: Path) -> Schema:
    """Read a schema.json; SpecError `bad_schema` if it is not a contract of this format."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Schema)
    except (OSError, msgspec.DecodeError) as error:
        raise SpecError("bad_schema", f"{path} is not a data contract: {error}; run `validate` again") from error
