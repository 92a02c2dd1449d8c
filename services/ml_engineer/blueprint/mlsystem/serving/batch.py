"""Predictions for a file: CSV or JSON lines in, CSV or JSON lines out, in chunks, so that size does not matter.

Owns reading rows with the dialect of the contract, and writing one line a row, in order. A row is known by its id
column where the contract has one, else by its number, from 1. A row that cannot be predicted gets its reason
instead of a prediction; nothing is dropped. The output appears when it is complete. Leaves coercion to `boundary`.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import numpy as np

from mlsystem.boundary import Boundary, Encoded, Problem, Warning_
from mlsystem.errors import DataError
from mlsystem.schema import Reader, Schema, Table
from mlsystem.serving.answers import Prediction
from mlsystem.serving.model import unanswerable

if TYPE_CHECKING:
    from mlsystem.serving.model import Model

CHUNK_ROWS = 5000
"""Rows that are in memory at once."""

_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_FIELD_BYTES = 16 * 1024 * 1024  # csv's own limit of 128 KiB refuses long texts


class RefusedRow(msgspec.Struct, frozen=True):
    """A row without a prediction, and why."""

    id: str
    error: str


Line = Prediction | RefusedRow


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of the file: what they are known by, and their tensors."""

    ids: Sequence[str]
    encoded: Encoded


@dataclass(slots=True)
class Count:
    """What became of the rows."""

    rows: int = 0
    refused: int = 0
    first_refusal: str = ""
    warnings: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, lines: Sequence[Line], warnings: Iterable[Warning_]) -> None:
        """Count one chunk."""
        refused = [line for line in lines if isinstance(line, RefusedRow)]
        if refused and not self.refused:
            self.first_refusal = f"row {refused[0].id}: {refused[0].error}"
        self.rows += len(lines)
        self.refused += len(refused)
        for warning in warnings:
            self.warnings[warning.kind] = self.warnings.get(warning.kind, 0) + warning.count


def predict_file(model: Model, source: Path, target: Path, tell: Callable[[int], None]) -> Count:
    """Predict every row of `source` into `target`; `tell` is given the rows done.

    Raises: DataError if the file cannot be read as the contract says; `target` is then left as it was.
    """
    count = Count()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as out:
            write = _json_writer(out) if _is_json(target) else _csv_writer(out, model.schema)
            for chunk in _read(source, model):
                lines = _predict(model, chunk)
                write(lines)
                count.add(lines, chunk.encoded.warnings)
                tell(count.rows)
        if not count.rows:
            raise DataError("no_rows", f"{source} has no rows; there is nothing to predict")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _predict(model: Model, chunk: Chunk) -> list[Line]:
    scores = model.score(chunk.encoded)
    problems = [*chunk.encoded.problems, *unanswerable(scores)]
    reasons = {problem.row: _reason(problem) for problem in reversed(problems)}  # the first of a row stays
    answers = model.predictions(scores, chunk.ids)
    return [RefusedRow(line.id, reasons[row]) if row in reasons else line for row, line in enumerate(answers)]


def _reason(problem: Problem) -> str:
    where = f"{problem.column}: " if problem.column else ""
    return f"{where}{problem.reason}" + (f" (got {problem.got!r})" if problem.got else "")


# ---- reading


def _read(source: Path, model: Model) -> Iterator[Chunk]:
    try:
        if _is_json(source):
            yield from _json_chunks(source, model)
        else:
            yield from _csv_chunks(source, model.schema, model.boundary)
    except UnicodeDecodeError as error:
        raise DataError(
            "bad_encoding", f"{source} is not {error.encoding}: byte {error.start} cannot be read; convert the file"
        ) from None


def _csv_chunks(source: Path, schema: Schema, boundary: Boundary) -> Iterator[Chunk]:
    reader = schema.reader
    with source.open(encoding=_encoding(reader), newline="") as file, _field_size():
        lines = csv.reader(file, **_dialect(reader))
        names = _header(lines, source, schema)
        _require_columns(names, boundary, source)
        key = _id_column(schema, names)
        first = 1
        while block := list(itertools.islice(_whole(lines, len(names), source), CHUNK_ROWS)):
            columns = {
                name: np.array(texts, dtype=object) for name, texts in zip(names, zip(*block, strict=True), strict=True)
            }
            ids = columns[key].tolist() if key else [str(first + row) for row in range(len(block))]
            yield Chunk(ids, boundary.table(Table(columns, len(block))))
            first += len(block)


def _json_chunks(source: Path, model: Model) -> Iterator[Chunk]:
    key = _id_column(model.schema, [column.name for column in model.schema.columns])
    with source.open(encoding="utf-8-sig") as file:
        numbered = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        first = 1
        while block := [_object(line, number, source) for number, line in itertools.islice(numbered, CHUNK_ROWS)]:
            ids = [str(row.get(key) or first + index) if key else str(first + index) for index, row in enumerate(block)]
            yield Chunk(ids, model.boundary.rows(block))
            first += len(block)


def _header(lines: Iterator[list[str]], source: Path, schema: Schema) -> list[str]:
    if not schema.reader.header:
        return [column.name for column in schema.columns]
    names = next(lines, None)
    if names is None:
        raise DataError("empty_file", f"{source} is empty; it needs a header and rows")
    return [name.strip() for name in names]


def _require_columns(names: Sequence[str], boundary: Boundary, source: Path) -> None:
    missing = [name for name in boundary.required if name not in names]
    if missing:
        raise DataError(
            "missing_columns",
            f"{source} lacks columns that the model needs: {', '.join(missing)}",
            details=[{"column": name} for name in missing],
        )


def _whole(lines: Iterator[list[str]], width: int, source: Path) -> Iterator[list[str]]:
    """Yield the rows that have a field for every column; blank lines are none, any other line is an error."""
    for number, line in enumerate(lines, start=2):
        if len(line) == width:
            yield line
        elif line:
            text = f"{source}: row {number - 1} has {len(line)} fields where the header has {width}"
            raise DataError("ragged_row", f"{text}; quote fields that hold the delimiter")


def _object(line: str, number: int, source: Path) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError("bad_json_line", f"{source}, line {number}: not a JSON object: {error}") from None


def _id_column(schema: Schema, names: Sequence[str]) -> str | None:
    """Return the column that rows are known by, None if the contract has none or several, or the file lacks it."""
    keys = [column.name for column in schema.columns if column.role == "id"]
    return keys[0] if len(keys) == 1 and keys[0] in names else None


def _dialect(reader: Reader) -> dict[str, Any]:
    if not reader.quote:
        return {"delimiter": reader.delimiter, "quoting": csv.QUOTE_NONE}
    return {"delimiter": reader.delimiter, "quotechar": reader.quote}


def _encoding(reader: Reader) -> str:
    return "utf-8-sig" if reader.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else reader.encoding


@contextlib.contextmanager
def _field_size() -> Generator[None]:
    before = csv.field_size_limit(_FIELD_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---- writing


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in _JSON_LINES


def _csv_writer(out: TextIO, schema: Schema) -> Callable[[Sequence[Line]], None]:
    """Write the header and return what writes rows: id, version, prediction, a probability a label, error."""
    writer = csv.writer(out, lineterminator="\n")
    labels = schema.task.labels
    writer.writerow(["id", "version", "prediction", *(f"probability_{label}" for label in labels), "error"])

    def write(lines: Sequence[Line]) -> None:
        writer.writerows(
            [line.id, "", "", *("" for _ in labels), line.error]
            if isinstance(line, RefusedRow)
            else [line.id, line.version, line.prediction, *(line.probabilities or {}).values(), ""]
            for line in lines
        )

    return write


def _json_writer(out: TextIO) -> Callable[[Sequence[Line]], None]:
    def write(lines: Sequence[Line]) -> None:
        out.writelines(msgspec.json.encode(line).decode() + "\n" for line in lines)

    return write
