"""The fast way from JSON rows to tensors: for rows in which every value is of the plainest kind.

Owns rows whose numbers are JSON numbers or null, whose categories are levels of the contract or null, whose dates were
read before, and which have no column that the source lacks: nearly all that programs send. They are encoded several
at a time at C speed. For any other row it gives nothing, and the full rules of `boundary` decide; where it gives
something, it is what they would give (a test holds the two against each other).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from types import NoneType
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

_PLAIN: Final = frozenset({float, int, NoneType})
_NAN: Final = float("nan")
_DATES: Final = 4096
"""Texts of dates that one column remembers."""

Values = tuple[Any, ...]
Getter = Callable[[Mapping[str, object]], Values]
Tensors = tuple[npt.NDArray[np.float64], npt.NDArray[np.object_]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns stand: number columns and date columns by their first place, categories in tensor order."""

    numbers: Mapping[str, int]
    dates: Mapping[str, tuple[int, Callable[[str], tuple[float, ...]]]]
    """What reads a text may raise ValueError."""
    strings: Mapping[str, Mapping[str, str]]
    """Texts that are known, with what the model is given for them."""
    width: tuple[int, int]
    """Columns of the two tensors; more of them than the layout fills stay missing."""


class Plain:
    """Encodes plain rows of one contract."""

    def __init__(self, layout: Layout, known: frozenset[str]) -> None:
        self._known = known
        self._width = layout.width
        self._numbers = _getter(tuple(layout.numbers))
        self._places = tuple(layout.numbers.values())
        self._straight = self._places == tuple(range(layout.width[0]))
        self._dates = tuple((name, at, lru_cache(_DATES)(parse)) for name, (at, parse) in layout.dates.items())
        self._strings = _getter(tuple(layout.strings))
        self._texts = tuple({**table, None: ""}.get for table in layout.strings.values())
        self._blanks = [""] * (layout.width[1] - len(layout.strings))

    def encode(self, rows: Sequence[Mapping[str, object]]) -> Tensors | None:
        """Return the tensors of the rows, None if one of them needs the full rules or there is none."""
        numbers: list[Sequence[float | None]] = []
        strings: list[list[str | None]] = []
        known = self._known
        try:
            for row in rows:
                if not row.keys() <= known:
                    return None
                cells = self._cells(row)
                texts = [text(value) for text, value in zip(self._texts, self._strings(row), strict=True)]
                if cells is None or None in texts:
                    return None
                numbers.append(cells)
                strings.append(texts + self._blanks)
            return (np.array(numbers, np.float64), np.array(strings, object)) if rows else None
        except (KeyError, TypeError, ValueError, OverflowError):  # absent, unhashable, no date, beyond a float
            return None

    def _cells(self, row: Mapping[str, object]) -> Sequence[float | None] | None:
        """Return a row of the numbers tensor, None standing for missing; None if a value is no finite number."""
        values = self._numbers(row)
        if not (kinds := set(map(type, values))) <= _PLAIN:
            return None
        total = sum(filter(None, values) if NoneType in kinds else values)
        if not math.isfinite(total):
            return None
        if self._straight:
            return values
        cells: list[float | None] = [_NAN] * self._width[0]
        for at, value in zip(self._places, values, strict=True):
            cells[at] = value
        for name, at, parse in self._dates:
            text = row[name]
            if text is not None:
                parts = parse(text) if type(text) is str else None
                if parts is None:
                    return None
                cells[at : at + len(parts)] = parts
        return cells


def _getter(names: tuple[str, ...]) -> Getter:
    """Return what takes these columns out of a row as a tuple, however many they are."""
    if not names:
        return lambda _row: ()
    if len(names) == 1:
        (name,) = names
        return lambda row: (row[name],)
    return cast("Getter", itemgetter(*names))
