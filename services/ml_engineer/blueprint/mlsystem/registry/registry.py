"""The registry: which packages exist, which version is live, and how that came to be.

Owns two kinds of objects in one store: blobs named by their SHA-256, and a history of numbered entries
`history/000001.json`. An entry is only ever created, never changed: a create-only put of the next number is
compare-and-set, so there is no lock, and of two promoters one wins. That put is the moment at which a change takes
place: whoever is killed before it has changed nothing, after it everything. Everything else (versions, the active
one, what a rollback returns to) is a fold of the history.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, cast

from mlsystem.errors import RegistryError
from mlsystem.output import timestamp
from mlsystem.registry.chain import checked, checked_all, sealed, written
from mlsystem.registry.derived import derived
from mlsystem.registry.ledger import Draft, Entry, Event, FileRef, Ledger, Note
from mlsystem.registry.rules import promotion_evidence, rollback_target, same_active, servable
from mlsystem.registry.store import Objects, open_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_ATTEMPTS: Final = 20
"""Lost races before an append gives up: each loss means that another writer got on."""

_SWEEP_AGE: Final = timedelta(hours=1)
"""Blobs that no kept version names are removed when they are this old: a registration that is still under way
uploads its blobs before its entry names them, and takes seconds."""

_ENTRY_NAME: Final = re.compile(r"(\d{6,})\.json")
"""Anything else in the folder is none of ours: what a file manager left there, a copy, a note."""


@dataclass(frozen=True, slots=True)
class Move:
    """What a promotion or a rollback came to; `changed` is False when the version was live already."""

    version: int
    previous: int | None
    changed: bool

    def as_result(self) -> dict[str, object]:
        """Return the result object of the command."""
        return {"version": self.version, "previous": self.previous, "changed": self.changed}


class Registry:
    """Packages and their history in one object store."""

    def __init__(
        self, store: ObjectStore | Objects, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.objects = store if isinstance(store, Objects) else Objects(store)
        self._clock = clock

    @classmethod
    def open(cls, url: str, root: Path) -> Registry:
        """Open the registry at `url`: a directory, relative to `root` and made if missing, or `s3://bucket/prefix`."""
        return cls(open_store(url, root))

    # ---- reading

    def entries(self) -> Iterator[Entry]:
        """Yield the whole history, checked: RegistryError `tampered` where the chain is broken."""
        numbers = self.numbers()
        yield from checked_all(numbers, self.objects.read_all([entry_path(number) for number in numbers]))

    def numbers(self) -> list[int]:
        """Return the numbers of the entries that are there."""
        names = [PurePosixPath(path).name for path, _ in self.objects.paths("history")]
        return sorted(int(found.group(1)) for name in names if (found := _ENTRY_NAME.fullmatch(name)))

    def ledger(self) -> Ledger:
        """Return the history folded."""
        return reduce(Ledger.then, self.entries(), Ledger())

    def follow(self, ledger: Ledger) -> Ledger:
        """Return `ledger` with what has come since; costs one failed read when nothing has."""
        while (data := self.objects.read(entry_path(ledger.head + 1))) is not None:
            ledger = ledger.then(checked(data, ledger.head + 1, ledger.head_hash))
        return ledger

    def files(self, package: Entry) -> dict[str, bytes]:
        """Return the files of a registered package, each checked against its digest."""
        return {name: self.blob(ref.sha256) for name, ref in package.files.items()}

    def blob(self, sha256: str) -> bytes:
        """Return a blob; RegistryError `tampered` if it is missing or its bytes are not those it is named by."""
        data = self.objects.read(blob_path(sha256))
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise _bad_blob(sha256, missing=data is None)
        return data

    def fetch(self, sha256: str, to: Path) -> None:
        """Write a blob of any size to a file, which is there whole or not at all; RegistryError as for `blob`."""
        found, digest = False, hashlib.sha256()
        descriptor, name = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in self.objects.chunks(blob_path(sha256)):
                    found = True
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise _bad_blob(sha256, missing=not found)
            Path(name).replace(to)
        finally:
            Path(name).unlink(missing_ok=True)

    # ---- writing

    def register(
        self,
        files: Mapping[str, bytes],
        digest: str,
        note: Note,
        *,
        keep: int = 10,
        data: Mapping[str, FileRef] | None = None,
    ) -> tuple[int, bool]:
        """Store a package as the next version and return it, with whether it is new.

        `data` names blobs that were put before and are kept as long as the version is. A package whose digest is
        there already is not stored again. Beyond `keep` packages the oldest are pruned, never the active one or the
        one that a rollback returns to.
        """
        present = self.ledger().find(digest)
        if present is not None:
            return present, False
        refs = {name: self.put_blob(content) for name, content in files.items()}

        def decide(ledger: Ledger) -> Draft | None:
            if ledger.find(digest) is not None:
                return None
            return Draft(Event.REGISTERED, max(ledger.versions, default=0) + 1, digest, refs, data or {})

        ledger, entry = self._append(decide, note)
        if entry is None:
            return cast("int", ledger.find(digest)), False
        self._prune(keep, note.by)
        self._settle(ledger)
        return entry.version, True

    def promote(self, version: int | None, note: Note) -> Move:
        """Make `version` the active one, the newest that may be served if None.

        Raises: GateFailed if its gates do not allow serving; RegistryError `tampered` if its files are not what was
        stored, `conflict` if another promotion or rollback came in between, so that nobody undoes what they have not
        seen.
        """
        seen = self.ledger().active

        def decide(ledger: Ledger) -> Draft | None:
            same_active(seen, ledger)
            package = servable(ledger, version)
            if package.version == ledger.active:
                return None
            self.files(package)
            return Draft(Event.PROMOTED, package.version, package.digest, evidence=promotion_evidence(package, seen))

        return self._move(decide, note)

    def rollback(self, to: int | None, note: Note) -> Move:
        """Return to `to`, the version that was live before if None.

        Raises: RegistryError if there is nothing to return to, `to` was never live, its files are not what was
        stored, or another came in between.
        """
        seen = self.ledger().active

        def decide(ledger: Ledger) -> Draft | None:
            same_active(seen, ledger)
            target = rollback_target(ledger, to)
            if target == ledger.active:
                return None
            package = ledger.package_of(target)
            self.files(package)
            return Draft(Event.ROLLED_BACK, target, package.digest, evidence={"from": ledger.active})

        return self._move(decide, note)

    def erase(self, version: int, data: Mapping[str, FileRef], note: Note) -> Entry:
        """Let what is left of a version's data take its place; blobs that nothing names any more go at once.

        The model stays what it is. Raises: RegistryError `unknown_version`, `pruned_version`.
        """

        def decide(ledger: Ledger) -> Draft:
            return Draft(Event.ERASED, version, ledger.package_of(version).digest, {}, data)

        before = self.ledger().package_of(version).data
        ledger, entry = self._append(decide, note)
        named = {ref.sha256 for kept in ledger.kept for ref in ledger.versions[kept].blobs.values()}
        gone = {ref.sha256 for ref in before.values()} - named
        self.objects.delete([blob_path(sha256) for sha256 in sorted(gone)])
        self._derive(ledger)
        return cast("Entry", entry)

    def put_blob(self, data: bytes) -> FileRef:
        """Store a blob, also over an equal one: its age then says that it is wanted."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.objects.replace(blob_path(sha256), data)
        return FileRef(sha256, len(data))

    def put_file(self, path: Path) -> FileRef:
        """Store a file of any size as a blob; one that was stored just now is not sent again."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        written_at = self.objects.changed_at(blob_path(sha256))
        if written_at is None or written_at < self._clock() - _SWEEP_AGE / 2:
            self.objects.upload(blob_path(sha256), path)
        return FileRef(sha256, path.stat().st_size)

    def derive(self) -> list[str]:
        """Make the derived files that are missing or wrong anew; return their paths."""
        return self._derive(self.ledger())

    def _move(self, decide: Callable[[Ledger], Draft | None], note: Note) -> Move:
        ledger, entry = self._append(decide, note)
        if ledger.active is None:
            raise RegistryError("nothing_active", "no version is active; promote one first")
        if entry is not None:
            self._settle(ledger)
        return Move(ledger.active, ledger.previous, entry is not None)

    def _append(self, decide: Callable[[Ledger], Draft | None], note: Note) -> tuple[Ledger, Entry | None]:
        """Write what `decide` makes of the ledger; whoever loses the race for a number decides anew."""
        ledger = self.ledger()
        for _ in range(_ATTEMPTS):
            draft = decide(ledger)
            if draft is None:
                return ledger, None
            at = timestamp(self._clock(), to="milliseconds")
            entry = sealed(ledger, draft, note, at)
            if self.objects.create(entry_path(entry.number), written(entry)):
                return ledger.then(entry), entry
            ledger = self.follow(ledger)
        raise RegistryError("busy", f"the registry changed {_ATTEMPTS} times meanwhile; try again")

    def _settle(self, ledger: Ledger) -> None:
        """Bring the derived files up to a change that has taken place: that they cannot be written undoes nothing.

        `registry verify` finds files that stayed behind.
        """
        with contextlib.suppress(RegistryError):
            self._derive(ledger)

    def _derive(self, ledger: Ledger) -> list[str]:
        """Write the derived files; the last of several writers at once leaves those of the newest entry."""
        changed: list[str] = []
        while True:
            for path, content in derived(ledger).items():
                if self.objects.read(path) != content:
                    self.objects.replace(path, content)
                    changed.append(path)
            newer = self.follow(ledger)
            if newer.head == ledger.head:
                return sorted(set(changed))
            ledger = newer

    def _prune(self, keep: int, by: str) -> None:
        def decide(ledger: Ledger) -> Draft | None:
            held = {ledger.active, ledger.previous}
            spare = [version for version in ledger.kept if version not in held]
            if len(ledger.kept) <= keep or len(spare) <= 1:  # the newest is never spare: it was just made
                return None
            return Draft(Event.PRUNED, spare[0], ledger.versions[spare[0]].digest)

        while self._append(decide, Note(by, f"registry.keep = {keep}"))[1] is not None:
            pass
        self._sweep()

    def _sweep(self) -> None:
        ledger = self.ledger()
        named = {blob_path(ref.sha256) for version in ledger.kept for ref in ledger.versions[version].blobs.values()}
        latest = self._clock() - _SWEEP_AGE
        self.objects.delete(path for path, at in self.objects.paths("blobs") if path not in named and at < latest)


def entry_path(number: int) -> str:
    """Return where an entry is."""
    return f"history/{number:06d}.json"


def blob_path(sha256: str) -> str:
    """Return where a blob is."""
    return f"blobs/sha256/{sha256}"


def _bad_blob(sha256: str, *, missing: bool) -> RegistryError:
    state = "missing" if missing else "not what was stored"
    return RegistryError(
        "tampered", f"blob {sha256} is {state}; `python -m mlsystem registry repair`, or restore it from a backup"
    )
