"""A state that knows nobody by name: entities are kept under a keyed digest where data are under a regime.

Owns the digest, the secret behind it and the wrapper around a state, so that nobody who captures, joins or erases has
to care. The secret lies in the registry, apart from the state: whoever holds one of them cannot tell whom a capture is
about (GDPR, article 4(5); 45 CFR 164.514(c)). Serve side. Leaves which values are masked to `mask`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from mlsystem.registry import Registry
from mlsystem.state.port import Captured, Claim, Erased, Joined, OnlineRow, Outcome, Recorded, State, Window

SECRET: Final = "keys/pseudonym"  # noqa: S105 - where it lies, not what it is
"""Path of the secret in the registry; created once, never replaced: another one would orphan what is kept."""
_BYTES: Final = 32


def secret_of(registry: Registry) -> bytes:
    """Return the secret of a system, made on first use; whoever comes second takes the first one's."""
    found = registry.objects.read(SECRET)
    if found is None:
        made = secrets.token_bytes(_BYTES)
        found = made if registry.objects.create(SECRET, made) else registry.objects.read(SECRET)
    return found or b""


def pseudonym(entity: str, secret: bytes) -> str:
    """Return what stands for an entity: 32 hex digits of HMAC-SHA-256; nobody stays nobody."""
    return hmac.new(secret, entity.encode(), hashlib.sha256).hexdigest()[:32] if entity else ""


def pseudonymous(state: State, secret: Callable[[], bytes]) -> State:
    """Return the same state with every entity under its pseudonym; `secret` is called when first needed."""
    return _Pseudonymous(state, secret)


class _Pseudonymous:
    """Translates entities on their way in; what comes out holds pseudonyms."""

    def __init__(self, state: State, secret: Callable[[], bytes]) -> None:
        self._state, self._make = state, secret
        self._secret = b""

    def _hidden(self, entity: str) -> str:
        if not self._secret:
            self._secret = self._make()
        return pseudonym(entity, self._secret)

    def capture(self, rows: Sequence[Captured]) -> None:
        self._state.capture([msgspec.structs.replace(row, entity=self._hidden(row.entity)) for row in rows])

    def record(self, outcomes: Sequence[Outcome]) -> Recorded:
        return self._state.record(
            [msgspec.structs.replace(told, entity=self._hidden(told.entity)) for told in outcomes]
        )

    def captures(self, *, since: float, until: float, version: int | None = None) -> Iterator[Joined]:
        return self._state.captures(since=since, until=until, version=version)

    def save_windows(self, windows: Sequence[Window]) -> None:
        self._state.save_windows(windows)

    def windows(self, *, since: float, until: float) -> list[Window]:
        return self._state.windows(since=since, until=until)

    def put_rows(self, table: str, rows: Iterable[OnlineRow]) -> int:
        return self._state.put_rows(
            table, (msgspec.structs.replace(row, entity=self._hidden(row.entity)) for row in rows)
        )

    def rows(self, table: str, entities: Sequence[str]) -> list[OnlineRow | None]:
        """Return the rows under the names that were asked for."""
        found = self._state.rows(table, [self._hidden(entity) for entity in entities])
        return [
            msgspec.structs.replace(row, entity=entity) if row else None
            for entity, row in zip(entities, found, strict=True)
        ]

    def put(self, key: str, value: bytes) -> None:
        self._state.put(key, value)

    def get(self, key: str) -> bytes | None:
        return self._state.get(key)

    def erase(self, entity: str) -> Erased:
        return self._state.erase(self._hidden(entity))

    def expire(self, before: float) -> int:
        return self._state.expire(before)

    def claim(self, replica: str, lease_s: float) -> None:
        self._state.claim(replica, lease_s)

    def release(self, replica: str) -> None:
        self._state.release(replica)

    def claims(self) -> list[Claim]:
        return self._state.claims()

    def close(self) -> None:
        self._state.close()
