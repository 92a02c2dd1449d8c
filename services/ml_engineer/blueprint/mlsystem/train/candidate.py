"""What a family gives back: a fitted member with its out-of-fold outputs, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mlsystem.compile.members import Member
from mlsystem.features.arrays import Floats, Ints
from mlsystem.train.plan import NOWHERE, Cuts


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member of a family; `oof` [N, T] is NaN for rows that no fold predicted."""

    name: str
    family: str
    member: Member
    oof: Floats
    score: float
    wall_s: float
    notes: dict[str, object] = field(default_factory=dict[str, object])
    cuts: Cuts = NOWHERE


@dataclass(frozen=True, slots=True)
class Skipped:
    """A member that was not fitted, and why."""

    name: str
    family: str
    reason: str


def predicted_rows(oof: Floats) -> Ints:
    """Return the rows that have an out-of-fold output."""
    return np.flatnonzero(~np.isnan(oof).any(axis=1))
