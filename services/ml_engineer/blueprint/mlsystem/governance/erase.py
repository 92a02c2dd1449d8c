"""The command `erase`: a person's rows leave captures, outcomes, online rows and every snapshot that is kept.

Owns the order (state, versions in the registry, copies on disk) and what is written down: who erased, when, why, from
which versions, and a keyed digest in the place of the name. Running it again erases what came meanwhile. Leaves the
models as they are, since a model is no record of anybody, and the source to its owner.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mlsystem.boundary import canonical
from mlsystem.data import snapshot
from mlsystem.data.canonical import FILE, write_rows
from mlsystem.data.origin import EXTRACT, resolve
from mlsystem.data.reader import TABLE, Rows, read_files, told
from mlsystem.data.source import digest_of
from mlsystem.data.stored import forget, naming
from mlsystem.errors import DataError, SpecError
from mlsystem.governance.pseudonym import pseudonym, secret_of
from mlsystem.governance.regimes import stores_masked
from mlsystem.registry import Entry, FileRef, Note, Registry, registry_of, whoami
from mlsystem.schema import Schema, read_schema
from mlsystem.serving.package import MANIFEST, SCHEMA
from mlsystem.spec import ReaderOptions
from mlsystem.stages import Workspace, publish, scratch_beside
from mlsystem.state import state_of

_ROWS: Final = "snapshot/"
_SPLIT: Final = "validate/split.npy"
"""What says on which side a row was; it counts rows, so it is of no use once some are gone."""
_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a snapshot."""

    file: Path
    digest: str
    removed: int


@dataclass(slots=True)
class _Erasure:
    """One run: whom, in whose name, and what was found so far."""

    workspace: Workspace
    registry: Registry
    entity: str
    note: Note
    scratch: Path
    subject: str
    seen: dict[str, Left | None] = field(default_factory=dict[str, "Left | None"])
    """Digest of a snapshot -> what is left of it; None: the entity is not in it."""


def erase(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `erase --entity X [--by WHO] [--why TEXT]`: return what was removed, and from what.

    Raises: StateError, RegistryError or DataError if something cannot be reached; what was done before stays done.
    """
    entity = canonical(str(options.entity))
    if not entity:
        raise SpecError("usage", "name whom to erase: --entity VALUE, as it stands in the data")
    registry = registry_of(workspace)
    subject = pseudonym(entity, secret_of(registry))
    note = Note(options.by or whoami(), options.why or "")
    with told(), tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        erasure = _Erasure(workspace, registry, entity, note, Path(scratch), subject)
        removed = state_of(workspace).erase(entity)
        versions = _versions(erasure)
        folders = _folders(erasure)
        return {
            "subject": subject,
            "state": msgspec.to_builtins(removed),
            "versions": versions,
            "snapshots": folders,
            "source_rows": _at_the_source(erasure),
            "text": _told(erasure, versions),
        }


def _versions(erasure: _Erasure) -> list[dict[str, object]]:
    """Replace the snapshot of every version that holds the entity; leave one line in the history in any case."""
    found = [change for version in erasure.registry.ledger().kept if (change := _version(erasure, version))]
    ledger = erasure.registry.ledger()
    if not found and ledger.kept:
        version = ledger.active or ledger.kept[-1]
        entry = ledger.package_of(version)
        _append(erasure, entry, entry.data, {"rows": 0})
    return found


def _version(erasure: _Erasure, version: int) -> dict[str, object] | None:
    entry = erasure.registry.ledger().package_of(version)
    names = [name for name in entry.data if name.startswith(_ROWS)]
    if not names:
        return None
    files = erasure.registry.files(entry)
    manifest = msgspec.json.decode(files[MANIFEST], type=dict[str, Any])
    digest = str(manifest["snapshot"]["digest"])
    columns = _naming(msgspec.json.decode(files[SCHEMA], type=Schema))
    left = _left(erasure, _fetched(erasure, entry, names), columns)
    if left is None:
        return None
    kept = {name: ref for name, ref in entry.data.items() if name not in names and name != _SPLIT}
    data = {**kept, _ROWS + FILE: erasure.registry.put_file(left.file)}
    change: dict[str, object] = {"snapshot": digest, "without": left.digest, "rows": left.removed}
    _append(erasure, entry, data, change)
    return {"version": version, **change}


def _append(erasure: _Erasure, entry: Entry, data: Mapping[str, FileRef], what: Mapping[str, object]) -> None:
    evidence = {"subject": erasure.subject, **what}
    erasure.registry.erase(entry.version, data, Note(erasure.note.by, erasure.note.why, evidence))


def _fetched(erasure: _Erasure, entry: Entry, names: Sequence[str]) -> list[Path]:
    """Return the files of a version's snapshot, fetched once for versions that share them."""
    paths: list[Path] = []
    for name in names:
        folder = erasure.scratch / "fetched" / entry.data[name].sha256
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name.removeprefix(_ROWS)
        if not path.is_file():
            erasure.registry.fetch(entry.data[name].sha256, path)
        paths.append(path)
    return paths


def _folders(erasure: _Erasure) -> list[dict[str, object]]:
    """Replace the copies on disk that hold the entity, and remove what was read of a database."""
    columns = _naming(read_schema(erasure.workspace.root / "schema.json"))
    found: list[dict[str, object]] = []
    for folder in _copies(erasure.workspace.root):
        left = _left(erasure, sorted(folder.iterdir()), columns)
        if left is None:
            continue
        if folder.parent.name == "snapshots":
            _put(erasure.workspace.root, left)
        shutil.rmtree(folder)
        found.append({"snapshot": folder.name, "without": left.digest, "rows": left.removed})
    return found


def _copies(root: Path) -> Iterator[Path]:
    for place in (snapshot.folder_of(root, "x").parent, root / EXTRACT):
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _put(root: Path, left: Left) -> None:
    final = snapshot.folder_of(root, left.digest)
    if not final.is_dir():
        with scratch_beside(final) as scratch:
            shutil.copyfile(left.file, scratch / FILE)
            publish(scratch, final)


def _left(erasure: _Erasure, paths: Sequence[Path], columns: Sequence[str]) -> Left | None:
    """Return what is left of some files without the entity, None if it is not in them."""
    digest = digest_of(list(paths))
    if digest not in erasure.seen:
        with _read(erasure, paths) as rows:
            erasure.seen[digest] = _written(erasure, rows, columns, digest)
    return erasure.seen[digest]


def _read(erasure: _Erasure, paths: Sequence[Path]) -> Rows:
    """Read files as the spec says; what the engine wrote itself is read as it writes."""
    own = all(path.name == FILE for path in paths)
    return read_files(list(paths), ReaderOptions() if own else erasure.workspace.spec.data.reader)


def _written(erasure: _Erasure, rows: Rows, columns: Sequence[str], digest: str) -> Left | None:
    about = _about(erasure, rows, columns)
    removed = int(about.sum())
    if not removed:
        return None
    rows.keep(~about)
    folder = erasure.scratch / "left" / digest
    folder.mkdir(parents=True)
    picked = ", ".join(rows.sql_name(name) for name in rows.names)
    cursor = rows.connection.execute(f"SELECT {picked} FROM {TABLE}")  # noqa: S608 - generated names
    write_rows(
        folder / FILE, rows.names, (row for batch in iter(lambda: cursor.fetchmany(_BATCH), []) for row in batch)
    )
    return Left(folder / FILE, digest_of([folder / FILE]), removed)


def _about(erasure: _Erasure, rows: Rows, columns: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell for each row whether it is about the entity, by its name or what stands for it in masked rows."""
    about = np.zeros(rows.count, dtype=np.bool_)
    known = {erasure.entity, erasure.subject}
    for name in columns:
        if name in rows.names:
            about |= np.array([canonical(text) in known for text in rows.column(name).tolist()], dtype=np.bool_)
    return about


def _naming(schema: Schema) -> tuple[str, ...]:
    """Return the columns that say whom a row is about; DataError for none."""
    found = naming(schema)
    if not found:
        text = "no column of the data says whom a row is about, so nobody can be found in it; set data.entity and run "
        raise DataError("no_entity", text + "`validate` again")
    return found


def _at_the_source(erasure: _Erasure) -> int | None:
    """Return how many rows the source still has about the entity; None if it cannot be read."""
    columns = _naming(read_schema(erasure.workspace.root / "schema.json"))
    with contextlib.suppress(DataError, OSError):
        origin = resolve(erasure.workspace.spec.data, erasure.workspace.root)
        with read_files(list(origin.paths), erasure.workspace.spec.data.reader) as rows:
            left = int(_about(erasure, rows, columns).sum())
        if stores_masked(erasure.workspace.spec):
            forget(origin, erasure.workspace.root)
        return left
    return None


def _told(erasure: _Erasure, versions: Sequence[Mapping[str, object]]) -> str:
    numbers = ", ".join(str(change["version"]) for change in versions)
    if not numbers:
        return "no snapshot that is kept holds rows about them; captures, outcomes and online rows were removed"
    return (
        f"their rows left the snapshots of versions {numbers}; these models learned from them and stay as they are: "
        f"train again without them if that is asked for ({erasure.subject} stands for them in the history)"
    )
