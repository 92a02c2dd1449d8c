"""Columns that give the target away, because they are made from it or written down after it.

Owns exact tests, each of which must hold in 99.9 % of the rows: a sum or difference of columns equals the target, one
column is the target on another scale, a column (or whether it is filled) tells the class. What tells the class without
being another name of it may be a very good feature: it is kept, and people are asked.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mlsystem.data.audit import Audit
from mlsystem.data.findings import Finding
from mlsystem.data.reader import TABLE
from mlsystem.data.scan import Scan, null_list

Numbers = npt.NDArray[np.float64]

_HOLDS: Final = 0.999
_SAMPLE: Final = 1024  # rows on which a test is tried before it is made on all
_MOST_PAIRS: Final = 1000
_MOST_COLUMNS: Final = 100  # numeric columns among which sums are looked for
_MOST_ADDENDS: Final = 8
_PRECISION: Final = 1e-6  # of the target's spread: what rounding may hide
_FEWEST_ROWS: Final = 20
_FEWEST_STEPS: Final = 20  # different values from which one order of rows is no chance
_FEW_OF_RARE: Final = 0.05  # share of the rarest class that may be told wrongly: it can be less than 0.1 % of the rows
_ROWS_A_LEVEL: Final = 20  # rows that a level has on average, from which it is no chance that it tells the class


def leaks(audited: Audit) -> Iterator[Finding]:
    """Yield what gives the target away."""
    if audited.rows.count < _FEWEST_ROWS:
        return
    if audited.target.task.kind == "regression":
        yield from _sums(audited)
    yield from _proxies(audited)


def _sums(audited: Audit) -> Iterator[Finding]:
    """Find columns that add up to the target, or are the target on another scale."""
    scans = [scan for scan in audited.features if scan.numeric and scan.texts.distinct > 1]
    columns = {scan.name: audited.numbers(scan.name) for scan in scans[:_MOST_COLUMNS]}
    target = audited.target.values.astype(np.float64)
    name = audited.target.task.target
    scaled = [name for name, values in columns.items() if is_scale(target, values) or _same_order(target, values)]
    for column in scaled:
        text = f"{column!r} is {name!r} on another scale: it is known only together with it, and is left out."
        yield Finding("leak_sum", (column,), "dropped", text, "leak")
    rest = {column: values for column, values in columns.items() if column not in scaled}
    for signs in _sums_of_two(target, rest) or _sums_of_more(target, rest):
        share = _share_equal(target, _signed_sum(signs, rest))
        written = _written(signs)
        text = f"{written} = {name} in {share:.1%} of the rows: the parts are known only together with the target, and "
        yield Finding("leak_sum", tuple(signs), "dropped", text + "are left out.", "leak")


def is_scale(target: Numbers, values: Numbers) -> bool:
    """Whether target = a * values + b; two values fit any line, so they do not count."""
    both = ~np.isnan(values)
    if both.mean() < 0.5 or len(np.unique(values[both][:_SAMPLE])) < 3:
        return False
    x, y = values[both], target[both]
    centre, spread = float(x.mean()), float(x.std())
    slope = float(np.mean((x - centre) / spread * (y - y.mean()))) / spread if spread > 0 else 0.0
    return slope != 0 and _share_equal(y, y.mean() + slope * (x - centre)) >= _HOLDS


def _same_order(target: Numbers, values: Numbers) -> bool:
    """Whether the target rises, or falls, with every step of the values: its logarithm does that, or its class."""
    both = ~np.isnan(values)
    if both.mean() < 0.5:
        return False
    order = np.lexsort((target[both], values[both]))
    x, y = values[both][order], target[both][order]
    last = np.flatnonzero(np.diff(x) > 0)
    if len(last) < _FEWEST_STEPS:
        return False
    firsts, lasts = np.concatenate([[0], last + 1]), np.concatenate([last, [len(x) - 1]])
    low, high = np.minimum.reduceat(y, firsts), y[lasts]
    rises, falls = (low[1:] >= high[:-1]).mean(), (high[1:] <= low[:-1]).mean()
    return bool(max(rises, falls) >= _HOLDS)


def _sums_of_two(target: Numbers, columns: Mapping[str, Numbers]) -> list[dict[str, int]]:
    """Return all pairs whose sum or difference is the target, as signs by column."""
    sample = np.linspace(0, len(target) - 1, min(_SAMPLE, len(target))).astype(int)
    found: list[dict[str, int]] = []
    for first, second in itertools.combinations(columns, 2):
        for signs in ({first: 1, second: 1}, {first: 1, second: -1}, {first: -1, second: 1}):
            part = {name: columns[name][sample] for name in signs}
            if _share_equal(target[sample], _signed_sum(signs, part)) < _HOLDS:
                continue
            if _share_equal(target, _signed_sum(signs, columns)) >= _HOLDS:
                found.append(signs)
    return found


def _sums_of_more(target: Numbers, columns: Mapping[str, Numbers]) -> list[dict[str, int]]:
    """Return the one sum of three or more columns that a least-squares fit shows, if it is exact."""
    names = list(columns)
    matrix = np.column_stack([columns[name] for name in names]) if names else np.empty((len(target), 0))
    whole = np.flatnonzero(~np.isnan(matrix).any(axis=1))
    if len(names) < 3 or len(whole) < 2 * len(names):
        return []
    sample = whole[np.linspace(0, len(whole) - 1, min(_SAMPLE, len(whole))).astype(int)]
    weights = np.linalg.lstsq(matrix[sample], target[sample], rcond=None)[0]
    signs = {name: round(float(weight)) for name, weight in zip(names, weights, strict=True) if abs(weight) > 0.5}
    if not 3 <= len(signs) <= _MOST_ADDENDS or set(map(abs, signs.values())) != {1}:
        return []
    return [signs] if _share_equal(target, _signed_sum(signs, columns)) >= _HOLDS else []


def _signed_sum(signs: Mapping[str, int], columns: Mapping[str, Numbers]) -> Numbers:
    return np.sum([sign * columns[name] for name, sign in signs.items()], axis=0)


def _share_equal(target: Numbers, values: Numbers) -> float:
    """Return the share of rows, among those that have both, in which the two are equal but for rounding."""
    both = ~np.isnan(values)
    if both.mean() < 0.5:
        return 0.0
    tolerance = _PRECISION * (float(target.std()) or 1.0)
    return float((np.abs(target[both] - values[both]) <= tolerance).mean())


def _written(signs: Mapping[str, int]) -> str:
    parts = [f"{'-' if sign < 0 else '+'} {name}" for name, sign in sorted(signs.items(), key=lambda item: -item[1])]
    return " ".join(parts).removeprefix("+ ")


def _proxies(audited: Audit) -> Iterator[Finding]:
    """Find columns that tell the class in every row, or are filled for one class alone."""
    classes = len(audited.target.task.labels)
    for scan in audited.features:
        if classes and 1 < scan.texts.distinct + (scan.missing > 0) <= classes + 1 and _one_to_one(audited, scan):
            text = f"{scan.name!r} has one value for each value of {audited.target.task.target!r}: it is another name "
            yield Finding("leak_proxy", (scan.name,), "dropped", text + "of the target, and is left out.", "leak")
        elif classes == 2 and 0.001 < scan.missing < 0.999 and _filled_for_one(audited, scan):
            text = f"{scan.name!r} is filled for one value of {audited.target.task.target!r} alone: it is written down "
            yield Finding("leak_proxy", (scan.name,), "dropped", text + "after the outcome, and is left out.", "leak")
        elif classes and (_parts_classes(audited, scan) if scan.numeric else _tells_class(audited, scan)):
            text = (
                f"{scan.name!r} alone tells {audited.target.task.target!r} in {_HOLDS:.1%} of the rows or more. If it "
            )
            text += f"is known only after the outcome, set columns.{scan.name}.role = 'leak'; it is kept until then."
            yield Finding("leak_proxy", (scan.name,), "asked", text)


def _one_to_one(audited: Audit, scan: Scan) -> bool:
    column, target = audited.rows.sql_name(scan.name), audited.rows.sql_name(audited.target.task.target)
    return _agree(_pairs(audited, column, target), audited.rows.count)


def _filled_for_one(audited: Audit, scan: Scan) -> bool:
    column, target = audited.rows.sql_name(scan.name), audited.rows.sql_name(audited.target.task.target)
    filled = f"(lower({column}) NOT IN (SELECT unnest($nulls)))"
    return _agree(_pairs(audited, filled, target), audited.rows.count)


def _parts_classes(audited: Audit, scan: Scan) -> bool:
    """Whether one threshold parts the two classes."""
    if len(audited.target.task.labels) != 2 or scan.missing > 1 - _HOLDS:
        return False
    values, positive = audited.numbers(scan.name), audited.target.values == 1
    known = ~np.isnan(values)
    order = np.argsort(values[known], kind="stable")
    x, y = values[known][order], positive[known][order]
    ends = np.flatnonzero(np.diff(x) > 0)
    below = np.cumsum(y)[ends]
    right = (ends + 1 - below) + (y.sum() - below)  # negatives up to the threshold, positives above it
    wrong = min(len(y) - right.max(initial=0), right.min(initial=len(y)))
    return bool(wrong <= (1 - _HOLDS) * len(y) and wrong <= _FEW_OF_RARE * min(y.sum(), len(y) - y.sum()))


def _tells_class(audited: Audit, scan: Scan) -> bool:
    """Whether every level of a category goes with one class."""
    levels = scan.texts.distinct
    if scan.type != "category" or not 1 < levels <= min(_MOST_PAIRS, audited.rows.count // _ROWS_A_LEVEL):
        return False
    column, target = audited.rows.sql_name(scan.name), audited.rows.sql_name(audited.target.task.target)
    most: dict[object, int] = {}
    for value, _, count in _pairs(audited, column, target):
        most[value] = max(count, most.get(value, 0))
    wrong, counted = audited.rows.count - sum(most.values()), np.bincount(audited.target.values.astype(np.intp))
    return bool(wrong <= (1 - _HOLDS) * audited.rows.count and wrong <= _FEW_OF_RARE * counted[counted > 0].min())


def _pairs(audited: Audit, value: str, outcome: str) -> Sequence[tuple[object, object, int]]:
    sql = f"""SELECT {value} AS v, {outcome} AS o, count(*) AS n FROM {TABLE}
        GROUP BY v, o ORDER BY n DESC, v, o LIMIT {_MOST_PAIRS}"""  # noqa: S608 - generated names
    nulls = ["", *(text.lower() for text in null_list(audited.spec.data.reader))]
    found = audited.rows.connection.execute(sql, {"nulls": nulls} if "$nulls" in sql else None).fetchall()
    return [(value, outcome, int(count)) for value, outcome, count in found]


def _agree(pairs: Sequence[tuple[object, object, int]], rows: int) -> bool:
    """Whether values and outcomes go together one to one in 99.9 % of the rows."""
    values: dict[object, object] = {}
    outcomes: dict[object, object] = {}
    agreeing, counted = collections.Counter[object](), collections.Counter[object]()
    for value, outcome, count in pairs:
        counted[outcome] += count
        if values.setdefault(value, outcome) == outcome and outcomes.setdefault(outcome, value) == value:
            agreeing[outcome] += count
    whole = all(agreeing[outcome] >= (1 - _FEW_OF_RARE) * count for outcome, count in counted.items())
    return len(outcomes) > 1 and len(values) > 1 and whole and agreeing.total() >= _HOLDS * rows
