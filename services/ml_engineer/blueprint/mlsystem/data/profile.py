"""What files hold, before anyone has said what to do with them.

Owns the result of `profile`: every column with its type and commonest values, the columns that could be predicted,
those that order or group the rows, and what looks wrong. Values of personal data are left out. Leaves decisions to
`contract`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlsystem.data import audit
from mlsystem.data.findings import Finding, RoleOf, apply
from mlsystem.data.privacy import personal_columns, personal_data, values_of
from mlsystem.data.reader import TABLE, Rows, read_rows
from mlsystem.data.scan import Scan, counts, null_list, plain_number, scan_column
from mlsystem.data.target import FEWEST_ROWS, Candidate, Target, candidates, kind_of, require_column
from mlsystem.errors import DataError
from mlsystem.governance.kinds import DETECTORS
from mlsystem.governance.pii import recognised
from mlsystem.output import Reporter
from mlsystem.schema import TaskSchema
from mlsystem.spec import Data, ReaderOptions, Spec, Task

_LEVELS: Final = 20
_EXAMPLES: Final = 3
_RULES: Final = (
    audit.constants,
    audit.missing_values,
    personal_data,
    audit.ids,
    audit.prose,
    audit.odd_types,
    audit.dates,
    audit.few_rows,
)


def profile_source(patterns: Sequence[str], root: Path, target: str, reporter: Reporter) -> dict[str, object]:
    """Return the profile; DataError if the files are of no use, or have no column `target` (if one is named)."""
    options = ReaderOptions()
    reporter.progress("profile", 0.0, f"reading {', '.join(patterns)}")
    with read_rows(patterns, root, options) as rows:
        if target:
            require_column(target, rows.names, code="no_target", where="--target")
        _require_enough(rows)
        scans: list[Scan] = []
        for done, name in enumerate(rows.names):
            reporter.progress("profile", 0.2 + 0.8 * done / len(rows.names), f"looking at {name}")
            scans.append(scan_column(rows, name, options))
        offered = _named(target, scans) if target else candidates(scans)
        return _profile(rows, scans, offered, options)


def _require_enough(rows: Rows) -> None:
    if rows.count < FEWEST_ROWS:
        text = f"there are only {rows.count} rows; at least {FEWEST_ROWS} are needed to hold some out and learn from "
        raise DataError("too_few_rows", text + "the rest, several hundred for a useful model")


def _named(target: str, scans: Sequence[Scan]) -> tuple[Candidate, ...]:
    scan = next(scan for scan in scans if scan.name == target)
    if scan.texts.distinct < 2:
        text = f"the target {target!r} has the same value in all rows, so there is nothing to tell apart; "
        raise DataError("constant_target", text + "give rows with other outcomes too, or name another target")
    kind = kind_of(scan)
    if kind is None:
        text = f"the target {target!r} holds {scan.texts.distinct:,} different {scan.type} values; neither classes nor "
        raise DataError("wrong_kind", text + "a quantity can be predicted from that, name another target")
    return (Candidate(target, kind, 1.0, "it was named"),)


def _profile(
    rows: Rows, scans: Sequence[Scan], offered: Sequence[Candidate], options: ReaderOptions
) -> dict[str, object]:
    target = offered[0].target if len(offered) == 1 else ""
    problems = _problems(rows, scans, target)
    masked = {name for finding in problems if finding.kind == "pii" for name in finding.columns}
    naming = {name for finding in problems if finding.kind == "id_like" for name in finding.columns}
    return {
        "rows": rows.count,
        "bytes": sum(file.bytes for file in rows.files),
        "reader": {
            "format": rows.files[0].format,
            "encoding": rows.files[0].encoding,
            "delimiter": rows.dialect.delimiter,
            "quote": rows.dialect.quote,
            "header": rows.dialect.header,
        },
        "columns": [_described(rows, scan, options, masked, naming) for scan in scans],
        "candidates": [asdict(candidate) for candidate in offered],
        "time": [scan.name for scan in scans if scan.moment],
        "entity": [scan.name for scan in scans if audit.repeats(scan)],
        "problems": [
            {"code": finding.kind, "message": finding.text, "columns": list(finding.columns)} for finding in problems
        ],
    }


def _problems(rows: Rows, scans: Sequence[Scan], target: str) -> tuple[Finding, ...]:
    """Run the rules that need no target."""
    spec = Spec(format=1, name="profile", task=Task(kind="regression", target=target or " "), data=Data(source=("-",)))
    roles = {scan.name: RoleOf("target" if scan.name == target else "feature") for scan in scans}
    nothing = Target(TaskSchema(kind="regression", target=target), np.empty(0), 0)
    audited = audit.Audit(rows, {scan.name: scan for scan in scans}, nothing, spec, roles)
    audited = replace(audited, personal=personal_columns(audited))
    return apply([finding for rule in _RULES for finding in rule(audited)], roles)[0]


def _described(rows: Rows, scan: Scan, options: ReaderOptions, masked: set[str], naming: set[str]) -> dict[str, object]:
    """Describe a column; nobody has said yet under which rules it is, so what any of them protects has no examples."""
    described = _column(rows, scan, options, shown=scan.name not in masked)
    names_somebody = scan.name in naming or audit.repeats(scan)
    careful = names_somebody or recognised(values_of(rows, scan, options), DETECTORS) is not None
    return {**described, "examples": []} if careful else described


def _column(rows: Rows, scan: Scan, options: ReaderOptions, *, shown: bool) -> dict[str, object]:
    levels = counts(rows, scan.name, null_list(options), _LEVELS) if shown else []
    low, high = _bounds(rows, scan) if shown else (None, None)
    return {
        "name": scan.name,
        "type": scan.type,
        "missing": round(scan.missing, 6),
        "distinct": scan.texts.distinct,
        "levels": [[text, count] for text, count in levels] if scan.type == "category" else [],
        "low": low,
        "high": high,
        "examples": [text[:80] for text, _ in levels[:_EXAMPLES]],
    }


def _bounds(rows: Rows, scan: Scan) -> tuple[Any, Any]:
    """Return the smallest and the largest number, or the first and the last day."""
    column = rows.sql_name(scan.name)
    if scan.numeric:
        value = f"TRY_CAST({plain_number(column, scan.decimal)} AS DOUBLE)"
    elif scan.moment and scan.format == "iso":
        value = f"CASE WHEN regexp_matches({column}, '^\\d{{4}}-') THEN left({column}, 10) END"
    elif scan.moment:
        value = f"strftime(try_strptime({column}, '{scan.format}'), '%Y-%m-%d')"
    else:
        return None, None
    ((low, high),) = rows.query(f"SELECT min({value}), max({value}) FROM {TABLE}")  # noqa: S608 - generated names
    return low, high
