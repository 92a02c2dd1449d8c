"""The column that is predicted: finding it, reading it, and what kind of prediction it allows.

Owns the values of the target (label indices or numbers), the order of the labels, which rows have one, and the
candidates that a profile offers when nobody named one. Leaves leakage to `leaks`.
"""

from __future__ import annotations

import collections
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlsystem.boundary import canonical, category_column, number_column
from mlsystem.data.reader import Rows
from mlsystem.data.scan import Scan, null_list
from mlsystem.errors import DataError
from mlsystem.schema import Kind, TaskSchema
from mlsystem.spec import Spec

FEWEST_ROWS: Final = 20
"""Rows with a target below which nothing can be held out and learned from."""
MOST_CLASSES: Final = 100
_FEW_VALUES = 10  # whole numbers of so few different values are classes rather than a quantity

_STRONG: Final = re.compile(r"^(target|label|labels|y|class|outcome|response|dependent)$", re.IGNORECASE)
_USUAL: Final = re.compile(
    r"churn|surviv|default|fraud|attrition|convert|cancel|diagnos|disease|species|quality|grade|rating|approved|"
    r"price|cnt|count|demand|sales|revenue|amount|cost|rent|mpg|medv|progression|charged_off|clicked|returned|exited",
    re.IGNORECASE,
)
_FLAG: Final = re.compile(r"^(is|has|will|did)[_A-Z]")


@dataclass(frozen=True, slots=True)
class Target:
    """The target of all rows that have one."""

    task: TaskSchema
    values: npt.NDArray[np.intp] | npt.NDArray[np.float64]
    """Label indices, or numbers."""
    missing: int
    """Rows that were left out, because they have no target."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that could be meant, what kind of prediction it would be, how likely, and why."""

    target: str
    kind: Kind
    score: float
    why: str


def require_column(name: str, names: Sequence[str], *, code: str, where: str) -> None:
    """Refuse a name that no column has, with the nearest ones; DataError with `code`."""
    if name in names:
        return
    folded = {known.casefold(): known for known in names}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, 5, 0.5)]
    near = near or list(names[:10])
    text = f"there is no column {name!r} ({where}); did you mean {', '.join(repr(match) for match in near)}?"
    raise DataError(code, text, details=[{"column": name, "nearest": near}])


def read_target(rows: Rows, scan: Scan, spec: Spec) -> Target:
    """Read the target and leave out the rows that have none; DataError if it does not fit the task."""
    texts = rows.column(scan.name)
    kind = spec.task.kind
    if kind == "regression":
        values, _ = number_column(texts, scan.decimal, null_list(spec.data.reader))
        _require_numbers(scan, values)
        present = ~np.isnan(values)
        task = TaskSchema(kind="regression", target=scan.name)
    else:
        labels = category_column(texts, null_list(spec.data.reader))
        present = labels != ""
        ordered, positive = _labels(collections.Counter(labels[present].tolist()), spec)
        index = {label: i for i, label in enumerate(ordered)}
        values = np.array([index.get(label, -1) for label in labels], dtype=np.intp)
        task = TaskSchema(
            kind="binary" if positive else "multiclass", target=scan.name, labels=ordered, positive=positive
        )
    kept = values[present]
    _require_enough(scan.name, kept)
    rows.keep(present)
    return Target(task, kept, int((~present).sum()))


def _require_numbers(scan: Scan, values: npt.NDArray[np.float64]) -> None:
    numbers = int((~np.isnan(values)).sum())
    if not scan.numeric or numbers == 0:
        text = (
            f"the target {scan.name!r} holds {scan.type} values, not numbers, so task.kind 'regression' does not fit; "
        )
        raise DataError("wrong_kind", text + "use 'binary' for two classes, 'multiclass' for more")
    _require_varied(scan.name, np.unique(values[~np.isnan(values)]).tolist())


def _labels(counted: collections.Counter[str], spec: Spec) -> tuple[tuple[str, ...], str | None]:
    """Return the labels in the order of the probabilities and, for two classes, the positive one."""
    target, kind = spec.task.target, spec.task.kind
    ordered = sorted(counted, key=_natural)
    _require_varied(target, ordered)
    shown = ", ".join(repr(label) for label in ordered[:5])
    if kind == "binary" and len(ordered) != 2:
        text = f"the target {target!r} has {len(ordered)} different values ({shown}, ...), not two; "
        raise DataError("wrong_kind", text + "use task.kind 'multiclass' for classes, 'regression' for a quantity")
    if kind == "multiclass" and not 3 <= len(ordered) <= MOST_CLASSES:
        other = "'binary'" if len(ordered) == 2 else "'regression' if it is a quantity, or group rare classes"
        text = f"the target {target!r} has {len(ordered)} different values ({shown}), which 'multiclass' does not fit; "
        raise DataError("wrong_kind", text + f"use {other}")
    if kind != "binary":
        return tuple(ordered), None
    wanted = canonical(spec.task.positive)
    if wanted and wanted not in ordered:
        text = f"task.positive {spec.task.positive!r} is no value of {target!r}; it has {shown}"
        raise DataError("bad_positive", text, details=[{"nearest": ordered}])
    positive = wanted or min(reversed(ordered), key=lambda label: counted[label])
    return (*(label for label in ordered if label != positive), positive), positive


def _require_varied(target: str, distinct: Sequence[object]) -> None:
    if len(distinct) == 1:
        text = f"the target {target!r} is {distinct[0]!r} in all rows, so there is nothing to tell apart; "
        raise DataError("constant_target", text + "give rows with other outcomes too, or name another target")


def _require_enough(target: str, values: npt.NDArray[np.intp] | npt.NDArray[np.float64]) -> None:
    if len(values) == 0:
        text = f"the target {target!r} has no value in any row; name another target, or give rows with outcomes"
        raise DataError("constant_target", text)
    if len(values) < FEWEST_ROWS:
        text = (
            f"only {len(values)} rows have a value of {target!r}; at least {FEWEST_ROWS} are needed to hold some out "
        )
        raise DataError("too_few_rows", text + "and learn from the rest, several hundred for a useful model")


def _natural(label: str) -> tuple[int, float, str]:
    """Order labels: numbers by size, then texts by alphabet."""
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def candidates(scans: Sequence[Scan]) -> tuple[Candidate, ...]:
    """Return the columns that could be the target, the likeliest first, at most ten."""
    found = [candidate for scan in scans if (candidate := _candidate(scan, last=scan is scans[-1]))]
    return tuple(sorted(found, key=lambda candidate: -candidate.score)[:10])


def kind_of(scan: Scan) -> Kind | None:
    """Return what kind of prediction a column allows, None if it cannot be a target."""
    distinct = scan.texts.distinct - (1 if scan.texts.unknown else 0)
    if distinct < 2 or scan.moment or scan.type == "text":
        return None
    if distinct == 2:
        return "binary"
    if scan.type == "number" or (scan.type == "integer" and distinct > _FEW_VALUES):
        return "regression"
    return "multiclass" if distinct <= min(MOST_CLASSES, scan.texts.present / 2) else None


def _candidate(scan: Scan, *, last: bool) -> Candidate | None:
    kind = kind_of(scan)
    if kind is None:
        return None
    signs = [
        (0.6, "its name says so") if _STRONG.search(scan.name) else None,
        (0.45, "its name is a usual outcome") if _USUAL.search(scan.name) or _FLAG.search(scan.name) else None,
        (0.2, "it is the last column") if last else None,
        (0.1, "it has two values") if kind == "binary" else None,
        (0.05, "it has few values") if kind == "multiclass" else None,
        (-0.4, "every row has another whole number") if _counts_rows(scan) else None,
        (-0.3, "many values are missing") if scan.missing > 0.3 else None,
    ]
    told = [sign for sign in signs if sign]
    score = min(1.0, max(0.0, sum(weight for weight, _ in told)))
    return Candidate(scan.name, kind, round(score, 2), ", ".join(why for _, why in told) or "it could be predicted")


def _counts_rows(scan: Scan) -> bool:
    return scan.type == "integer" and scan.texts.distinct == scan.texts.present
