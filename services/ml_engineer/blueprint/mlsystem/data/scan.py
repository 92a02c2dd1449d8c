"""What each column holds: one full scan of all values, so that the answer does not depend on their order.

Owns the statistics of a column's texts and the type that follows from them. DuckDB counts the distinct texts, the
patterns of `boundary` decide what is a number; dates are recognised by their shape and then tried. Leaves roles to
`audit` and coercion to `boundary`.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from mlsystem.boundary import NUMBER_NULLS, NUMBER_ORNAMENTS, NUMBER_PATTERNS
from mlsystem.data.quoting import literal
from mlsystem.data.reader import TABLE, Rows
from mlsystem.errors import DataError
from mlsystem.schema import NULLS, ColumnType
from mlsystem.spec import ReaderOptions

CLEAR_SHARE: Final = 0.99
"""Share of a column's values that must fit a type; the rest is then read as missing, and told."""
_TEXT_WORDS = 4.0  # words a value on average, from which a column of many different values is prose
_TEXT_CHARACTERS = 50.0
_TEXT_DISTINCT = 0.5

_ISO_PATTERN: Final = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_DATE_SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "Y-9-9": ("%Y-%m-%d",),
    "Y/9/9": ("%Y/%m/%d",),
    "Y.9.9": ("%Y.%m.%d",),
    "9/9/Y": ("%d/%m/%Y", "%m/%d/%Y"),
    "9-9-Y": ("%d-%m-%Y", "%m-%d-%Y"),
    "9.9.Y": ("%d.%m.%Y",),
    "9/9/9": ("%d/%m/%y", "%m/%d/%y"),
    "9-a-Y": ("%d-%b-%Y", "%d-%B-%Y"),
    "9-a-9": ("%d-%b-%y",),
    "9 a Y": ("%d %b %Y", "%d %B %Y"),
    "a 9, Y": ("%b %d, %Y", "%B %d, %Y"),
}
_TIME_SHAPES: Final = {
    "": "",
    " 9:9": " %H:%M",
    " 9:9:9": " %H:%M:%S",
    "T9:9": "T%H:%M",
    "T9:9:9": "T%H:%M:%S",
    " 9:9 a": " %I:%M %p",
    " 9:9:9 a": " %I:%M:%S %p",
}
_COMPACT_DATE: Final = re.compile(r"date|day|dt$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Texts:
    """Counts over the texts of one column; all but `distinct` and `zeros` are counted in rows."""

    rows: int
    present: int
    distinct: int
    numbers: int
    commas: int
    """Numbers if the comma is the decimal sign."""
    fractions: int
    """Texts that are a number only if the comma is the decimal sign."""
    integers: int
    zeros: int
    """Distinct texts of digits that begin with a needless zero, such as postal codes."""
    unknown: int
    """Texts that mean "missing" among numbers and dates alone."""
    characters: float
    words: float


@dataclass(frozen=True, slots=True)
class Scan:
    """What one column holds: its type, how to read it, and what does not fit."""

    name: str
    type: ColumnType
    texts: Texts
    decimal: str = "."
    format: str | None = None
    strays: int = 0
    """Rows whose value does not fit the type and is read as missing."""
    ambiguous: bool = False
    """Dates: day and month could be the other way round."""

    @property
    def missing(self) -> float:
        """Share of rows without a value."""
        return 1 - self.texts.present / self.texts.rows if self.texts.rows else 0.0

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers."""
        return self.type in {"number", "integer"}

    @property
    def moment(self) -> bool:
        """Whether the column holds dates."""
        return self.type in {"date", "datetime"}


def scan_column(rows: Rows, name: str, options: ReaderOptions, *, wanted: str = "") -> Scan:
    """Scan one column; `wanted` is the type that the spec asks for, if any. DataError if no value is of that type."""
    texts = _texts(rows, name, options)
    if wanted:
        return _asked_for(rows, name, texts, options, wanted)
    if _COMPACT_DATE.search(name):
        guess = _as_moment(rows, name, texts, options) or _as_number(name, texts, options)
    else:
        guess = _as_number(name, texts, options) or _as_moment(rows, name, texts, options)
    return guess or Scan(name, _words_or_levels(texts), texts)


def _asked_for(rows: Rows, name: str, texts: Texts, options: ReaderOptions, wanted: str) -> Scan:
    """Return the column with the type that the spec asks for; what does not fit is read as missing, and told."""
    if wanted in {"category", "text"}:
        return Scan(name, "text" if wanted == "text" else "category", texts)
    if wanted in {"number", "integer"}:
        guess = _as_number(name, replace(texts, zeros=0), options, clear=0.0)
    else:
        guess = _as_moment(rows, name, texts, options, clear=0.0)
    if guess is None or guess.texts.present == 0:
        text = f"columns.{name}.type is {wanted!r}, but none of its {texts.present:,} values is one; set another type"
        raise DataError("bad_type", text)
    return replace(guess, type=cast("ColumnType", wanted)) if wanted != "integer" else guess


def null_list(options: ReaderOptions) -> tuple[str, ...]:
    """Return all texts that mean "missing" in every column."""
    return tuple(dict.fromkeys([*NULLS, *options.null]))


def counts(rows: Rows, name: str, nulls: Iterable[str], most: int) -> list[tuple[str, int]]:
    """Return the most frequent texts of a column with their counts, the most frequent first."""
    sql = f"""SELECT v, n FROM ({distinct(rows, name)}) WHERE NOT list_contains(?, lower(v))
        ORDER BY n DESC, v LIMIT {int(most)}"""  # noqa: S608 - generated names, the rest are parameters
    return [(str(text), int(count)) for text, count in rows.query(sql, [_lowered(nulls)])]


def distinct(rows: Rows, name: str) -> str:
    """Return the query of a column's distinct texts `v` with the number `n` of rows that have them."""
    column = rows.sql_name(name)
    return f"SELECT {column} AS v, count(*) AS n FROM {TABLE} GROUP BY {column}"  # noqa: S608 - generated names


def plain_number(text: str, decimal: str) -> str:
    """Return SQL for a number as SQL writes it: without currency, percent, blanks and separators of thousands."""
    plain = f"regexp_replace({text}, {literal(NUMBER_ORNAMENTS)}, '', 'g')"
    plain = f"CASE WHEN starts_with({text}, '(') THEN '-' ELSE '' END || {plain}"
    return f"replace({plain}, ',', '')" if decimal == "." else f"replace(replace({plain}, '.', ''), ',', '.')"


def _lowered(nulls: Iterable[str]) -> list[str]:
    return ["", *(text.strip().lower() for text in nulls)]


def _texts(rows: Rows, name: str, options: ReaderOptions) -> Texts:
    """Count what kinds of text a column holds, over its distinct texts."""
    sql = f"""WITH v AS ({distinct(rows, name)}),
        p AS (SELECT *, regexp_full_match(v, $dot) AS dot, regexp_full_match(v, $comma) AS comma,
                regexp_full_match(v, '[+-]?\\d+') AS whole
              FROM v WHERE NOT list_contains($nulls, lower(v)))
        SELECT coalesce(sum(n), 0), count(*), coalesce(sum(n) FILTER (dot), 0),
            coalesce(sum(n) FILTER (dot AND NOT contains(v, ',') AND NOT contains(v, '.')), 0)
              + coalesce(sum(n) FILTER (comma AND (NOT dot OR contains(v, ',') OR contains(v, '.'))), 0),
            coalesce(sum(n) FILTER (comma AND NOT dot AND contains(v, ',')), 0),
            coalesce(sum(n) FILTER (whole), 0), count(*) FILTER (whole AND regexp_matches(v, '^[+-]?0\\d')),
            coalesce(sum(n) FILTER (list_contains($unknown, lower(v))), 0),
            coalesce(sum(n * length(v)) / sum(n), 0),
            coalesce(sum(n * (1 + length(v) - length(replace(v, ' ', '')))) / sum(n), 0)
        FROM p"""  # noqa: S608 - generated names, the rest are parameters
    parameters = {
        "dot": NUMBER_PATTERNS["."],
        "comma": NUMBER_PATTERNS[","],
        "nulls": _lowered(null_list(options)),
        "unknown": _lowered(NUMBER_NULLS),
    }
    (found,) = rows.connection.execute(sql, parameters).fetchall()
    numbers = [int(value) for value in found[:8]]
    return Texts(rows.count, *numbers, characters=float(found[8]), words=float(found[9]))


def _as_number(name: str, texts: Texts, options: ReaderOptions, *, clear: float = CLEAR_SHARE) -> Scan | None:
    """Return the column as numbers, or None if it holds something else; codes with leading zeros are no numbers."""
    if texts.zeros or texts.present == texts.unknown:
        return None
    decimal = options.decimal or ("," if texts.fractions and texts.commas >= texts.numbers else ".")
    fitting = texts.commas if decimal == "," else texts.numbers
    strays = texts.present - texts.unknown - fitting
    if fitting < clear * (texts.present - texts.unknown):
        return None
    known = replace(texts, present=fitting)
    whole = texts.integers == fitting
    return Scan(name, "integer" if whole else "number", known, decimal=decimal, strays=strays)


def _as_moment(
    rows: Rows, name: str, texts: Texts, options: ReaderOptions, *, clear: float = CLEAR_SHARE
) -> Scan | None:
    """Return the column as dates or moments, or None if it holds something else."""
    values = texts.present - texts.unknown
    if not values:
        return None
    shapes = _shapes(rows, name, options)
    formats = _formats([shape for shape, _ in shapes])
    if not formats:
        return None
    fitting = _fitting(rows, name, options, formats)
    best = max(formats, key=lambda form: fitting[form])
    if fitting[best] < clear * values:
        return None
    best, ambiguous = _day_or_month(formats, fitting, best, options)
    timed = ":" in max(shapes, key=lambda shape: shape[1])[0] or (best == "iso" and any(":" in s for s, _ in shapes))
    known = replace(texts, present=fitting[best])
    kind: ColumnType = "datetime" if timed else "date"
    return Scan(name, kind, known, format=best, strays=values - fitting[best], ambiguous=ambiguous)


def _shapes(rows: Rows, name: str, options: ReaderOptions) -> list[tuple[str, int]]:
    """Return the shapes of a column's texts, the most frequent first: `2024-01-31` has the shape `Y-9-9`."""
    sql = f"""SELECT translate(v, '0123456789', '9999999999') AS shape, sum(n) AS m FROM ({distinct(rows, name)})
        WHERE NOT list_contains(?, lower(v)) GROUP BY shape ORDER BY m DESC, shape LIMIT 500"""  # noqa: S608
    found: collections.Counter[str] = collections.Counter()
    for text, count in rows.query(sql, [_lowered([*null_list(options), *NUMBER_NULLS])]):
        found[_shape(str(text))] += int(count)
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _shape(text: str) -> str:
    """Return the shape of a text whose digits are all 9: `Y` is four digits, `9` one or two, `a` a word, `T` itself."""
    shape = re.sub("[A-Za-z]+", lambda word: "T" if word.group() == "T" else "a", text)
    return re.sub("9+", lambda run: _RUNS.get(len(run.group()), "n"), shape)


_RUNS: Final = {1: "9", 2: "9", 4: "Y", 8: "YY"}


def _formats(shapes: Sequence[str]) -> list[str]:
    """Return the date formats that the commonest shape could be written in."""
    shape = shapes[0] if shapes else ""
    if shape == "YY":
        return ["%Y%m%d"]
    formats = ["iso"] if shape.startswith("Y-9-9") else []
    for day, written in _DATE_SHAPES.items():
        time = _TIME_SHAPES.get(shape.removeprefix(day)) if shape.startswith(day) else None
        formats += [form + time for form in written] if time is not None else []
    return formats


def _fitting(rows: Rows, name: str, options: ReaderOptions, formats: Sequence[str]) -> dict[str, int]:
    """Count in how many rows the text is a date by each of the formats."""
    tried = ", ".join(f"coalesce(sum(n) FILTER ({_is_date(form)}), 0)" for form in formats)
    sql = f"""SELECT {tried} FROM ({distinct(rows, name)})
        WHERE NOT list_contains(?, lower(v))"""  # noqa: S608 - generated names and formats of this module
    (found,) = rows.query(sql, [_lowered([*null_list(options), *NUMBER_NULLS])])
    return dict(zip(formats, (int(count) for count in found), strict=True))


def _is_date(form: str) -> str:
    if form == "iso":
        return f"regexp_full_match(v, '{_ISO_PATTERN}') AND try_strptime(left(v, 10), '%Y-%m-%d') IS NOT NULL"
    return f"try_strptime(v, '{form}') IS NOT NULL"


def _day_or_month(
    formats: Sequence[str], fitting: dict[str, int], best: str, options: ReaderOptions
) -> tuple[str, bool]:
    """Choose between day and month first; ambiguous if every value is a date either way and nobody said which."""
    first = next((form for form in formats if form.startswith("%d") and "%m" in form), None)
    other = next((form for form in formats if form.startswith("%m")), None)
    if first is None or other is None or fitting[first] != fitting[other]:
        return best, False
    if options.dayfirst is None:
        return first, True
    return (first if options.dayfirst else other), False


def _words_or_levels(texts: Texts) -> ColumnType:
    """Tell prose from categories: many different values of many words."""
    if texts.present == 0 or texts.distinct < _TEXT_DISTINCT * texts.present:
        return "category"
    long = texts.characters >= _TEXT_CHARACTERS and texts.words >= 2
    return "text" if texts.words >= _TEXT_WORDS or long else "category"
