"""The matrices that families learn from, made by the compiled encoders themselves.

Training sees what serving will compute: the graph of `compile.features` is run over the training rows. Only target
means differ, since a row must not see its own target: rows of a fit get means from other parts of the fit, rows
outside get the means of the whole fit (`features.out_of_fold`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsystem.compile.features import feature_model, offsets
from mlsystem.compile.session import BATCH, Session
from mlsystem.features.arrays import Floats, Ints, Singles
from mlsystem.features.encoders import Features, Targets, fit_features
from mlsystem.features.out_of_fold import means_for_fit, means_for_others, parts_of
from mlsystem.train.problem import Fold, Problem


@dataclass(frozen=True, slots=True)
class Matrices:
    """Encoders with the matrices of the training rows; `codes` [N, E] are 0 for unseen, else 1 + position."""

    features: Features
    plain: Singles
    """Tree matrix without target means."""
    dense: Singles
    codes: Ints
    problem: Problem

    @classmethod
    def of(cls, problem: Problem) -> Matrices:
        """Learn the encoders and run their graph over all training rows."""
        features = fit_features(problem.rows.numbers, problem.rows.strings, problem.encoded_targets)
        plain, dense, codes = _run(features, problem)
        starts = np.array([offsets(features)[column] for column in features.encoded], np.int64)
        return cls(features, plain, dense, np.maximum(codes - starts + 1, 0), problem)

    def fold(self, fold: Fold) -> tuple[Singles, Singles]:
        """Return tree matrices of a fold's rows: to fit on, and to predict."""
        return self.fit_tree(fold.fit), self._joined(fold.valid, self._other_means(fold))

    def fit_tree(self, rows: Ints) -> Singles:
        """Return the tree matrix to fit on some rows, every target mean from other rows than its own."""
        problem = self.problem
        parts = parts_of(
            len(rows),
            groups=None if problem.groups is None else problem.groups[rows],
            time=None if problem.time is None else problem.time[rows],
            seed=problem.seed,
        )
        return self._joined(rows, means_for_fit(self.codes[rows], self._counts(), self._targets(rows), parts))

    def _other_means(self, fold: Fold) -> Singles:
        targets = self._targets(fold.fit)
        return means_for_others(self.codes[fold.fit], self._counts(), targets, self.codes[fold.valid])

    def _joined(self, rows: Ints, means: Singles) -> Singles:
        return np.concatenate([self.plain[rows], means], axis=1)

    def _counts(self) -> tuple[int, ...]:
        return tuple(len(self.features.levels[column].names) for column in self.features.encoded)

    def _targets(self, rows: Ints) -> Targets:
        targets = self.problem.encoded_targets
        return Targets(targets.values[rows], targets.weight[rows])


def _run(features: Features, problem: Problem) -> tuple[Singles, Singles, Ints]:
    """Run the encoders' graph batch by batch, so that only the float32 results are ever held in full."""
    session = Session(feature_model(features))
    outputs = ("tree", "dense", "codes") if features.encoded else ("tree", "dense")
    width = len(features.curves) + len(features.levels)
    batches: list[list[np.ndarray]] = []
    with np.errstate(over="ignore"):
        for start in range(0, len(problem.rows), BATCH):
            tree, dense, *codes = session.run(problem.rows.pick(slice(start, start + BATCH)), *outputs)
            found = codes[0] if codes else np.zeros((len(tree), 0), np.int64)
            batches.append([tree[:, :width].astype(np.float32), dense.astype(np.float32), found])
    plain, wide, codes_ = (np.concatenate([batch[part] for batch in batches]) for part in range(3))
    return plain, wide, codes_


def dense_rows(matrices: Matrices, rows: Ints) -> Floats:
    """Return dense rows in float64, as linear solvers want them."""
    return matrices.dense[rows].astype(np.float64)
