"""Where the rows of a spec come from: files as they are, a query over files, or a query of a database.

Owns the three ways to one answer, which files of text to read. What a query gives is written once, as canonical
text, to `work/extract/<digest>/`; what it gave is pinned there, so that every stage after `validate` works on the same
rows, whatever happens to the tables in between. Leaves keeping the bytes for good to `snapshot`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mlsystem.data import canonical, database
from mlsystem.data.database import Result
from mlsystem.data.query import Views, open_views
from mlsystem.data.source import digest_of, file_digest, find_files
from mlsystem.errors import StageMissing
from mlsystem.spec import Data
from mlsystem.stages import publish, scratch_beside

EXTRACT: Final = "work/extract"


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that rows were read from: a file with its digest, or a database with that of its query."""

    name: str
    """Path relative to the system, or `env:VAR`."""
    sha256: str
    bytes: int = 0
    database: str = ""
    """The database's URL without what is secret; empty for a file."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Files of text to read the rows from, under the digest of their bytes."""

    digest: str
    paths: tuple[Path, ...]


def fingerprint(data: Data, root: Path) -> str:
    """Return what changes when the source does; StageMissing for a database that was not read yet."""
    if database.is_database(data.source):
        pin = root / EXTRACT / _pin_name(data)
        if not pin.is_file():
            raise _unread()
        return pin.read_text(encoding="utf-8").strip()
    files = find_files(data.source, root)
    if not data.query:
        return digest_of(files)
    named = "\n".join(f"{file_digest(path)} {path.name}" for path in files)
    return hashlib.sha256(named.encode()).hexdigest()


def refresh(data: Data, root: Path) -> None:
    """Read a database anew and pin what it gave; files are looked at whenever they are needed."""
    if database.is_database(data.source):
        found = _from_database(data, root)
        pin = root / EXTRACT / _pin_name(data)
        scratch = pin.with_name(f".{pin.name}.{os.getpid()}")
        scratch.write_text(f"{found.digest}\n", encoding="utf-8")
        scratch.replace(pin)


def resolve(data: Data, root: Path, looked_at: Callable[[Views], None] = lambda _: None) -> Origin:
    """Return the files to read; `looked_at` is given the tables of a query over files while they are there."""
    if database.is_database(data.source):
        digest = fingerprint(data, root)
        extract = root / EXTRACT / digest / canonical.FILE
        if not extract.is_file():
            raise _unread()
        return Origin(digest, (extract,))
    files = find_files(data.source, root)
    if not data.query:
        return Origin(digest_of(files), files)
    with open_views(files, data.reader) as views:
        made = _extract(views.select(data.query), root)
        looked_at(views)
    return made


def inputs_of(data: Data, root: Path) -> tuple[Input, ...]:
    """Return what the rows are read from, for the record of where a model comes from."""
    if database.is_database(data.source):
        found = database.named(data.source, os.environ)
        query = hashlib.sha256(data.query.encode()).hexdigest()
        return (Input(f"env:{found.variable}", query, database=found.redacted),)
    return tuple(
        Input(os.path.relpath(path, root), file_digest(path), path.stat().st_size)
        for path in find_files(data.source, root)
    )


def _from_database(data: Data, root: Path) -> Origin:
    source = database.named(data.source, os.environ)
    with database.select(source, data.query, root) as result:
        return _extract(result, root)


def _extract(result: Result, root: Path) -> Origin:
    """Write what a query gives under its digest."""
    with scratch_beside(root / EXTRACT / "rows") as scratch:
        written = scratch / canonical.FILE
        canonical.write_rows(written, result.names, result.rows)
        digest = file_digest(written)
        final = root / EXTRACT / digest
        if not final.is_dir():
            publish(scratch, final)
    return Origin(digest, (final / canonical.FILE,))


def _unread() -> StageMissing:
    text = "what the database gave is not here; run `python -m mlsystem validate`, which reads it"
    return StageMissing("stage_missing", text)


def _pin_name(data: Data) -> str:
    """Return the name under which the digest of what a database gave is noted: another query is another one."""
    key: Sequence[Any] = (data.source, data.query)
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()[:16] + ".digest"
