"""The command `materialize`: the newest row of every entity goes into the state, for callers that send less.

Owns which rows these are: of the source as it is now, outcomes known or not, the last of each entity by `data.time`.
They hold what the served version's contract needs and are read by the very same boundary, so that a row answered
online is the row scored offline. Personal data that is masked stays out. Leaves completing rows to `online.fill`.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from mlsystem.boundary import Numbers, Strings, category_column, moment_column, number_column
from mlsystem.data import origin
from mlsystem.data.privacy import Masked
from mlsystem.data.reader import Rows, read_files, told
from mlsystem.data.stored import forget
from mlsystem.errors import DataError, RegistryError
from mlsystem.governance.regimes import stores_masked
from mlsystem.online import TABLE, WATERMARK
from mlsystem.online.fill import Needs
from mlsystem.registry import registry_of
from mlsystem.schema import Column, Schema
from mlsystem.serving.examples import example_rows
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.spec import Spec, seconds
from mlsystem.stages import Workspace
from mlsystem.state import OnlineRow, state_of

_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest row of every entity: positions in the source, and until when the data have been seen."""

    entities: Strings
    places: np.ndarray[Any, np.dtype[np.intp]]
    watermark: float


def materialize(workspace: Workspace, _options: Namespace | None = None) -> dict[str, object]:
    """Command `materialize`: write the online rows and return how many, of how many entities, and how old they are.

    Raises: RegistryError if no version is registered, DataError `no_entity` if its rows are about nobody.
    """
    model = _served(workspace)
    needs = Needs.of(model.schema, model.boundary)
    if not needs.entity:
        text = "rows of this system are about no entity, so nothing can be looked up; name the column in data.entity"
        raise DataError("no_entity", text)
    spec, began = workspace.spec, time.time()
    workspace.reporter.progress("materialize", 0.0, "reading the source")
    origin.refresh(spec.data, workspace.root)
    found = origin.resolve(spec.data, workspace.root)
    with told(), read_files(found.paths, spec.data.reader, threads=spec.search.threads) as rows:
        _require_columns(rows, needs)
        newest = _newest(rows, model.schema, needs.entity, now=began)
        workspace.reporter.progress("materialize", 0.5, f"{len(newest.places):,} entities in {rows.count:,} rows")
        state = state_of(workspace)
        try:
            written = state.put_rows(TABLE, _online(rows, spec, model.schema, newest, needs))
            told_s = {
                "watermark": newest.watermark,
                "at": began,
                "entities": len(newest.places),
                "version": model.name.version,
            }
            state.put(WATERMARK, msgspec.json.encode(told_s))
        finally:
            state.close()
        read = rows.count
    if stores_masked(spec):
        forget(found, workspace.root)
    ttl_s = seconds(spec.monitoring.freshness)
    return {
        **told_s,
        "rows": read,
        "written": written,
        "columns": sorted(needs.required),
        "ttl_s": ttl_s,
        "stale": newest.watermark < began - ttl_s,
    }


def _served(workspace: Workspace) -> Model:
    """Return the active version, or else the newest: the rows are made for it."""
    registry = registry_of(workspace)
    ledger = registry.ledger()
    version = ledger.active or max(ledger.kept, default=0)
    if not version:
        raise RegistryError("nothing_registered", "no version is registered; run `package` first")
    return Model(Package.stored(registry, version), name=workspace.spec.name)


def _require_columns(rows: Rows, needs: Needs) -> None:
    missing = sorted({needs.entity, *needs.required} - set(rows.names))
    if missing:
        text = f"the source lacks {', '.join(map(repr, missing))}, which the served version needs; give them, or train "
        raise DataError("no_column", text + "and promote a version without them first")


def _newest(rows: Rows, schema: Schema, entity: str, *, now: float) -> Newest:
    """Return the last row of every entity by time, by place where there is no time or it is the same."""
    entities = category_column(rows.column(entity), schema.reader.null)
    column = next((column for column in schema.columns if column.role == "time"), None)
    times = _times(rows, column, schema) if column else np.zeros(rows.count)
    order = np.argsort(np.nan_to_num(times, nan=-np.inf), kind="stable")
    last: dict[str, int] = dict(zip(entities[order].tolist(), order.tolist(), strict=True))
    last.pop("", None)
    dated = column is not None and column.type in {"date", "datetime"} and not np.isnan(times).all()
    watermark = float(np.nanmax(times)) if dated else now
    return Newest(np.array(list(last), object), np.array(list(last.values()), np.intp), watermark)


def _times(rows: Rows, column: Column, schema: Schema) -> Numbers:
    texts = rows.column(column.name)
    if column.type in {"date", "datetime"}:
        return moment_column(texts, column.format or "iso", schema.reader.null)[0]
    return number_column(texts, column.decimal, schema.reader.null)[0]


def _online(rows: Rows, spec: Spec, schema: Schema, newest: Newest, needs: Needs) -> Iterator[OnlineRow]:
    """Yield the rows as a caller would send them, batch by batch."""
    columns: Mapping[str, Strings] = Masked(rows.columns(), {column.name: column for column in schema.columns}, spec)
    picked = {name: columns[name][newest.places] for name in sorted(needs.required)}
    for start in range(0, len(newest.places), _BATCH):
        stop = min(start + _BATCH, len(newest.places))
        texts = [{name: picked[name][place] for name in picked} for place in range(start, stop)]
        for entity, values in zip(newest.entities[start:stop], example_rows(schema, texts), strict=True):
            yield OnlineRow(str(entity), values, newest.watermark)
