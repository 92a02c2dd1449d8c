"""A registered version with all that it was made from, laid out again wherever it is needed.

Owns what the registry keeps of a version besides the package that is served (the snapshot, the split, the result of
`validate`), and making a workspace of it in a scratch directory: the version's own spec, contract, hooks and rows,
whatever has become of the source and of system.toml since. Leaves what is done there to `reproduce` and `compare`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mlsystem.data import snapshot
from mlsystem.data.command import validate_stage
from mlsystem.data.dataset import SPLIT_FILE, Dataset, load
from mlsystem.data.origin import resolve
from mlsystem.data.snapshot import Snapshot
from mlsystem.errors import DataError, RegistryError
from mlsystem.hooks import HOOKS_FILE
from mlsystem.registry import Entry, FileRef, Registry
from mlsystem.serving.package import MANIFEST, SCHEMA
from mlsystem.spec import SPEC_FILE, Spec, parse_spec
from mlsystem.stages import RESULT, Workspace, read_result, stage_dir
from mlsystem.train.own import OWN
from mlsystem.train.record import RECORD, Record

_ROWS: Final = "snapshot/"
_SPLIT: Final = f"validate/{SPLIT_FILE}"
_VALIDATED: Final = f"validate/{RESULT}"
_OWN: Final = f"train/{OWN}"

Place = Literal["directory", "registry", "source"]
"""Where the rows of a version were found."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is on record."""

    entry: Entry
    files: Mapping[str, bytes]
    spec: Spec
    manifest: Mapping[str, Any]

    @property
    def number(self) -> int:
        """Its number in the registry."""
        return self.entry.version

    @property
    def snapshot(self) -> Snapshot:
        """The rows that it was made from."""
        return snapshot.record_of(self.manifest)

    @property
    def record(self) -> Record:
        """How it was trained; RegistryError for a version that an engine packaged which kept no record."""
        if RECORD not in self.files or _VALIDATED not in self.entry.data:
            text = f"version {self.number} was packaged by engine {self.manifest.get('engine', 'unknown')}, which kept "
            raise RegistryError("not_on_record", text + "neither plan nor split; train and package it again")
        return msgspec.json.decode(self.files[RECORD], type=Record)


@dataclass(frozen=True, slots=True)
class Laid:
    """A version laid out: a workspace of its own, and where its rows came from."""

    version: Version
    workspace: Workspace
    validated: str
    place: Place

    def load(self) -> Dataset:
        """Return the rows of the version, typed and split as they were."""
        return load(self.workspace, self.validated)


def archive(registry: Registry, workspace: Workspace, validated: str) -> dict[str, FileRef]:
    """Store what a validation decided, the rows if they are to be kept, and a model that the owner brought along.

    Returns the blobs by their names.
    """
    folder = stage_dir(workspace, "validate", validated)
    stored = {name: registry.put_file(folder / Path(name).name) for name in (_SPLIT, _VALIDATED)}
    kept = snapshot.record_of(read_result(workspace, "validate", validated))
    for file in kept.files if kept.path else ():
        stored[_ROWS + file.name] = registry.put_file(workspace.root / kept.path / file.name)
    if workspace.spec.search.model:
        stored[_OWN] = registry.put_file(workspace.root / workspace.spec.search.model)
    return stored


def read_version(registry: Registry, number: int | None = None) -> Version:
    """Return a version, the active one or else the newest if none is named; RegistryError if there is none."""
    ledger = registry.ledger()
    wanted = number if number is not None else ledger.active or max(ledger.kept, default=0)
    if not wanted:
        raise RegistryError("nothing_registered", "no version is registered; run `package` first")
    entry = ledger.package_of(wanted)
    files = registry.files(entry)
    spec = parse_spec(files[SPEC_FILE], f"{SPEC_FILE} of version {wanted}")
    return Version(entry, files, spec, msgspec.json.decode(files[MANIFEST], type=dict[str, Any]))


@contextlib.contextmanager
def laid_out(version: Version, registry: Registry, workspace: Workspace) -> Generator[Laid]:
    """Lay a version out in a scratch directory, for as long as the context lasts.

    Rows come from `data/snapshots`, else from the registry, else from the source if it still gives the same bytes.
    Raises: RegistryError if too little of it is on record, DataError if its rows are nowhere.
    """
    _ = version.record
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        root = Path(scratch)
        place = _rows(version, registry, workspace.root, root)
        (root / SPEC_FILE).write_bytes(version.files[SPEC_FILE])
        if HOOKS_FILE in version.files:
            (root / HOOKS_FILE).write_bytes(version.files[HOOKS_FILE])
        if _OWN in version.entry.data:
            registry.fetch(version.entry.data[_OWN].sha256, root / OWN)
        own = Workspace(root, _from_snapshot(version, root), workspace.reporter)
        validated = validate_stage(own).digest(own)
        folder = stage_dir(own, "validate", validated)
        folder.mkdir(parents=True)
        (folder / SCHEMA).write_bytes(version.files[SCHEMA])
        for name in (_SPLIT, _VALIDATED):
            registry.fetch(version.entry.data[name].sha256, folder / Path(name).name)
        yield Laid(version, own, validated, place)


def _from_snapshot(version: Version, root: Path) -> Spec:
    """Return the version's spec with the snapshot as its source: a query has been run, and is not run again."""
    folder = snapshot.folder_of(root, version.snapshot.digest)
    source = tuple(str(path.relative_to(root)) for path in sorted(folder.iterdir()))
    data = msgspec.structs.replace(version.spec.data, source=source, query="")
    brought = OWN if version.spec.search.model else ""
    return msgspec.structs.replace(
        version.spec, data=data, search=msgspec.structs.replace(version.spec.search, model=brought)
    )


def _rows(version: Version, registry: Registry, system: Path, root: Path) -> Place:
    """Put the rows of a version below `root`, and check that they are the ones."""
    _require_whole(version)
    wanted = version.snapshot
    folder, kept = (snapshot.folder_of(place, wanted.digest) for place in (root, system))
    folder.parent.mkdir(parents=True)
    if kept.is_dir():
        snapshot.check(kept, wanted)
        folder.symlink_to(kept, target_is_directory=True)
        return "directory"
    blobs = {name.removeprefix(_ROWS): ref for name, ref in version.entry.data.items() if name.startswith(_ROWS)}
    if blobs:
        folder.mkdir()
        for name, ref in blobs.items():
            registry.fetch(ref.sha256, folder / name)
        snapshot.check(folder, wanted)
        return "registry"
    origin = resolve(version.spec.data, system)
    if origin.digest != wanted.digest:
        text = f"the rows of version {version.number} are gone: its spec kept their digest alone (data.snapshot), and "
        raise DataError("source_changed", text + f"the source no longer gives {wanted.digest[:12]}; restore it first")
    snapshot.keep(origin, root)
    return "source"


def _require_whole(version: Version) -> None:
    """Refuse a version some of whose rows were erased since: without them it cannot become what it was."""
    erased = version.entry.evidence.get("erased")
    if erased:
        text = f"rows of {len(erased)} person(s) were erased from what version {version.number} was made from, "
        text += f"the last at {erased[-1]['at']}; what is left makes another model, so this one cannot be replayed"
        raise DataError("rows_erased", text)
