"""Reads rows from a stream of bytes, CSV or JSON lines, block by block, and encodes them.

Owns decoding, the dialect of the contract, and what a row is known by: its id column where the contract has one, else
its number, from 1. A block is what can be read without waiting for more bytes, so rows that come slowly are not held
back, and nothing but a block is in memory. A row that cannot be read keeps its place, with the reason. Leaves
coercion to `boundary`.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import numpy as np

from mlsystem.boundary import Encoded
from mlsystem.errors import DataError
from mlsystem.schema import Reader, Schema, Table

if TYPE_CHECKING:
    from mlsystem.online.fill import Filler
    from mlsystem.serving.model import Model

BLOCK_ROWS = 5000
"""Rows that are in memory at once."""

LONGEST_LINE: Final = 16 * 1024 * 1024
"""Longest row of a file in characters, and longest field of any CSV: it only stops what is no table."""

_Row = TypeVar("_Row")


@dataclass(slots=True)
class Block:
    """Some rows in order: what they are known by, why some cannot be read, and the tensors of the others."""

    ids: list[str]
    bad: dict[int, str]
    encoded: Encoded


class Lines:
    """Lines of text out of blocks of bytes, each with its end of line; tells whether one is there without waiting."""

    def __init__(self, source: Iterable[bytes], encoding: str, longest: int) -> None:
        self._source = iter(source)
        self._encoding = encoding
        self._decoder = io.IncrementalNewlineDecoder(_decoder(encoding), translate=False)
        self._longest = longest
        self._ready: deque[str] = deque()
        self._rest = ""
        self._bytes = 0
        self._ended = False

    def at_hand(self) -> bool:
        """Tell whether the next line is there already."""
        return bool(self._ready)

    def __iter__(self) -> Iterator[str]:
        """Return the lines."""
        return self

    def __next__(self) -> str:
        """Return the next line; DataError if the bytes are no text, or the line has no end."""
        while not self._ready:
            if self._ended:
                raise StopIteration
            self._read()
        return self._ready.popleft()

    def _read(self) -> None:
        block = next(self._source, None)
        self._ended = block is None
        try:
            text = self._rest + self._decoder.decode(block or b"", final=self._ended)
        except UnicodeError as error:  # not each of its decoders names the byte
            place = self._bytes + (error.start if isinstance(error, UnicodeDecodeError) else 0)
            message = f"the rows are not {self._encoding}: the byte at about {place} cannot be read; convert them"
            raise DataError("bad_encoding", message) from None
        self._bytes += len(block or b"")
        lines = list(io.StringIO(text, newline=""))
        self._rest = lines.pop() if lines and not self._ended and not lines[-1].endswith(("\n", "\r")) else ""
        if len(self._rest) > self._longest:
            raise DataError("line_too_long", f"a line is longer than {self._longest} characters; rows end with a line")
        self._ready.extend(lines)


def csv_blocks(
    source: Iterable[bytes], model: Model, *, longest: int, encoding: str = "", filler: Filler | None = None
) -> Iterator[Block]:
    """Yield the rows of a CSV in the dialect of the contract; another encoding may be named.

    Columns that it lacks are filled by `filler`, if the rows name whom they are about.

    Raises: DataError if it is empty, or lacks columns that nobody fills, or has them twice; StateError.
    """
    csv.field_size_limit(LONGEST_LINE)  # its own limit of 128 KiB refuses long texts; one value for all threads
    reader = model.schema.reader
    lines = Lines(source, _without_mark(encoding or reader.encoding), longest)
    rows = csv.reader(lines, **_dialect(reader))
    names = _header(rows, model.schema)
    partial = is_partial(names, model, filler)
    _require(names, () if partial else model.boundary.required)
    key = id_column(model.schema, names)
    numbers = _Numbers()
    for block in _blocks(_whole(rows, len(names)), lines):
        good = [row for row in block if isinstance(row, list)]
        ids = [row[names.index(key)] if key and isinstance(row, list) else "" for row in block]
        if partial:
            encoded = completed(
                model, [{n: text or None for n, text in zip(names, r, strict=True)} for r in good], filler
            )
        else:
            columns = {name: _texts([row[place] for row in good]) for place, name in enumerate(names)}
            encoded = model.boundary.table(Table(columns, len(good)))
        yield Block(numbers.fill(ids), _bad(block), encoded)


def json_blocks(
    source: Iterable[bytes], model: Model, *, longest: int, strict: bool = False, filler: Filler | None = None
) -> Iterator[Block]:
    """Yield the rows of JSON lines, partial ones completed by `filler`; blank lines are none. StateError."""
    lines = Lines(source, "utf-8-sig", longest)
    key = id_column(model.schema, [column.name for column in model.schema.columns])
    numbers = _Numbers()
    for block in _blocks((_object(line) for line in lines if line.strip()), lines):
        good = [row for row in block if not isinstance(row, Unreadable)]
        ids = [_id(row.get(key)) if key and not isinstance(row, Unreadable) else "" for row in block]
        yield Block(numbers.fill(ids), _bad(block), completed(model, good, filler, strict=strict))


def is_partial(names: Sequence[str], model: Model, filler: Filler | None) -> bool:
    """Tell whether rows with these columns lack some that can be filled in: whom they are about is there."""
    lacking = not model.needs.required <= set(names)
    return lacking and filler is not None and model.needs.entity in names and filler.filled


def completed(
    model: Model, rows: Sequence[Mapping[str, Any]], filler: Filler | None, *, strict: bool = False
) -> Encoded:
    """Return rows as tensors, partial ones completed; one whose entity is unknown has that for a problem."""
    if filler is None:
        return model.boundary.rows(rows, strict=strict)
    filled = filler.fill(rows, model.needs)
    found = model.boundary.rows(filled.rows, strict=strict)
    return replace(found, problems=(*filled.problems, *found.problems), warnings=(*found.warnings, *filled.warnings))


def id_column(schema: Schema, names: Sequence[str]) -> str | None:
    """Return the column that rows are known by, None if the contract has none or several, or the rows lack it."""
    keys = [column.name for column in schema.columns if column.role == "id"]
    return keys[0] if len(keys) == 1 and keys[0] in names else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no row, and why."""

    reason: str


@dataclass(slots=True)
class _Numbers:
    """Counts the rows, and gives its number to one that has no id."""

    next: int = field(default=1)

    def fill(self, ids: list[str]) -> list[str]:
        first = self.next
        self.next += len(ids)
        return [name or str(number) for number, name in enumerate(ids, start=first)]


def _blocks(rows: Iterator[_Row], lines: Lines) -> Iterator[list[_Row]]:
    """Yield rows in lists that end where the next line is not there yet."""
    block: list[_Row] = []
    for row in rows:
        block.append(row)
        if len(block) >= BLOCK_ROWS or not lines.at_hand():
            yield block
            block = []
    if block:
        yield block


def _bad(block: Sequence[object]) -> dict[int, str]:
    return {place: row.reason for place, row in enumerate(block) if isinstance(row, Unreadable)}


def _whole(rows: Iterator[list[str]], width: int) -> Iterator[list[str] | Unreadable]:
    """Yield the rows with a field for every column; blank lines are none."""
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Unreadable(f"not a row of a CSV: {error}")
            continue
        if row is None:
            return
        if len(row) == width:
            yield row
        elif row:
            text = f"{len(row)} fields where the header has {width}; quote fields that hold the delimiter"
            yield Unreadable(text)


def _header(rows: Iterator[list[str]], schema: Schema) -> list[str]:
    if not schema.reader.header:
        return [column.name for column in schema.columns]
    names = next(rows, None)
    if names is None:
        raise DataError("empty_file", "there is nothing to predict; a CSV needs a header and rows")
    return [name.strip() for name in names]


def _require(names: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if twice := [name for name in required if names.count(name) > 1]:
        text = f"the header names {', '.join(twice)} more than once; rename one of them"
        raise DataError("duplicate_columns", text, details=[{"column": name} for name in twice])
    if missing:
        text = f"columns that the model needs are missing: {', '.join(missing)}"
        raise DataError("missing_columns", text, details=[{"column": name} for name in missing])


def _id(value: object) -> str:
    return "" if value is None else str(value)


def _object(line: str) -> dict[str, Any] | Unreadable:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        return Unreadable(f"not a JSON object: {error}")


def _texts(values: list[str]) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _dialect(reader: Reader) -> dict[str, Any]:
    if not reader.quote:
        return {"delimiter": reader.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": reader.delimiter, "quotechar": reader.quote}


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    """Return the decoder of a text encoding; what Python calls so besides, zlib or base64, is none and refused."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        return codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError("bad_encoding", f"there is no encoding {encoding[:40]!r}; utf-8 always works") from None
