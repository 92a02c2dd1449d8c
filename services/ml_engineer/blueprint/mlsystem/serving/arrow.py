"""Arrow in, Arrow out: Parquet files, and the seam where Ray Data or Spark takes over.

Owns the way from Arrow columns to the texts that the boundary reads, the same as the ones that training reads from
Parquet, and the columns of an answer. Needs pyarrow, which a server does not: install it beside the engine where
Parquet is wanted. Leaves rows to `batch`.

Ray:    dataset.map_batches(ArrowPredictor, fn_constructor_args=["ml/churn"], batch_format="pyarrow", concurrency=2)
Spark:  frame.mapInArrow(lambda batches: (predictor(batch) for batch in batches), schema)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlsystem.errors import DataError, RegistryError
from mlsystem.schema import Schema, Table
from mlsystem.serving.batch import Line, RefusedRow, Write, predict_block
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.streams import BLOCK_ROWS, Block, completed, id_column, is_partial

try:
    import pyarrow  # noqa: ICN001 - `pa` is the same without its missing types
    import pyarrow.compute
    import pyarrow.parquet
except ModuleNotFoundError:
    text = "Parquet and Arrow need pyarrow, which is not installed: `pip install pyarrow`, or give CSV or JSON lines"
    raise DataError("pyarrow_missing", text) from None

if TYPE_CHECKING:
    from mlsystem.boundary import Strings
    from mlsystem.online.fill import Filler

pa, pc, pq = (cast("Any", module) for module in (pyarrow, pyarrow.compute, pyarrow.parquet))  # it has no types
RecordBatch = Any
"""pyarrow.RecordBatch."""


class ArrowPredictor:
    """A version of a system as a function from Arrow to Arrow; made once a process, called for every batch."""

    def __init__(self, directory: str | Path, version: int | None = None) -> None:
        """Load a version from the registry of the system in `directory`, by default the active one."""
        from mlsystem.registry import registry_of
        from mlsystem.stages import Workspace

        workspace = Workspace.open(Path(directory))
        registry = registry_of(workspace)
        wanted = registry.ledger().active if version is None else version
        if wanted is None:
            raise RegistryError("nothing_active", "no version is active; promote one with `python -m mlsystem promote`")
        self.model = Model(Package.stored(registry, wanted), name=workspace.spec.name)

    def __call__(self, rows: Any) -> Any:
        """Return the answers for a record batch or a table, as the same kind, in order."""
        if isinstance(rows, pa.RecordBatch):
            return predict_batch(self.model, rows)
        answers = [predict_batch(self.model, batch) for batch in rows.combine_chunks().to_batches()]
        return pa.Table.from_batches(answers, answer_schema(self.model.schema))


def predict_batch(model: Model, batch: RecordBatch, first: int = 1) -> RecordBatch:
    """Return the answers for the rows of a record batch, in order; a row without id is known by its number.

    Raises: DataError if columns that the model needs are missing, or cannot be written as text.
    """
    return _answers(predict_block(model, block_of(model, batch, first)), model.schema)


def block_of(model: Model, batch: RecordBatch, first: int, filler: Filler | None = None) -> Block:
    """Return the encoded rows of a record batch; `first` is the number of its first row."""
    names = batch.schema.names
    partial = is_partial(names, model, filler)
    missing = [name for name in model.boundary.required if name not in names]
    if missing and not partial:
        message = f"columns that the model needs are missing: {', '.join(missing)}"
        raise DataError("missing_columns", message, details=[{"column": name} for name in missing])
    wanted = {*model.boundary.required, model.needs.entity} if partial else model.boundary.required
    columns = {name: _texts(batch.column(name), name) for name in names if name in wanted}
    key = id_column(model.schema, names)
    ids = _texts(batch.column(key), key).tolist() if key else [""] * batch.num_rows
    ids = [name or str(number) for number, name in enumerate(ids, start=first)]
    if not partial:
        return Block(ids, {}, model.boundary.table(Table(columns, batch.num_rows)))
    rows = [
        dict(zip(columns, (text or None for text in row), strict=True)) for row in zip(*columns.values(), strict=True)
    ]
    return Block(ids, {}, completed(model, rows, filler))


def parquet_blocks(source: Path, model: Model, filler: Filler | None = None) -> Iterator[Block]:
    """Yield the rows of a Parquet file, partial ones completed by `filler`; only needed columns are read."""
    try:
        with pq.ParquetFile(source) as file:
            wanted = {*model.boundary.required, model.needs.entity, id_column(model.schema, file.schema_arrow.names)}
            names = [name for name in file.schema_arrow.names if name in wanted]
            first = 1
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=names):
                yield block_of(model, batch, first, filler)
                first += batch.num_rows
    except pa.ArrowInvalid as error:
        message = f"{source.name} is not a readable Parquet file: {str(error).splitlines()[0]}; write it again"
        raise DataError("bad_parquet", message) from None


@contextmanager
def parquet_writer(path: Path, schema: Schema) -> Generator[Write]:
    """Give what writes lines into a Parquet file."""
    with pq.ParquetWriter(path, answer_schema(schema)) as writer:
        yield lambda lines: writer.write_batch(_answers(lines, schema))


def answer_schema(schema: Schema) -> Any:
    """Return the columns of an answer; `prediction` is null and `error` says why where there is none."""
    labels = schema.task.labels
    return pa.schema(
        [
            ("id", pa.string()),
            ("version", pa.int64()),
            ("prediction", pa.string() if labels else pa.float64()),
            *((f"probability_{label}", pa.float64()) for label in labels),
            ("error", pa.string()),
        ]
    )


def _answers(lines: Sequence[Line], schema: Schema) -> RecordBatch:
    told = [None if isinstance(line, RefusedRow) else line for line in lines]
    columns: list[list[Any]] = [
        [line.id for line in lines],
        [line and line.version for line in told],
        [line and line.prediction for line in told],
        *([line and (line.probabilities or {})[label] for line in told] for label in schema.task.labels),
        [line.error if isinstance(line, RefusedRow) else None for line in lines],
    ]
    shape = answer_schema(schema)
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, shape.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=shape)


def _texts(column: Any, name: str) -> Strings:
    """Return a column as the texts that training reads from Parquet; "" where there is nothing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts = pc.fill_null(pc.cast(column, pa.string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError("bad_column", f"column {name!r} of type {column.type} holds no plain values") from None
    return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)
