"""Rows as text: files into one DuckDB table whose columns are all VARCHAR.

Owns the table, that files of one source have the same columns, and errors that name the line. Values are text without
blanks around it, missing ones are "". Leaves how each kind of file is written to `formats`, and what the texts mean
to `scan` and `boundary`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import duckdb
import numpy as np
import numpy.typing as npt

from mlsystem.boundary import Strings
from mlsystem.data.canonical import is_canonical
from mlsystem.data.formats import CANONICAL, Dialect, dialect_of, first_line, select_csv, select_json, select_parquet
from mlsystem.data.source import SourceFile, find_files, open_source, together
from mlsystem.errors import DataError
from mlsystem.spec import ReaderOptions

TABLE: Final = "source"
_LINES_SHOWN = 5
_MANY_TEXTS = 5000
"""Distinct texts up to which equal ones share one object in memory."""


@dataclass(slots=True, weakref_slot=True)
class Rows:
    """The rows of a source in a DuckDB connection that lives as long as this object; close it when done."""

    connection: duckdb.DuckDBPyConnection
    names: tuple[str, ...]
    count: int
    files: tuple[SourceFile, ...]
    dialect: Dialect
    notes: tuple[str, ...]
    """What was assumed while reading, as sentences."""
    _scratch: Path = field(repr=False)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)

    @property
    def digest(self) -> str:
        """Digest of the source's bytes."""
        return together([file.digest for file in self.files])

    def sql_name(self, name: str) -> str:
        """Return the column's name inside DuckDB, where the file's own names might clash."""
        return f"c{self.names.index(name)}"

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a query and return all its rows."""
        return self.connection.execute(sql, list(parameters)).fetchall()

    def column(self, name: str) -> Strings:
        """Return one column in the order of the source, as an object array of text; few distinct texts are shared."""
        sql = f"SELECT {self.sql_name(name)} AS texts FROM {TABLE}"  # noqa: S608 - a generated name
        texts = np.asarray(self.connection.execute(sql).fetchnumpy()["texts"], dtype=object)
        return _shared(texts)

    def columns(self) -> Mapping[str, Strings]:
        """Return all columns as a mapping that reads a column when it is asked for."""
        return ColumnsOnDemand(self)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Leave out the rows for which `mask` is false."""
        if mask.all():
            return
        kept = {"kept": mask}
        self.connection.register("mask", kept)
        picked = ", ".join(f"c{i}" for i in range(len(self.names)))
        sql = f"CREATE TABLE kept AS SELECT {picked} FROM {TABLE} POSITIONAL JOIN mask WHERE mask.kept"  # noqa: S608
        self.connection.execute(sql)
        self.connection.execute(f"DROP TABLE {TABLE}")
        self.connection.execute(f"ALTER TABLE kept RENAME TO {TABLE}")
        self.connection.unregister("mask")
        self.count = int(mask.sum())

    def close(self) -> None:
        """Free the rows and the scratch files."""
        self.connection.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ColumnsOnDemand(Mapping[str, Strings]):
    """The columns of a source, read one at a time, so that no more than one is in memory as text."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Strings:
        if name not in self._rows.names:
            raise KeyError(name)
        return self._rows.column(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows.names)

    def __len__(self) -> int:
        return len(self._rows.names)


def read_rows(patterns: Sequence[str], root: Path, options: ReaderOptions, *, threads: int = 2) -> Rows:
    """Read all files that paths and globs name into one table; DataError says what is wrong and where."""
    return read_files(find_files(patterns, root), options, threads=threads)


def read_files(paths: Sequence[Path], options: ReaderOptions, *, threads: int = 2) -> Rows:
    """Read files into one table, those of another order of columns in the order of the first."""
    scratch = Path(tempfile.mkdtemp(prefix="mlsystem-"))
    connection = _connect(scratch, threads)
    try:
        texts = scratch / "texts"
        texts.mkdir()
        files = tuple(open_source(path, texts, "" if is_canonical(path) else options.encoding) for path in paths)
        dialect, names, notes = _load(connection, files, options)
        ((count,),) = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()  # noqa: S608
        _require_table(paths[0].name, names, count)
    except BaseException:
        connection.close()
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Rows(connection, names, count, files, dialect, notes, scratch)


@contextlib.contextmanager
def told() -> Generator[None]:
    """Turn what DuckDB refuses, such as a full disk, into an error that says what to do."""
    try:
        yield
    except duckdb.Error as error:
        text = f"the data could not be worked on: {first_line(error)}; free memory or disk space and run again"
        raise DataError("database_error", text) from error


def _connect(scratch: Path, threads: int) -> duckdb.DuckDBPyConnection:
    """Open a database in memory that spills to `scratch` and never loads an extension from anywhere."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "temp_directory": str(scratch / "spill"),
        "threads": threads,
    }
    return duckdb.connect(config=config)


def _load(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], options: ReaderOptions
) -> tuple[Dialect, tuple[str, ...], tuple[str, ...]]:
    """Append every file to the table; all must have the same columns."""
    dialect, names = Dialect(",", '"', '"', 0, header=True), ()
    notes: list[str] = []
    for index, file in enumerate(files):
        if file.format == "parquet":
            own, select = select_parquet(connection, file)
        elif file.format == "jsonl":
            own, select = select_json(connection, file, names)
        else:
            dialect = CANONICAL if is_canonical(file.path) else dialect_of(connection, file, options)
            own, select = select_csv(file, dialect)
        names = names or own
        _require_same(names, own, files[0], file)
        if own != names:
            select = f"SELECT {', '.join(f'c{own.index(n)} AS c{i}' for i, n in enumerate(names))} FROM ({select})"  # noqa: S608
        verb = f"INSERT INTO {TABLE}" if index else f"CREATE TABLE {TABLE} AS"
        try:
            connection.execute(f"{verb} {select}", [str(file.readable)])
        except duckdb.Error as error:
            raise _line_errors(connection, file, select, error) from None
        notes += _notes(file, dialect)
    return dialect, names, tuple(dict.fromkeys(notes))


def _require_same(names: tuple[str, ...], own: tuple[str, ...], first: SourceFile, file: SourceFile) -> None:
    """Refuse a file that lacks a column of the first one, or has one more, with the columns' names."""
    if set(names) == set(own):
        return
    lacking, more = [n for n in names if n not in own], [n for n in own if n not in names]
    told = [f"{file.path.name} has no column {', '.join(map(repr, lacking[:10]))}"] if lacking else []
    told += [f"{first.path.name} has no column {', '.join(map(repr, more[:10]))}"] if more else []
    details = [{"file": file.path.name, "missing": lacking, "additional": more}]
    text = f"{file.path.name} has other columns than {first.path.name}: {'; '.join(told)}; "
    raise DataError("not_tabular", text + "all files of a source need the same columns", details=details)


def _require_table(name: str, columns: Sequence[str], rows: int) -> None:
    """Refuse what has no rows or no second column, with what to do."""
    if rows == 0:
        raise DataError("header_only", f"{name} has a line of names and no rows; give a file with data below the names")
    if len(columns) < _FEWEST_COLUMNS:
        text = f"{name} has a single column, {columns[0]!r}; give a table with a target and something to predict it "
        raise DataError("not_tabular", text + "from, or name the sign between its columns in data.reader.delimiter")
    if rows == 1:
        raise DataError("one_row", f"{name} has one row; a model needs many examples, give a file with more rows")


_FEWEST_COLUMNS = 2


def _line_errors(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, select: str, error: duckdb.Error
) -> DataError:
    """Read the file again, keeping only what goes wrong, and say in which lines that is."""
    if file.format != "csv":
        return DataError("binary_file", f"{file.path.name} cannot be read: {first_line(error)}; write it again")
    probe = select.replace("ignore_errors=false", "store_rejects=true, rejects_limit=1000")
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE probe AS {probe}", [str(file.readable)])
        connection.execute("DROP TABLE probe")
        sql = "SELECT line, error_message, csv_line FROM reject_errors ORDER BY line, column_idx"
        rejected = connection.execute(sql).fetchall()
    except duckdb.Error:
        rejected = []
    lines = {line: (str(message), str(text)) for line, message, text in reversed(rejected)}
    if not lines:
        text = f"{file.path.name} cannot be read as a table: {first_line(error)}; check its quotes and line ends"
        return DataError("not_tabular", text)
    details = [
        {"file": file.path.name, "line": line, "reason": _reason(message), "got": text.strip()[:80]}
        for line, (message, text) in sorted(lines.items())[:_LINES_SHOWN]
    ]
    first = details[0]
    many = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    text = f"{file.path.name}, line {first['line']}: {first['reason']}{many}: {first['got']}; correct the file, "
    return DataError("ragged_rows", text + "or name its signs in data.reader", details=details)


def _reason(message: str) -> str:
    match = re.search(r"Number of Columns: (\d+) Found: (\d+)", message)
    if match:
        return f"{match.group(2)} fields where the names are {match.group(1)}"
    if "quote" in message:
        return "a quote that is not closed, or stands inside a field"
    return message.splitlines()[0]


def _notes(file: SourceFile, dialect: Dialect) -> list[str]:
    """Say what was assumed about a file that a person might want to know."""
    notes: list[str] = []
    if file.encoding != "utf-8":
        notes.append(
            f"{file.path.name} is not UTF-8; it was read as {file.encoding}, set data.reader.encoding if that is wrong"
        )
    if file.format == "csv" and not dialect.header:
        notes.append(f"{file.path.name} has no line of names; its columns are called column_1, column_2, ...")
    return notes


def _shared(texts: Strings) -> Strings:
    """Return the texts with equal ones as one object, as long as there are few; memory then follows the levels."""
    known: dict[str, str] = {}
    values = np.empty(len(texts), dtype=object)
    for start in range(0, len(texts), _MANY_TEXTS):
        stop = start + _MANY_TEXTS
        values[start:stop] = [known.setdefault(text, text) for text in texts[start:stop]]
        if len(known) > _MANY_TEXTS:
            values[stop:] = texts[stop:]
            return values
    return values
