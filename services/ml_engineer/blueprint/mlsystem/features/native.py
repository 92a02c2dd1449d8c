"""Encoders applied in numpy: the reference that the compiled graph is compared with.

Deliberately shares no code with `compile.features` but the encoder values: interpolation instead of a sum of
ramps, dictionaries instead of a LabelEncoder, so that agreement means something.
"""

from __future__ import annotations

import numpy as np

from mlsystem.features.arrays import Flags, Floats, Ints, Singles, Texts
from mlsystem.features.encoders import Curve, Features, Levels
from mlsystem.features.native_derive import widen


def level_positions(levels: Levels, column: Texts) -> Ints:
    """Return the position of each value among the column's levels, -1 where it is unseen."""
    positions = {name: position for position, name in enumerate(levels.names)}
    return np.array([positions.get(value, -1) for value in column.tolist()], np.int64)


def tree_matrix(features: Features, numbers: Floats, strings: Texts) -> Singles:
    """Return the tree matrix, float32 [N, F]: numbers, codes (unseen 0, rarest 1, ...), target means."""
    numbers, strings = widen(features.derivation, numbers, strings)
    with np.errstate(over="ignore"):
        parts = [numbers.astype(np.float32)]
    for column, levels in enumerate(features.levels):
        positions = level_positions(levels, strings[:, column])
        codes = np.where(positions < 0, 0, len(levels.names) - positions)
        parts.append(codes.astype(np.float32)[:, None])
    for column in features.encoded:
        levels = features.levels[column]
        means = np.array([*levels.means, features.prior])
        parts.append(means[level_positions(levels, strings[:, column])].astype(np.float32))
    return np.concatenate(parts, axis=1)


def dense_matrix(features: Features, numbers: Floats, strings: Texts) -> Floats:
    """Return the dense matrix, float64 [N, D]: scores, flags of missing numbers, one-hot levels."""
    numbers, strings = widen(features.derivation, numbers, strings)
    parts = [_score(curve, numbers[:, column])[:, None] for column, curve in enumerate(features.curves)]
    parts += [_missing(numbers[:, column]) for column, curve in enumerate(features.curves) if curve.flag]
    for column, levels in enumerate(features.levels):
        positions = level_positions(levels, strings[:, column])
        parts.append((positions[:, None] == np.arange(levels.hot)).astype(np.float64))
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(numbers), 0))


def _score(curve: Curve, values: Floats) -> Floats:
    known = np.where(np.isnan(values), curve.centre, values)
    return np.interp(known, curve.knots, curve.scores)


def _missing(values: Floats) -> Floats:
    flags: Flags = np.isnan(values)
    return flags.astype(np.float64)[:, None]
