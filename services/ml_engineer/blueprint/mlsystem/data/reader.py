"""Rows as text: files into one DuckDB table whose columns are all VARCHAR.

Owns the dialect (DuckDB's sniffer is asked for delimiter, quote and comment lines, never for types), the names of
the columns, and errors that name the line. Values are text without blanks around
it, missing ones are "". Leaves what
the texts mean to `scan` and `boundary`.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import itertools
import re
import shutil
import tempfile
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.boundary import Strings
from mlsystem.data.canonical import is_canonical
from mlsystem.data.source import SourceFile, find_files, open_source, together
from mlsystem.errors import DataError
from mlsystem.spec import ReaderOptions

TABLE: Final = "source"
_LINES_SHOWN = 5
_NOTHING = "(empty)"  # how the sniffer writes "none"
_MANY_TEXTS = 5000
"""Distinct texts up to which equal ones share one object in memory."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written."""

    delimiter: str
    quote: str
    escape: str
    skip: int
    """Lines of comment before the names."""
    header: bool


CANONICAL: Final = Dialect(",", '"', '"', 0, header=True)
"""How the engine itself writes the rows of a query; nothing about such a file is guessed."""


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
        text = f"the data could not be worked on: {_first_line(error)}; free memory or disk space and run again"
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
            own, select = _parquet(connection, file)
        elif file.format == "jsonl":
            own, select = _json(connection, file, names)
        else:
            dialect = CANONICAL if is_canonical(file.path) else _dialect(connection, file, options)
            own, select = _csv(file, dialect)
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


def _dialect(connection: duckdb.DuckDBPyConnection, file: SourceFile, options: ReaderOptions) -> Dialect:
    """Ask the sniffer how the file is written; what the spec says about it wins."""
    given = f", delim={_quoted(options.delimiter)}" if options.delimiter else ""
    given += f", quote={_quoted(options.quote)}" if options.quote else ""
    sql = f"SELECT Delimiter, Quote, Escape, HasHeader FROM sniff_csv(?{given})"  # noqa: S608 - see _quoted
    try:
        (found,) = connection.execute(sql, [str(file.readable)]).fetchall()
    except duckdb.Error:
        found = (_by_first_line(file), _NOTHING, _NOTHING, True)
    delimiter = options.delimiter or str(found[0])
    quote = options.quote or (str(found[1]) if found[1] != _NOTHING else '"')
    escape = str(found[2]) if found[2] != _NOTHING else quote
    dialect = Dialect(delimiter, quote, escape, _comment_lines(file), header=True)
    if options.header is None:
        names = _first_record(file, dialect)
        return dataclasses.replace(dialect, header=_are_names(names, sniffed=bool(found[3])))
    return dataclasses.replace(dialect, header=options.header)


def _by_first_line(file: SourceFile) -> str:
    """Return the sign that the first line holds most of, where the sniffer gave up."""
    with file.readable.open(encoding="utf-8-sig") as text:
        line = text.readline(1 << 16)
    return max(",;\t|", key=line.count)


def _comment_lines(file: SourceFile) -> int:
    with file.readable.open(encoding="utf-8-sig", errors="replace") as text:
        return sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), text))


def _first_record(file: SourceFile, dialect: Dialect) -> list[str]:
    """Return the fields of the first record, which may go over several lines."""
    with file.readable.open(encoding="utf-8-sig", newline="") as text:
        lines = itertools.islice(text, dialect.skip, None)
        quoting = {"quotechar": dialect.quote, "delimiter": dialect.delimiter}
        csv.field_size_limit(1 << 24)
        for record in csv.reader(lines, skipinitialspace=False, doublequote=True, **quoting):  # pyright: ignore[reportArgumentType]
            if record:
                return record
    return []


def _are_names(fields: Sequence[str], *, sniffed: bool) -> bool:
    """Whether the first record holds names: not if most of it is numbers, unless they count up (years, positions)."""
    numbers = [text.strip() for text in fields if _NUMBER.fullmatch(text.strip())]
    if len(numbers) * 2 <= len(fields):
        return True
    if not all(text.isdigit() for text in numbers):
        return False
    counts = [int(text) for text in numbers]
    return sniffed or counts == list(range(counts[0], counts[0] + len(counts)))


_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", re.ASCII)


def _csv(file: SourceFile, dialect: Dialect) -> tuple[tuple[str, ...], str]:
    """Return the names of a CSV file's columns and the query that reads it as text."""
    record = _first_record(file, dialect)
    names = _names(file, record) if dialect.header else tuple(f"column_{i + 1}" for i in range(len(record)))
    columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(names)))
    signs = f"delim={_quoted(dialect.delimiter)}, quote={_quoted(dialect.quote)}, escape={_quoted(dialect.escape)}"
    lines = f"skip={dialect.skip}, header={str(dialect.header).lower()}"
    strict = "auto_detect=false, strict_mode=true, null_padding=false, ignore_errors=false"
    picked = ", ".join(_clean(f"c{i}", i) for i in range(len(names)))
    return names, f"SELECT {picked} FROM read_csv(?, {signs}, {lines}, columns={{{columns}}}, {strict})"  # noqa: S608


def _clean(text: str, position: int) -> str:
    """Return SQL for a value without blanks around it, "" where there is none; most values need no trimming."""
    ends = " OR ".join(f"ends_with({text}, {sign})" for sign in _BLANKS)
    trimmed = f"CASE WHEN {text} <= '!' OR {ends} THEN trim({text}, {' || '.join(_BLANKS)}) ELSE {text} END"
    return f"coalesce({trimmed}, '') AS c{position}"


_BLANKS: Final = ("' '", "chr(9)", "chr(10)", "chr(13)", "chr(160)")


def _names(file: SourceFile, record: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns, trimmed; a blank one is called by its place. DataError on equal names."""
    names = [text.strip() or f"column_{i + 1}" for i, text in enumerate(record)]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        listed = ", ".join(repr(name) for name in twice)
        where = [{"column": name, "positions": [i + 1 for i, n in enumerate(names) if n == name]} for name in twice]
        text = f"{file.path.name} has more than one column called {listed}; rename them so that each name occurs once"
        raise DataError("duplicate_columns", text, details=where)
    return tuple(names)


def _parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile) -> tuple[tuple[str, ...], str]:
    """Return the names of a Parquet file's columns and the query that reads it as text."""
    try:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file.readable)]).fetchall()
    except duckdb.Error as error:
        text = f"{file.path.name} is not a readable Parquet file: {_first_line(error)}; write it again"
        raise DataError("binary_file", text) from None
    names = tuple(str(row[0]) for row in described)
    casts = ", ".join(_clean(f"CAST({_identifier(name)} AS VARCHAR)", i) for i, name in enumerate(names))
    return _names(file, names), f"SELECT {casts} FROM read_parquet(?)"  # noqa: S608 - see _identifier


def _json(connection: duckdb.DuckDBPyConnection, file: SourceFile, known: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the keys of a file of JSON objects and the query that reads their values as text.

    A key that an object lacks, or has as null, is a missing value; objects and lists within are kept as their JSON.
    Keys come in the order in which they are first seen, after those that the files before have.
    """
    with file.readable.open(encoding="utf-8") as text:
        layout = "array" if text.read(64).lstrip().startswith("[") else "newline_delimited"
    objects = f"read_json_objects(?, format='{layout}')"
    sql = f"""SELECT json_keys(json), count(*) FILTER (json_type(json) <> 'OBJECT')
        FROM (SELECT json, row_number() OVER () AS r FROM {objects}) GROUP BY 1 ORDER BY min(r)"""  # noqa: S608
    try:
        seen = connection.execute(sql, [str(file.readable)]).fetchall()
    except duckdb.Error as error:
        text = f"{file.path.name} cannot be read as JSON: {_json_reason(file, error)}; correct it"
        raise DataError("not_tabular", text) from None
    if any(others for _, others in seen):
        text = f'{file.path.name} holds JSON values that are no objects; give one object a line: {{"column": value}}'
        raise DataError("not_tabular", text)
    found = dict.fromkeys(str(key) for keys, _ in seen for key in keys)
    names = _names(file, [name for name in known if name in found] + [key for key in found if key not in known])
    picked = ", ".join(_clean(f"(json ->> {_json_path(key)})", i) for i, key in enumerate(names))
    return names, f"SELECT {picked} FROM {objects}"  # noqa: S608 - quoted names


def _json_path(key: str) -> str:
    """Return the pointer (RFC 6901) of a key as an SQL text."""
    return _quoted("/" + key.replace("~", "~0").replace("/", "~1"))


def _json_reason(file: SourceFile, error: duckdb.Error) -> str:
    """Return the first line that is no JSON; for a list over many lines what DuckDB says, without the path."""
    with file.readable.open(encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                msgspec.json.decode(line.strip() or "{}")
            except msgspec.DecodeError as fault:
                return f"line {number}: {fault}"
    return re.sub(r'^.*?in file "[^"]*", ', "", _first_line(error))


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
        return DataError("binary_file", f"{file.path.name} cannot be read: {_first_line(error)}; write it again")
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
        text = f"{file.path.name} cannot be read as a table: {_first_line(error)}; check its quotes and line ends"
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


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
