"""How much each column of the source matters to a compiled model: what is lost when its values change places.

Owns permutation importance on held-out rows, on the file that is served. All tensor columns of one source column are
shuffled together. Leaves what is done with it to `drift`, which alerts on what matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from mlsystem.boundary import Boundary
from mlsystem.compile.session import Rows, Session
from mlsystem.data.dataset import Dataset
from mlsystem.evaluation.metrics import Kind, gain, scorer
from mlsystem.features.arrays import Floats, Ints

_ROWS: Final = 1000
_WORK: Final = 100_000
"""Rows times columns that are worth their time; wide tables are shuffled over fewer rows, at least 200."""
_REPEATS: Final = 2


def importances(
    dataset: Dataset, model: bytes, holdout: Ints, metric: str, columns: Mapping[str, str]
) -> dict[str, float]:
    """Return each source column's share of what is lost by shuffling one after the other; together they are 1.

    `columns` names the source's column of every tensor column. All shares are equal if no column matters.
    """
    names = sorted(set(columns.values()))
    rows = _sample(holdout, int(np.clip(_WORK // max(len(names), 1), 200, _ROWS)), dataset.seed)
    lost = _Shuffling(dataset, model, rows, metric).losses(names, columns)
    total = sum(lost.values())
    return {name: lost[name] / total if total > 0 else 1 / len(names) for name in names}


def _sample(rows: Ints, count: int, seed: int) -> Ints:
    return rows if len(rows) <= count else np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


class _Shuffling:
    """Held-out rows with the quality that a model has on them."""

    def __init__(self, dataset: Dataset, model: bytes, rows: Ints, metric: str) -> None:
        self._kind: Kind = dataset.schema.task.kind
        self._metric, self._session = metric, Session(model)
        self._target = dataset.target[rows]
        self._numbers, self._strings = dataset.encoded.numbers[rows], dataset.encoded.strings[rows]
        self._generator = np.random.default_rng(dataset.seed)
        self._boundary = Boundary.from_schema(dataset.schema)
        self._whole = self._quality(Rows(self._numbers, self._strings))

    def losses(self, names: list[str], columns: Mapping[str, str]) -> dict[str, float]:
        """Return the mean loss of quality for each source column, 0 where shuffling does no harm."""
        found: dict[str, float] = {}
        for name in names:
            numbers = [i for i, part in enumerate(self._boundary.numbers) if columns[part] == name]
            strings = [i for i, part in enumerate(self._boundary.strings) if columns[part] == name]
            losses = [gain(self._metric, self._whole, self._shuffled(numbers, strings)) for _ in range(_REPEATS)]
            found[name] = max(0.0, float(np.mean(losses)))
        return found

    def _shuffled(self, numbers: list[int], strings: list[int]) -> float:
        order = self._generator.permutation(len(self._numbers))
        rows = Rows(self._numbers.copy(), self._strings.copy())
        rows.numbers[:, numbers] = self._numbers[order][:, numbers]
        rows.strings[:, strings] = self._strings[order][:, strings]
        return self._quality(rows)

    def _quality(self, rows: Rows) -> float:
        answers: Floats = self._session.run(rows, "value" if self._kind == "regression" else "probabilities")[0]
        return scorer(self._metric, self._kind, self._target, answers)(np.ones(len(rows)))
