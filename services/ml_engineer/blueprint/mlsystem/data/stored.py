"""The rows as they are stored where data are under a regime: without what identifies, and without what nothing needs.

Owns which columns stay: features, target, weight, and the time that orders the rows, of which dates of people are their
place in that order. Whom a row is about stays as a keyed digest, so that groups stay together and a person can be found
to be erased. A digest under a key that lies in the same registry is a pseudonym and no de-identification: whoever reads
`keys/` can test a guess. Training, `reproduce` and `compare` read these rows and no others. Leaves what is personal
data to the contract.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mlsystem.boundary import Strings, canonical, moment_column
from mlsystem.data.canonical import FILE, write_rows
from mlsystem.data.origin import EXTRACT, Origin
from mlsystem.data.reader import TABLE, Rows
from mlsystem.data.source import file_digest
from mlsystem.governance.kinds import Detector
from mlsystem.governance.mask import reduction
from mlsystem.governance.pii import in_value
from mlsystem.governance.pseudonym import pseudonym
from mlsystem.governance.regimes import orders_alone, strays
from mlsystem.schema import Column, Schema
from mlsystem.spec import Spec

_BATCH: Final = 10_000
_REMEMBERED: Final = 10_000
"""Different values of a column that are looked at once."""
_NEEDED: Final = frozenset({"feature", "target", "weight", "time"})

Cell = Callable[[str], str]


def naming(schema: Schema) -> tuple[str, ...]:
    """Return the columns that say whom a row is about: the entity, else what names the row."""
    entity = tuple(column.name for column in schema.columns if column.role == "entity")
    return entity or tuple(column.name for column in schema.columns if column.role == "id")


@contextlib.contextmanager
def masked(rows: Rows, schema: Schema, spec: Spec, secret: Callable[[], bytes]) -> Generator[Origin]:
    """Give the rows as they may be stored, in one file of canonical text that is gone at the end.

    `secret` is called if a column names somebody; RegistryError if it cannot be had.
    """
    cells = {rows.names.index(name): cell for name, cell in _cells(rows, schema, spec, functools.cache(secret)).items()}
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        path = Path(scratch) / FILE
        write_rows(path, rows.names, _masked(rows, cells))
        yield Origin(file_digest(path), (path,))


def forget(origin: Origin, root: Path) -> None:
    """Remove what a query gave: under a regime only the masked rows of it are stored."""
    folder = origin.paths[0].parent
    if folder.parent == root / EXTRACT:
        shutil.rmtree(folder)


def _cells(rows: Rows, schema: Schema, spec: Spec, secret: Callable[[], bytes]) -> dict[str, Cell]:
    """Return what is made of the texts of a column, for each column that does not stay as it is."""
    ordinal = orders_alone(schema, spec)
    named, cells = naming(schema), dict[str, Cell]()
    for column in schema.columns:
        if column.name in named:
            cells[column.name] = functools.partial(_hidden, secret=secret)
        elif column.role not in _NEEDED:
            cells[column.name] = _blank
        elif column.role == "time" and ordinal:
            cells[column.name] = _places(rows.column(column.name), column, schema).__getitem__
        elif reduced := reduction(column):
            cells[column.name] = reduced
        elif column.role == "feature" and column.type in {"category", "text"}:
            cells[column.name] = functools.partial(_without_stray, kinds=strays(spec))
    return {name: functools.lru_cache(_REMEMBERED)(cell) for name, cell in cells.items()}


def _places(texts: Strings, column: Column, schema: Schema) -> dict[str, str]:
    """Return the place of every date in the order of all different ones, as text; nothing for what is no date."""
    found = np.unique(texts.astype(str)).astype(object)
    moments = moment_column(found, column.format or "iso", schema.reader.null)[0]
    known = ~np.isnan(moments)
    places = np.unique(moments[known], return_inverse=True)[1]
    return dict.fromkeys(found.tolist(), "") | dict(zip(found[known].tolist(), map(str, places.tolist()), strict=True))


def _masked(rows: Rows, cells: Mapping[int, Cell]) -> Iterator[Sequence[str]]:
    picked = ", ".join(rows.sql_name(name) for name in rows.names)
    cursor = rows.connection.execute(f"SELECT {picked} FROM {TABLE}")  # noqa: S608 - generated names
    for batch in iter(lambda: cursor.fetchmany(_BATCH), []):
        for row in batch:
            values = list(row)
            for place, cell in cells.items():
                values[place] = cell(values[place])
            yield values


def _blank(_text: str) -> str:
    return ""


def _hidden(text: str, secret: Callable[[], bytes]) -> str:
    name = canonical(text)
    return pseudonym(name, secret()) if name else ""


def _without_stray(text: str, kinds: Sequence[Detector]) -> str:
    return "" if in_value(text.strip(), kinds) else text
