"""What there is to learn: the training rows, their targets, weights and folds, and how results are scored.

Owns the standardisation of a regression target, so that every family works on the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlsystem.compile.model import Kind
from mlsystem.compile.session import Rows
from mlsystem.evaluation.metrics import Scorer, primary, scorer
from mlsystem.features.arrays import Floats, Ints, Texts
from mlsystem.features.encoders import Targets
from mlsystem.features.formula import NOTHING_DERIVED, Derivation

MOST_FOLD_CELLS = 40_000_000
"""Cells that all folds together may have before folds are left out."""

MOST_ENCODED_CLASSES = 20
"""Target means are made for this many classes, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Positions among the training rows: `fit` learns, `valid` is predicted."""

    fit: Ints
    valid: Ints


def affordable(folds: Sequence[Fold], cells: int, *, in_time: bool) -> Sequence[Fold]:
    """Return as many folds as `cells`, rows times columns, are worth: of many rows one fold says enough.

    Along time the latest folds are kept, which learn from the most rows.
    """
    count = int(np.clip(MOST_FOLD_CELLS // max(cells, 1), 1, len(folds)))
    return folds[-count:] if in_time else folds[:count]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Training rows and all that belongs to them, in one order.

    `target` [N] is a label's index, or the value in regression; `folds` hold positions into these rows.
    """

    kind: Kind
    classes: int
    metric: str
    rows: Rows
    target: Floats | Ints
    weight: Floats
    folds: Sequence[Fold]
    time: Floats | None = None
    groups: Texts | None = None
    seed: int = 7
    derivation: Derivation = NOTHING_DERIVED

    @cached_property
    def centre(self) -> float:
        """Regression: weighted mean of the target."""
        return float(np.average(self.target, weights=self.weight)) if self.kind == "regression" else 0.0

    @cached_property
    def scale(self) -> float:
        """Regression: weighted standard deviation of the target."""
        if self.kind != "regression":
            return 1.0
        return float(np.sqrt(np.average((self.target - self.centre) ** 2, weights=self.weight))) or 1.0

    @cached_property
    def labels(self) -> Floats | Ints:
        """What families learn: the label's index, or the standardised value."""
        if self.kind != "regression":
            return self.target
        return (np.asarray(self.target, np.float64) - self.centre) / self.scale

    @property
    def margins(self) -> int:
        """Number of margins a member gives: one a class if there are more than two, else one."""
        return self.classes if self.kind == "multiclass" else 1

    @cached_property
    def encoded_targets(self) -> Targets:
        """What target means are made of: the standardised value, or indicators of the labels."""
        if self.kind == "regression":
            return Targets(np.asarray(self.labels, np.float64)[:, None], self.weight)
        labels = np.asarray(self.target, np.int64)
        counts = np.bincount(labels, minlength=self.classes)
        shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_ENCODED_CLASSES])
        picked = np.array([1]) if self.kind == "binary" else shown
        return Targets((labels[:, None] == picked).astype(np.float64), self.weight)

    @property
    def deciding(self) -> str:
        """The metric that candidates are ranked by."""
        return primary(self.kind, self.metric)

    def answers(self, member_output: Floats) -> Floats:
        """Turn a member's or ensemble's output [N, T] (probabilities, standardised values) into answers."""
        if self.kind == "regression":
            return self.centre + self.scale * member_output
        return np.concatenate([1.0 - member_output, member_output], axis=1) if self.kind == "binary" else member_output

    def scorer(self, metric: str, output: Floats, rows: Ints) -> Scorer:
        """Prepare a metric for outputs [M, T] of some training rows."""
        return scorer(metric, self.kind, self.target[rows], self.answers(output))

    def score(self, metric: str, output: Floats, rows: Ints) -> float:
        """Score outputs [M, T] of some training rows with their weights."""
        return self.scorer(metric, output, rows)(self.weight[rows])
