"""A caller's partial rows, completed from the online rows of their entities.

Owns the rule: what the caller sends is taken, a column that is left out comes from the entity's online row, and one
that is null stays missing. Rows that are whole are never looked up. Blocks on the state: called in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlsystem.boundary import Problem, Warning_, canonical
from mlsystem.online import TABLE, WATERMARK
from mlsystem.state import OnlineRow, State

if TYPE_CHECKING:
    from mlsystem.boundary import Boundary
    from mlsystem.schema import Schema

Row = Mapping[str, Any]

STALE: Final = "stale_state"
UNKNOWN: Final = "unknown entity: there is no online row for it; send all columns, or run `materialize`"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model's rows need: by which column they are looked up, and which columns they must have."""

    entity: str
    """Empty for a model without entities: nothing is ever filled."""
    required: frozenset[str]

    @classmethod
    def of(cls, schema: Schema, boundary: Boundary) -> Needs:
        """Return the needs of a contract."""
        entity = next((column.name for column in schema.columns if column.role == "entity"), "")
        return cls(entity, frozenset(boundary.required))

    def partial(self, row: Row) -> bool:
        """Tell whether a row names its entity and lacks a column."""
        return bool(self.entity) and not row.keys() >= self.required and row.get(self.entity) is not None


@dataclass(frozen=True, slots=True)
class Filled:
    """Rows with what was filled in, rows whose entity is unknown, and what a caller should know."""

    rows: Sequence[Row]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Warning_, ...] = ()


class Filler:
    """Completes rows from one state; safe to use from several threads."""

    def __init__(self, state: State, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        """`ttl_s` is how old a row's watermark may be before callers are warned."""
        self._state = state
        self._ttl_s = ttl_s
        self._clock = clock

    @property
    def filled(self) -> bool:
        """Whether there are online rows at all; StateError if the state cannot be read."""
        return self._state.get(WATERMARK) is not None

    def fill(self, rows: Sequence[Row], needs: Needs) -> Filled:
        """Return the rows, partial ones completed; StateError if the state cannot be read.

        Before anything was materialised rows stay as they are: the boundary says which columns are missing.
        """
        partial = {index: _key(row[needs.entity]) for index, row in enumerate(rows) if needs.partial(row)}
        if not partial:
            return Filled(rows)
        entities = list(dict.fromkeys(partial.values()))
        found = dict(zip(entities, self._state.rows(TABLE, entities), strict=True))
        if not any(found.values()) and not self.filled:
            return Filled(rows)
        unknown = [
            Problem(index, needs.entity, UNKNOWN, entity[:60]) for index, entity in partial.items() if not found[entity]
        ]
        known = {index: online for index, entity in partial.items() if (online := found[entity]) is not None}
        filled = [{**known[index].values, **row} if index in known else row for index, row in enumerate(rows)]
        return Filled(
            filled, tuple(unknown), self._stale([(rows[index], online) for index, online in known.items()], needs)
        )

    def _stale(self, pairs: Sequence[tuple[Row, OnlineRow]], needs: Needs) -> tuple[Warning_, ...]:
        """Return a warning with the columns that were filled from rows that are too old."""
        oldest = self._clock() - self._ttl_s
        columns: dict[str, None] = {}
        count = 0
        for row, online in pairs:
            if online.watermark < oldest:
                count += 1
                columns |= dict.fromkeys(name for name in online.values if name in needs.required and name not in row)
        return (Warning_(STALE, tuple(columns), count),) if count else ()


def _key(value: object) -> str:
    """Return how an entity is known: as the text of the data is."""
    return canonical(str(value))
