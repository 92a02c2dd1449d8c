"""Why a prediction is what it is: Shapley values of the row's columns, measured on the served graph itself.

For a row and every reference row, the reference row becomes the row one column at a time, in a random order and in
the reverse of it; what a column changes on the way, averaged over all ways, is its effect (interventional Shapley
values by antithetic permutation sampling: Strumbelj and Kononenko 2014; Mitchell, Cooper, Frank and Holmes 2022).
Every way starts at a reference row's score and ends at the row's, so the effects add up to the row's score minus the
mean score of the reference rows, whatever was sampled. The orders are fixed: the same row has the same explanation.
Owns this and its bound on work. Leaves rows to `boundary` and HTTP to the route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlsystem.boundary import Boundary, Encoded, Numbers, Strings
from mlsystem.serving.answers import refused_values

if TYPE_CHECKING:
    from mlsystem.serving.model import Model

_STEPS = 20_000
"""Rows that are scored at most for one explanation, unless two reference rows need more: with 64 reference rows,
contracts of up to 155 columns have all of them."""

_LEAST_REFERENCES = 2
_BLOCK_ROWS = 4096
"""Rows that are scored at once; between two blocks the work can be stopped."""

_SEED = 2014
_Mask = npt.NDArray[np.bool_]


class Stopped(Exception):  # noqa: N818 - somebody wanted it
    """The work was stopped before it was done."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What moved one score: `effects` of the columns add up to `score` minus `base`."""

    score: float
    base: float
    """Mean score of the reference rows."""
    effects: Mapping[str, float]
    """Of the columns that have one; the others changed nothing anywhere."""
    references: int


class Explainer:
    """Explains the scores of one model; built once, safe to use from several threads."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.columns: tuple[str, ...] = tuple(model.boundary.places)
        """Columns that can have an effect."""
        self._of_numbers, self._of_strings = _columns_of(model.boundary)
        self._reference = self._references([*model.examples, model.example])
        self._orders = np.random.default_rng(_SEED).permuted(
            np.tile(np.arange(len(self.columns)), (len(self._reference.numbers), 1)), axis=1
        )

    @property
    def references(self) -> int:
        """Reference rows that a row is compared with."""
        return len(self._reference.numbers)

    def explain(self, numbers: Numbers, strings: Strings, output: int, stopped: Callable[[], bool]) -> Effects:
        """Return what moved the score at position `output` of one encoded row, [C1] and [C2].

        Raises: Stopped once `stopped` says so; Refusal 422 if a hook fails on a mixture of two rows.
        """
        differ = self._differing(numbers, strings)
        ways = [_Way(b, order[differ[b, order]]) for b, order in enumerate(self._orders)]
        ways += [_Way(way.reference, way.order[::-1]) for way in ways]
        total, base, score = np.zeros(len(self.columns)), 0.0, 0.0
        for block in _blocks(ways):
            if stopped():
                raise Stopped
            scores = self._scored(block, (numbers, strings), output)
            at = 0
            for way in block:
                along = scores[at : at + way.rows]
                at += way.rows
                total[way.order] += np.diff(along)
                base, score = base + along[0], score + along[-1]
        shares = total / len(ways)
        effects = {name: float(shares[place]) for place, name in enumerate(self.columns) if shares[place] != 0}
        return Effects(float(score / len(ways)), float(base / len(ways)), effects, self.references)

    def _references(self, rows: Sequence[Mapping[str, Any]]) -> Encoded:
        """Return the reference rows that can be predicted, evenly thinned out to what the bound allows.

        The last one is there for the case that no other can be: it is known to be answered.
        """
        encoded = self.model.boundary.rows(rows)
        bad = {problem.row for problem in encoded.problems}
        good = [row for row in range(len(rows) - 1) if row not in bad] or [len(rows) - 1]
        count = min(most_references(len(self.columns)), len(good))
        picked = np.unique(np.linspace(0, len(good) - 1, count).astype(np.intp))
        chosen = np.array(good, dtype=np.intp)[picked]
        return Encoded(encoded.numbers[chosen], encoded.strings[chosen])

    def _differing(self, numbers: Numbers, strings: Strings) -> _Mask:
        """Return [references, columns]: where the row has another value than the reference row."""
        same = (self._reference.numbers == numbers) | (np.isnan(self._reference.numbers) & np.isnan(numbers))
        differ = np.zeros((self.references, len(self.columns) + 1), dtype=np.bool_)
        for place, column in enumerate(self._of_numbers):
            differ[:, column] |= ~same[:, place]
        for place, column in enumerate(self._of_strings):
            differ[:, column] |= self._reference.strings[:, place] != strings[place]
        return differ[:, :-1]  # without what hooks make

    def _scored(self, ways: Sequence[_Way], row: tuple[Numbers, Strings], output: int) -> Numbers:
        """Return the scores along some ways, one after the other."""
        numbers: list[Numbers] = []
        strings: list[Strings] = []
        for way in ways:
            passed, start = way.passed(len(self.columns) + 1), way.reference
            numbers.append(np.where(passed[:, self._of_numbers], row[0], self._reference.numbers[start]))
            strings.append(np.where(passed[:, self._of_strings], row[1], self._reference.strings[start]))
        mixed = self.model.boundary.complete(Encoded(np.concatenate(numbers), np.concatenate(strings)), checked=False)
        if mixed.problems:
            raise refused_values(mixed.problems[:1])
        scores = self.model.score(mixed)
        return np.asarray(scores, dtype=np.float64)[:, output]


@dataclass(frozen=True, slots=True)
class _Way:
    """A way from a reference row to the row: the columns that change, in this order."""

    reference: int
    order: npt.NDArray[np.intp]

    @property
    def rows(self) -> int:
        return len(self.order) + 1

    def passed(self, columns: int) -> _Mask:
        """Return [steps, columns]: after step k the first k columns of the order are the row's."""
        rank = np.full(columns, len(self.order))
        rank[self.order] = np.arange(len(self.order))
        return rank < np.arange(self.rows)[:, None]


def most_references(columns: int) -> int:
    """Return how many reference rows a row is compared with at most: twice as many ways, of a step a column."""
    return max(_LEAST_REFERENCES, _STEPS // (2 * (columns + 1)))


def _columns_of(boundary: Boundary) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the place of the source column of every number and every string; a date fills several.

    What hooks make belongs to none: it is made anew of every mixed row. Its place is behind the last.
    """
    numbers = np.full(len(boundary.numbers), len(boundary.places), dtype=np.intp)
    strings = np.full(len(boundary.strings), len(boundary.places), dtype=np.intp)
    for place, (of_numbers, of_strings) in enumerate(boundary.places.values()):
        numbers[of_numbers] = place
        strings[of_strings] = place
    return numbers, strings


def _blocks(ways: Sequence[_Way]) -> list[list[_Way]]:
    """Return the ways in groups of about _BLOCK_ROWS rows."""
    blocks: list[list[_Way]] = []
    rows = _BLOCK_ROWS
    for way in ways:
        if rows + way.rows > _BLOCK_ROWS:
            blocks.append([])
            rows = 0
        blocks[-1].append(way)
        rows += way.rows
    return blocks
