"""The registry: which packages exist, which version is live, and how that came to be.

Owns two kinds of objects in one store: blobs named by their SHA-256, and a history of numbered entries
`history/000001.json`. An entry is only ever created, never changed: a create-only put of the next number is
compare-and-set, so there is no lock, and of two promoters one wins. Each entry carries the hash of the one before
it. Everything else (versions, the active one, what a rollback returns to) is a fold of the history.
The port to the outside is obstore's ObjectStore: a directory here, a bucket with the same code.

Command line: `promote`, `rollback`, `history`, each `fn(workspace, options) -> dict`.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from mlsystem.errors import GateFailed, RegistryError, SpecError

if TYPE_CHECKING:
    import argparse

    from obstore.store import ObjectStore

    from mlsystem.stages import Workspace

NO_HASH = "0" * 64
"""`previous_hash` of the first entry."""

_ATTEMPTS = 20
"""Lost races before an append gives up: each loss means that another writer got on."""

_SWEEP_AGE = timedelta(hours=1)
"""Blobs that no kept version names are removed when they are this old: a registration that is still under way
uploads its blobs before its entry names them, and takes seconds."""

_ENTRY_NAME = re.compile(r"(\d{6,})\.json")
"""Anything else in the folder is none of ours: what a file manager left there, a copy, a note."""

_canonical = msgspec.json.Encoder(order="sorted")


class Event(StrEnum):
    """What an entry records."""

    REGISTERED = "registered"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    PRUNED = "pruned"


class FileRef(msgspec.Struct, frozen=True):
    """A file of a package: the blob that holds it and its size."""

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
    evidence: dict[str, Any] = {}
    previous_hash: str
    hash: str


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
    evidence: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Move:
    """What a promotion or a rollback came to; `changed` is False when the version was live already."""

    version: int
    previous: int | None
    changed: bool

    def as_result(self) -> dict[str, object]:
        """Return the result object of the command."""
        return {"version": self.version, "previous": self.previous, "changed": self.changed}


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
    def previous(self) -> int | None:
        """The version that a rollback returns to: the last other one that was live and is still there."""
        earlier = [v for v in self.live[:-1] if v != self.active and v not in self.pruned]
        return earlier[-1] if earlier else None

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


class Registry:
    """Packages and their history in one object store."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock

    @classmethod
    def open(cls, url: str, root: Path) -> Registry:
        """Open the registry at `url`: a directory, relative to `root`; it is made if it is not there."""
        if "://" in url:
            raise SpecError("not_supported_yet", f"registry.url = {url!r}: only a directory is supported yet")
        with _told_plainly():
            return cls(LocalStore(prefix=root / url, mkdir=True))

    # ---- reading

    def entries(self) -> Iterator[Entry]:
        """Yield the whole history, checked: RegistryError `tampered` where the chain is broken."""
        numbers = self._numbers()
        if numbers != list(range(1, len(numbers) + 1)):
            raise _tampered("entries are missing", sorted(set(range(1, numbers[-1])) - set(numbers)))
        previous = NO_HASH
        for number in numbers:
            entry = _checked(self._read(_entry_path(number)) or b"", number, previous)
            previous = entry.hash
            yield entry

    def ledger(self) -> Ledger:
        """Return the history folded."""
        return reduce(Ledger.then, self.entries(), Ledger())

    def follow(self, ledger: Ledger) -> Ledger:
        """Return `ledger` with what has come since; costs one failed read when nothing has."""
        while (data := self._read(_entry_path(ledger.head + 1))) is not None:
            ledger = ledger.then(_checked(data, ledger.head + 1, ledger.head_hash))
        return ledger

    def files(self, package: Entry) -> dict[str, bytes]:
        """Return the files of a registered package, each checked against its digest."""
        return {name: self.blob(ref.sha256) for name, ref in package.files.items()}

    def blob(self, sha256: str) -> bytes:
        """Return a blob; RegistryError `tampered` if it is missing or its bytes are not those it is named by."""
        data = self._read(_blob_path(sha256))
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            state = "missing" if data is None else "not what was stored"
            raise RegistryError("tampered", f"blob {sha256} is {state}; restore the registry from a backup")
        return data

    def verify(self) -> list[dict[str, object]]:
        """Return what is wrong with history and blobs, one object a finding; nothing for a sound registry.

        A chain cannot tell that its newest entries were removed: keep the last hash elsewhere to see that too.
        """
        ledger = Ledger()
        try:
            for entry in self.entries():
                ledger = ledger.then(entry)
        except RegistryError as error:
            return [error.as_json()]
        return [problem for version in ledger.kept for problem in self._blob_problems(ledger.versions[version])]

    # ---- writing

    def register(self, files: Mapping[str, bytes], digest: str, note: Note, *, keep: int = 10) -> tuple[int, bool]:
        """Store a package as the next version and return it, with whether it is new.

        A package whose digest is there already is not stored again. Beyond `keep` packages the oldest are pruned,
        never the active one or the one that a rollback returns to.
        """
        present = self.ledger().find(digest)
        if present is not None:
            return present, False
        refs = {name: self._put_blob(data) for name, data in files.items()}

        def decide(ledger: Ledger) -> Draft | None:
            if ledger.find(digest) is not None:
                return None
            return Draft(Event.REGISTERED, max(ledger.versions, default=0) + 1, digest, refs)

        ledger, entry = self._append(decide, note)
        if entry is None:
            return cast("int", ledger.find(digest)), False
        self._prune(keep, note.by)
        return entry.version, True

    def promote(self, version: int | None, note: Note) -> Move:
        """Make `version` the active one, the newest that may be served if None.

        Raises: GateFailed if its gates do not allow serving; RegistryError `conflict` if another promotion or
        rollback came in between, so that nobody undoes what they have not seen.
        """
        seen = self.ledger().active

        def decide(ledger: Ledger) -> Draft | None:
            _same_active(seen, ledger)
            package = _servable(ledger, version)
            if package.version == ledger.active:
                return None
            return Draft(Event.PROMOTED, package.version, package.digest, evidence=_promotion_evidence(package, seen))

        return self._move(decide, note)

    def rollback(self, to: int | None, note: Note) -> Move:
        """Return to `to`, the version that was live before if None.

        Raises: RegistryError if there is nothing to return to, `to` was never live, or another came in between.
        """
        seen = self.ledger().active

        def decide(ledger: Ledger) -> Draft | None:
            _same_active(seen, ledger)
            target = _rollback_target(ledger, to)
            if target == ledger.active:
                return None
            package = ledger.package_of(target)
            return Draft(Event.ROLLED_BACK, target, package.digest, evidence={"from": ledger.active})

        return self._move(decide, note)

    def _move(self, decide: Callable[[Ledger], Draft | None], note: Note) -> Move:
        ledger, entry = self._append(decide, note)
        if ledger.active is None:
            raise RegistryError("nothing_active", "no version is active; promote one first")
        return Move(ledger.active, ledger.previous, entry is not None)

    def _append(self, decide: Callable[[Ledger], Draft | None], note: Note) -> tuple[Ledger, Entry | None]:
        """Write what `decide` makes of the ledger; whoever loses the race for a number decides anew."""
        ledger = self.ledger()
        for _ in range(_ATTEMPTS):
            draft = decide(ledger)
            if draft is None:
                return ledger, None
            entry = self._entry(ledger, draft, note)
            if self._create(_entry_path(entry.number), _canonical.encode(entry)):
                return ledger.then(entry), entry
            ledger = self.follow(ledger)
        raise RegistryError("busy", f"the registry changed {_ATTEMPTS} times meanwhile; try again")

    def _entry(self, ledger: Ledger, draft: Draft, note: Note) -> Entry:
        entry = Entry(
            number=ledger.head + 1,
            event=draft.event,
            version=draft.version,
            digest=draft.digest,
            at=self._clock().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            by=note.by,
            why=note.why,
            files=dict(draft.files),
            evidence={**note.evidence, **draft.evidence},
            previous_hash=ledger.head_hash,
            hash="",
        )
        return msgspec.structs.replace(entry, hash=_hash(msgspec.to_builtins(entry)))

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
        named = {_blob_path(ref.sha256) for version in ledger.kept for ref in ledger.versions[version].files.values()}
        latest = self._clock() - _SWEEP_AGE
        with _told_plainly():
            blobs = [meta for chunk in obstore.list(self._store, prefix="blobs") for meta in chunk]
            spare = [blob["path"] for blob in blobs if blob["path"] not in named and blob["last_modified"] < latest]
            obstore.delete(self._store, spare)

    # ---- the store

    def _numbers(self) -> list[int]:
        with _told_plainly():
            chunks = obstore.list(self._store, prefix="history")
            names = [Path(meta["path"]).name for chunk in chunks for meta in chunk]
        return sorted(int(found.group(1)) for name in names if (found := _ENTRY_NAME.fullmatch(name)))

    def _blob_problems(self, package: Entry) -> Iterator[dict[str, object]]:
        for name, ref in package.files.items():
            try:
                self.blob(ref.sha256)
            except RegistryError as error:
                yield {**error.as_json(), "version": package.version, "file": name}

    def _read(self, path: str) -> bytes | None:
        with _told_plainly():
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def _put_blob(self, data: bytes) -> FileRef:
        """Store a blob, also over an equal one: its age then says that it is wanted."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._put(_blob_path(sha256), data, "overwrite")
        return FileRef(sha256, len(data))

    def _create(self, path: str, data: bytes) -> bool:
        """Write an object that is not there yet; False, and nothing written, if it is."""
        try:
            self._put(path, data, "create")
        except AlreadyExistsError:
            return False
        return True

    def _put(self, path: str, data: bytes, mode: obstore.PutMode) -> None:
        with _told_plainly():
            obstore.put(self._store, path, data, mode=mode, use_multipart=False)


@contextlib.contextmanager
def _told_plainly() -> Generator[None]:
    """Turn what a store fails with into one error that says what to do; a lost race is no failure."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (OSError, BaseError) as error:
        message = f"the registry cannot be used: {error}; check `registry.url` and its access rights"
        raise RegistryError("registry_unusable", message) from error


def _entry_path(number: int) -> str:
    return f"history/{number:06d}.json"


def _blob_path(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


def _hash(entry: Mapping[str, object]) -> str:
    """Return the SHA-256 of an entry's canonical JSON without its own hash."""
    return hashlib.sha256(_canonical.encode({name: v for name, v in entry.items() if name != "hash"})).hexdigest()


def _checked(data: bytes, number: int, previous: str) -> Entry:
    """Decode an entry and check its place in the chain; fields that this version does not know are hashed too."""
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        entry = msgspec.convert(raw, Entry)
    except msgspec.MsgspecError as error:
        raise _tampered(f"not an entry ({error})", [number]) from error
    if (entry.number, entry.previous_hash, entry.hash) != (number, previous, _hash(raw)):
        raise _tampered("it does not fit the chain of hashes", [number])
    return entry


def _tampered(what: str, numbers: list[int]) -> RegistryError:
    places = ", ".join(map(str, numbers))
    message = f"the registry's history was changed: entry {places}: {what}; restore it from a backup"
    return RegistryError("tampered", message, details=[{"number": number} for number in numbers])


def _cut_back(live: tuple[int, ...], version: int) -> tuple[int, ...]:
    return live[: len(live) - live[::-1].index(version)]


def _same_active(seen: int | None, ledger: Ledger) -> None:
    if ledger.active != seen:
        raise RegistryError(
            "conflict", f"version {ledger.active} went live meanwhile; look at `history`, then decide again"
        )


def _servable(ledger: Ledger, version: int | None) -> Entry:
    if version is None:
        found = next((v for v in reversed(ledger.kept) if ledger.versions[v].evidence.get("servable")), None)
        if found is None:
            raise RegistryError("nothing_to_promote", "no version may be served; run `package` first")
        version = found
    package = ledger.package_of(version)
    if not package.evidence.get("servable"):
        raise GateFailed("not_servable", f"version {version} failed gates that serving needs; see its metrics.json")
    return package


def _promotion_evidence(package: Entry, active: int | None) -> dict[str, object]:
    return {"from": active, "outcome": package.evidence.get("outcome")}


def _rollback_target(ledger: Ledger, to: int | None) -> int:
    target = ledger.previous if to is None else to
    if target is None:
        raise RegistryError("nothing_to_roll_back_to", "no earlier version was live; promote another one instead")
    if target not in ledger.live:
        raise RegistryError("never_live", f"version {target} was never live; `promote` it instead")
    return target


# ---- commands


def promote(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`promote [VERSION] [--by WHO] [--why TEXT]`: make a version the active one."""
    return registry_of(workspace).promote(options.version, _note(options)).as_result()


def rollback(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`rollback [--to V] [--by WHO] [--why TEXT]`: return to a version that was live before."""
    return registry_of(workspace).rollback(options.to, _note(options)).as_result()


def history(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:  # noqa: ARG001 - table's shape
    """`history`: every entry, after the chain and all blobs were checked."""
    registry = registry_of(workspace)
    problems = registry.verify()
    if problems:
        raise RegistryError("tampered", str(problems[0]["message"]), details=problems)
    ledger = registry.ledger()
    entries = [_told(entry) for entry in registry.entries()]
    return {"active": ledger.active, "previous": ledger.previous, "entries": entries}


def registry_of(workspace: Workspace) -> Registry:
    """Return the registry of a system."""
    return Registry.open(workspace.spec.registry.url, workspace.root)


def whoami() -> str:
    """Return the account's name, or its number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _note(options: argparse.Namespace) -> Note:
    return Note(by=options.by or whoami(), why=options.why or "")


def _told(entry: Entry) -> dict[str, object]:
    """Return an entry without its list of files, and with a sentence for people."""
    told = cast("dict[str, object]", msgspec.to_builtins(entry))
    sentence = f"{entry.at} version {entry.version} {entry.event.value} by {entry.by}"
    text = f"{sentence}: {entry.why}" if entry.why else sentence
    return {**{name: value for name, value in told.items() if name != "files"}, "text": text}
