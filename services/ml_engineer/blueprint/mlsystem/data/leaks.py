"""Columns that give the target away, because they are made from it or written down after it.

Owns three exact tests: a sum or difference of columns equals the target, one column is the target on another scale,
a column (or whether it is filled) tells the class in every row. Each must hold in 99.9 % of the rows. Leaves
suspicions to people: a good feature is not a leak.
"""

from __future__ import annotations

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
_MOST_COLUMNS: Final = 100  # numeric columns among which sums are looked for
_MOST_ADDENDS: Final = 8
_PRECISION: Final = 1e-6  # of the target's spread: what rounding may hide
_FEWEST_ROWS: Final = 20


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
    scaled = [column for column, values in columns.items() if is_scale(target, values)]
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


def _one_to_one(audited: Audit, scan: Scan) -> bool:
    column, target = audited.rows.sql_name(scan.name), audited.rows.sql_name(audited.target.task.target)
    return _agree(_pairs(audited, column, target), audited.rows.count)


def _filled_for_one(audited: Audit, scan: Scan) -> bool:
    column, target = audited.rows.sql_name(scan.name), audited.rows.sql_name(audited.target.task.target)
    filled = f"(lower({column}) NOT IN (SELECT unnest($nulls)))"
    return _agree(_pairs(audited, filled, target), audited.rows.count)


def _pairs(audited: Audit, value: str, outcome: str) -> Sequence[tuple[object, object, int]]:
    sql = f"""SELECT {value} AS v, {outcome} AS o, count(*) AS n FROM {TABLE}
        GROUP BY v, o ORDER BY n DESC, v, o LIMIT 1000"""  # noqa: S608 - generated names
    nulls = ["", *(text.lower() for text in null_list(audited.spec.data.reader))]
    found = audited.rows.connection.execute(sql, {"nulls": nulls} if "$nulls" in sql else None).fetchall()
    return [(value, outcome, int(count)) for value, outcome, count in found]


def _agree(pairs: Sequence[tuple[object, object, int]], rows: int) -> bool:
    """Whether values and outcomes go together one to one in 99.9 % of the rows."""
    values: dict[object, object] = {}
    outcomes: dict[object, object] = {}
    agreeing = 0
    for value, outcome, count in pairs:
        if values.setdefault(value, outcome) == outcome and outcomes.setdefault(outcome, value) == value:
            agreeing += count
    return len(outcomes) > 1 and len(values) > 1 and agreeing >= _HOLDS * rows
