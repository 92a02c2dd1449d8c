"""Predictions for a file: CSV, JSON lines or Parquet in and out, as the endings say.

Owns choosing the formats, and that the output appears when it is complete. Leaves the lines of an answer to `batch`,
reading text to `streams` and Parquet to `arrow`, which is imported when it is needed: serving does without.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mlsystem.boundary import Warning_
from mlsystem.errors import DataError
from mlsystem.schema import Schema
from mlsystem.serving.batch import Line, RefusedRow, Seen, Write, head, predict_block, text
from mlsystem.serving.streams import LONGEST_LINE, Block, csv_blocks, json_blocks

if TYPE_CHECKING:
    from mlsystem.online.fill import Filler
    from mlsystem.serving.model import Model

Format = Literal["csv", "jsonl", "parquet"]

_ENDINGS: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
_FILE_BYTES: Final = 1024 * 1024
"""Bytes of a file that are read at once."""


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


@dataclass(frozen=True, slots=True)
class Around:
    """What a file is predicted with besides the model."""

    tell: Callable[[int], None]
    """Is given the rows done."""
    filler: Filler | None = None
    """Completes partial rows."""
    seen: Seen | None = None


def predict_file(model: Model, source: Path, target: Path, around: Around) -> Count:
    """Predict every row of `source` into `target`. The endings say the formats.

    Raises: DataError if the file cannot be read as the contract says, StateError if partial rows cannot be completed;
    `target` is then left as it was.
    """
    count = Count()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with _writer(partial, format_of(target), model.schema) as write:
            for block in _blocks(source, model, around.filler):
                lines = predict_block(model, block, around.seen)
                write(lines)
                count.add(lines, block.encoded.warnings)
                around.tell(count.rows)
        if not count.rows:
            raise DataError("no_rows", f"{source} has no rows; there is nothing to predict")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def format_of(path: Path) -> Format:
    """Return the format that the ending of a file says; anything unknown is CSV."""
    return _ENDINGS.get(path.suffix.lower(), "csv")


def _blocks(source: Path, model: Model, filler: Filler | None) -> Iterator[Block]:
    form = format_of(source)
    if form == "parquet":
        from mlsystem.serving.arrow import parquet_blocks

        yield from parquet_blocks(source, model, filler)
        return
    read = json_blocks if form == "jsonl" else csv_blocks
    with source.open("rb") as file:
        yield from read(iter(lambda: file.read(_FILE_BYTES), b""), model, longest=LONGEST_LINE, filler=filler)


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
