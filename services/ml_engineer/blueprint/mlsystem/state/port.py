"""The port to what a running system remembers: captured predictions, outcomes, sketches, online rows, small facts.

Owns the records and the contract that every store keeps; all times are seconds since 1970, UTC. A store may be used
from several threads, blocks, and is never called from an event loop. Leaves what the records mean to those who write
and read them, and the models' history to the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec


class Captured(msgspec.Struct, frozen=True, gc=False):
    """A prediction that was answered."""

    id: str
    at: float
    version: int
    entity: str
    """Whom the row was about; empty if the system has no entities."""
    prediction: str | float
    scores: tuple[float, ...]
    """Probabilities in the order of the contract's labels, or the one value."""
    features: Any
    """The row's feature columns as they came, masked, a dict; None where they are not kept. Who writes may have encoded
    them (`msgspec.Raw`): what waits is then small, and what the row was made of is free."""


class Outcome(msgspec.Struct, frozen=True):
    """What really happened: named by the prediction's id, or by an entity and a time.

    With a time it belongs to the newest prediction for the entity at or before it, without one to the newest of all.
    """

    actual: str | float
    at: float
    """When it was told."""
    id: str = ""
    entity: str = ""
    time: float | None = None


class Recorded(msgspec.Struct, frozen=True):
    """What became of some outcomes; a prediction keeps the first outcome that it is given."""

    accepted: int
    unknown: int
    duplicate: int


class Joined(msgspec.Struct, frozen=True):
    """A prediction with its outcome, if that has come."""

    captured: Captured
    actual: str | float | None
    outcome_at: float | None


class Window(msgspec.Struct, frozen=True):
    """A sketch of the traffic that one worker saw for one version from `start` on."""

    start: float
    version: int
    worker: str
    content: bytes


class OnlineRow(msgspec.Struct, frozen=True):
    """The newest known feature values of an entity."""

    entity: str
    values: dict[str, Any]
    watermark: float
    """Until when what is known about the entity has gone into the values."""


class Erased(msgspec.Struct, frozen=True):
    """What was removed about an entity."""

    captures: int
    outcomes: int
    rows: int


class Claim(msgspec.Struct, frozen=True):
    """A replica that serves on this state, until when."""

    replica: str
    until: float


class State(Protocol):
    """A store. Every method raises StateError, with what to do, if the store cannot be used."""

    def capture(self, rows: Sequence[Captured]) -> None:
        """Keep predictions; one whose id is there already is left as it is."""
        ...

    def record(self, outcomes: Sequence[Outcome]) -> Recorded:
        """Join outcomes to predictions, all or none of them."""
        ...

    def captures(self, *, since: float, until: float, version: int | None = None) -> Iterator[Joined]:
        """Yield what was predicted in [since, until), the oldest first, reading as it goes."""
        ...

    def save_windows(self, windows: Sequence[Window]) -> None:
        """Keep sketches; one of the same start, version and worker is replaced."""
        ...

    def windows(self, *, since: float, until: float) -> list[Window]:
        """Return the sketches that start in [since, until), the oldest first."""
        ...

    def put_rows(self, table: str, rows: Iterable[OnlineRow]) -> int:
        """Keep online rows, except where the table's row is newer; return how many were written."""
        ...

    def rows(self, table: str, entities: Sequence[str]) -> list[OnlineRow | None]:
        """Return the online rows of these entities in this order."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep a small fact under a name."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return a small fact."""
        ...

    def erase(self, entity: str) -> Erased:
        """Remove everything that is kept about an entity."""
        ...

    def expire(self, before: float) -> int:
        """Remove predictions, their outcomes and sketches from before a time; return how many predictions."""
        ...

    def claim(self, replica: str, lease_s: float) -> None:
        """Say that a replica serves on this state for the next seconds; renewed by saying it again.

        Raises: StateError `replica_refused` if another one does and the store is for one host alone.
        """
        ...

    def release(self, replica: str) -> None:
        """Say that a replica has ended."""
        ...

    def claims(self) -> list[Claim]:
        """Return the replicas that serve on this state now."""
        ...

    def close(self) -> None:
        """Let the store go; it must not be used afterwards."""
        ...
