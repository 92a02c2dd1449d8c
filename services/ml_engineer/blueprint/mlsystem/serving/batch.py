"""Predictions for rows without end: CSV, JSON lines or Parquet in and out, block by block, so that size is no matter.

Owns the lines of an answer and how they are written, for files and for /batch alike. A row that cannot be predicted
gets its reason instead of a prediction; nothing is dropped and the order stays. The output of a file appears when it
is complete. Leaves reading to `streams`, Parquet to `arrow` and HTTP to the route.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from mlsystem.boundary import Encoded, Problem, Warning_
from mlsystem.errors import DataError
from mlsystem.schema import Schema
from mlsystem.serving.answers import Prediction
from mlsystem.serving.model import unanswerable
from mlsystem.serving.streams import LONGEST_LINE, Block, csv_blocks, json_blocks

if TYPE_CHECKING:
    from mlsystem.serving.model import Model

Format = Literal["csv", "jsonl", "parquet"]

_ENDINGS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
_FILE_BYTES: Final = 1024 * 1024
"""Bytes of a file that are read at once."""


class RefusedRow(msgspec.Struct, frozen=True):
    """A row without a prediction, and why."""

    id: str
    error: str


Line = Prediction | RefusedRow
Write = Callable[[Sequence[Line]], None]


@dataclass(slots=True)
class Count:
    """What became of the rows."""

    rows: int = 0
    refused: int = 0
    first_refusal: str = ""
    warnings: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, lines: Sequence[Line], warnings: Iterable[Warning_]) -> None:
        """Count one block."""
        refused = [line for line in lines if isinstance(line, RefusedRow)]
        if refused and not self.refused:
            self.first_refusal = f"row {refused[0].id}: {refused[0].error}"
        self.rows += len(lines)
        self.refused += len(refused)
        for warning in warnings:
            self.warnings[warning.kind] = self.warnings.get(warning.kind, 0) + warning.count


def predict_file(model: Model, source: Path, target: Path, tell: Callable[[int], None]) -> Count:
    """Predict every row of `source` into `target`; `tell` is given the rows done. The endings say the formats.

    Raises: DataError if the file cannot be read as the contract says; `target` is then left as it was.
    """
    count = Count()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with _writer(partial, format_of(target), model.schema) as write:
            for block in _blocks(source, model):
                lines = predict_block(model, block)
                write(lines)
                count.add(lines, block.encoded.warnings)
                tell(count.rows)
        if not count.rows:
            raise DataError("no_rows", f"{source} has no rows; there is nothing to predict")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def format_of(path: Path) -> Format:
    """Return the format that the ending of a file says; anything unknown is CSV."""
    return _ENDINGS.get(path.suffix.lower(), "csv")


def predict_block(model: Model, block: Block) -> list[Line]:
    """Return a line for every row of a block: what the model answers, or why there is no answer."""
    good = [name for place, name in enumerate(block.ids) if place not in block.bad]
    answers = iter(_predict(model, block.encoded, good) if good else ())
    return [
        RefusedRow(name, block.bad[place]) if place in block.bad else next(answers)
        for place, name in enumerate(block.ids)
    ]


def head(schema: Schema, form: Format) -> str:
    """Return what stands before the lines: the header of a CSV, nothing before JSON lines."""
    return _csv_text([columns(schema)]) if form == "csv" else ""


def columns(schema: Schema) -> list[str]:
    """Return the names of a table of answers: a probability a label, and the reason where there is no answer."""
    return ["id", "version", "prediction", *(f"probability_{label}" for label in schema.task.labels), "error"]


def text(lines: Sequence[Line], schema: Schema, form: Format) -> str:
    """Return lines as they are written."""
    if form == "jsonl":
        return "".join(msgspec.json.encode(line).decode() + "\n" for line in lines)
    blank = [""] * len(schema.task.labels)
    return _csv_text(
        [line.id, "", "", *blank, line.error]
        if isinstance(line, RefusedRow)
        else [line.id, line.version, line.prediction, *(line.probabilities or {}).values(), ""]
        for line in lines
    )


def _predict(model: Model, encoded: Encoded, ids: Sequence[str]) -> list[Line]:
    scores = model.score(encoded)
    problems = [*encoded.problems, *unanswerable(scores)]
    reasons = {problem.row: _reason(problem) for problem in reversed(problems)}  # the first of a row stays
    answers = model.predictions(scores, ids)
    return [RefusedRow(line.id, reasons[row]) if row in reasons else line for row, line in enumerate(answers)]


def _reason(problem: Problem) -> str:
    where = f"{problem.column}: " if problem.column else ""
    return f"{where}{problem.reason}" + (f" (got {problem.got!r})" if problem.got else "")


def _blocks(source: Path, model: Model) -> Iterator[Block]:
    form = format_of(source)
    if form == "parquet":
        from mlsystem.serving.arrow import parquet_blocks

        yield from parquet_blocks(source, model)
        return
    read = json_blocks if form == "jsonl" else csv_blocks
    with source.open("rb") as file:
        yield from read(iter(lambda: file.read(_FILE_BYTES), b""), model, longest=LONGEST_LINE)


@contextmanager
def _writer(path: Path, form: Format, schema: Schema) -> Generator[Write]:
    if form == "parquet":
        from mlsystem.serving.arrow import parquet_writer

        with parquet_writer(path, schema) as write:
            yield write
        return
    with path.open("w", encoding="utf-8", newline="") as out:
        out.write(head(schema, form))

        def write_text(lines: Sequence[Line]) -> None:
            out.write(text(lines, schema, form))

        yield write_text


def _csv_text(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
