"""Tables of data by their heads: columns, delimiter, an estimate of the rows. No value of a row leaves here.

A delimited file is read to its first 64 KiB, a Parquet file by its footer, whatever their size. The real
reading of data, with its types, is the delivered engine's.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, cast

HEAD_BYTES: Final = 64 * 1024
_SAMPLED_ROWS: Final = 50
_DELIMITERS: Final = (",", ";", "\t", "|")
_COLUMNS: Final = 5_000
"""A line with more fields than this is no header of a table."""
_NAME_LENGTH: Final = 120
"""A longer field is a text."""
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_VALUE: Final = re.compile(r"[-+]?[\d.,]+(?:[eE][-+]?\d+)?%?|\d{4}-\d\d-\d\d.*")


@dataclass(frozen=True, slots=True)
class Table:
    """The shape of a table. `delimiter` is empty for Parquet, `columns` when the file names none."""

    columns: tuple[str, ...]
    width: int
    rows: int
    exact: bool
    """Whether `rows` was counted rather than estimated from the size."""
    delimiter: str = ""


def delimited(head: str, head_bytes: int, size: int, *, tabbed: bool) -> Table:
    """The table that begins with `head`, the first `head_bytes` of `size` bytes. `tabbed` settles the delimiter."""
    whole = head_bytes >= size
    text = head if whole else head[: head.rfind("\n") + 1] or head
    delimiter = "\t" if tabbed else _delimiter(text)
    rows = _rows(text, delimiter)
    if not rows:
        return Table((), 0, 0, exact=whole, delimiter=delimiter)
    named = _names_columns(rows)
    columns = tuple(name.strip() for name in rows[0]) if named else ()
    seen = sum(1 for row in _reader(text, delimiter) if any(row)) - named
    estimate = seen if whole else round(seen * size / max(1, len(text.encode(errors="replace"))))
    return Table(columns, len(rows[0]), max(0, estimate), exact=whole, delimiter=delimiter)


def parquet(file: Path) -> Table | None:
    """The table in the Parquet file, from its footer; None when it is none. Loads pyarrow at its first use."""
    from pyarrow import parquet as library  # 60 MB and a quarter of a second that most workspaces never need

    try:
        with file.open("rb") as stream:
            found = cast("_ParquetFile", library.ParquetFile(stream))
            names = tuple(str(name) for name in found.schema_arrow.names)
            return Table(names, len(names), found.metadata.num_rows, exact=True)
    except (OSError, ValueError, NotImplementedError):  # not Parquet after all: then it is a file of bytes
        return None


def table_shape(table: Table, columns: int) -> str:
    """`26 columns: a, b, …`, with the first `columns` names."""
    if not table.width:
        return "empty"
    if not table.columns:
        return f"{table.width} columns without names"
    named = ", ".join(name[:_NAME_LENGTH] for name in table.columns[:columns]) + (
        ", …" if len(table.columns) > columns else ""
    )
    return f"{table.width} column{'s' if table.width > 1 else ''}: {named}"


def _delimiter(text: str) -> str:
    """The delimiter under which the first rows are widest and most alike."""
    return max(_DELIMITERS, key=lambda delimiter: _evenness(_rows(text, delimiter)))


def _evenness(rows: list[list[str]]) -> tuple[float, int]:
    width = len(rows[0]) if rows else 0
    if width < 2:
        return (0.0, 0)
    return (sum(1 for row in rows if len(row) == width) / len(rows), width)


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The first rows that hold anything; none when the first is too wide to be a header or a record."""
    rows = list(islice((row for row in _reader(text, delimiter) if any(row)), _SAMPLED_ROWS))
    return rows if rows and len(rows[0]) <= _COLUMNS else []


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    """The records of `text`. A head is shorter than the module's limit on a field, so reading cannot fail."""
    return iter(csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter))


def _names_columns(rows: list[list[str]]) -> bool:
    """Whether the first row is a header: what looks like a value, or is met again further down, is none."""
    first = [field.strip() for field in rows[0]]
    named = [field for field in first if field]
    if not named or any(_VALUE.fullmatch(field) and not _YEAR.fullmatch(field) for field in named):
        return False
    repeated = any(field and field == row[at].strip() for row in rows[1:] for at, field in enumerate(first[: len(row)]))
    return not repeated and not any("@" in field or len(field) > _NAME_LENGTH for field in named)


class _Metadata(Protocol):
    num_rows: int


class _ArrowSchema(Protocol):
    names: list[str]


class _ParquetFile(Protocol):
    """What is used of pyarrow's class, which brings no types of its own."""

    metadata: _Metadata
    schema_arrow: _ArrowSchema
