"""`data.query`: SQL of a person over the files of the source, one table a file.

Owns the database that it runs in: every file is a table named by its stem (`visits.csv` is `visits`), its columns
typed by the same full scan as everything else (BIGINT, DOUBLE, DATE, TIMESTAMP, else VARCHAR; Parquet keeps the types
that it has). The query sees these tables and nothing beyond: no file, no network. It runs on one thread, so that
rows come in one order. Leaves keeping the rows to `snapshot`, and whether a join looks into the future to `joins`.
"""

from __future__ import annotations

import collections
import contextlib
import shutil
import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from mlsystem.boundary import NUMBER_NULLS
from mlsystem.data.database import Result
from mlsystem.data.quoting import identifier, literal
from mlsystem.data.reader import TABLE, Rows, read_files
from mlsystem.data.scan import Scan, null_list, plain_number, scan_column
from mlsystem.errors import DataError
from mlsystem.spec import ReaderOptions

_BATCH: Final = 10_000
_TYPES: Final = {"integer": "BIGINT", "number": "DOUBLE", "date": "DATE", "datetime": "TIMESTAMP"}


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of a table that a query sees, with its SQL type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Views:
    """The tables of a source, in a database of their own."""

    connection: duckdb.DuckDBPyConnection
    tables: dict[str, tuple[ViewColumn, ...]]

    def select(self, sql: str) -> Result:
        """Run one SELECT and give its rows as text; DataError with DuckDB's words and the tables that there are."""
        _require_select(sql)
        text = sql.strip().rstrip(";")
        try:
            names = tuple(str(row[0]) for row in self.connection.execute(f"DESCRIBE ({text})").fetchall())
            _require_distinct(names)
            self.connection.execute(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({text})")  # noqa: S608 - it is the query
        except duckdb.Error as error:
            raise self._refused(error) from None
        return Result(names, self._fetched())

    def _fetched(self) -> Iterator[Sequence[object]]:
        while rows := self.connection.fetchmany(_BATCH):
            yield from rows

    @contextlib.contextmanager
    def without(self, table: str, condition: str) -> Generator[None]:
        """Let queries see a table without the rows that meet an SQL condition, for as long as the context lasts."""
        whole, name = identifier(f"{table} (whole)"), identifier(table)
        self.connection.execute(f"ALTER TABLE {name} RENAME TO {whole}")
        self.connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {whole} WHERE NOT coalesce({condition}, false)")  # noqa: S608
        try:
            yield
        finally:
            self.connection.execute(f"DROP VIEW {name}")
            self.connection.execute(f"ALTER TABLE {whole} RENAME TO {name}")

    def _refused(self, error: duckdb.Error) -> DataError:
        there = "; ".join(f"{name}({', '.join(c.name for c in columns)})" for name, columns in self.tables.items())
        text = f"data.query does not work: {' '.join(str(error).split())}; the tables are {there}"
        return DataError("bad_query", text)


@contextlib.contextmanager
def open_views(paths: Sequence[Path], options: ReaderOptions) -> Generator[Views]:
    """Read files into tables named by their stems; DataError if two have the same one, or a file is no table."""
    stems = _stems(paths)
    scratch = Path(tempfile.mkdtemp(prefix="mlsystem-"))
    connection = duckdb.connect(config=_config(scratch))
    try:
        tables = {stem: _table(connection, stem, _as_parquet(path, scratch, options)) for stem, path in stems.items()}
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield Views(connection, tables)
    finally:
        connection.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _config(scratch: Path) -> dict[str, Any]:
    """Return the settings of a database that spills to `scratch` and answers in one order, in UTC."""
    extensions = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return {**extensions, "temp_directory": str(scratch / "spill"), "threads": 1}


def _stems(paths: Sequence[Path]) -> dict[str, Path]:
    stems = [path.name.split(".")[0] for path in paths]
    twice = [stem for stem, count in collections.Counter(name.lower() for name in stems).items() if count > 1]
    if twice:
        text = f"data.source has more than one file called {', '.join(map(repr, twice))}; rename them, "
        raise DataError("bad_source", text + "since data.query knows each file by its name without the ending")
    return dict(zip(stems, paths, strict=True))


def _table(connection: duckdb.DuckDBPyConnection, stem: str, path: Path) -> tuple[ViewColumn, ...]:
    """Make a table of a Parquet file and return its columns."""
    try:
        connection.execute(f"CREATE TABLE {identifier(stem)} AS FROM read_parquet(?)", [str(path)])
    except duckdb.Error as error:
        text = f"{path.name} is not a readable Parquet file: {str(error).splitlines()[0]}; write it again"
        raise DataError("binary_file", text) from None
    described = connection.execute(f"DESCRIBE {identifier(stem)}").fetchall()
    return tuple(ViewColumn(str(row[0]), str(row[1])) for row in described)


def _as_parquet(path: Path, scratch: Path, options: ReaderOptions) -> Path:
    """Return a Parquet file with the rows of a file in the types that a full scan finds; of Parquet the file itself."""
    if path.suffix in {".parquet", ".pq"}:
        return path
    made = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    with read_files([path], options, threads=1) as rows:
        typed = [
            f"{_typed(rows, scan_column(rows, name, options), options)} AS {identifier(name)}" for name in rows.names
        ]
        select = f"SELECT {', '.join(typed)} FROM {TABLE}"  # noqa: S608 - quoted names
        rows.connection.execute(f"COPY ({select}) TO {literal(str(made))} (FORMAT parquet)")
    return made


def _typed(rows: Rows, scan: Scan, options: ReaderOptions) -> str:
    """Return SQL for a column's values in the type that the scan has found; what does not fit is NULL."""
    text = rows.sql_name(scan.name)
    nulls = [*null_list(options), *(NUMBER_NULLS if scan.type in _TYPES else ()), ""]
    listed = ", ".join(literal(null.strip().lower()) for null in nulls)
    value = f"CASE WHEN lower({text}) NOT IN ({listed}) THEN {text} END"
    if scan.numeric:
        return f"TRY_CAST({plain_number(value, scan.decimal)} AS {_TYPES[scan.type]})"
    if scan.moment:
        form = scan.format or "iso"
        moment = f"TRY_CAST({value} AS TIMESTAMP)" if form == "iso" else f"try_strptime({value}, {literal(form)})"
        return f"CAST({moment} AS {_TYPES[scan.type]})"
    return value


def _require_select(sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise DataError("bad_query", f"data.query is no SQL: {' '.join(str(error).split())}; correct it") from None
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        raise DataError("bad_query", "data.query must be one SELECT; views and settings have no place in it, use WITH")


def _require_distinct(names: Sequence[str]) -> None:
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        text = f"data.query gives more than one column called {', '.join(map(repr, twice))}; name them apart with AS"
        raise DataError("duplicate_columns", text)
