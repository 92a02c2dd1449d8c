"""From a source to its data contract: types, roles, findings, the split, all decided once.

Owns the order of those decisions and the schema that comes of them. Deterministic: the same bytes and spec give the
same contract, which is why `load` can make it again. Leaves the single decisions to the modules it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

import msgspec
import numpy as np

from mlsystem.boundary import Boundary, Numbers, Strings, category_column, moment_column, number_column
from mlsystem.data import audit, split
from mlsystem.data.derived import with_made
from mlsystem.data.findings import Finding, RoleOf, apply
from mlsystem.data.leaks import leaks
from mlsystem.data.measured import by_name, measured
from mlsystem.data.privacy import Masked, personal_columns, personal_data
from mlsystem.data.reader import Rows
from mlsystem.data.scan import Scan, null_list, scan_column
from mlsystem.data.target import read_target, require_column
from mlsystem.errors import DataError
from mlsystem.governance.regimes import reduced_to
from mlsystem.schema import Column, Reader, Role, Schema, Table, TaskSchema
from mlsystem.spec import Spec, seconds

Rules = tuple[Callable[[audit.Audit], Iterator[Finding]], ...]

_COLUMN_RULES: Final[Rules] = (
    audit.constants,
    audit.missing_values,
    personal_data,
    leaks,
    audit.nested,
    audit.ids,
    audit.prose,
    audit.odd_types,
    audit.dates,
    audit.double_columns,
)
"""Rules about columns in their order: the first that takes a column away is the one that is told."""

_ROW_RULES: Final[Rules] = (audit.double_rows, audit.classes, audit.few_rows)
"""Rules about rows, which see the columns that are left."""

_UNIQUE_MOMENTS: Final = 0.9  # different moments a row, from which a date column orders the rows
_BIRTH: Final = ("birth", "dob", "geburt")


@dataclass(frozen=True, slots=True)
class Contract:
    """What was decided about a source."""

    schema: Schema
    findings: tuple[Finding, ...]
    split: split.Split


def make_contract(rows: Rows, spec: Spec, hooks: bytes | None = None, late: Sequence[Finding] = ()) -> Contract:
    """Decide types, target, roles and split of a source; DataError if it cannot be used for this task.

    Rows without a target are left out of `rows`. `late` is what was found while the rows were joined.
    """
    _require_named(rows, spec)
    target = read_target(rows, scan_column(rows, spec.task.target, spec.data.reader), spec)
    scans = {name: _scan(rows, name, spec) for name in rows.names}
    audited = audit.Audit(rows, scans, target, spec, _roles(rows, spec, scans))
    audited = replace(audited, personal=personal_columns(audited))
    findings, roles = apply([*late, *_found(_COLUMN_RULES, audited)], audited.roles)
    findings = (*findings, *_found(_ROW_RULES, replace(audited, roles=roles)))
    findings, roles, order, method = _order(audited, findings, roles)
    parted = _split(order, method, spec)
    _require_features(roles)
    _require_weight(audited, roles)
    return Contract(with_made(audited, _schema(audited, roles), hooks), findings, parted)


def _found(rules: Rules, audited: audit.Audit) -> list[Finding]:
    return [finding for rule in rules for finding in rule(audited)]


def _split(order: split.Order, method: split.Method, spec: Spec) -> split.Split:
    """Split the rows; where only the data suggested a way and it leaves a side without a class, draw at random."""
    settings: dict[str, Any] = {
        "holdout": spec.split.holdout,
        "gap_s": seconds(spec.split.gap),
        "seed": spec.search.seed,
    }
    try:
        return split.split_rows(order, method, **settings)
    except DataError as error:
        if error.code != "bad_split" or spec.split.method != "auto" or spec.data.time or spec.data.entity:
            raise
        return split.split_rows(order, "random", **settings)


def _require_named(rows: Rows, spec: Spec) -> None:
    """Refuse names of the spec that no column has."""
    require_column(spec.task.target, rows.names, code="no_target", where="task.target")
    special = {"data.time": spec.data.time, "data.entity": spec.data.entity, "data.label_time": spec.data.label_time}
    named = {key: name for key, name in special.items() if name} | {f"columns.{name}": name for name in spec.columns}
    for key, name in named.items():
        require_column(name, rows.names, code="no_column", where=key)


def _scan(rows: Rows, name: str, spec: Spec) -> Scan:
    rule = spec.columns.get(name)
    return scan_column(rows, name, spec.data.reader, wanted=rule.type if rule else "")


def _roles(rows: Rows, spec: Spec, scans: Mapping[str, Scan]) -> dict[str, RoleOf]:
    """Return the roles that the spec gives; everything else begins as a feature."""
    roles = dict.fromkeys(rows.names, RoleOf("feature"))
    for name, rule in spec.columns.items():
        if rule.role:
            roles[name] = RoleOf(cast("Role", rule.role), rule.why or "system.toml says so", fixed=True)
        if rule.role == "feature" and scans[name].type == "text":
            text = (
                f"columns.{name}.role 'feature' is asked for, but the column holds free text, from which this version "
            )
            raise DataError(
                "not_supported_yet", text + "makes no features; remove the line, or set its type to 'category'"
            )
    for role, name in (("entity", spec.data.entity), ("label_time", spec.data.label_time), ("time", spec.data.time)):
        if name:
            roles[name] = RoleOf(cast("Role", role), f"system.toml names it as data.{role}", fixed=True)
    roles[spec.task.target] = RoleOf("target", "it is what is predicted", fixed=True)
    return roles


def _order(
    audited: audit.Audit, findings: tuple[Finding, ...], roles: Mapping[str, RoleOf]
) -> tuple[tuple[Finding, ...], dict[str, RoleOf], split.Order, split.Method]:
    """Choose what the rows are split by: what the spec names, else what the data show."""
    spec, after = audited.spec, dict(roles)
    auto = spec.split.method == "auto"
    time = spec.data.time or (_time_column(audited, roles) if auto else "")
    entity = spec.data.entity or (audit.entity_column(audited) if auto and not time else "")
    if time and not spec.data.time:
        used = "no part of them is a feature" if time in audited.personal else "only its calendar parts are features"
        after[time] = RoleOf("time", f"its dates put the rows in order; {used}")
    if entity and not spec.data.entity:
        text = (
            f"{entity!r} names whom several rows are about: it is no feature, and all rows of one stay on one side of "
        )
        findings = (*findings, Finding("id_like", (entity,), "dropped", text + "the split.", "entity"))
        after[entity] = RoleOf("entity", findings[-1].text)
    moments = _moments(audited, time) if time else None
    groups = category_column(audited.rows.column(entity), null_list(spec.data.reader)) if entity else None
    levels = {name: audited.scans[name].texts.distinct for name, role in after.items() if role.role == "feature"}
    copies = audit.copies(audited.rows, levels)
    order = split.Order(audited.target.values, audited.target.task.kind != "regression", moments, groups, copies)
    by = "time" if time else "group" if entity else "random"
    return findings, after, order, by if spec.split.method == "auto" else spec.split.method


def _time_column(audited: audit.Audit, roles: Mapping[str, RoleOf]) -> str:
    """Return the one date column that orders the rows: sorted in the file, or another moment in nearly every row."""
    dated = [
        scan
        for scan in audited.features
        if scan.moment and (roles[scan.name].role == "feature" or _dates(audited, scan))
    ]
    dated = [scan for scan in dated if not any(word in scan.name.lower() for word in _BIRTH) and scan.missing == 0]
    if len(dated) != 1:
        return ""
    moments = _moments(audited, dated[0].name)
    steps = np.diff(moments)
    moves = bool((steps > 0).any() or (steps < 0).any())
    in_order = moves and bool((steps >= 0).all() or (steps <= 0).all())
    return dated[0].name if in_order or len(np.unique(moments)) >= _UNIQUE_MOMENTS * len(moments) else ""


def _dates(audited: audit.Audit, scan: Scan) -> bool:
    """Whether a column is no feature for being dates of people, which may still put the rows in order."""
    return scan.name in audited.personal and audited.personal[scan.name].kind == "date"


def _moments(audited: audit.Audit, name: str) -> Numbers:
    """Return a column as an order in time: seconds of a date, or the number itself."""
    scan, nulls = audited.scans[name], null_list(audited.spec.data.reader)
    texts = audited.rows.column(name)
    if scan.moment:
        return moment_column(texts, scan.format or "iso", nulls)[0]
    if scan.numeric:
        return number_column(texts, scan.decimal, nulls)[0]
    text = f"data.time {name!r} holds {scan.type} values, neither dates nor numbers; set columns.{name}.type = 'date'"
    raise DataError("no_order", text + ", or name another column")


def _require_features(roles: Mapping[str, RoleOf]) -> None:
    """Refuse a source that leaves nothing to predict from."""
    if not any(role.role in {"feature", "time"} for role in roles.values()):
        why = "; ".join(f"{name}: {role.reason}" for name, role in roles.items() if role.role != "target")
        text = f"no column is left to predict from ({why}); give a source with columns that are known beforehand"
        raise DataError("no_features", text)


def _require_weight(audited: audit.Audit, roles: Mapping[str, RoleOf]) -> None:
    """Refuse a weight that is no weight."""
    names = [name for name, role in roles.items() if role.role == "weight"]
    if not names:
        return
    values = audited.numbers(names[0]) if len(names) == 1 and audited.scans[names[0]].numeric else np.array([np.nan])
    if not bool((values >= 0).all()) or not values.any():
        text = f"the weight {', '.join(names)} must be one column of numbers that are not negative, without a gap"
        raise DataError("bad_weight", f"{text}; correct it, or remove columns.{names[0]}.role")


def _schema(audited: audit.Audit, roles: Mapping[str, RoleOf]) -> Schema:
    """Build the contract: encode the rows with a bare one, then fill in what the values show."""
    bare = Schema(
        task=audited.target.task,
        columns=tuple(_column(audited, scan, roles) for scan in audited.scans.values()),
        reader=_reader(audited),
    )
    boundary = Boundary.from_schema(bare)
    described = {column.name: column for column in bare.columns}
    encoded = boundary.table(Table(Masked(audited.rows.columns(), described, audited.spec), audited.rows.count))
    strings, numbers = by_name(boundary, encoded)
    columns = tuple(_measured(column, bare.task, strings, numbers) for column in bare.columns)
    return msgspec.structs.replace(bare, columns=columns)


def _measured(
    column: Column, task: TaskSchema, strings: Mapping[str, Strings], numbers: Mapping[str, Numbers]
) -> Column:
    """Return the column with what its encoded values show: levels, or the smallest and the largest."""
    if column.role == "target":
        return msgspec.structs.replace(column, levels=task.labels, distinct=len(task.labels) or column.distinct)
    return measured(column, strings, numbers)


def _reader(audited: audit.Audit) -> Reader:
    rows, options = audited.rows, audited.spec.data.reader
    decimals = {scan.decimal for scan in audited.scans.values() if scan.type == "number"}
    return Reader(
        format=rows.files[0].format,
        delimiter=rows.dialect.delimiter,
        quote=rows.dialect.quote,
        encoding=rows.files[0].encoding,
        header=rows.dialect.header,
        decimal="," if decimals == {","} else ".",
        dayfirst=options.dayfirst is not False,
        null=null_list(options),
    )


def _pii(audited: audit.Audit, scan: Scan, roles: Mapping[str, RoleOf]) -> str:
    """Return what personal data a column holds; under a regime whatever names a row or an entity is some."""
    personal = audited.personal.get(scan.name)
    if personal:
        return personal.kind
    names_somebody = audited.spec.governance.regime and roles[scan.name].role in {"id", "entity"}
    return "unique_id" if names_somebody else ""


def _column(audited: audit.Audit, scan: Scan, roles: Mapping[str, RoleOf]) -> Column:
    role, pii = roles[scan.name], _pii(audited, scan, roles)
    return Column(
        name=scan.name,
        type=scan.type,
        reduced=reduced_to(pii, scan.type, audited.spec) if role.role == "feature" else "",
        role=role.role,
        reason=role.reason,
        nullable=scan.missing > 0,
        missing=round(scan.missing, 6),
        distinct=scan.texts.distinct,
        format=scan.format,
        decimal=cast("Literal['.', ',']", scan.decimal),
        pii=pii,
    )
