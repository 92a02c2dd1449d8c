"""How far a window is from training: PSI and KS by feature, what noise alone would show, and whether it matters.

Owns the effect size (PSI with the noise of finite samples taken off), its standard error, the null that a finding is
held against, and the weight of a feature's importance. Sure findings are those that no resampling of the two samples
as one explains. Leaves how long a finding must last to `verdict`. Imports numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from mlsystem.monitoring.profile import MISSING, UNSEEN, Counts, Feature, Profile
from mlsystem.monitoring.sketch import Sketch
from mlsystem.spec import Monitoring

Floats = npt.NDArray[np.float64]

CHANCE: Final = 1e-6
"""Largest probability of a finding where nothing has changed; windows share one reference, so its noise stays."""

_SURE: Final = 2.0
"""Standard errors by which an effect must be below the size that alerts to be let pass."""

_FLOOR: Final = 1e-4
"""Smallest share of a bin: an empty one would make any row in it infinitely surprising."""

_MANY_ROWS: Final = 1000

_RESAMPLES: Final = 200


@dataclass(frozen=True, slots=True)
class Drift:
    """One feature, or one of the answers, in one window."""

    feature: Feature
    rows: int
    psi: float
    """Population stability index over the feature's bins, `missing` and `unseen` among them."""
    effect: float
    """PSI less what samples of these sizes would show without any drift; never below 0."""
    error: float
    """Standard error of the effect."""
    ks: float | None
    """Largest distance of the two distributions over the bins; numbers alone."""
    weight: float
    """1 for the answers and for a column that matters at least as much as the average one, less for others."""
    level: str
    """`none`, `warn` or `alert`; alerts are of a sure effect, times the weight."""
    before: Counts
    now: Counts
    mean: float | None = None
    """Number: mean of the window."""
    unknown: float = 0.0
    """Text: share of the window's words that training did not have."""

    @property
    def impact(self) -> float:
        """Effect times weight, what alerts are decided on."""
        return self.effect * self.weight

    def share(self, bin_name: str) -> tuple[float, float]:
        """Return the share of a bin such as `missing` in training and in the window; 0 where there is none."""
        if bin_name not in self.feature.bins:
            return 0.0, 0.0
        place = len(self.feature.bins) - 1 - self.feature.bins[::-1].index(bin_name)  # a level may have that name
        return _share(self.before, place), _share(self.now, place)

    @property
    def missing(self) -> tuple[float, float]:
        """Share of rows without a value in training and in the window."""
        return self.share(MISSING)

    @property
    def unseen(self) -> tuple[float, float]:
        """Share of rows with a level, or of words, that training did not have; in training and in the window."""
        if self.feature.kind == "text":
            return self.feature.unknown, self.unknown
        return self.share(UNSEEN) if self.feature.kind == "category" else (0.0, 0.0)


def drifts(profile: Profile, sketch: Sketch, settings: Monitoring, *, start: float, end: float) -> tuple[Drift, ...]:
    """Compare a window with training, in the profile's order; with a season, with the same part of it."""
    columns = len({feature.column for feature in (*profile.numbers, *profile.strings)})
    answers, numbers = len(profile.features) - len(profile.answers), len(profile.numbers)
    found: list[Drift] = []
    for i, (feature, place) in enumerate(zip(profile.features, profile.places, strict=True)):
        before, now = profile.reference(feature, start, end), sketch.counts[place]
        weight = 1.0 if i >= answers else min(1.0, feature.importance * columns)
        drift = _compare(feature, before, now, settings.psi, weight)
        if i < numbers:
            drift = replace(drift, mean=sketch.mean(i))
        elif feature.kind == "text":
            drift = _with_words(drift, sketch.words[i - numbers], settings.psi)
        found.append(drift)
    return tuple(found)


def _with_words(drift: Drift, words: Counts, sizes: tuple[float, float]) -> Drift:
    """Return the drift of a text: of its lengths, or of the share of words that training did not have if that is more.

    Words of one text are alike, so a share of words is as sure as a share of as many rows.
    """
    unknown = float(words[1] / words[0]) if words[0] else drift.feature.unknown
    two = [np.array([1 - share, share]) for share in (drift.feature.unknown, unknown)]
    rows = [np.rint(share * counts.sum()) for share, counts in zip(two, (drift.before, drift.now), strict=True)]
    told = _compare(drift.feature, rows[0].astype(np.int64), rows[1].astype(np.int64), sizes, drift.weight)
    most = max(drift, told, key=lambda one: one.effect)
    return replace(most, before=drift.before, now=drift.now, unknown=unknown)


def effect_of(before: Counts, now: Counts) -> float:
    """Return PSI between two counts of the same bins, less what their noise alone would show."""
    return max(0.0, _psi(_shares(before), _shares(now)) - _noise(before, now))


def stretch_of(whole: Counts, part: Counts) -> float:
    """Return the effect of a stretch of training against all of it, as large as in a window of many rows.

    Half a row is added to each bin, which makes an empty bin of few rows less surprising than one of many.
    """
    scaled = part * max(1, _MANY_ROWS // max(int(part.sum()), 1))
    return max(0.0, _psi(_shares(whole), _shares(scaled)) - _noise(whole, part))


def _compare(feature: Feature, before: Counts, now: Counts, sizes: tuple[float, float], weight: float) -> Drift:
    rows, reference = int(now.sum()), int(before.sum())
    ks = _ks(before[:-1], now[:-1]) if feature.kind == "number" else None
    if not rows or not reference:
        return Drift(feature, rows, 0.0, 0.0, 0.0, ks, weight, "none", before, now)
    p, q = _shares(before), _shares(now)
    psi, error = _psi(p, q), _error(p, q, reference, rows)
    effect = effect_of(before, now)
    level = "warn" if effect >= max(sizes[0], feature.usual) else "none"
    large = (effect + _SURE * error) * weight >= sizes[1]
    if level == "warn" and large and _sure(before, now, psi):
        level = "alert"
    return Drift(feature, rows, psi, effect, error, ks, weight, level, before, now)


def _shares(counts: Counts) -> Floats:
    """Return the share of each bin, half a row added to each, none below the floor."""
    shares = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return np.maximum(shares, _FLOOR)


def _psi(p: Floats, q: Floats) -> float:
    return float(((q - p) * np.log(q / p)).sum())


def _noise(before: Counts, now: Counts) -> float:
    """Return what PSI is expected to be without drift: (bins - 1)(1/n + 1/m), of bins that were hit at all."""
    used = int(((before + now) > 0).sum())
    return float((used - 1) * (1 / before.sum() + 1 / now.sum()))


def _error(p: Floats, q: Floats, reference: int, rows: int) -> float:
    """Return the standard error of PSI by the delta method, for two multinomial samples."""
    slope_q, slope_p = np.log(q / p) + 1 - p / q, np.log(p / q) + 1 - q / p
    return float(np.sqrt(_variance(q, slope_q) / rows + _variance(p, slope_p) / reference))


def _variance(shares: Floats, slope: Floats) -> float:
    return max(0.0, float((shares * slope**2).sum() - (shares * slope).sum() ** 2))


def _sure(before: Counts, now: Counts, psi: float) -> bool:
    """Tell whether two samples of one distribution would hardly ever be as far apart.

    The null is PSI between resamples of both taken together; its tail is a gamma distribution of the same mean and
    variance, by Wilson and Hilferty's cube root, since no affordable number of resamples reaches so far out.
    """
    generator = np.random.default_rng(int(now.sum()))
    both = (before + now) / (before.sum() + now.sum())
    pairs = zip(
        generator.multinomial(int(before.sum()), both, _RESAMPLES),
        generator.multinomial(int(now.sum()), both, _RESAMPLES),
        strict=True,
    )
    null = np.array([_psi(_shares(a), _shares(b)) for a, b in pairs])
    mean, variance = float(null.mean()), float(null.var())
    if not variance:
        return psi > mean
    spread = 2 / (9 * (2 * mean**2 / variance))
    distance = ((psi / mean) ** (1 / 3) - (1 - spread)) / spread**0.5
    return distance > NormalDist().inv_cdf(1 - CHANCE)


def _ks(before: Counts, now: Counts) -> float | None:
    if not before.sum() or not now.sum():
        return None
    return float(np.abs(np.cumsum(before) / before.sum() - np.cumsum(now) / now.sum()).max())


def _share(counts: Counts, place: int) -> float:
    total = int(counts.sum())
    return float(counts[place] / total) if total else 0.0
