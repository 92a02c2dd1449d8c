"""What the encoded values of a column show: its levels, or its smallest and largest value, and how many are missing."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import cast

import msgspec
import numpy as np

from mlsystem.boundary import Boundary, Encoded, Numbers, Strings
from mlsystem.schema import MAX_LEVELS, Column


def by_name(boundary: Boundary, encoded: Encoded) -> tuple[dict[str, Strings], dict[str, Numbers]]:
    """Return the columns of both tensors by their names."""
    strings = {name: encoded.strings[:, i] for i, name in enumerate(boundary.strings)}
    return strings, {name: encoded.numbers[:, i] for i, name in enumerate(boundary.numbers)}


def measured(column: Column, strings: Mapping[str, Strings], numbers: Mapping[str, Numbers]) -> Column:
    """Return a column with what its values show; one that is in no tensor stays as it is."""
    if column.name in strings:
        counted = collections.Counter(cast("list[str]", strings[column.name].tolist()))
        blank = counted.pop("", 0)
        levels = [level for level, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_LEVELS]]
        share = _share(blank, len(strings[column.name]))
        return msgspec.structs.replace(column, levels=tuple(levels), distinct=len(counted), missing=share)
    if column.name in numbers:
        values = numbers[column.name]
        known = values[~np.isnan(values)]
        bounds = (float(known.min()), float(known.max())) if len(known) else (None, None)
        share = _share(len(values) - len(known), len(values))
        return msgspec.structs.replace(column, low=bounds[0], high=bounds[1], missing=share)
    return column


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6)
