"""The state in one SQLite file: for all processes of one host.

Owns the file: write-ahead log, waiting for other writers, and what happens when it is lost or damaged: the damaged
one is set aside under a name of its own, a new one is made, and both is told. Serving goes on; what was in the file
is gone, which is why the registry, not the state, holds what must not be lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from mlsystem.errors import StateError
from mlsystem.state.sql import Cursor, Row, Values, set_up

_PATIENCE_S: Final = 10.0
"""How long a writer waits for the others."""

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
"""A limit on the size of files comes as an error of input and output."""

_VALUES: Final = re.compile(r"VALUES (\(\?[?, ]*\))")
_ROWS_AT_ONCE: Final = 32
"""Rows in one statement: a tenth of a millisecond, for which a processor is held."""

_LOG_PAGES: Final = 256
"""Pages of the log that are moved into the file at once: less than SQLite's own 1000, so that it takes no longer."""

_Item = TypeVar("_Item")


class SqliteFile:
    """A driver; one connection, made when it is first needed."""

    one_host = True

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def transact(self, work: Callable[[Cursor], _Item], *, writing: bool = True) -> _Item:
        """Do the work in one transaction; a damaged file is replaced once, then the work is done on the new one."""
        with self._lock:
            try:
                return self._attempt(work, writing=writing)
            except sqlite3.Error as error:
                if _primary(error) not in _DAMAGED:
                    self._disconnect()  # whatever it was, it is not the connection's the next time
                    raise self._told(error) from error
            try:
                self._replace()
                return self._attempt(work, writing=writing)
            except sqlite3.Error as error:
                raise self._told(error) from error

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            self._disconnect()

    def _attempt(self, work: Callable[[Cursor], _Item], *, writing: bool) -> _Item:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
        try:
            done = work(_Cursor(connection))
        except BaseException:
            if connection.in_transaction:
                connection.rollback()
            raise
        connection.commit()
        return done

    def _connected(self) -> sqlite3.Connection:
        """Return the connection to the file that is there now: one that was deleted would swallow what is written."""
        if self._connection is not None and self._inode != _inode(self._path):
            self._tell(f"{self._path} is gone, with what was kept in it; a new one is made")
            self._disconnect()
        if self._connection is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with _alone(self._path):  # a file that is just being set aside takes its log along
                    self._path.touch(mode=0o600)  # it may hold what is nobody else's business
                    self._connection = self._connect()
                    self._inode = _inode(self._path)
            except OSError as error:
                raise self._told(error) from error
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            connection.execute("PRAGMA synchronous = NORMAL")  # a crash of the machine may lose the last commits
            connection.execute("BEGIN IMMEDIATE")
            set_up(_Cursor(connection))
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _replace(self) -> None:
        """Set the damaged file aside, unless another process has done so meanwhile."""
        self._disconnect()
        with _alone(self._path):
            if not _damaged(self._path):
                return
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
            self._path.rename(aside)
            for ending in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    self._path.with_name(self._path.name + ending).rename(f"{aside}{ending}")
            self._tell(f"{self._path} is damaged; it is kept as {aside.name} and a new one is made")

    def _told(self, error: Exception) -> StateError:
        """Return what to do about an error of SQLite."""
        if isinstance(error, sqlite3.Error) and _primary(error) in _FULL:
            return StateError("state_full", f"{self._path} cannot grow ({error}); free the disk that it is on")
        if isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_BUSY:
            message = f"{self._path} was busy for {_PATIENCE_S:.0f} s; look for a program that holds it open"
            return StateError("state_busy", message)
        return StateError(
            "state_unusable", f"{self._path} cannot be used: {error}; check `serving.state` and who may write there"
        )


class _Cursor:
    """A transaction of SQLite."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, statement: str) -> None:
        """Run a statement that takes and returns nothing."""
        self._connection.execute(_dialect(statement))

    def write(self, statement: str, rows: Sequence[Values]) -> int:
        """Run the statement for each of the rows; rows to insert go in many at a time.

        Every run of a statement gives the interpreter away and has to get it back, from a server that is busy with it.
        """
        before = self._connection.total_changes
        text = _dialect(statement)
        one = _VALUES.search(text)
        whole = len(rows) - len(rows) % _ROWS_AT_ONCE if one else 0
        if one and whole:
            wide = text.replace(one.group(), f"VALUES {', '.join([one.group(1)] * _ROWS_AT_ONCE)}")
            for start in range(0, whole, _ROWS_AT_ONCE):
                self._connection.execute(wide, [*itertools.chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])])
        self._connection.executemany(text, rows[whole:])
        return self._connection.total_changes - before

    def read(self, statement: str, values: Values) -> list[Row]:
        """Return what the statement selects."""
        return self._connection.execute(_dialect(statement), tuple(values)).fetchall()


def _dialect(statement: str) -> str:
    found = statement.replace("{s}", "main").replace("{float}", "REAL").replace("{bytes}", "BLOB")
    return found.replace("INDEX IF NOT EXISTS ", "INDEX IF NOT EXISTS main.").replace("{on}", "")


def _primary(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 if the module itself complains."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _damaged(path: Path) -> bool:
    """Tell whether a file is no sound database; an absent one is none."""
    if not path.is_file():
        return False
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_S)) as connection:
        try:
            found: list[Any] = connection.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            return _primary(error) in _DAMAGED
    return found != [("ok",)]


@contextlib.contextmanager
def _alone(path: Path) -> Generator[None]:
    """Hold what one process at a time may hold while it opens or replaces the file."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
