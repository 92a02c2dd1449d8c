"""The reference of a version, profile.json: how every feature and the answers were distributed in training.

Owns the bins into which traffic is counted and how often each was hit in training, by phase of the season if there
is one, so that production never needs the training rows. Made by `reference`. Leaves counting to `sketch` and
comparing to `drift`. A feature's bins are: the ranges between its edges, or its levels, then what is named below.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.errors import DataError
from mlsystem.spec import seconds

Counts = npt.NDArray[np.int64]
FeatureKind = Literal["number", "category", "text"]

PROFILE: Final = "profile.json"
"""Name of the file in a package."""

MAX_LEVELS: Final = 20
"""Levels of a category that are counted one by one: with all of them, PSI finds drift where nothing has changed."""

REFERENCE_ROWS: Final = 100
"""Rows of training that a window is compared with at least, where a season has so many."""

MISSING: Final = "missing"
REST: Final = "rest"
UNSEEN: Final = "unseen"

_DAY_S = 86_400.0


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the boundary tensors, or one of the answers."""

    name: str
    column: str
    """Column of the source that it is made of; of an answer, its name once more."""
    kind: FeatureKind
    edges: tuple[float, ...] = ()
    """Number: a value belongs to the first bin whose edge it does not exceed. Text: the same of its length in words.

    None for what is made of dates: they move on by themselves, so only whether they are missing is compared.
    """
    levels: tuple[str, ...] = ()
    """Category: the levels that are counted one by one, the most frequent first."""
    others: tuple[str, ...] = ()
    """Category: levels that are counted together as `rest`."""
    vocabulary: tuple[int, ...] = ()
    """Text: checksums of the words that training had; the words themselves are what rows say."""
    unknown: float = 0.0
    """Text: share of training's own words that is not in the vocabulary, which holds the most frequent ones."""
    complete: bool = True
    """Category: whether a level that is not listed was not in training; else it counts as `rest`."""
    counts: tuple[tuple[int, ...], ...]
    """Rows of training a bin, for each phase of the season."""
    importance: float = 0.0
    """Loss of quality when the source's column is shuffled, as a share of that of all columns."""
    mean: float | None = None
    """Number: mean of the training rows."""
    usual: float = 0.0
    """The farthest that a stretch of training, in the order of time, was from all of it, as an effect size."""

    @property
    def width(self) -> int:
        """Number of bins."""
        return len(self.bins)

    @property
    def bins(self) -> tuple[str, ...]:
        """What every bin holds, in words."""
        if self.kind == "category":
            return (*self.levels, REST, UNSEEN, MISSING)
        return (*_ranges(self.edges), MISSING)


class Profile(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All features in the order of the boundary tensors, and the answers."""

    format: Literal[1] = 1
    numbers: tuple[Feature, ...]
    strings: tuple[Feature, ...]
    answers: tuple[Feature, ...]
    """Binary: the positive probability. Multiclass: the label and its probability. Regression: the value."""
    labels: tuple[str, ...] = ()
    rows: int
    """Training rows that the features are counted over."""
    season: str = ""
    metric: str = ""
    """The metric that decides, by which importance is measured."""
    newest: float | None = None
    """Time of the newest training row, in seconds since 1970 UTC."""

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """All that is counted, in the order of a sketch's counts."""
        return (*self.numbers, *self.strings, *self.answers)

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where the bins of each feature are in a sketch's counts."""
        ends = np.cumsum([feature.width for feature in self.features]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @cached_property
    def digest(self) -> str:
        """Name of the bins: sketches of one digest can be added up."""
        bins = [(f.name, f.kind, f.edges, f.levels, f.complete) for f in self.features]
        return hashlib.sha256(msgspec.json.encode(bins)).hexdigest()[:16]

    def reference(self, feature: Feature, start: float, end: float) -> Counts:
        """Return the training counts for the time from `start` to `end`: of the same phases of the season.

        Phases next to them are taken in, on both sides alike, until there are REFERENCE_ROWS.
        """
        counts = np.array(feature.counts, dtype=np.int64)
        if len(counts) == 1:
            return counts[0]
        here = np.unique(phases(np.linspace(start, max(start, end - 1e-3), 2 * len(counts)), self.season))
        for reach in range(len(counts) // 2 + 1):
            near = np.unique((here[:, None] + np.arange(-reach, reach + 1)) % len(counts))
            if counts[near].sum() >= REFERENCE_ROWS:
                return counts[near].sum(axis=0)
        return counts.sum(axis=0)


def phase_count(season: str) -> int:
    """Return into how many phases a season is parted: hours of a day or a week, else as many as a year has weeks."""
    if not season:
        return 1
    return {_DAY_S: 24, 7 * _DAY_S: 168}.get(seconds(season), 52)


def phases(at: npt.NDArray[np.float64], season: str) -> Counts:
    """Return the phase of each time (seconds since 1970 UTC)."""
    share = np.mod(at, seconds(season)) / seconds(season)
    return np.minimum((share * phase_count(season)).astype(np.int64), phase_count(season) - 1)


def read_profile(content: bytes) -> Profile:
    """Return the content of a profile.json; DataError if it is none of this format."""
    try:
        return msgspec.json.decode(content, type=Profile)
    except msgspec.DecodeError as error:
        raise DataError("bad_profile", f"{PROFILE} cannot be read: {error}; run `package` again") from error


def _ranges(edges: tuple[float, ...]) -> list[str]:
    if not edges:
        return ["any"]
    inner = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]:.4g}", *inner, f"above {edges[-1]:.4g}"]
