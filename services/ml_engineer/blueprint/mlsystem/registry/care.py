"""Looking after a registry: what is wrong with it, and mending what can be mended.

Owns the closed list of findings and the repair of each: derived files are made from the history, blobs are put back
from files of the system that have the same digest, so that nothing can come back that was not there. The history
itself is not touched, with one exception: a newest entry that is no JSON is a write that a loss of power cut off, of
which nobody was told that it took place; it is set aside. Entries that are missing or changed come back from a backup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from mlsystem.errors import RegistryError
from mlsystem.registry.derived import derived
from mlsystem.registry.ledger import Ledger
from mlsystem.registry.registry import Registry, blob_path, entry_path

_KEPT_IN: Final = ("work/package/*/*", "data/snapshots/*/*")
"""Where a system has copies of what it registered."""


class Fault(StrEnum):
    """What can be wrong with a registry."""

    HISTORY = "tampered"
    TORN = "torn_entry"
    BLOB_MISSING = "blob_missing"
    BLOB_CHANGED = "blob_changed"
    DERIVED_MISSING = "derived_missing"
    DERIVED_WRONG = "derived_wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in a sentence that says what to do."""

    fault: Fault
    message: str
    path: str = ""
    version: int | None = None
    file: str = ""
    number: int | None = None

    def as_json(self) -> dict[str, object]:
        """Return the finding as it stands in results."""
        places = {"path": self.path, "version": self.version, "file": self.file, "number": self.number}
        told = {name: value for name, value in places.items() if value not in ("", None)}
        return {"code": self.fault.value, "message": self.message, **told}


def verify(registry: Registry) -> tuple[Ledger, list[Finding]]:
    """Return the history folded as far as it is sound, and what is wrong with it, the blobs, the derived files."""
    ledger = Ledger()
    try:
        for entry in registry.entries():
            ledger = ledger.then(entry)
    except RegistryError as error:
        if error.code != Fault.HISTORY:
            raise
        return ledger, [_broken(registry, ledger, error)]
    return ledger, [*_blobs(registry, ledger), *_derived(registry, ledger)]


def repair(registry: Registry, root: Path) -> tuple[list[str], list[Finding]]:
    """Mend what can be mended; return a sentence for each thing that was done, and what is still wrong."""
    _, findings = verify(registry)
    done = [_set_aside(registry, finding) for finding in findings if finding.fault is Fault.TORN]
    findings = verify(registry)[1] if done else findings
    if any(finding.fault is Fault.HISTORY for finding in findings):
        return done, findings
    wanted = {_sha256(finding.path): finding for finding in findings if finding.fault.value.startswith("blob")}
    done += [_put_back(registry, path, wanted[digest]) for digest, path in _copies(root, set(wanted))]
    done += [f"{path} was made anew from the history" for path in registry.derive()]
    return done, verify(registry)[1]


def _broken(registry: Registry, ledger: Ledger, error: RegistryError) -> Finding:
    """Return the finding about the first entry that does not follow."""
    number = ledger.head + 1
    if registry.numbers()[-1] == number and not _is_json(registry.objects.read(entry_path(number)) or b""):
        message = f"entry {number}, the newest, was cut off while it was written: `registry repair` sets it aside"
        return Finding(Fault.TORN, message, entry_path(number), number=number)
    named = [number for detail in error.details if isinstance(number := detail.get("number"), int)]
    return Finding(Fault.HISTORY, error.message, number=named[0] if named else None)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return True


def _set_aside(registry: Registry, finding: Finding) -> str:
    """Move a torn entry to a name that is no entry's."""
    aside = f"{finding.path}.torn"
    registry.objects.replace(aside, registry.objects.read(finding.path) or b"")
    registry.objects.delete([finding.path])
    return f"entry {finding.number}, which was cut off, was set aside as {aside}"


def _blobs(registry: Registry, ledger: Ledger) -> Iterator[Finding]:
    seen: dict[str, Fault | None] = {}
    for version in ledger.kept:
        for name, ref in ledger.versions[version].blobs.items():
            if ref.sha256 not in seen:
                seen[ref.sha256] = _fault(registry, ref.sha256)
            if (fault := seen[ref.sha256]) is not None:
                state = "missing" if fault is Fault.BLOB_MISSING else "not what was stored"
                message = f"{name} of version {version} is {state}: `registry repair`, or restore it from a backup"
                yield Finding(fault, message, blob_path(ref.sha256), version, name)


def _fault(registry: Registry, sha256: str) -> Fault | None:
    digest = registry.objects.digest(blob_path(sha256))
    return None if digest == sha256 else Fault.BLOB_MISSING if digest is None else Fault.BLOB_CHANGED


def _derived(registry: Registry, ledger: Ledger) -> Iterator[Finding]:
    """Compare the derived files with the history; one that was never made is only missing where something happened."""
    for path, content in derived(ledger).items() if ledger.head else ():
        found = registry.objects.read(path)
        if found is None:
            yield Finding(Fault.DERIVED_MISSING, f"{path} is missing: `registry repair` makes it anew", path)
        elif found != content:
            yield Finding(Fault.DERIVED_WRONG, f"{path} is not what the history says: `registry repair`", path)


def _copies(root: Path, wanted: set[str]) -> Iterator[tuple[str, Path]]:
    """Yield a file of the system for every digest that is wanted and found."""
    missing = set(wanted)
    for pattern in _KEPT_IN:
        for path in sorted(root.glob(pattern)) if missing else ():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest in missing:
                missing.remove(digest)
                yield digest, path


def _put_back(registry: Registry, path: Path, finding: Finding) -> str:
    registry.objects.upload(finding.path, path)
    return f"{finding.file} of version {finding.version} was put back from {path}"


def _sha256(path: str) -> str:
    return path.rsplit("/", 1)[-1]
