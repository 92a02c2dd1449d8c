"""Which rows are held out, and how the rest is folded; the same for the same data and seed.

Owns the choice between a split by time, by group and at random, the holdout, the gap before it, and the folds
within the training rows. Leaves who may look at the holdout to `dataset`.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from mlsystem.errors import DataError

Indices = npt.NDArray[np.intp]
Method = Literal["time", "group", "random"]
Fold = tuple[Indices, Indices]

_STRATA = 10  # parts of equal size into which a numeric target is cut to be spread evenly


@dataclass(frozen=True, slots=True)
class Order:
    """What a split can go by, for all rows: seconds since 1970 (NaN unknown), or whom the row is about."""

    target: npt.NDArray[Any]
    classes: bool
    """Whether the target holds class indices."""
    time: npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.object_] | None = None
    copies: Indices | None = None
    """For each row the first one that is equal to it; None where rows do not repeat."""

    @property
    def firsts(self) -> Indices:
        """The rows that repeat no earlier one."""
        rows = np.arange(len(self.target))
        return rows if self.copies is None else np.flatnonzero(self.copies == rows)

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give every row the value of the first one that is equal to it."""
        return values if self.copies is None else values[self.copies]


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices of both sides, sorted, and why they were parted in this way."""

    method: Method
    train: Indices
    holdout: Indices
    why: str


def split_rows(order: Order, method: Method, *, holdout: float, gap_s: float, seed: int) -> Split:
    """Part the rows; DataError if one side would be left with nothing to learn or to measure."""
    generator = np.random.default_rng(seed)
    if gap_s and method != "time":
        text = f"split.gap needs an order in time, and the split is {method}: name the column of dates in data.time"
        raise DataError("no_order", f"{text}, or remove split.gap")
    if method == "time":
        split = _by_time(order, holdout, gap_s)
    elif method == "group":
        split = _by_group(order, holdout, generator)
    else:
        split = _at_random(order, holdout, generator)
    _require_sides(order, split)
    return split


def folds(order: Order, train: Indices, method: Method, *, count: int, gap_s: float, seed: int) -> list[Fold]:
    """Return (train, valid) row indices within `train`: windows that grow with time, whole groups, or even parts."""
    if method == "time":
        return _time_folds(order, train, count, gap_s)
    generator = np.random.default_rng([seed, 1])
    if method == "group":
        part = _deal_groups(_required(order.groups)[train], count, generator)
    else:
        part = _deal_evenly(order, train, count, generator)
    parts = [(train[part != k], train[part == k]) for k in range(count)]
    return [(fit, valid) for fit, valid in parts if len(fit) and len(valid)]


def _by_time(order: Order, share: float, gap_s: float) -> Split:
    """Hold out the latest rows; rows of one moment stay together, rows of unknown time are never held out."""
    time = _required(order.time)
    known = np.sort(time[~np.isnan(time)])
    if len(known) < 2 or known[0] == known[-1]:
        raise DataError(
            "no_order", "the time column has no two different moments to split by; name another in data.time"
        )
    cut = known[min(len(known) - 1, int(np.ceil(len(known) * (1 - share))))]
    cut = cut if cut > known[0] else known[known > known[0]][0]
    late = time >= cut
    early = np.isnan(time) | (time < cut - gap_s)
    why = f"the latest {late.mean():.0%} of the rows, from {_day(cut)} on, are held out, since the future is predicted"
    return Split("time", np.flatnonzero(early & ~late), np.flatnonzero(late), why)


def _by_group(order: Order, share: float, generator: np.random.Generator) -> Split:
    groups = _names(_required(order.groups))
    sizes = collections.Counter(groups)
    names = sorted(sizes)
    held: set[str] = set()
    rows = 0
    for position in map(int, generator.permutation(len(names))[:-1]):  # one entity at least is learned from
        if rows >= share * len(groups):
            break
        held.add(names[position])
        rows += sizes[names[position]]
    late = np.array([group in held for group in groups])
    why = f"all rows of one entity are on one side ({len(held):,} of {len(names):,} entities are held out)"
    return Split("group", np.flatnonzero(~late), np.flatnonzero(late), why)


def _at_random(order: Order, share: float, generator: np.random.Generator) -> Split:
    """Hold out the same share of every class, or of every tenth of a numeric target; single rows stay in training.

    Copies of a row go with it: a model that knows a row by heart would otherwise be measured on that row.
    """
    held = np.zeros(len(order.target), dtype=bool)
    seen = 0
    for rows in _strata(order, order.firsts):
        seen += len(rows)
        if order.classes:
            count = max(round(len(rows) * share), min(len(rows) - 1, 1))
        else:
            count = round(seen * share) - int(held.sum())
        held[generator.permutation(rows)[:count]] = True
    held = order.spread(held)
    spread = "every class" if order.classes else "every range of the target"
    why = f"rows are drawn at random, the same share of {spread}: nothing orders or groups them"
    why += "" if order.copies is None else "; equal rows are on one side"
    return Split("random", np.flatnonzero(~held), np.flatnonzero(held), why)


def _strata(order: Order, rows: Indices) -> list[Indices]:
    """Return the rows class by class, or by tenths of a numeric target."""
    values = order.target[rows]
    if order.classes:
        return [rows[values == label] for label in np.unique(values)]
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    parts = ranks * min(_STRATA, max(1, len(rows) // _STRATA)) // max(len(rows), 1)
    return [rows[parts == part] for part in np.unique(parts)]


def _time_folds(order: Order, train: Indices, count: int, gap_s: float) -> list[Fold]:
    """Return windows: each fold is validated on the rows after those that it was fitted on."""
    time = np.nan_to_num(_required(order.time)[train], nan=-np.inf)
    moments = np.sort(time)
    cuts = [moments[len(moments) * k // (count + 1)] for k in range(1, count + 1)]
    found: list[Fold] = []
    for start, stop in zip(cuts, [*cuts[1:], np.inf], strict=True):
        fit, valid = train[time < start - gap_s], train[(time >= start) & (time < stop)]
        if len(fit) and len(valid):
            found.append((fit, valid))
    return found


def _deal_groups(groups: npt.NDArray[np.object_], count: int, generator: np.random.Generator) -> Indices:
    """Give every group to the fold that has the fewest rows so far, the biggest first."""
    sizes = collections.Counter(_names(groups))
    names = sorted(sizes)
    shuffled = [names[int(i)] for i in generator.permutation(len(names))]
    load = [0] * count
    fold_of: dict[str, int] = {}
    for name in sorted(shuffled, key=lambda name: -sizes[name]):
        fold = load.index(min(load))
        fold_of[name] = fold
        load[fold] += sizes[name]
    return np.array([fold_of[group] for group in _names(groups)], dtype=np.intp)


def _deal_evenly(order: Order, train: Indices, count: int, generator: np.random.Generator) -> Indices:
    part = np.zeros(len(order.target), dtype=np.intp)
    offset = 0
    for rows in _strata(order, np.intersect1d(train, order.firsts)):
        part[generator.permutation(rows)] = (np.arange(len(rows)) + offset) % count
        offset += len(rows)
    return order.spread(part)[train]


def _require_sides(order: Order, split: Split) -> None:
    for side, rows in (("training", split.train), ("holdout", split.holdout)):
        values: Sequence[Any] = np.unique(order.target[rows]).tolist()
        if len(rows) == 0 or (order.classes and len(values) < 2):
            raise DataError(
                "bad_split",
                f"a split by {split.method} leaves {len(rows)} rows and {len(values)} different outcomes for {side}; "
                "set split.method = 'random', or another split.holdout",
            )


def _day(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s")).replace("T00:00:00", "").replace("T", " ")


def _required(values: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if values is None:
        raise DataError("bad_split", "this split needs a column to go by; set data.time or data.entity")
    return values


def _names(groups: npt.NDArray[np.object_]) -> list[str]:
    return cast("list[str]", groups.tolist())
