"""The only code between rows and tensors: training, batch and serving all come through here.

Owns how a text or a JSON value becomes a number, a date or a category, and which tensors a model is fed:
`numbers` float64 [N, C1] (NaN = missing) and `strings` object [N, C2] ("" = missing). A date gives its epoch day
and its calendar parts. Leaves what a model does with them to the ONNX graph. Imports numpy and the contract alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mlsystem.plain import Layout, Plain
from mlsystem.schema import Column, Schema, Table

Numbers = npt.NDArray[np.float64]
Strings = npt.NDArray[np.object_]
Moments = npt.NDArray[np.datetime64]

NUMBER_NULLS: Final = (
    *("?", "-", "--", ".", "None", "nil", "unknown", "unk", "undefined", "missing", "not available", "n.a.", "k.A."),
    *("unbekannt", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"),
)
"""Texts that mean "missing" in a column of numbers or dates, besides those of the contract's reader."""


def _number_pattern(groups: Sequence[str], decimal: str) -> str:
    """Return what a number looks like whose thousands one of `groups` parts; in brackets it is negative."""
    money = "(?:[$€£¥]|USD|EUR|GBP|CHF)"
    thousands = "|".join(rf"(?:{group}\d{{3}})+" for group in groups)
    digits = rf"(?:\d+(?:{decimal}\d*)?|\d{{1,3}}(?:{thousands})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"
    amount = rf"{money}? ?{digits} ?(?:%|{money})?"
    return rf"[+-]?{amount}|\({amount}\)"


NUMBER_PATTERNS: Final = {
    ".": _number_pattern((",", "'", "\u2019", "\u00a0", "\u202f"), r"\."),
    ",": _number_pattern((r"\.", "'", "\u2019", "\u00a0", "\u202f", " "), ","),
}
"""What a number looks like as text, by decimal sign; RE2 reads it too, and no text makes it backtrack far."""

NUMBER_ORNAMENTS: Final = "[$€£¥%'\u2019\u00a0\u202f ()]|USD|EUR|GBP|CHF"
"""What stands in and around a number besides its sign, digits, decimal and grouping signs."""

OLDEST: Final = 89
"""Ages above it identify, in HIPAA's words; where they are capped they are all one more than this."""

CALENDAR_PARTS: Final = ("month", "weekday", "dayofyear")
"""Monday is weekday 0. A datetime adds the hour."""

_ORNAMENTS = re.compile(NUMBER_ORNAMENTS)
_NUMBERS = {decimal: re.compile(pattern, re.ASCII) for decimal, pattern in NUMBER_PATTERNS.items()}
_WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)
_LONGEST_NUMBER = 400  # no float needs more; longer texts only cost time
_SHOWN = 60  # characters of a refused value that a message repeats
_NAN = float("nan")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that cannot be taken: which row, which column, why, and what came (shortened)."""

    row: int
    column: str
    reason: str
    got: str


@dataclass(frozen=True, slots=True)
class Warning_:  # noqa: N801 - `Warning` is Python's
    """Something that was answered all the same: `unseen_category` or `unknown_column`, counted in values."""

    kind: str
    columns: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """The two boundary tensors, and what was wrong with the rows. A row with a problem must not be predicted."""

    numbers: Numbers
    strings: Strings
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Warning_, ...] = ()
    plain: bool = False
    """Whether every feature is a JSON number, null, a date, or a level of the contract as the contract writes it."""


class Refused(ValueError):  # noqa: N818 - a value is refused, the program is fine
    """A value that does not fit its column; the text is the reason that a caller is told."""


def parse_number(text: str, decimal: str = ".") -> float:
    """Return the number written in `text`; Refused if it is none. Groups of thousands, currency and % are read over."""
    if len(text) > _LONGEST_NUMBER or not _NUMBERS[decimal].fullmatch(text):
        raise Refused("not a number")
    plain = _ORNAMENTS.sub("", text)
    plain = plain.replace(",", "") if decimal == "." else plain.replace(".", "").replace(",", ".")
    value = -float(plain) if text.startswith("(") else float(plain)
    if math.isinf(value):
        raise Refused("too large a number")
    return value


def parse_moment(text: str, form: str) -> datetime:
    """Return the moment written in `text` by `form` (`iso` or a strptime format), in UTC; Refused if it is none."""
    try:
        moment = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007
    except ValueError:
        raise Refused(f"not a date as in the data ({'2024-01-31' if form == 'iso' else form})") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def canonical(text: str) -> str:
    """Return the text by which a category is known: trimmed, and "3.0" is "3"."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


@dataclass(frozen=True, slots=True)
class _NumberCell:
    """Turns one value of a number column into a float."""

    decimal: str
    nulls: frozenset[str]

    def text(self, text: str) -> float:
        text = text.strip()
        return _NAN if text.casefold() in self.nulls else parse_number(text, self.decimal)

    def json(self, value: object) -> float:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Refused(f"{_kind_of(value)} where a number is expected")
        try:
            number = float(value)
        except OverflowError:
            raise Refused("too large a number") from None
        if not math.isfinite(number):
            raise Refused("not a finite number")
        return number


@dataclass(frozen=True, slots=True)
class _MomentCell:
    """Turns one value of a date column into a moment; None is missing."""

    form: str
    nulls: frozenset[str]

    def text(self, text: str) -> datetime | None:
        text = text.strip()
        return None if text.casefold() in self.nulls else parse_moment(text, self.form)

    def json(self, value: object) -> datetime | None:
        if not isinstance(value, str):
            raise Refused(f"{_kind_of(value)} where a date is expected")
        return self.text(value)


@dataclass(frozen=True, slots=True)
class _CategoryCell:
    """Turns one value of a category column into its canonical text."""

    nulls: frozenset[str]
    levels: frozenset[str]
    complete: bool
    """Whether `levels` are all that the data had, so that another one is unseen."""

    def text(self, text: str) -> str:
        text = canonical(text)
        if not text.isascii():
            _require_unicode(text)
        return "" if text.casefold() in self.nulls else text

    def json(self, value: object) -> str:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool):
            return next((text for text in _BOOLEANS[value] if text in self.levels), _BOOLEANS[value][0])
        if isinstance(value, int):
            return _integer_text(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise Refused("not a finite number")
            return canonical(repr(value))
        raise Refused(f"{_kind_of(value)} where a category is expected")

    def unseen(self, text: str) -> bool:
        return self.complete and text not in self.levels


_BOOLEANS: Final = {True: ("true", "True", "TRUE"), False: ("false", "False", "FALSE")}


@dataclass(frozen=True, slots=True)
class _Slot:
    """A source column with its cell and its first position in the tensor."""

    name: str
    at: int
    cell: _NumberCell | _MomentCell | _CategoryCell
    parts: tuple[str, ...] = ()
    """Dates: what is made of the moment, in tensor order."""
    capped: bool = False
    """Ages: whether those over OLDEST are one value."""


@dataclass(slots=True)
class _Findings:
    """What goes wrong while a block of rows is encoded."""

    problems: list[Problem] = field(default_factory=list[Problem])
    unseen: dict[str, int] = field(default_factory=dict[str, int])
    unknown: dict[str, int] = field(default_factory=dict[str, int])

    def refuse(self, row: int, column: str, reason: object, value: object) -> None:
        self.problems.append(Problem(row, column, str(reason), _shown(value)))

    def encoded(self, numbers: Numbers, strings: Strings) -> Encoded:
        warnings = tuple(
            Warning_(kind, tuple(counts), sum(counts.values()))
            for kind, counts in (("unseen_category", self.unseen), ("unknown_column", self.unknown))
            if counts
        )
        return Encoded(numbers, strings, tuple(self.problems), warnings)


class Boundary:
    """Encoder of one contract, built once; safe to share between threads.

    `numbers` and `strings` name the tensor columns in order, `required` the source columns that a row must have.
    Columns that hooks make stand last in the tensors; they are left blank here.
    """

    def __init__(
        self, slots: Sequence[_Slot], names: tuple[Sequence[str], Sequence[str]], known: frozenset[str]
    ) -> None:
        self._slots = tuple(slots)
        self._known = known
        self.numbers: tuple[str, ...] = tuple(names[0])
        self.strings: tuple[str, ...] = tuple(names[1])
        self.required: tuple[str, ...] = tuple(slot.name for slot in slots)
        self.places: Mapping[str, tuple[slice, slice]] = {slot.name: _places(slot) for slot in slots}
        """Of every required column: which columns of the numbers and of the strings it fills."""
        self._capped = tuple(slot.at for slot in slots if slot.capped)
        self._plain = Plain(_layout(slots, (len(self.numbers), len(self.strings))), known)

    @classmethod
    def from_schema(cls, schema: Schema) -> Self:
        """Build the encoder of a contract."""
        numbers: list[str] = []
        slots: list[_Slot] = []
        strings = 0
        known = frozenset(column.name for column in schema.columns)
        for column in schema.columns:
            cell, parts = _cell(column, schema.reader.null), _parts(column)
            if isinstance(cell, _CategoryCell) and column.role == "feature":
                slots.append(_Slot(column.name, strings, cell))
                strings += 1
            elif parts:
                slots.append(_Slot(column.name, len(numbers), cell, parts, capped=column.reduced == "capped"))
                numbers.extend(_part_names(column.name, parts, known))
        texts = [slot.name for slot in slots if isinstance(slot.cell, _CategoryCell)]
        texts += [column.name for column in schema.made if column.type == "category"]
        numbers += [column.name for column in schema.made if column.type != "category"]
        return cls(slots, (numbers, texts), known)

    def rows(self, rows: Sequence[Mapping[str, object]], *, strict: bool = False) -> Encoded:
        """Encode JSON rows; with `strict` a column that the source does not have is a problem, else a warning."""
        plain = self._plain.encode(rows)
        found = Encoded(*plain, plain=True) if plain is not None else self._rows_by_rules(rows, strict=strict)
        if self._capped:
            self._cap(found.numbers)
        return found

    def _rows_by_rules(self, rows: Sequence[Mapping[str, object]], *, strict: bool) -> Encoded:
        """Encode JSON rows value by value."""
        numbers, strings = self._blank(len(rows))
        findings = _Findings()
        for index, row in enumerate(rows):
            if not row.keys() <= self._known:
                row = self._trimmed(index, row, strict, findings)  # noqa: PLW2901
            for slot in self._slots:
                if slot.name in row:
                    self._put(slot, index, row[slot.name], (numbers, strings), findings)
                else:
                    findings.refuse(index, slot.name, "missing column; send null if the value is not known", "")
        return findings.encoded(numbers, strings)

    def table(self, table: Table) -> Encoded:
        """Encode rows of text, column by column, with the same coercion as `rows`."""
        numbers, strings = self._blank(table.rows)
        findings = _Findings()
        for slot in self._slots:
            if slot.name not in table.columns:
                findings.refuse(0, slot.name, "missing column", "")
                continue
            texts, cell = table.columns[slot.name], slot.cell
            if isinstance(cell, _NumberCell):
                numbers[:, slot.at] = _encode_numbers(texts, cell, slot.name, findings)
            elif isinstance(cell, _MomentCell):
                numbers[:, slot.at : slot.at + len(slot.parts)] = _encode_moments(texts, slot, cell, findings)
            else:
                strings[:, slot.at] = _encode_categories(texts, slot.name, cell, findings)
        self._cap(numbers)
        return findings.encoded(numbers, strings)

    def complete(self, encoded: Encoded, *, checked: bool = True) -> Encoded:  # noqa: ARG002 - of boundaries with hooks
        """Return tensors that were put together of several rows with what hooks make of them; here nothing."""
        return encoded

    def _blank(self, rows: int) -> tuple[Numbers, Strings]:
        numbers = np.full((rows, len(self.numbers)), np.nan)
        strings = np.full((rows, len(self.strings)), "", dtype=object)
        return numbers, strings

    def _cap(self, numbers: Numbers) -> None:
        """Let ages over OLDEST be one value, in training and serving alike."""
        for place in self._capped:
            np.minimum(numbers[:, place], OLDEST + 1, out=numbers[:, place])

    def _trimmed(
        self, index: int, row: Mapping[str, object], strict: bool, findings: _Findings
    ) -> Mapping[str, object]:
        """Return the row with blanks around its names taken off, and count the columns that nobody knows."""
        row = {name.strip(): value for name, value in row.items()}
        for name in row.keys() - self._known:
            if strict:
                findings.refuse(index, name[:_SHOWN], "unknown column", row[name])
            else:
                findings.unknown[name[:_SHOWN]] = findings.unknown.get(name[:_SHOWN], 0) + 1
        return row

    @staticmethod
    def _put(slot: _Slot, index: int, value: object, tensors: tuple[Numbers, Strings], findings: _Findings) -> None:
        if value is None:
            return
        cell = slot.cell
        try:
            if isinstance(cell, _NumberCell):
                tensors[0][index, slot.at] = cell.json(value)
            elif isinstance(cell, _CategoryCell):
                text = tensors[1][index, slot.at] = cell.json(value)
                if text and cell.unseen(text):
                    findings.unseen[slot.name] = findings.unseen.get(slot.name, 0) + 1
            else:
                tensors[0][index, slot.at : slot.at + len(slot.parts)] = _parts_of(cell.json(value), slot.parts)
        except Refused as reason:
            findings.refuse(index, slot.name, reason, value)


def _places(slot: _Slot) -> tuple[slice, slice]:
    if isinstance(slot.cell, _CategoryCell):
        return slice(0, 0), slice(slot.at, slot.at + 1)
    return slice(slot.at, slot.at + max(1, len(slot.parts))), slice(0, 0)


def _layout(slots: Iterable[_Slot], width: tuple[int, int]) -> Layout:
    """Return what the fast way needs to know of the slots: a level is plain if the rules leave it as it is."""
    numbers: dict[str, int] = {}
    dates: dict[str, tuple[int, Callable[[str], tuple[float, ...]]]] = {}
    strings: dict[str, dict[str, str]] = {}
    for slot in slots:
        cell = slot.cell
        if isinstance(cell, _NumberCell):
            numbers[slot.name] = slot.at
        elif isinstance(cell, _MomentCell):
            dates[slot.name] = slot.at, lambda text, cell=cell, parts=slot.parts: _parts_of(cell.text(text), parts)
        else:
            strings[slot.name] = {level: level for level in cell.levels if _attempt(cell.text, level) == level}
    return Layout(numbers, dates, strings, width)


def number_column(texts: Strings, decimal: str, nulls: Iterable[str]) -> tuple[Numbers, tuple[Problem, ...]]:
    """Return one column of text as numbers, as `Boundary.table` does; what is no number is NaN and a problem."""
    findings = _Findings()
    values = _encode_numbers(texts, _NumberCell(decimal, _nulls(nulls, NUMBER_NULLS)), "", findings)
    return values, tuple(findings.problems)


def moment_column(texts: Strings, form: str, nulls: Iterable[str]) -> tuple[Numbers, tuple[Problem, ...]]:
    """Return one column of text as seconds since 1970-01-01 UTC; what is no date is NaN and a problem."""
    findings = _Findings()
    cell = _MomentCell(form, _nulls(nulls, NUMBER_NULLS))
    slot = _Slot("", 0, cell, ("second",))
    return _encode_moments(texts, slot, cell, findings)[:, 0], tuple(findings.problems)


def category_column(texts: Strings, nulls: Iterable[str]) -> Strings:
    """Return one column of text as canonical categories, "" where the value is missing."""
    cell = _CategoryCell(_nulls(nulls), frozenset(), complete=False)
    return _encode_categories(texts, "", cell, _Findings())


def _encode_numbers(texts: Strings, cell: _NumberCell, name: str, findings: _Findings) -> Numbers:
    """Return a column of text as float64; clean columns are converted in one go, others value by value."""
    present = texts != ""
    fast = _fast_numbers(texts, present) if cell.decimal == "." else None
    if fast is not None:
        return fast
    values = np.full(len(texts), np.nan)
    seen: dict[str, float | Refused] = {}
    for row in np.flatnonzero(present):
        text = texts[row]
        known = seen.get(text)
        if known is None:
            known = seen[text] = _attempt(cell.text, text)
        if isinstance(known, Refused):
            findings.refuse(int(row), name, known, text)
        else:
            values[row] = known
    return values


def _fast_numbers(texts: Strings, present: npt.NDArray[np.bool_]) -> Numbers | None:
    """Convert plain numbers at C speed; None where a value needs the rules of `parse_number`.

    float() reads "1_000", "nan", "infinity" and digits of other scripts, which a contract does not; those are
    told apart by the letters that occur, or by a result that is not finite.
    """
    used = texts[present]
    letters = "".join(used)
    if not letters.isascii() or "_" in letters:
        return None
    values = np.full(len(texts), np.nan)
    try:
        values[present] = used.astype(np.float64)
    except ValueError:
        return None
    return values if bool(np.isfinite(values[present]).all()) else None


def _encode_moments(texts: Strings, slot: _Slot, cell: _MomentCell, findings: _Findings) -> Numbers:
    """Return a column of text as the slot's calendar parts; plain ISO dates in one go, others once for each text."""
    values = np.full((len(texts), len(slot.parts)), np.nan)
    present = texts != ""
    fast = _fast_moments(texts[present]) if cell.form == "iso" else None
    if fast is not None:
        values[present] = np.column_stack([_PARTS[part](fast) for part in slot.parts])
        return values
    seen: dict[str, tuple[float, ...] | Refused] = {}
    for row in np.flatnonzero(present):
        text = texts[row]
        known = seen.get(text)
        if known is None:
            moment = _attempt(cell.text, text)
            known = moment if isinstance(moment, Refused) else _parts_of(moment, slot.parts)
            seen[text] = known
        if isinstance(known, Refused):
            findings.refuse(int(row), slot.name, known, text)
        else:
            values[row] = known
    return values


def _fast_moments(texts: Strings) -> Moments | None:
    """Convert plain ISO dates or moments at C speed; None where a text is anything else, or no date."""
    lengths = set(map(len, texts.tolist()))
    if lengths not in ({10}, {19}):
        return None
    plain = texts.astype(f"U{lengths.pop()}")
    signs = plain.view(np.uint32).reshape(len(texts), -1)
    for place in range(signs.shape[1]):
        allowed = _ISO_SIGNS.get(place, "0123456789")
        if not bool(np.isin(signs[:, place], [ord(sign) for sign in allowed]).all()):
            return None
    try:
        moments = plain.astype("datetime64[s]")
    except ValueError:
        return None
    return moments if bool((moments >= _FIRST_MOMENT).all()) else None


_ISO_SIGNS: Final = {4: "-", 7: "-", 10: "T ", 13: ":", 16: ":"}
_FIRST_MOMENT: Final = np.datetime64("0001-01-01", "s")


def _encode_categories(texts: Strings, name: str, cell: _CategoryCell, findings: _Findings) -> Strings:
    """Return a column of text in canonical form; equal texts share one object, so memory follows the levels."""
    seen: dict[str, str | Refused] = {"": ""}
    values = np.full(len(texts), "", dtype=object)
    for row, text in enumerate(texts):
        known = seen.get(text)
        if known is None:
            known = seen[text] = _attempt(cell.text, text)
        if isinstance(known, Refused):
            findings.refuse(row, name, known, text)
            continue
        values[row] = known
        if known and cell.complete and known not in cell.levels:
            findings.unseen[name] = findings.unseen.get(name, 0) + 1
    return values


def _attempt(coerce: Callable[[str], _Value], text: str) -> _Value | Refused:
    try:
        return coerce(text)
    except Refused as reason:
        return reason


def _cell(column: Column, nulls: Iterable[str]) -> _NumberCell | _MomentCell | _CategoryCell:
    if column.type in {"number", "integer"}:
        return _NumberCell(column.decimal, _nulls(nulls, NUMBER_NULLS))
    if column.type in {"date", "datetime"}:
        return _MomentCell(column.format or "iso", _nulls(nulls, NUMBER_NULLS))
    complete = column.distinct <= len(column.levels)
    return _CategoryCell(_nulls(nulls), frozenset(column.levels), complete)


def _parts(column: Column) -> tuple[str, ...]:
    """Return what a column puts into the numbers tensor; a time column only its calendar parts, if they tell nobody."""
    if column.type in {"number", "integer"}:
        return ("value",) if column.role == "feature" else ()
    if column.type not in {"date", "datetime"} or column.role not in {"feature", "time"}:
        return ()
    if column.role == "time" and column.pii:  # a date of a person's: it orders the rows and no more
        return ()
    if column.reduced == "year":
        return ("year",)
    day = ("day",) if column.role == "feature" or column.whole else ()
    hour = ("hour",) if column.type == "datetime" else ()
    return (*day, *CALENDAR_PARTS, *hour)


def _part_names(name: str, parts: tuple[str, ...], known: frozenset[str]) -> list[str]:
    """Name the tensor columns of a source column; a column that happens to be called `when:month` keeps its name."""
    separator = ":" if not any(f"{name}:{part}" in known for part in parts) else "::"
    return [name if part in {"value", "day"} else f"{name}{separator}{part}" for part in parts]


def _parts_of(moment: datetime | None, parts: tuple[str, ...]) -> tuple[float, ...]:
    """Return the calendar parts of one moment, NaN where it is missing."""
    if moment is None:
        return (_NAN,) * len(parts)
    return tuple(_PART[part](moment) for part in parts)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S: Final = 86_400

_PART: Final[dict[str, Callable[[datetime], float]]] = {
    "second": lambda moment: (moment - _EPOCH).total_seconds(),
    "day": lambda moment: (moment - _EPOCH).total_seconds() / _DAY_S,
    "year": lambda moment: float(moment.year),
    "month": lambda moment: float(moment.month),
    "weekday": lambda moment: float(moment.weekday()),
    "dayofyear": lambda moment: float((moment.date() - date(moment.year, 1, 1)).days + 1),
    "hour": lambda moment: float(moment.hour),
}


def _days(moments: Moments) -> npt.NDArray[np.int64]:
    return moments.astype("datetime64[D]").astype(np.int64)


_PARTS: Final[dict[str, Callable[[Moments], npt.NDArray[np.int64] | Numbers]]] = {
    "second": lambda moments: moments.astype(np.int64),
    "day": lambda moments: moments.astype(np.int64) / _DAY_S,
    "year": lambda moments: moments.astype("datetime64[Y]").astype(np.int64) + 1970,
    "month": lambda moments: moments.astype("datetime64[M]").astype(np.int64) % 12 + 1,
    "weekday": lambda moments: (_days(moments) + 3) % 7,  # 1970-01-01 was a Thursday
    "dayofyear": lambda moments: _days(moments) - _days(moments.astype("datetime64[Y]")) + 1,
    "hour": lambda moments: moments.astype(np.int64) // 3600 % 24,
}
"""The same as _PART for whole columns."""


def _nulls(*groups: Iterable[str]) -> frozenset[str]:
    return frozenset({"", *(text.strip().casefold() for group in groups for text in group)})


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("not valid Unicode text") from None


def _integer_text(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise Refused("too large a number") from None


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, (list, tuple)) else "a value"


def _shown(value: object) -> str:
    """Return a value for a message: short, printable, and never a huge conversion."""
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        return f"an integer of {value.bit_length()} bits"
    if not isinstance(value, (str, int, float)):
        return _kind_of(value)
    text = str(value)[: 2 * _SHOWN].encode("utf-8", "replace").decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
