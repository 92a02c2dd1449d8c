"""The matrices that families learn from, made by the compiled encoders themselves.

Training sees what serving will compute: the graph of `compile.features` is run over the training rows. Only target
means differ, since a row must not see its own target: rows of a fit get means from other parts of the fit, rows
outside get the means of the whole fit (`features.out_of_fold`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlsystem.compile.derive import widened
from mlsystem.compile.features import Matrix, feature_model, offsets
from mlsystem.compile.session import BATCH, Session
from mlsystem.features.arrays import Floats, Ints, Singles
from mlsystem.features.encoders import Features, Targets, fit_features
from mlsystem.features.out_of_fold import means_for_fit, means_for_others, parts_of
from mlsystem.train.problem import Fold, Problem


@dataclass(frozen=True)
class Matrices:
    """Encoders with the matrices of the training rows; `codes` [N, E] are 0 for unseen, else 1 + position."""

    features: Features
    plain: Singles
    """Tree matrix without target means."""
    codes: Ints
    problem: Problem

    @classmethod
    def of(cls, problem: Problem) -> Matrices:
        """Learn the encoders and run their graph over all training rows."""
        targets = problem.encoded_targets
        derivation = problem.derivation
        wide = widened(derivation, problem.rows)
        features = fit_features(wide.numbers, wide.strings, targets, seed=problem.seed, derivation=derivation)
        plain, codes = _run(features, problem)
        starts = np.array([offsets(features)[column] for column in features.encoded], np.int64)
        return cls(features, plain, np.maximum(codes - starts + 1, 0), problem)

    @cached_property
    def dense_columns(self) -> int:
        """Number of columns of the dense matrix."""
        return self.dense(np.arange(1)).shape[1]

    def dense(self, rows: Ints) -> Floats:
        """Return rows of the dense matrix, made when they are asked for: all of them at once can be very large."""
        return self._dense_session.run(self.problem.rows.pick(rows), "dense")[0]

    @cached_property
    def _dense_session(self) -> Session:
        return Session(feature_model(self.features, "dense"))

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


def _run(features: Features, problem: Problem) -> tuple[Singles, Ints]:
    """Run the encoders' graph batch by batch, so that only the float32 results are ever held in full."""
    outputs: tuple[Matrix, ...] = ("tree", "codes") if features.encoded else ("tree",)
    session = Session(feature_model(features, *outputs))
    plain = np.empty((len(problem.rows), len(features.curves) + len(features.levels)), np.float32)
    codes = np.zeros((len(problem.rows), len(features.encoded)), np.int64)
    for start in range(0, len(plain), BATCH):
        batch = slice(start, start + BATCH)
        tree, *found = session.run(problem.rows.pick(batch), *outputs)
        plain[batch] = tree[:, : plain.shape[1]]
        if found:
            codes[batch] = found[0]
    return plain, codes
