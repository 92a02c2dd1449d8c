"""What is made of the columns before the model: checked against the rows, and refused where it tells the answer.

Owns running hooks and expressions once over the rows of a source, so that whatever fails does so at `validate`, with
the row, and finding features of a person's that are the target itself. Leaves making them to `hooked` and `features`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.boundary import Encoded
from mlsystem.data.audit import Audit
from mlsystem.data.leaks import is_scale
from mlsystem.data.measured import by_name, measured
from mlsystem.data.privacy import Masked
from mlsystem.errors import DataError
from mlsystem.features.derive import derive, uses
from mlsystem.features.formula import Derived
from mlsystem.features.native_derive import widen
from mlsystem.hooked import FAILED, boundary_of
from mlsystem.hooks import with_hooks
from mlsystem.schema import Column, Schema, Table

_HOLDS = 0.999


def with_made(audited: Audit, schema: Schema, hooks: bytes | None) -> Schema:
    """Return the contract with the columns that hooks make.

    Raises: SpecError for an expression or hooks.py that cannot be used; DataError `hook_failed` with the row,
    `leak_derived` for a feature that gives the target away.
    """
    expressions = audited.spec.derive
    if hooks is None and not expressions:
        return schema
    made = with_hooks(_with_whole_time(schema, expressions, hooked=hooks is not None), hooks)
    derivation = derive(made, expressions)
    described = {column.name: column for column in schema.columns}
    table = Table(Masked(audited.rows.columns(), described, audited.spec), audited.rows.count)
    boundary = boundary_of(made, hooks)
    encoded = require_hooked(boundary.table(table))
    strings, numbers = by_name(boundary, encoded)
    _refuse_leaks(audited, {column.name: (strings | numbers)[column.name] for column in made.made})
    wide = widen(derivation, encoded.numbers, encoded.strings)
    _refuse_leaks(audited, _behind(derivation.of_numbers, wide[0]) | _behind(derivation.of_strings, wide[1]))
    columns = tuple(measured(column, strings, numbers) for column in made.made)
    return msgspec.structs.replace(made, made=columns)


def _with_whole_time(schema: Schema, expressions: Mapping[str, str], *, hooked: bool) -> Schema:
    """Return the contract with the time's day in the tensors, if hooks may look at it or an expression names it."""

    def wanted(column: Column) -> bool:
        dated = column.role == "time" and column.type in {"date", "datetime"} and not column.pii
        return dated and (hooked or uses(expressions, column.name))

    columns = tuple(
        msgspec.structs.replace(column, whole=True) if wanted(column) else column for column in schema.columns
    )
    return msgspec.structs.replace(schema, columns=columns)


def _behind(features: Sequence[Derived], tensor: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return derived features by name: they are the last columns of a wide tensor."""
    first = tensor.shape[1] - len(features)
    return {item.name: tensor[:, first + place] for place, item in enumerate(features)}


def _refuse_leaks(audited: Audit, made: Mapping[str, npt.NDArray[Any]]) -> None:
    target = audited.target.task.target
    for name, values in made.items():
        if _tells(audited, values):
            text = (
                f"{name!r} gives {target!r} away: it has one value for each of the target's; take it out, since nobody "
            )
            raise DataError("leak_derived", text + "knows it when a prediction is made", details=[{"column": name}])


def require_hooked(encoded: Encoded) -> Encoded:
    """Return encoded rows of a source; DataError `hook_failed` names the first row on which a hook failed."""
    failed = [problem for problem in encoded.problems if problem.column == FAILED]
    if failed:
        first = failed[0]
        text = (
            f"{FAILED} failed on row {first.row + 1} of the source: {first.reason}; correct it, it has to take any row"
        )
        raise DataError("hook_failed", text, details=[{"row": p.row, "reason": p.reason} for p in failed[:20]])
    return encoded


def _tells(audited: Audit, values: npt.NDArray[Any]) -> bool:
    """Whether a number is the target on another scale, or anything has one value for each class."""
    if audited.target.task.kind == "regression":
        return values.dtype != object and is_scale(audited.target.values.astype(np.float64), values)
    return _one_to_one(values, audited)


def _one_to_one(values: npt.NDArray[Any], audited: Audit) -> bool:
    """Whether each class has a value of its own in 99.9 % of the rows."""
    classes = len(audited.target.task.labels)
    found, codes = np.unique(values if values.dtype != object else values.astype(str), return_inverse=True)
    if not classes or not 1 < len(found) <= classes + 1:
        return False
    table = np.zeros((len(found), classes), int)
    np.add.at(table, (codes, audited.target.values.astype(int)), 1)
    of_each_class = table.max(axis=0).sum() if len(set(table.argmax(axis=0).tolist())) == classes else 0
    return bool(of_each_class >= _HOLDS * len(values))
