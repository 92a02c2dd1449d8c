"""The bytes that a model saw, kept under their digest in `data/snapshots/<digest>/`.

Owns copying a source there in one step and finding it again. With `data.snapshot = "digest"` nothing is copied: the
source is read again where it is, and must not have changed. Leaves parsing to `reader`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from mlsystem.data.source import SourceFile, digest_of, find_files
from mlsystem.errors import DataError
from mlsystem.spec import Spec
from mlsystem.stages import publish, scratch_beside


def keep(files: Sequence[SourceFile], digest: str, root: Path) -> Path:
    """Copy the files under their digest, unless they are there; return the directory."""
    final = root / "data" / "snapshots" / digest
    if not final.is_dir():
        with scratch_beside(final) as scratch:
            for index, file in enumerate(files):
                shutil.copyfile(file.path, scratch / _name(index, file.path, len(files)))
            publish(scratch, final)
    return final


def locate(spec: Spec, digest: str, root: Path) -> tuple[str, ...]:
    """Return the paths to read for a digest: the copy, else the source if it still has these bytes."""
    folder = root / "data" / "snapshots" / digest
    if folder.is_dir():
        return tuple(str(path) for path in sorted(folder.iterdir()))
    paths = find_files(spec.data.source, root)
    if digest_of(paths) != digest:
        text = (
            f"the source has changed and no copy of what was validated ({digest[:12]}) was kept; run `validate` again"
        )
        raise DataError("source_changed", text)
    return tuple(str(path) for path in paths)


def _name(index: int, path: Path, count: int) -> str:
    return path.name if count == 1 else f"{index:04d}-{path.name}"
