"""How each kind of file is read as text: the query of its rows, and the names of its columns.

Owns the dialect of CSV (DuckDB's sniffer is asked for delimiter and quote, never for types; comment lines and whether
there is a line of names are decided here), Parquet, and JSON objects, one a line or in a list. Every query gives
columns `c0`, `c1`, ... of text without blanks around it, "" where a value is missing. Leaves running it to `reader`.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import msgspec

from mlsystem.data.quoting import identifier, literal
from mlsystem.data.source import SourceFile
from mlsystem.errors import DataError
from mlsystem.spec import ReaderOptions

_NOTHING = "(empty)"  # how the sniffer writes "none"

_BLANKS: Final = ("' '", "chr(9)", "chr(10)", "chr(13)", "chr(160)")

_MANY_COLUMNS: Final = 100

_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", re.ASCII)


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


def dialect_of(connection: duckdb.DuckDBPyConnection, file: SourceFile, options: ReaderOptions) -> Dialect:
    """Ask the sniffer how the file is written; what the spec says about it wins."""
    given = f", delim={literal(options.delimiter)}" if options.delimiter else ""
    given += f", quote={literal(options.quote)}" if options.quote else ""
    sql = f"SELECT Delimiter, Quote, Escape, HasHeader FROM sniff_csv(?{given})"  # noqa: S608 - see literal
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


def select_csv(file: SourceFile, dialect: Dialect) -> tuple[tuple[str, ...], str]:
    """Return the names of a CSV file's columns and the query that reads it as text."""
    record = _first_record(file, dialect)
    names = _names(file, record) if dialect.header else tuple(f"column_{i + 1}" for i in range(len(record)))
    columns = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(len(names)))
    signs = f"delim={literal(dialect.delimiter)}, quote={literal(dialect.quote)}, escape={literal(dialect.escape)}"
    lines = f"skip={dialect.skip}, header={str(dialect.header).lower()}"
    strict = "auto_detect=false, strict_mode=true, null_padding=false, ignore_errors=false"
    picked = _cleaned([f"c{i}" for i in range(len(names))])
    return names, f"SELECT {picked} FROM read_csv(?, {signs}, {lines}, columns={{{columns}}}, {strict})"  # noqa: S608


def select_parquet(connection: duckdb.DuckDBPyConnection, file: SourceFile) -> tuple[tuple[str, ...], str]:
    """Return the names of a Parquet file's columns and the query that reads it as text."""
    try:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(file.readable)]).fetchall()
    except duckdb.Error as error:
        text = f"{file.path.name} is not a readable Parquet file: {first_line(error)}; write it again"
        raise DataError("binary_file", text) from None
    names = tuple(str(row[0]) for row in described)
    casts = _cleaned([f"CAST({identifier(name)} AS VARCHAR)" for name in names])
    return _names(file, names), f"SELECT {casts} FROM read_parquet(?)"  # noqa: S608 - see identifier


def select_json(
    connection: duckdb.DuckDBPyConnection, file: SourceFile, known: Sequence[str]
) -> tuple[tuple[str, ...], str]:
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
    picked = _cleaned([f"(json ->> {_json_path(key)})" for key in names])
    return names, f"SELECT {picked} FROM {objects}"  # noqa: S608 - quoted names


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


def _cleaned(texts: Sequence[str]) -> str:
    """Return SQL for values without blanks around them, "" where there is none."""
    clean = _trimmed if len(texts) > _MANY_COLUMNS else _trimmed_if_needed
    return ", ".join(f"coalesce({clean(text)}, '') AS c{i}" for i, text in enumerate(texts))


def _trimmed(text: str) -> str:
    return f"trim({text}, {' || '.join(_BLANKS)})"


def _trimmed_if_needed(text: str) -> str:
    """Look first, which takes half the time of trimming every value; each look takes memory, so not of many columns."""
    ends = " OR ".join(f"ends_with({text}, {sign})" for sign in _BLANKS)
    return f"CASE WHEN {text} <= '!' OR {ends} THEN {_trimmed(text)} ELSE {text} END"


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


def _json_path(key: str) -> str:
    """Return the pointer (RFC 6901) of a key as an SQL text."""
    return literal("/" + key.replace("~", "~0").replace("/", "~1"))


def _json_reason(file: SourceFile, error: duckdb.Error) -> str:
    """Return the first line that is no JSON; for a list over many lines what DuckDB says, without the path."""
    with file.readable.open(encoding="utf-8") as text:
        for number, line in enumerate(text, 1):
            try:
                msgspec.json.decode(line.strip() or "{}")
            except msgspec.DecodeError as fault:
                return f"line {number}: {fault}"
    return re.sub(r'^.*?in file "[^"]*", ', "", first_line(error))


def first_line(error: Exception) -> str:
    """Return what an error says first; DuckDB goes on with places in a query that nobody wrote."""
    return str(error).splitlines()[0]
