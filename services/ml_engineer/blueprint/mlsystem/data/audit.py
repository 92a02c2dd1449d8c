"""What is remarkable about the columns and rows of a source, and what is done about it.

Owns the rules that need no knowledge of the world beyond the table: ids, constants, missing values, text, odd
types, ambiguous dates, doubles, rare classes, few rows. Each rule is a generator of findings over one `Audit`.
Leaves what gives the target away to `leaks` and personal data to `privacy`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from mlsystem.boundary import number_column
from mlsystem.data.findings import Finding, RoleOf
from mlsystem.data.reader import TABLE, Rows
from mlsystem.data.scan import Scan, null_list
from mlsystem.data.target import Target
from mlsystem.spec import Spec

_ID_NAME: Final = re.compile(
    r"(^|[_\s-])(id|uuid|guid|key|index|idx|rownum|row|no|nr|number)$|[a-z](ID|Id|UUID|Key|Index|No|Nr|Number)$"
    r"|^(id|uuid|guid|index|idx|instant)$|^(unnamed: 0|column_1)$",
)
_ID_SHARE: Final = 0.98  # different texts a row, from which a category names the row
_ENTITY_NAME: Final = re.compile(r"(^|[_\s-])(id|uuid|guid)$|[a-z](ID|Id|UUID)$|^(id|uuid|guid)$")
_MANY_MISSING: Final = 0.5
_ALMOST_ALL_MISSING: Final = 0.95
_FEW_ROWS: Final = 500
_FEW_OF_A_CLASS: Final = 50
_RARE_CLASS: Final = 0.05
_SOME: Final = 0.01  # share of rows from which equal ones are more than chance
_FEWEST_TO_JUDGE: Final = 20
_MOSTLY_NUMBERS: Final = 0.7
_TELLING: Final = 0.5  # share of the different rows that one column tells apart, from which equal rows are copies


@dataclass(frozen=True, slots=True)
class Personal:
    """What personal data a column holds."""

    kind: str
    """As the contract names it."""
    words: str


@dataclass(frozen=True)
class Audit:
    """All that the rules look at: the rows that have a target, what was scanned, and the roles given so far."""

    rows: Rows
    scans: Mapping[str, Scan]
    target: Target
    spec: Spec
    roles: Mapping[str, RoleOf]
    personal: Mapping[str, Personal] = field(default_factory=dict[str, Personal])
    """The columns of personal data."""

    @cached_property
    def features(self) -> tuple[Scan, ...]:
        """The columns that are features when the audit begins."""
        return tuple(scan for scan in self.scans.values() if self.roles[scan.name].role == "feature")

    @cached_property
    def identifiers(self) -> dict[str, str]:
        """The columns that name a row, with how that shows."""
        judged = [scan for scan in self.features if scan.texts.present >= _FEWEST_TO_JUDGE]
        return {scan.name: why for scan in judged if (why := _id_reason(self, scan))}

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return a number column's values, NaN where there is none."""
        scan = self.scans[name]
        return number_column(self.rows.column(name), scan.decimal, null_list(self.spec.data.reader))[0]


def constants(audited: Audit) -> Iterator[Finding]:
    """Columns with a single value tell nothing; one that is also missing in places does."""
    for scan in audited.features:
        if scan.texts.present == 0:
            text = f"{scan.name!r} is empty in all {audited.rows.count:,} rows and is left out."
            yield Finding("mostly_missing", (scan.name,), "dropped", text, "ignore")
        elif scan.texts.distinct == 1 and scan.missing == 0:
            text = f"{scan.name!r} has the same value in all {audited.rows.count:,} rows and is left out."
            yield Finding("constant", (scan.name,), "dropped", text, "ignore")


def missing_values(audited: Audit) -> Iterator[Finding]:
    """Columns that are mostly empty: kept when over half is missing, left out when nearly all is."""
    for scan in audited.features:
        share = f"{scan.name!r} is missing in {scan.missing:.1%} of the rows"
        if _ALMOST_ALL_MISSING <= scan.missing < 1:
            yield Finding("mostly_missing", (scan.name,), "dropped", f"{share} and is left out.", "ignore")
        elif _MANY_MISSING < scan.missing < 1:
            text = f"{share}; it is kept, and that it is missing is itself used."
            yield Finding("mostly_missing", (scan.name,), "kept", text)
    if audited.target.missing:
        name = audited.target.task.target
        text = f"{audited.target.missing:,} rows have no value of the target {name!r} and are left out."
        yield Finding("mostly_missing", (name,), "dropped", text)


def nested(audited: Audit) -> Iterator[Finding]:
    """Objects and lists within a row are no values that a request could send for a category."""
    if audited.rows.files[0].format == "csv":
        return
    for scan in audited.features:
        column = audited.rows.sql_name(scan.name)
        sql = f"SELECT bool_and(left({column}, 1) IN ('{{', '[')) FROM {TABLE} WHERE {column} <> ''"  # noqa: S608
        if scan.type in {"category", "text"} and audited.rows.query(sql) == [(True,)]:
            text = f"{scan.name!r} holds objects or lists, from which no features are made; it is left out. "
            text += "Give their parts as columns; a data.query can take them apart."
            yield Finding("type_coerced", (scan.name,), "dropped", text, "ignore")


def ids(audited: Audit) -> Iterator[Finding]:
    """Columns that name the row, or number it, are known by heart and never seen again."""
    for name, why in audited.identifiers.items():
        text = f"{name!r} {why}: it names a row instead of describing it, and is left out."
        yield Finding("id_like", (name,), "dropped", text, "id")


def entity_column(audited: Audit) -> str:
    """Return the one column that names whom several rows are about, "" if there is none or more than one."""
    named = [scan.name for scan in audited.features if repeats(scan)]
    return named[0] if len(named) == 1 else ""


def repeats(scan: Scan) -> bool:
    """Whether a column is called an id and each of its many values stands in a few rows."""
    texts = scan.texts
    if not _ENTITY_NAME.search(scan.name) or scan.type not in {"category", "integer"}:
        return False
    return texts.distinct >= _FEWEST_TO_JUDGE and 1.2 * texts.distinct <= texts.present <= 50 * texts.distinct


def _id_reason(audited: Audit, scan: Scan) -> str:
    texts, named = scan.texts, bool(_ID_NAME.search(scan.name))
    unique = texts.distinct == texts.present
    if scan.type == "category" and texts.distinct >= _ID_SHARE * texts.present:
        return f"has {texts.distinct:,} different values in {texts.present:,} rows"
    if scan.type != "integer" or not unique or scan.missing > 0 or scan.strays:
        return ""
    values = audited.numbers(scan.name)
    if float(np.ptp(values)) == len(values) - 1:
        return f"counts the rows from {values.min():.0f} to {values.max():.0f}"
    steps = np.diff(values)
    if named or bool((steps > 0).all()) or bool((steps < 0).all()):
        return f"has another whole number in each of {texts.present:,} rows"
    return ""


def prose(audited: Audit) -> Iterator[Finding]:
    """Columns of free text are set aside, and it is said so."""
    for scan in audited.features:
        if scan.type == "text":
            text = f"{scan.name!r} holds free text of {scan.texts.words:.0f} words on average; free text is set aside: "
            text += "this version makes no features from it."
            yield Finding("type_coerced", (scan.name,), "dropped", text, "ignore")


def odd_types(audited: Audit) -> Iterator[Finding]:
    """Values that do not fit their column's type, and files that had to be made readable."""
    for note in audited.rows.notes:
        yield Finding("type_coerced", (), "converted", f"{note}.")
    for scan in audited.scans.values():
        if scan.strays and scan.name != audited.target.task.target:
            what = "numbers" if scan.numeric else "dates"
            strays = "1 value that is none is" if scan.strays == 1 else f"{scan.strays:,} values that are none are"
            text = f"{scan.name!r} holds {what}; {strays} read as missing."
            yield Finding("type_coerced", (scan.name,), "converted", text)
        numbers = max(scan.texts.numbers, scan.texts.commas)
        measured = numbers > scan.texts.integers  # whole numbers may well be codes
        if scan.type == "category" and measured and numbers >= _MOSTLY_NUMBERS * scan.texts.present:
            share = f"{numbers / scan.texts.present:.0%}"
            text = f"{scan.name!r} holds numbers in {share} of its rows and other text in the rest, so it is "
            text += f"read as categories; correct the rest, or set columns.{scan.name}.type = 'number'."
            yield Finding("type_coerced", (scan.name,), "converted", text)
        if scan.texts.zeros and scan.texts.integers == scan.texts.present:
            text = (
                f"{scan.name!r} has digits with leading zeros; they are codes, not numbers, and are read as categories."
            )
            yield Finding("type_coerced", (scan.name,), "converted", text)


def dates(audited: Audit) -> Iterator[Finding]:
    """Dates whose day and month could be the other way round."""
    for scan in audited.scans.values():
        if scan.ambiguous:
            text = f"{scan.name!r} has dates such as 03/04/2024 that can be read in two ways; the day is taken to come "
            text += "first. Set data.reader.dayfirst to say which it is."
            yield Finding("ambiguous_date", (scan.name,), "asked", text)


def copies(rows: Rows, features: Mapping[str, int]) -> npt.NDArray[np.intp] | None:
    """Return for each row the first one that is equal in all features; None where rows do not repeat, or by chance.

    `features`: name -> number of different values. Equal rows are copies if one column tells at least half of the
    different rows apart: rows of a few levels are equal to others without being the same thing told twice.
    """
    if not features:
        return None
    mark = f"hash({', '.join(map(rows.sql_name, features))})"
    marks = rows.connection.execute(f"SELECT {mark} AS mark FROM {TABLE}").fetchnumpy()["mark"]  # noqa: S608
    _, first, of = np.unique(marks, return_index=True, return_inverse=True)
    if rows.count - len(first) < _SOME * rows.count or max(features.values()) < _TELLING * len(first):
        return None
    return first[of]


def double_rows(audited: Audit) -> Iterator[Finding]:
    """Rows that repeat another one, and equal rows with different outcomes; a few of them are chance."""
    columns = [audited.rows.sql_name(scan.name) for scan in audited.features]
    target = audited.rows.sql_name(audited.target.task.target)
    if not columns:
        return
    sql = f"""SELECT coalesce(sum(n - 1), 0), coalesce(sum(n) FILTER (outcomes > 1), 0) FROM (SELECT count(*) AS n,
        count(DISTINCT {target}) AS outcomes FROM {TABLE} GROUP BY hash({", ".join(columns)}) HAVING n > 1)"""  # noqa: S608
    ((repeated, conflicting),) = audited.rows.query(sql)
    rows = audited.rows.count
    if repeated >= _SOME * rows:
        text = (
            f"{int(repeated):,} of {rows:,} rows repeat another one in all features; they are kept, and where they are "
        )
        yield Finding("duplicate_rows", (), "kept", text + "copies, those that are equal are held out together.")
    if conflicting >= _SOME * rows and audited.target.task.kind != "regression":
        text = (
            f"{int(conflicting):,} of {rows:,} rows are equal to others in all features and differ in the target; no "
        )
        yield Finding("label_conflict", (audited.target.task.target,), "kept", text + "model can tell them apart.")


def double_columns(audited: Audit) -> Iterator[Finding]:
    """Columns with the same text in every row, found by a fingerprint and then made certain of."""
    names = [scan.name for scan in audited.features if scan.texts.distinct > 1]
    if not names:
        return
    marks = ", ".join(f"bit_xor(hash(concat({audited.rows.sql_name(name)}, chr(31), i)))" for name in names)
    sql = f"SELECT {marks} FROM (SELECT *, row_number() OVER () AS i FROM {TABLE})"  # noqa: S608 - generated names
    (prints,) = audited.rows.query(sql)
    first: dict[object, str] = {}
    for name, mark in zip(names, prints, strict=True):
        if mark in first and _equal(audited, name, first[mark]):
            text = f"{name!r} has in every row the value of {first[mark]!r} and is left out."
            yield Finding("near_duplicate", (name,), "dropped", text, "ignore")
        else:
            first[mark] = name


def _equal(audited: Audit, one: str, other: str) -> bool:
    pair = f"{audited.rows.sql_name(one)} <> {audited.rows.sql_name(other)}"
    ((different,),) = audited.rows.query(f"SELECT count(*) FROM {TABLE} WHERE {pair}")  # noqa: S608 - generated names
    return different == 0


def classes(audited: Audit) -> Iterator[Finding]:
    """Classes that are rare."""
    task = audited.target.task
    if task.kind == "regression":
        return
    counted = np.bincount(audited.target.values.astype(np.intp), minlength=len(task.labels))
    rare = [(label, int(n)) for label, n in zip(task.labels, counted, strict=True) if n < _RARE_CLASS * counted.sum()]
    if rare:
        listed = ", ".join(f"{label!r} ({n:,} rows, {n / counted.sum():.1%})" for label, n in rare[:5])
        text = f"some values of {task.target!r} are rare: {listed}; look at precision and recall, not at accuracy."
        yield Finding("imbalance", (task.target,), "kept", text)


def few_rows(audited: Audit) -> Iterator[Finding]:
    """Too few rows, or too few of a class, to measure anything closely."""
    rows, task = audited.rows.count, audited.target.task
    if rows < _FEW_ROWS:
        text = f"there are only {rows:,} rows; the measured quality will have a wide interval."
        yield Finding("few_rows", (), "kept", text)
    elif task.kind != "regression":
        counted = np.bincount(audited.target.values.astype(np.intp), minlength=len(task.labels))
        if counted.min() < _FEW_OF_A_CLASS:
            label = task.labels[int(counted.argmin())]
            text = f"{label!r} has only {counted.min():,} rows; what is measured for it will be rough."
            yield Finding("few_rows", (task.target,), "kept", text)
