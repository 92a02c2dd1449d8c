"""The SQLite file behind one workspace's memory: its tables, how it is opened, what happens when it is broken.

Everything here but the activity can be read again from the workspace, and the activity again from the bus, so
a file of another version or a damaged one is set aside and begun anew rather than repaired.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import structlog

_log: Final = structlog.stdlib.get_logger(__name__)

VERSION: Final = 2
"""Version of the tables. A change of what is extracted is one too: raise it, and every workspace is read anew."""
CHUNK_BITS: Final = 20
"""A chunk's row id is its file's id shifted by this, plus its number, so that a file's chunks are one range."""
_BUSY_S: Final = 15.0
"""How long a second process waits for the first one's write."""
_TABLES: Final = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    digest BLOB NOT NULL,
    form TEXT NOT NULL,
    purpose TEXT NOT NULL
);
CREATE TABLE facts (
    file INTEGER NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    slot TEXT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    line INTEGER NOT NULL,
    confidence REAL NOT NULL
);
CREATE INDEX facts_by_file ON facts (file);
CREATE TABLE activity (
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    agent TEXT NOT NULL,
    status TEXT NOT NULL,
    summary TEXT NOT NULL,
    files TEXT NOT NULL,
    PRIMARY KEY (seq, at)
);
CREATE INDEX activity_by_time ON activity (at, seq);
CREATE VIRTUAL TABLE documents USING fts5 (path, symbols, body, tokenize = 'porter unicode61');
CREATE VIRTUAL TABLE chunks USING fts5 (path, body, tokenize = 'porter unicode61');
INSERT INTO documents (documents, rank) VALUES ('rank', 'bm25(3.0, 3.0, 1.0)');
INSERT INTO chunks (chunks, rank) VALUES ('rank', 'bm25(3.0, 1.0)');
"""


def open_database(file: Path) -> sqlite3.Connection:
    """A connection to the memory in `file`, made or begun anew where needed.

    It may be used from any thread, by one at a time. Raises sqlite3.OperationalError when the file cannot be
    opened or written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _connect(file)
        if _version(connection) == VERSION:
            return connection
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return _made(connection)
        connection.close()
    except sqlite3.DatabaseError as error:
        if not is_damaged(error):
            raise
        _log.warning("context.database_damaged", file=str(file), reason=str(error))
    set_aside(file)
    return _made(_connect(file))


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether `error` says that the file is broken or no database, rather than that it cannot be used just now."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest the detail
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def last_seq(file: Path) -> int:
    """Sequence of the newest report in the memory at `file`; 0 when there is none, or no memory that can be read.

    The newest by time: a stream that was made anew counts from one again. Opens a connection of its own, so any
    thread may ask at any time.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as connection:
            if _version(connection) != VERSION:
                return 0
            row = connection.execute("SELECT seq FROM activity ORDER BY at DESC, seq DESC LIMIT 1").fetchone()
    except sqlite3.DatabaseError:  # not there yet, or about to be begun anew: then the bus is read from its start
        return 0
    return int(row[0]) if row else 0


def set_aside(file: Path) -> None:
    """Moves a database that is of no use out of the way, with what belongs to it."""
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.replace(part.with_name(f"{file.stem}.old{file.suffix}{suffix}"))


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut loses the last answers' reading, not the file
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _made(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Creates the tables, unless another process was faster."""
    connection.execute("BEGIN IMMEDIATE")
    if _version(connection) != VERSION:
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    return connection
