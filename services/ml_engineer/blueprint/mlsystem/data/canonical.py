"""Rows of a query as text: one file whose bytes depend on the rows alone.

Owns the form in which rows that never were a file are kept: UTF-8, line feeds, RFC 4180, a line of names first, ""
for what is missing. Parquet would be smaller, but its bytes change with the version of the library that writes it,
and then the same rows would be another snapshot. Leaves running the query to `query` and `database`.
"""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from mlsystem.errors import DataError

FILE: Final = "rows.canonical.csv"


def is_canonical(path: Path) -> bool:
    """Tell whether the engine has written this file, so that it needs no guess at how it is written."""
    return path.name == FILE


def write_rows(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write rows under their names and return how many there were; DataError for bytes, which are no text."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for row in rows:  # nearly every value is plain text: those need no look at what they are
            writer.writerow([value if type(value) is str and value.isprintable() else as_text(value) for value in row])
            count += 1
    return count


def as_text(value: object) -> str:
    """Return a value as it stands in the rows; what a database calls NULL and NaN is missing."""
    if value is None:
        return ""
    form = next((form for kind, form in _FORMS if isinstance(value, kind)), str)
    return form(value)


def _text(value: str) -> str:
    """Return a text with one kind of line end, and without the null character, which no file of text has."""
    return value.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _exact_number(value: decimal.Decimal) -> str:
    return "" if value.is_nan() else format(value, "f")


def _no_text(_value: object) -> str:
    raise DataError("binary_column", "the query gives a column of bytes; leave it out, or turn it into text")


_FORMS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...]] = (
    (str, _text),
    (bool, lambda value: "true" if value else "false"),
    (float, _number),
    (decimal.Decimal, _exact_number),
    (dt.datetime, lambda value: value.isoformat(sep=" ")),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    ((bytes, memoryview), _no_text),
    ((dict, list), lambda value: json.dumps(value, sort_keys=True, ensure_ascii=False)),
)
"""How values are written, by their type; the first that fits counts, anything else is what `str` makes of it."""
