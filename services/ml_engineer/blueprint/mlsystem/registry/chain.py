"""The chain of hashes: how an entry is written, and how a changed one is found.

Each entry carries the SHA-256 of its own canonical JSON and that of the entry before, so that nobody rewrites the
past unseen. A chain cannot tell that its newest entries were removed: keep the last hash elsewhere to see that too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mlsystem.errors import RegistryError
from mlsystem.registry.ledger import NO_HASH, Draft, Entry, Ledger, Note

_canonical = msgspec.json.Encoder(order="sorted")


def sealed(ledger: Ledger, draft: Draft, note: Note, at: str) -> Entry:
    """Return the entry that follows the ledger's last one."""
    entry = Entry(
        number=ledger.head + 1,
        event=draft.event,
        version=draft.version,
        digest=draft.digest,
        at=at,
        by=note.by,
        why=note.why,
        files=dict(draft.files),
        data=dict(draft.data),
        evidence={**note.evidence, **draft.evidence},
        previous_hash=ledger.head_hash,
        hash="",
    )
    return msgspec.structs.replace(entry, hash=_hash(msgspec.to_builtins(entry)))


def written(entry: Entry) -> bytes:
    """Return the bytes of an entry."""
    return _canonical.encode(entry)


def checked(data: bytes, number: int, previous: str) -> Entry:
    """Decode an entry and check its place in the chain; fields that this version does not know are hashed too.

    Raises: RegistryError `tampered`.
    """
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        entry = msgspec.convert(raw, Entry)
    except msgspec.MsgspecError as error:
        raise tampered(f"not an entry ({error})", [number]) from error
    if (entry.number, entry.previous_hash, entry.hash) != (number, previous, _hash(raw)):
        raise tampered("it does not fit the chain of hashes", [number])
    return entry


def checked_all(numbers: Sequence[int], contents: Iterable[bytes]) -> Iterator[Entry]:
    """Yield the entries of a whole history; RegistryError `tampered` where one is missing or does not fit."""
    if list(numbers) != list(range(1, len(numbers) + 1)):
        raise tampered("entries are missing", sorted(set(range(1, numbers[-1])) - set(numbers)))
    previous = NO_HASH
    for number, data in zip(numbers, contents, strict=True):
        entry = checked(data, number, previous)
        previous = entry.hash
        yield entry


def tampered(what: str, numbers: list[int]) -> RegistryError:
    """Return the error about entries of the history."""
    places = ", ".join(map(str, numbers))
    message = f"the registry's history was changed: entry {places}: {what}; restore it from a backup"
    return RegistryError("tampered", message, details=[{"number": number} for number in numbers])


def _hash(entry: Mapping[str, object]) -> str:
    """Return the SHA-256 of an entry's canonical JSON without its own hash."""
    return hashlib.sha256(_canonical.encode({name: v for name, v in entry.items() if name != "hash"})).hexdigest()
