"""Rows without the personal data in them: what is captured of requests, and what is stored with a version.

Owns what a masked value looks like (nothing: a row stays one that the boundary takes) and which values are masked:
those of columns of personal data, and single texts that are surely some wherever they stand. Serve side. Leaves which
columns those are to the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mlsystem.boundary import Refused, parse_moment, parse_number
from mlsystem.governance.kinds import AGE, OLDEST, Detector
from mlsystem.governance.pii import in_value, words_of
from mlsystem.governance.regimes import masks, strays
from mlsystem.schema import Column, Schema
from mlsystem.spec import Spec

Mask = Callable[[Mapping[str, Any]], dict[str, Any]]

_NAMING: Final = frozenset({"id", "entity"})
"""Roles of columns that say whom a row is about."""
_AGE: Final = OLDEST + 1
"""What every age above OLDEST is told as (45 CFR 164.514(b)(2)(i)(C))."""


def mask_of(schema: Schema, spec: Spec, *, captured: bool = True) -> Mask:
    """Return what turns a row as it came into one that may be kept; columns that the contract lacks are left out.

    `captured` is for rows of requests, which `capture.mask` governs; other rows are governed by `governance.mask`, and
    name nobody in any case: whoever is erased must not stay in a version's example rows.
    """
    known = {column.name for column in schema.columns}
    names = {column.name for column in schema.columns if column.role in _NAMING and not captured}
    if not masks(spec, captured=captured):
        return lambda row: {name: None if name in names else value for name, value in row.items() if name in known}
    kinds, ages = strays(spec), "hipaa" in spec.governance.regime
    cells = {
        column.name: _capped(column) if ages and _is_age(column) else _cell(column, kinds) for column in schema.columns
    }
    cells |= dict.fromkeys(names, _nothing)
    return lambda row: {name: cells[name](value) for name, value in row.items() if name in cells}


def _cell(column: Column, kinds: Sequence[Detector]) -> Callable[[Any], Any]:
    """Return what masks one value of a column."""
    if column.reduced == "year":
        return lambda value: _year_of(str(value), column.format or "iso") or None
    if column.pii:
        return _nothing
    levels = frozenset(column.levels)

    def text(value: object) -> object:
        stray = isinstance(value, str) and value not in levels and in_value(value.strip(), kinds)
        return None if stray else value

    return text


def reduction(column: Column) -> Callable[[str], str] | None:
    """Return what makes of a text what of it may be kept, None for a column that may be kept as it is."""
    if column.reduced == "year":
        return lambda text: _year_of(text, column.format or "iso")
    if column.reduced == "capped":
        age = _capped(column)
        return lambda text: str(found) if (found := age(text)) is not None else ""
    return None


def _year_of(text: str, form: str) -> str:
    """Return the first day of the year of a date, written as it is; nothing for what is no date."""
    try:
        moment = parse_moment(text.strip(), form)
    except Refused:
        return ""
    first = moment.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return first.date().isoformat() if form == "iso" else first.strftime(form)


def _is_age(column: Column) -> bool:
    """Whether a column holds ages, be they over 89 in the data or not yet."""
    return column.pii == "age" or (column.type in {"number", "integer"} and bool(AGE.search(words_of(column.name))))


def _nothing(_value: object) -> None:
    return None


def _capped(column: Column) -> Callable[[object], object]:
    """Return what makes 90 of an age that is more, and nothing of what is none."""

    def age(value: object) -> object:
        try:
            over = parse_number(str(value).strip(), column.decimal if isinstance(value, str) else ".") > OLDEST
        except Refused:
            return None
        return _AGE if over else value

    return age
