"""The state in tables: every statement once, for SQLite and PostgreSQL alike.

Owns the tables, the statements and the way from records to rows: values as JSON text, so that a person can read
them with the database's own tools. Leaves connections, transactions and what a database fails with to the two
drivers in `sqlite` and `postgres`; of the two dialects only what both understand is used.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from mlsystem.errors import StateError
from mlsystem.state.port import Captured, Claim, Erased, Joined, OnlineRow, Outcome, Recorded, Window

Values = Sequence[object]
Row = tuple[Any, ...]

FORMAT: Final = 1
"""Of the tables below; kept in the store, so that an older engine does not write into a newer one's tables."""

_FORMAT_KEY: Final = "state/format"

_PAGE: Final = 1000
"""Rows read at a time: a reader holds no transaction while its caller works on a page."""

_NAMES_AT_ONCE: Final = 500
"""Names in one statement: SQLite takes 32766, older builds 999."""

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS {s}.captures (id TEXT PRIMARY KEY, at {float} NOT NULL, version BIGINT NOT NULL,
        entity TEXT NOT NULL, prediction TEXT NOT NULL, scores TEXT NOT NULL, features TEXT)""",
    "CREATE INDEX IF NOT EXISTS captures_at ON {on}captures (at, id)",
    "CREATE INDEX IF NOT EXISTS captures_entity ON {on}captures (entity, at) WHERE entity <> ''",
    "CREATE TABLE IF NOT EXISTS {s}.outcomes (id TEXT PRIMARY KEY, actual TEXT NOT NULL, at {float} NOT NULL)",
    """CREATE TABLE IF NOT EXISTS {s}.windows (start {float} NOT NULL, version BIGINT NOT NULL, worker TEXT NOT NULL,
        content {bytes} NOT NULL, PRIMARY KEY (start, version, worker))""",
    """CREATE TABLE IF NOT EXISTS {s}.online (tab TEXT NOT NULL, entity TEXT NOT NULL, content TEXT NOT NULL,
        watermark {float} NOT NULL, PRIMARY KEY (tab, entity))""",
    "CREATE INDEX IF NOT EXISTS online_entity ON {on}online (entity)",
    "CREATE TABLE IF NOT EXISTS {s}.facts (name TEXT PRIMARY KEY, content {bytes} NOT NULL)",
    "CREATE TABLE IF NOT EXISTS {s}.claims (replica TEXT PRIMARY KEY, until {float} NOT NULL)",
)
"""An outcome has the id of its capture. Ids begin with their time, so that an index appends them; few systems have
entities, and statements that look for one say that it is none of the empty ones, as the index does. `{on}`: SQLite
qualifies an index, PostgreSQL the table it is on."""

_CAPTURE = "INSERT INTO {s}.captures VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_NEWEST = "SELECT id FROM {s}.captures WHERE entity = ? AND entity <> '' AND at <= ? ORDER BY at DESC, id DESC LIMIT 1"
_RECORD = "INSERT INTO {s}.outcomes VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_JOINED = """SELECT c.id, c.at, c.version, c.entity, c.prediction, c.scores, c.features, o.actual, o.at
    FROM {s}.captures c LEFT JOIN {s}.outcomes o ON o.id = c.id
    WHERE (c.at, c.id) > (?, ?) AND c.at < ? AND (c.version = ? OR ? = 0) ORDER BY c.at, c.id LIMIT ?"""
_SAVE_WINDOW = """INSERT INTO {s}.windows VALUES (?, ?, ?, ?)
    ON CONFLICT (start, version, worker) DO UPDATE SET content = excluded.content"""
_WINDOWS = """SELECT start, version, worker, content FROM {s}.windows
    WHERE start >= ? AND start < ? ORDER BY start, version, worker"""
_PUT_ROW = """INSERT INTO {s}.online VALUES (?, ?, ?, ?) ON CONFLICT (tab, entity) DO UPDATE
    SET content = excluded.content, watermark = excluded.watermark WHERE online.watermark <= excluded.watermark"""
_ROWS = "SELECT entity, content, watermark FROM {s}.online WHERE tab = ? AND entity IN ({names})"
_PUT = "INSERT INTO {s}.facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"
_GET = "SELECT content FROM {s}.facts WHERE name = ?"
_OUTCOMES_OF = "DELETE FROM {s}.outcomes WHERE id IN (SELECT id FROM {s}.captures WHERE entity = ? AND entity <> '')"
_OUTCOMES_BEFORE = "DELETE FROM {s}.outcomes WHERE id IN (SELECT id FROM {s}.captures WHERE at < ?)"
_CLAIM = "INSERT INTO {s}.claims VALUES (?, ?) ON CONFLICT (replica) DO UPDATE SET until = excluded.until"
_CLAIMS = "SELECT replica, until FROM {s}.claims WHERE until > ? ORDER BY replica"

_Item = TypeVar("_Item")
_json = msgspec.json.Encoder()


class Cursor(Protocol):
    """One transaction: statements with `?` and `{s}` for the schema."""

    def run(self, statement: str) -> None:
        """Run a statement that takes and returns nothing."""
        ...

    def write(self, statement: str, rows: Sequence[Values]) -> int:
        """Run the statement for each of the rows; return how many rows of the table changed."""
        ...

    def read(self, statement: str, values: Values) -> list[Row]:
        """Return what the statement selects."""
        ...


class Driver(Protocol):
    """A database: one connection at a time, made anew when it is lost."""

    one_host: bool
    """Whether only one host may use the database at a time."""

    def transact(self, work: Callable[[Cursor], _Item], *, writing: bool = True) -> _Item:
        """Do the work, which may be done twice, in one transaction; StateError if the database cannot be used."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


def set_up(cursor: Cursor) -> None:
    """Make the tables that are missing; StateError if a newer engine has made them."""
    for statement in TABLES:
        cursor.run(statement)
    kept = cursor.read(_GET, [_FORMAT_KEY])
    if not kept:
        cursor.write(_PUT, [(_FORMAT_KEY, str(FORMAT).encode())])
    elif int(bytes(kept[0][0])) > FORMAT:
        raise StateError("state_too_new", "a newer engine has written serving.state; upgrade this one")


class SqlState:
    """The State port over a driver."""

    def __init__(self, driver: Driver, *, clock: Callable[[], float] = time.time) -> None:
        self._driver = driver
        self._clock = clock

    def capture(self, rows: Sequence[Captured]) -> None:
        """Keep predictions."""
        encoded = [_captured_row(row) for row in rows]
        self._driver.transact(lambda cursor: cursor.write(_CAPTURE, encoded))

    def record(self, outcomes: Sequence[Outcome]) -> Recorded:
        """Join outcomes to predictions, all or none of them."""
        return self._driver.transact(lambda cursor: self._record(cursor, outcomes))

    def _record(self, cursor: Cursor, outcomes: Sequence[Outcome]) -> Recorded:
        named = [_text(outcome.id) for outcome in outcomes if outcome.id]
        known = {row[0] for row in _among(cursor, "SELECT id FROM {s}.captures WHERE id IN ({names})", named)}
        rows: list[Values] = []
        for outcome in outcomes:
            found = _text(outcome.id) if outcome.id else self._newest(cursor, outcome)
            if found is not None and (found in known or not outcome.id):
                rows.append((found, _encoded(outcome.actual), outcome.at))
        accepted = cursor.write(_RECORD, rows)
        return Recorded(accepted, len(outcomes) - len(rows), len(rows) - accepted)

    def _newest(self, cursor: Cursor, outcome: Outcome) -> str | None:
        until = float("inf") if outcome.time is None else outcome.time
        found = cursor.read(_NEWEST, (_text(outcome.entity), until)) if outcome.entity else []
        return found[0][0] if found else None

    def captures(self, *, since: float, until: float, version: int | None = None) -> Iterator[Joined]:
        """Yield what was predicted in [since, until), the oldest first."""
        after: tuple[float, str] = (since, "")
        while page := self._page(after, until, version or 0):
            yield from page
            after = (page[-1].captured.at, page[-1].captured.id)

    def _page(self, after: tuple[float, str], until: float, version: int) -> list[Joined]:
        values = (*after, until, version, version, _PAGE)
        return [_joined(row) for row in self._read(_JOINED, values)]

    def save_windows(self, windows: Sequence[Window]) -> None:
        """Keep sketches; one of the same start, version and worker is replaced."""
        rows = [(window.start, window.version, window.worker, window.content) for window in windows]
        self._driver.transact(lambda cursor: cursor.write(_SAVE_WINDOW, rows))

    def windows(self, *, since: float, until: float) -> list[Window]:
        """Return the sketches that start in [since, until), the oldest first."""
        found = self._read(_WINDOWS, (since, until))
        return [Window(start, version, worker, bytes(content)) for start, version, worker, content in found]

    def put_rows(self, table: str, rows: Iterable[OnlineRow]) -> int:
        """Keep online rows, except where the table's row is newer; return how many were written."""
        written, pending = 0, iter(rows)
        while batch := list(itertools.islice(pending, _PAGE)):
            encoded = [(table, _text(row.entity), _encoded(row.values), row.watermark) for row in batch]
            written += self._driver.transact(lambda cursor, given=encoded: cursor.write(_PUT_ROW, given))
        return written

    def rows(self, table: str, entities: Sequence[str]) -> list[OnlineRow | None]:
        """Return the online rows of these entities in this order."""
        names = [_text(entity) for entity in entities]
        found = self._driver.transact(lambda cursor: list(_among(cursor, _ROWS, names, table)), writing=False)
        kept = {entity: OnlineRow(entity, msgspec.json.decode(values), mark) for entity, values, mark in found}
        return [kept.get(name) for name in names]

    def put(self, key: str, value: bytes) -> None:
        """Keep a small fact under a name."""
        self._driver.transact(lambda cursor: cursor.write(_PUT, [(key, value)]))

    def get(self, key: str) -> bytes | None:
        """Return a small fact."""
        found = self._read(_GET, [key])
        return bytes(found[0][0]) if found else None

    def erase(self, entity: str) -> Erased:
        """Remove everything that is kept about an entity."""
        name = [(_text(entity),)]

        def work(cursor: Cursor) -> Erased:
            outcomes = cursor.write(_OUTCOMES_OF, name)
            captures = cursor.write("DELETE FROM {s}.captures WHERE entity = ? AND entity <> ''", name)
            return Erased(captures, outcomes, cursor.write("DELETE FROM {s}.online WHERE entity = ?", name))

        return self._driver.transact(work)

    def expire(self, before: float) -> int:
        """Remove predictions, their outcomes and sketches from before a time; return how many predictions."""

        def work(cursor: Cursor) -> int:
            cursor.write(_OUTCOMES_BEFORE, [(before,)])
            cursor.write("DELETE FROM {s}.windows WHERE start < ?", [(before,)])
            return cursor.write("DELETE FROM {s}.captures WHERE at < ?", [(before,)])

        return self._driver.transact(work)

    def claim(self, replica: str, lease_s: float) -> None:
        """Say that a replica serves on this state; StateError if another one does and may not."""
        now = self._clock()

        def work(cursor: Cursor) -> None:
            cursor.write("DELETE FROM {s}.claims WHERE until <= ?", [(now,)])
            others = [Claim(*row) for row in cursor.read(_CLAIMS, [now]) if row[0] != replica]
            if others and self._driver.one_host:
                raise _refused(others[0], now)
            cursor.write(_CLAIM, [(replica, now + lease_s)])

        self._driver.transact(work)

    def release(self, replica: str) -> None:
        """Say that a replica has ended."""
        self._driver.transact(lambda cursor: cursor.write("DELETE FROM {s}.claims WHERE replica = ?", [(replica,)]))

    def claims(self) -> list[Claim]:
        """Return the replicas that serve on this state now."""
        return [Claim(*row) for row in self._read(_CLAIMS, [self._clock()])]

    def close(self) -> None:
        """Let the database go."""
        self._driver.close()

    def _read(self, statement: str, values: Values) -> list[Row]:
        return self._driver.transact(lambda cursor: cursor.read(statement, values), writing=False)


def _among(cursor: Cursor, statement: str, names: Sequence[str], *before: object) -> Iterator[Row]:
    """Yield what the statement selects for any number of names, put where it says `{names}`."""
    unique = list(dict.fromkeys(names))
    for start in range(0, len(unique), _NAMES_AT_ONCE):
        some = unique[start : start + _NAMES_AT_ONCE]
        yield from cursor.read(statement.replace("{names}", ", ".join("?" * len(some))), (*before, *some))


def _captured_row(row: Captured) -> Values:
    features = None if row.features is None else _encoded(row.features)
    prediction, scores = _encoded(row.prediction), _encoded(row.scores)
    return (_text(row.id), row.at, row.version, _text(row.entity), prediction, scores, features)


def _joined(row: Row) -> Joined:
    name, at, version, entity, prediction, scores, features, actual, outcome_at = row
    captured = Captured(
        name,
        at,
        version,
        entity,
        msgspec.json.decode(prediction),
        msgspec.json.decode(scores, type=tuple[float, ...]),
        None if features is None else msgspec.json.decode(features),
    )
    return Joined(captured, None if actual is None else msgspec.json.decode(actual), outcome_at)


def _encoded(value: object) -> str:
    return _json.encode(value).decode()


def _text(name: str) -> str:
    """Return a name without the one character that PostgreSQL's texts cannot hold."""
    return name.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in name else name


def _refused(other: Claim, now: float) -> StateError:
    message = (
        f"replica {other.replica} serves on this SQLite file already (its lease ends in {other.until - now:.0f} s); "
        'SQLite is for one host: set serving.state = "env:VAR" with a PostgreSQL URL in VAR, or stop the other one'
    )
    return StateError("replica_refused", message)
