"""Example rows: what documents show, what a model is warmed up with, what a measurement sends.

Owns the rows of the source that came with a package, with numbers written as numbers, and rows made from the
contract where none came. Leaves checking to `boundary`, which takes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from mlsystem.schema import Column, Schema

Row = dict[str, object]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def example_rows(schema: Schema, reference: Sequence[Mapping[str, object]]) -> list[Row]:
    """Return the reference rows as a client would write them, or one made from the contract; never none."""
    targetless = [{name: v for name, v in row.items() if name != schema.task.target} for row in reference]
    columns = {column.name: column for column in schema.columns}
    natural = [{name: _natural(columns.get(name), value) for name, value in row.items()} for row in targetless]
    return natural or [made_row(schema)]


def made_row(schema: Schema) -> Row:
    """Return a row that fits the contract: middle values, the most frequent level."""
    return {column.name: _made(column) for column in schema.columns if column.role in {"feature", "time"}}


def _natural(column: Column | None, value: object) -> object:
    """Return a text of the source as JSON: a plain number as number, nothing as null."""
    if not isinstance(value, str) or column is None:
        return value
    text = value.strip()
    if not text:
        return None
    if column.type in {"number", "integer"}:
        return _number(text)
    return value


def _number(text: str) -> float | str:
    """Return what JSON can write as a number without a change; any other text as it is."""
    if text.lstrip("-").isdecimal() and text.isascii():
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return text
    return value if text.isascii() and "_" not in text and abs(value) < float("inf") else text


def _made(column: Column) -> object:
    if column.type == "category":
        return column.levels[0] if column.levels else None
    if column.low is None or column.high is None:
        return None
    if column.type == "number":
        return (column.low + column.high) / 2
    if column.type == "integer":
        return int((column.low + column.high) // 2)
    if column.type in {"date", "datetime"}:
        return _date(column, column.high)
    return None


def _date(column: Column, day: float) -> str:
    moment = _EPOCH + timedelta(days=day)
    if column.format not in {None, "iso"}:
        return moment.strftime(str(column.format))
    return moment.date().isoformat() if column.type == "date" else moment.replace(tzinfo=None).isoformat()
