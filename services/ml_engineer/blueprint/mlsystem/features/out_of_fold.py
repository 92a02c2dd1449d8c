"""Target means that never saw the row they are given to.

A target mean made from a row's own target tells the model the answer. So the rows of a fit are cut into parts,
the means of a part come from the other parts alone, and rows outside the fit get the means of the whole fit.
Rows of one group stay in one part, since they share their target's causes; rows in time are cut into stretches.
"""

from __future__ import annotations

import numpy as np

from mlsystem.features.arrays import Floats, Ints, Singles, Texts
from mlsystem.features.encoders import Targets, target_means

PARTS = 5


def parts_of(rows: int, *, groups: Texts | None, time: Floats | None, seed: int) -> Ints:
    """Return the part of each of `rows` rows, in [0, PARTS)."""
    if groups is not None:
        _, codes = np.unique(groups.astype(str), return_inverse=True)
        order = np.random.default_rng(seed).permutation(int(codes.max(initial=0)) + 1)
        return (order[codes] % PARTS).astype(np.int64)
    if time is not None:
        ranks = np.argsort(np.argsort(time, kind="stable"), kind="stable")
        return (ranks * PARTS // max(rows, 1)).astype(np.int64)
    return (np.random.default_rng(seed).permutation(rows) % PARTS).astype(np.int64)


def means_for_fit(codes: Ints, counts: tuple[int, ...], targets: Targets, parts: Ints) -> Singles:
    """Return target means for the rows of a fit, [N, E * T], each row's from the other parts.

    `codes` [N, E] holds 0 for unseen and 1 + position for a level, `counts` the levels of each column.
    """
    out = np.zeros((len(parts), len(counts) * targets.values.shape[1]), np.float32)
    for part in range(PARTS):
        held = parts == part
        if held.any() and not held.all():
            out[held] = means_for_others(codes[~held], counts, _rows(targets, ~held), codes[held])
        elif held.any():
            out[held] = np.tile(np.average(targets.values, axis=0, weights=targets.weight), len(counts))
    return out


def means_for_others(codes: Ints, counts: tuple[int, ...], targets: Targets, others: Ints) -> Singles:
    """Return target means learnt from `codes` for rows that were not part of it: `others` [M, E] -> [M, E * T]."""
    columns: list[Singles] = []
    for column, count in enumerate(counts):
        means = target_means(codes[:, column], count + 1, targets)
        columns.append(means[others[:, column]].astype(np.float32))
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(others), 0), np.float32)


def _rows(targets: Targets, rows: np.ndarray) -> Targets:
    return Targets(targets.values[rows], targets.weight[rows])
