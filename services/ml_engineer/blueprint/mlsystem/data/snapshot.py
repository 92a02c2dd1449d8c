"""The bytes that a model saw, kept under their digest in `data/snapshots/<digest>/`.

Owns copying them there in one step, finding them again, and what a record says about them. Files of the source are
kept byte for byte, so that their digest is the one that their owner computes; the rows of a query as canonical text,
and where data are under a regime so are the rows that `stored` leaves of either.
With `data.snapshot = "digest"` nothing is kept: the source is read again, and must give the same bytes. Leaves the
copy in the registry to `archive`, parsing to `reader`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mlsystem.data.canonical import is_canonical
from mlsystem.data.origin import EXTRACT, Origin, resolve
from mlsystem.data.source import digest_of, file_digest
from mlsystem.errors import DataError
from mlsystem.spec import Data
from mlsystem.stages import publish, scratch_beside


class Kept(msgspec.Struct, frozen=True):
    """One file of a snapshot."""

    name: str
    sha256: str
    bytes: int


class Snapshot(msgspec.Struct, frozen=True):
    """What is on record about the rows that were validated."""

    digest: str
    rows: int
    path: str = ""
    """Relative to the system; empty if nothing was kept."""
    files: tuple[Kept, ...] = ()
    masked: bool = False
    """Whether these are not the bytes of the source but its rows without what identifies, as a regime asks."""
    ordinal: bool = False
    """Whether its time is a place in the order of the rows and no date."""


def folder_of(root: Path, digest: str) -> Path:
    """Return where the snapshot of a digest is, or would be."""
    return root / "data" / "snapshots" / digest


def describe(origin: Origin, rows: int, *, kept: bool) -> Snapshot:
    """Return the record of a snapshot."""
    count = len(origin.paths)
    named = [(_name(index, path, count), path) for index, path in enumerate(origin.paths)]
    files = tuple(Kept(name, file_digest(path), path.stat().st_size) for name, path in named)
    return Snapshot(origin.digest, rows, f"data/snapshots/{origin.digest}" if kept else "", files)


def keep(origin: Origin, root: Path) -> None:
    """Copy the files under their digest, unless they are there."""
    final = folder_of(root, origin.digest)
    if not final.is_dir():
        with scratch_beside(final) as scratch:
            for index, path in enumerate(origin.paths):
                _take(path, scratch / _name(index, path, len(origin.paths)))
            if digest_of(sorted(scratch.iterdir())) != origin.digest:
                raise DataError("source_changed", "the source changed while it was copied; run `validate` again")
            publish(scratch, final)


def _take(path: Path, copy: Path) -> None:
    """Copy a file; what the engine wrote itself, and nobody writes again, is the same file under a second name."""
    if is_canonical(path):
        with contextlib.suppress(OSError):  # a file system without links, or another one
            copy.hardlink_to(path)
            return
    shutil.copyfile(path, copy)


def locate(data: Data, digest: str, root: Path) -> tuple[Path, ...]:
    """Return the files to read for a digest: the copy, else the source if it still gives these bytes."""
    for folder in (folder_of(root, digest), root / EXTRACT / digest):
        if folder.is_dir():
            return tuple(sorted(folder.iterdir()))
    origin = resolve(data, root)
    if origin.digest != digest:
        text = (
            f"the source has changed and no copy of what was validated ({digest[:12]}) was kept; run `validate` again"
        )
        raise DataError("source_changed", text)
    return origin.paths


def check(folder: Path, snapshot: Snapshot) -> None:
    """Refuse a copy whose bytes are not those of its digest, as after a failing disk."""
    paths = sorted(folder.iterdir())
    if not paths or digest_of(paths) != snapshot.digest:
        text = f"the snapshot {folder.name} does not have the bytes that it is named by; delete {folder} and run again"
        raise DataError("damaged_snapshot", text)


def record_of(result: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot that the result of `validate`, or a manifest, names."""
    return msgspec.convert(result["snapshot"], Snapshot)


def _name(index: int, path: Path, count: int) -> str:
    return path.name if count == 1 else f"{index:04d}-{path.name}"
