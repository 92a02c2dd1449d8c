"""Whether `data.query` looks into the future: a column of a row must not change when later rows are taken away.

Owns the test: the query is run again with everything hidden that a source knew only after a moment, and rows from up
to that moment are compared with what they were. A column that differs was joined from later rows: at prediction time
it would be something else. An ASOF join by `data.time` passes, a join to the latest row does not. The target may
come from the future, so it is left out. Leaves a database's own query unchecked: its tables are not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import duckdb

from mlsystem.data.findings import Finding
from mlsystem.data.query import ViewColumn, Views
from mlsystem.data.quoting import identifier
from mlsystem.errors import DataError
from mlsystem.spec import Spec

_MOMENTS: Final = ("DATE", "TIMESTAMP")
_CUTOFFS: Final = (0.5, 0.8)
"""Shares of the rows that lie before a moment at which the query is run again."""

_NOTICED: Final = 0.001
"""Share of the rows that must differ: sums over other rows may round otherwise."""

_JOINING: Final = re.compile(r"\b(join|over|group\s+by)\b", re.IGNORECASE)

_WHOLE: Final = "query whole"
_EARLY: Final = "query early"


@dataclass(frozen=True, slots=True)
class _Source:
    """A table with the column by which later rows are hidden."""

    table: str
    column: str
    certain: bool
    """Whether nothing else can be when its rows were known."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One query under test."""

    views: Views
    sql: str
    time: str
    keys: tuple[str, ...]
    columns: tuple[ViewColumn, ...]
    """Columns of the result that are compared."""


def late(views: Views, spec: Spec) -> tuple[Finding, ...]:
    """Return a finding for every source whose later rows change earlier results; DataError if the query fails."""
    if not spec.data.time:
        return (_without_time(views),) if len(views.tables) > 1 else ()
    try:
        check = _prepared(views, spec)
        return tuple(_findings(check)) if check else ()
    except duckdb.Error as error:
        text = f"data.query does not run on a part of its tables: {' '.join(str(error).split())}; make it work without "
        raise DataError("bad_query", text + "the newest rows too, so that it can be tested for leaks") from None
    finally:
        views.connection.execute(f"DROP TABLE IF EXISTS {identifier(_WHOLE)}")
        views.connection.execute(f"DROP TABLE IF EXISTS {identifier(_EARLY)}")


def unchecked(spec: Spec) -> tuple[Finding, ...]:
    """Return what to say of a query that a database has run: its tables are not here to be tested."""
    if not _JOINING.search(spec.data.query):
        return ()
    text = "data.query joins tables or looks over rows in the database itself: whether it brings in what came later is "
    return (Finding("maybe_late", (), "asked", text + "not checked. Join by the time of the row, or give the tables."),)


def _without_time(views: Views) -> Finding:
    text = f"data.query joins {', '.join(views.tables)}, and data.time does not say when a row was known: whether a "
    return Finding("maybe_late", (), "asked", text + "join brings in what came later is not checked. Set data.time.")


def _prepared(views: Views, spec: Spec) -> _Check | None:
    """Run the query once as it is; None if its time is no date."""
    sql = spec.data.query.strip().rstrip(";")
    views.connection.execute(f"CREATE TABLE {identifier(_WHOLE)} AS {sql}")
    described = views.connection.execute(f"DESCRIBE {identifier(_WHOLE)}").fetchall()
    columns = {str(row[0]): str(row[1]) for row in described}
    time = spec.data.time
    if not columns.get(time, "").startswith(_MOMENTS):
        return None
    given = {time, spec.task.target, spec.data.label_time, spec.data.entity}
    compared = tuple(ViewColumn(name, kind) for name, kind in columns.items() if name not in given)
    keys = tuple(name for name in (time, spec.data.entity) if name in columns)
    return _Check(views, sql, time, keys, compared)


def _findings(check: _Check) -> Iterator[Finding]:
    told: set[str] = set()
    for source in _sources(check):
        for same_day in (False, True):
            changed = [name for name in _changed(check, source, same_day=same_day) if name not in told]
            if changed:
                told.update(changed)
                yield _finding(source, tuple(changed), same_day=same_day)


def _sources(check: _Check) -> Iterator[_Source]:
    """Return what rows can be hidden by: a column called as `data.time` is, else every date that a table has."""
    for table, columns in check.views.tables.items():
        dated = [column.name for column in columns if column.type.startswith(_MOMENTS)]
        named = [name for name in dated if name == check.time]
        for name in named or dated:
            yield _Source(table, name, certain=bool(named) or len(dated) == 1)


def _changed(check: _Check, source: _Source, *, same_day: bool) -> list[str]:
    """Return the columns that change when later rows are hidden.

    Rows that are known by the day may use everything of that day; with `same_day` they may not.
    """
    by_day = _type_of(check, check.time) == "DATE"
    if same_day and not by_day:
        return []
    found: dict[str, None] = {}
    for cutoff in _cutoffs(check):
        limit = f"{cutoff} + INTERVAL 1 DAY" if by_day and not same_day else cutoff
        later = (
            f"{identifier(source.column)} >= {limit}"
            if by_day and not same_day
            else f"{identifier(source.column)} > {limit}"
        )
        with check.views.without(source.table, later):
            early = f"SELECT * FROM ({check.sql}) WHERE {identifier(check.time)} <= {cutoff}"  # noqa: S608 - quoted names
            check.views.connection.execute(f"CREATE OR REPLACE TABLE {identifier(_EARLY)} AS {early}")
        found |= dict.fromkeys(column.name for column in check.columns if _differs(check, column, cutoff))
    return list(found)


def _type_of(check: _Check, name: str) -> str:
    sql = f"SELECT typeof({identifier(name)}) FROM {identifier(_WHOLE)} LIMIT 1"  # noqa: S608 - quoted names
    found = check.views.connection.execute(sql).fetchone()
    return str(found[0]) if found else ""


def _cutoffs(check: _Check) -> list[str]:
    """Return moments as SQL literals, in the rows' own order."""
    time = identifier(check.time)
    sql = f"SELECT CAST(quantile_disc({time}, {list(_CUTOFFS)}) AS VARCHAR[]) FROM {identifier(_WHOLE)}"  # noqa: S608
    found = check.views.connection.execute(sql).fetchone()
    moments = dict.fromkeys(found[0]) if found and found[0] else {}
    return [f"TIMESTAMP '{moment}'" for moment in moments]


def _differs(check: _Check, column: ViewColumn, cutoff: str) -> bool:
    """Whether early rows have values of a column that they did not have; rows that are gone do not count.

    As counted sets under the keys, so that rows need no name of their own; numbers to six digits.
    """
    picked = ", ".join([*map(identifier, check.keys), _rounded(column)])
    before = f"SELECT {picked} FROM {identifier(_WHOLE)} WHERE {identifier(check.time)} <= {cutoff}"  # noqa: S608 - quoted names
    now = f"SELECT {picked} FROM {identifier(_EARLY)}"  # noqa: S608
    counted = f"SELECT (SELECT count(*) FROM ({now} EXCEPT ALL {before})), (SELECT count(*) FROM ({now}))"  # noqa: S608
    found = check.views.connection.execute(counted).fetchone()
    different, rows = (int(found[0]), int(found[1])) if found else (0, 0)
    return different > _NOTICED * rows


def _rounded(column: ViewColumn) -> str:
    return (
        f"printf('%.6g', {identifier(column.name)})" if column.type in {"DOUBLE", "FLOAT"} else identifier(column.name)
    )


def _finding(source: _Source, columns: tuple[str, ...], *, same_day: bool) -> Finding:
    listed, origin = ", ".join(map(repr, columns)), f"{source.table}.{source.column}"
    if same_day:
        text = f"{listed} may come from later the same day ({origin}): it is kept, as known by the day. If it is not, "
        return Finding("maybe_late", columns, "asked", text + "join by a moment instead of a day.")
    text = f"{listed} changes when rows of {source.table} from after the row's own time ({origin}) are taken away: "
    if source.certain:
        text += "it was not known then, and is left out. Join by time, ASOF JOIN ... ON row.time >= other.time."
        return Finding("leak_late", columns, "dropped", text, "leak")
    text += f"if {source.column} is when such a row was known, join by it; if it is not, nothing is wrong."
    return Finding("leak_late", columns, "asked", text)
