"""What the history says: its entries, and the state that they fold into.

Owns the shape of an entry and the fold: versions, the active one, what a rollback returns to, what stands in for a
version that cannot be loaded. Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from mlsystem.errors import RegistryError

NO_HASH = "0" * 64
"""`previous_hash` of the first entry."""


class Event(StrEnum):
    """What an entry records."""

    REGISTERED = "registered"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    PRUNED = "pruned"
    ERASED = "erased"


class FileRef(msgspec.Struct, frozen=True):
    """A file of a version: the blob that holds it and its size."""

    sha256: str
    bytes: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the history."""

    number: int
    event: Event
    version: int
    digest: str
    """Digest of the version's package."""
    at: str
    """RFC 3339, UTC."""
    by: str
    why: str
    files: dict[str, FileRef] = {}
    """Registered: the files of the package."""
    data: dict[str, FileRef] = {}
    """Registered: what the version was made from; kept with it, not served. Erased: what is left of it."""
    evidence: dict[str, Any] = {}
    previous_hash: str
    hash: str

    @property
    def blobs(self) -> dict[str, FileRef]:
        """Everything that is kept for the version."""
        return {**self.data, **self.files}


@dataclass(frozen=True, slots=True)
class Note:
    """Who changes the registry, and why; what it rests on."""

    by: str
    why: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that is decided but not yet written."""

    event: Event
    version: int
    digest: str
    files: Mapping[str, FileRef] = field(default_factory=dict[str, FileRef])
    data: Mapping[str, FileRef] = field(default_factory=dict[str, FileRef])
    evidence: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Ledger:
    """The history folded: what there is and what is live."""

    head: int = 0
    head_hash: str = NO_HASH
    versions: Mapping[int, Entry] = field(default_factory=dict[int, Entry])
    """Every version ever registered."""
    pruned: frozenset[int] = frozenset()
    live: tuple[int, ...] = ()
    """Versions as they went live, the active one last; a rollback cuts the end off."""

    @property
    def active(self) -> int | None:
        """The version that servers answer with."""
        return self.live[-1] if self.live else None

    @property
    def candidates(self) -> tuple[int, ...]:
        """The versions that may answer, best first: the active one, then those that were live before it."""
        return tuple(version for version in dict.fromkeys(reversed(self.live)) if version not in self.pruned)

    @property
    def previous(self) -> int | None:
        """The version that a rollback returns to: the last other one that was live and is still there."""
        return next((version for version in self.candidates if version != self.active), None)

    @property
    def kept(self) -> tuple[int, ...]:
        """Versions whose packages are there, the oldest first."""
        return tuple(version for version in sorted(self.versions) if version not in self.pruned)

    def package_of(self, version: int) -> Entry:
        """Return the entry that registered `version`; RegistryError if there is none, or it was pruned."""
        if version not in self.versions:
            known = ", ".join(map(str, self.kept)) or "none"
            raise RegistryError("unknown_version", f"there is no version {version}; registered: {known}")
        if version in self.pruned:
            raise RegistryError(
                "pruned_version", f"version {version} was pruned (`registry.keep`); package it again to get it back"
            )
        return self.versions[version]

    def find(self, digest: str) -> int | None:
        """Return the newest version whose package has this digest and is there."""
        return next((v for v in reversed(self.kept) if self.versions[v].digest == digest), None)

    def then(self, entry: Entry) -> Ledger:
        """Return the ledger after `entry`."""
        after = replace(self, head=entry.number, head_hash=entry.hash)
        match entry.event:
            case Event.REGISTERED:
                return replace(after, versions={**self.versions, entry.version: entry})
            case Event.PROMOTED:
                return replace(after, live=(*self.live, entry.version))
            case Event.ROLLED_BACK:
                return replace(after, live=_cut_back(self.live, entry.version))
            case Event.PRUNED:
                return replace(after, pruned=self.pruned | {entry.version})
            case Event.ERASED if not entry.evidence.get("rows"):
                return after  # nobody of that name was in the data: the entry says that it was looked for
            case Event.ERASED:
                registered = self.versions[entry.version]
                erased = [*registered.evidence.get("erased", []), {"at": entry.at, **entry.evidence}]
                evidence = {**registered.evidence, "erased": erased}
                left = msgspec.structs.replace(registered, data=entry.data, evidence=evidence)
                return replace(after, versions={**self.versions, entry.version: left})


@dataclass(frozen=True, slots=True)
class Reign:
    """Which version was live at a moment: since the entry that made it so, until the one that ended it."""

    version: int | None
    began: Entry | None
    ended: Entry | None


def reign_at(entries: Iterable[Entry], moment: datetime) -> Reign:
    """Return what was live at a moment with a time zone.

    The order of the entries counts, not their clocks: an entry that claims an earlier time than the one before it
    (two machines, one of them slow) took effect when that one did.
    """
    ledger, began, effective = Ledger(), None, ""
    for entry in entries:
        after, effective = ledger.then(entry), max(effective, entry.at)
        if after.active != ledger.active:
            if datetime.fromisoformat(effective) > moment:
                return Reign(ledger.active, began, entry)
            began = entry
        ledger = after
    return Reign(ledger.active, began, None)


def _cut_back(live: tuple[int, ...], version: int) -> tuple[int, ...]:
    return live[: len(live) - live[::-1].index(version)]
