"""Predictions for rows without end, block by block, so that size is no matter.

Owns the lines of an answer and how they are written as text, for files and for /batch alike. A row that cannot be
predicted gets its reason instead of a prediction; nothing is dropped and the order stays. Leaves reading to `streams`,
files to `files`, Parquet to `arrow` and HTTP to the route.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlsystem.boundary import Encoded, Problem
from mlsystem.schema import Schema
from mlsystem.serving.answers import Prediction
from mlsystem.serving.model import unanswerable
from mlsystem.serving.streams import Block

if TYPE_CHECKING:
    from mlsystem.serving.model import Model

TextFormat = Literal["csv", "jsonl"]


class RefusedRow(msgspec.Struct, frozen=True):
    """A row without a prediction, and why."""

    id: str
    error: str


Line = Prediction | RefusedRow
Write = Callable[[Sequence[Line]], None]
Seen = Callable[["Model", Encoded, Sequence[Sequence[float]]], None]
"""What is given the rows that were answered, with their scores."""


def predict_block(model: Model, block: Block, seen: Seen | None = None) -> list[Line]:
    """Return a line for every row of a block: what the model answers, or why there is no answer."""
    good = [name for place, name in enumerate(block.ids) if place not in block.bad]
    answers = iter(_predict(model, block.encoded, good, seen) if good else ())
    return [
        RefusedRow(name, block.bad[place]) if place in block.bad else next(answers)
        for place, name in enumerate(block.ids)
    ]


def head(schema: Schema, form: TextFormat) -> str:
    """Return what stands before the lines: the header of a CSV, nothing before JSON lines."""
    return _csv_text([columns(schema)]) if form == "csv" else ""


def columns(schema: Schema) -> list[str]:
    """Return the names of a table of answers: a probability a label, and the reason where there is no answer."""
    return ["id", "version", "prediction", *(f"probability_{label}" for label in schema.task.labels), "error"]


def text(lines: Sequence[Line], schema: Schema, form: TextFormat) -> str:
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


def _predict(model: Model, encoded: Encoded, ids: Sequence[str], seen: Seen | None) -> list[Line]:
    scores = model.score(encoded)
    problems = [*encoded.problems, *unanswerable(scores)]
    reasons = {problem.row: _reason(problem) for problem in reversed(problems)}  # the first of a row stays
    if seen is not None:
        seen(model, *_answered(encoded, scores, reasons))
    answers = model.predictions(scores, ids)
    return [RefusedRow(line.id, reasons[row]) if row in reasons else line for row, line in enumerate(answers)]


def _answered(
    encoded: Encoded, scores: Sequence[Sequence[float]], refused: Container[int]
) -> tuple[Encoded, Sequence[Sequence[float]]]:
    """Return the rows that were answered, with their scores."""
    kept = [row for row in range(len(scores)) if row not in refused]
    if len(kept) == len(scores):
        return encoded, scores
    return Encoded(encoded.numbers[kept], encoded.strings[kept]), [scores[row] for row in kept]


def _reason(problem: Problem) -> str:
    where = f"{problem.column}: " if problem.column else ""
    return f"{where}{problem.reason}" + (f" (got {problem.got!r})" if problem.got else "")


def _csv_text(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
