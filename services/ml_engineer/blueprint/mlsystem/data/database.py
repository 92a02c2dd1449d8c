"""Rows out of a database: what a query gives, by the URL that an environment variable holds.

Owns `env:VAR` sources: SQLite (opened read-only) and PostgreSQL (a read-only transaction, rows streamed by a cursor
on the server). A URL is a secret: neither it nor its parts but the scheme and the database's name leave this module.
Leaves keeping the rows to `snapshot`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mlsystem.errors import DataError

_PREFIX: Final = "env:"
_ROWS: Final = 10_000
"""Rows fetched at a time."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gives: the names of its columns, and its rows as they come."""

    names: tuple[str, ...]
    rows: Iterator[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Database:
    """A database behind an environment variable."""

    variable: str
    scheme: str
    url: str = field(repr=False)

    @property
    def redacted(self) -> str:
        """The URL without host, account and password."""
        return f"{self.scheme}://***/{Path(unquote(urlsplit(self.url).path)).name}"


def is_database(sources: Sequence[str]) -> bool:
    """Tell whether `data.source` names a database instead of files."""
    return any(source.startswith(_PREFIX) for source in sources)


def named(sources: Sequence[str], environment: Mapping[str, str]) -> Database:
    """Return the database that `data.source` names; DataError if the variable is not set, or of no known kind."""
    if len(sources) != 1:
        raise DataError("bad_source", "data.source is either files or one env:VAR with a database; split it up")
    variable = sources[0].removeprefix(_PREFIX)
    url = environment.get(variable, "")
    if not url:
        text = f"data.source names env:{variable}, which is not set; put the database's URL into {variable}, "
        raise DataError("no_database_url", text + "postgresql://... or sqlite:///FILE")
    scheme = url.split(":", 1)[0]
    if scheme in {"postgres", "postgresql"}:
        return Database(variable, "postgresql", url)
    if scheme == "sqlite":
        return Database(variable, "sqlite", url)
    text = f"{variable} holds no URL of a database that can be read; postgresql:// and sqlite:/// can, "
    raise DataError("unknown_database", text + "from others export Parquet and name the files in data.source")


@contextlib.contextmanager
def select(database: Database, query: str, root: Path) -> Generator[Result]:
    """Run a query and give its rows; DataError with the database's own words if it does not work."""
    if not query.strip():
        text = f"data.source is a database (env:{database.variable}) and data.query is empty; write a SELECT there"
        raise DataError("no_query", text)
    reading = _sqlite if database.scheme == "sqlite" else _postgres
    with reading(database, query, root) as result:
        yield result


@contextlib.contextmanager
def _sqlite(database: Database, query: str, root: Path) -> Generator[Result]:
    """SQLite: `sqlite:///FILE` relative to the system's directory, `sqlite:////FILE` from the root of the disk."""
    path = root / unquote(urlsplit(database.url).path).removeprefix("/")
    if not path.is_file():
        raise _failed(database, f"there is no file {path.name}")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        cursor = connection.execute(query)
        names = tuple(str(column[0]) for column in cursor.description or ())
        _require_rows(names)
        yield Result(names, iter(cursor))
    except sqlite3.Error as error:
        raise _failed(database, str(error)) from None
    finally:
        connection.close()


@contextlib.contextmanager
def _postgres(database: Database, query: str, _root: Path) -> Generator[Result]:
    psycopg = _driver()
    try:
        with psycopg.connect(database.url, options="-c timezone=UTC -c extra_float_digits=1") as connection:
            connection.read_only = True
            with connection.cursor(name="mlsystem") as cursor:
                cursor.itersize = _ROWS
                cursor.execute(query.strip().rstrip(";"))
                names = tuple(str(column.name) for column in cursor.description or ())
                _require_rows(names)
                yield Result(names, iter(cursor))
    except psycopg.Error as error:
        raise _failed(database, str(error)) from None


def _driver() -> Any:
    try:
        import psycopg  # only where a PostgreSQL is read
    except ImportError:
        text = "PostgreSQL needs the package psycopg, which is not installed; install requirements/train.lock again"
        raise DataError("no_driver", text) from None
    return psycopg


def _require_rows(names: Sequence[str]) -> None:
    if not names:
        raise DataError("no_query", "data.query gives no rows; write a SELECT")


def _failed(database: Database, reason: str) -> DataError:
    """Return the error without what is secret about the URL, wherever the driver repeats it."""
    parts = urlsplit(database.url)
    for secret in (database.url, parts.netloc, parts.password or "", unquote(parts.password or "")):
        reason = reason.replace(secret, "***") if secret else reason
    text = f"{database.redacted} (env:{database.variable}) could not be read: {' '.join(reason.split())}"
    return DataError("database_error", f"{text}; check the variable, the database and data.query")
