"""The state in PostgreSQL: for any number of replicas.

Owns the connection, which is made anew when it was lost, and the schema: one for each system, so that systems can
share a database. psycopg is imported here alone, and only by systems whose state is in PostgreSQL. No URL is ever
shown: it holds a password.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar, cast

from mlsystem.errors import StateError
from mlsystem.state.sql import Cursor, Row, Values, set_up

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise StateError(
        "psycopg_missing", "a state in PostgreSQL needs psycopg: `pip install 'psycopg[binary]'` beside the engine"
    ) from error

if TYPE_CHECKING:
    Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECT_S: Final = 5
_SILENCE_S: Final = 10
"""Longest silence of the network before the connection counts as lost."""

_MAKING: Final = 0x6D6C7379
"""Key of the lock under which the tables are made: two servers that start at once would both make them."""

_Item = TypeVar("_Item")


class PostgresSchema:
    """A driver; one connection, made when it is first needed. Works behind a pooler too: it keeps no session state."""

    one_host = False

    def __init__(self, url: str, system: str) -> None:
        self._url = url
        self._schema = "mlsystem_" + system.replace("-", "_")
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def transact(self, work: Callable[[Cursor], _Item], *, writing: bool = True) -> _Item:  # noqa: ARG002 - it need not know
        """Do the work in one transaction; once more on a new connection if the one at hand turns out to be lost."""
        with self._lock:
            try:
                if self._connection is not None:
                    try:
                        return self._attempt(self._connection, work)
                    except psycopg.OperationalError:
                        if not self._connection.broken:
                            raise
                        self._disconnect()
                self._connection = self._connect()
                return self._attempt(self._connection, work)
            except psycopg.Error as error:
                raise self._told(error) from error

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._disconnect()

    def _attempt(self, connection: Connection, work: Callable[[Cursor], _Item]) -> _Item:
        with connection.transaction(), connection.cursor() as cursor:
            return work(_Cursor(cursor, self._schema))

    def _connect(self) -> Connection:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_S,
            prepare_threshold=None,  # statements prepared in one session of a pooler are not there in the next
            application_name="mlsystem",
            keepalives_idle=_SILENCE_S,
            tcp_user_timeout=_SILENCE_S * 1000,
        )
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
                if not self._is_there(cursor):
                    cursor.execute(_dialect("CREATE SCHEMA IF NOT EXISTS {s}", self._schema))
                set_up(_Cursor(cursor, self._schema))
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_there(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> bool:
        """Tell whether the schema is there: who may not make one may be given one."""
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (self._schema,))
        return cursor.fetchone() is not None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _told(self, error: psycopg.Error) -> StateError:
        """Return what to do about an error of PostgreSQL, without the URL."""
        reason = str(error).strip() or type(error).__name__
        if password := str(conninfo_to_dict(self._url).get("password") or ""):
            reason = reason.replace(password, "***")
        if isinstance(error, psycopg.errors.DiskFull):
            return StateError("state_full", f"PostgreSQL cannot grow ({reason}); free its disk")
        return StateError(
            "state_unusable", f"PostgreSQL cannot be used: {reason}; check the URL that `serving.state` names"
        )


class _Cursor:
    """A transaction of PostgreSQL."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]], schema: str) -> None:
        self._cursor = cursor
        self._schema = schema

    def run(self, statement: str) -> None:
        """Run a statement that takes and returns nothing."""
        self._cursor.execute(_dialect(statement, self._schema))

    def write(self, statement: str, rows: Sequence[Values]) -> int:
        """Run the statement for each of the rows, in one round trip."""
        if not rows:
            return 0
        self._cursor.executemany(_dialect(statement, self._schema), rows)
        return max(0, self._cursor.rowcount)

    def read(self, statement: str, values: Values) -> list[Row]:
        """Return what the statement selects."""
        return self._cursor.execute(_dialect(statement, self._schema), values).fetchall()


def _dialect(statement: str, schema: str) -> LiteralString:
    """Return a statement of `sql` in PostgreSQL's words; the schema's name is checked by the spec."""
    found = statement.replace("{on}", "{s}.").replace("{s}", f'"{schema}"').replace("?", "%s")
    return cast("LiteralString", found.replace("{float}", "DOUBLE PRECISION").replace("{bytes}", "BYTEA"))
