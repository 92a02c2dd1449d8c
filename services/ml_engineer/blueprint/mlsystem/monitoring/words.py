"""What monitoring found, in sentences for the people who own the system.

Owns the wording of findings and of the suspected cause. With `values` off, as for regulated data, no level and no
bound of a bin is told. Leaves deciding what is a finding to `verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mlsystem.monitoring.drift import Drift
from mlsystem.monitoring.quality import Quality

FeatureFinding = Literal["missing", "unseen", "drift", "answers"]

_GROWTH = 0.05
"""Share of rows by which missing or unseen values must have grown to be what is told."""


def percent(share: float) -> str:
    """Return a share as a percentage with telling digits."""
    return f"{100 * share:.3g} %" if share >= 0.0005 or share == 0 else "under 0.05 %"


def number(value: float) -> str:
    """Return a number with four telling digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def interval(metric: str, quality: Quality) -> str:
    """Return a metric with its value and its 95 % interval."""
    return f"{metric} {number(quality.value)} [{number(quality.low)}, {number(quality.high)}]"


def duration(seconds: float) -> str:
    """Return a stretch of time in its largest unit."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def kind_of(drift: Drift, *, answer: bool) -> FeatureFinding:
    """Return what has mainly happened to a feature: `missing`, `unseen`, `drift`, or `answers` for an answer."""
    if answer:
        return "answers"
    missing, unseen = drift.missing[1] - drift.missing[0], drift.unseen[1] - drift.unseen[0]
    if max(missing, unseen) < _GROWTH:
        return "drift"
    return "missing" if missing >= unseen else "unseen"


def sentence(drift: Drift, kind: FeatureFinding, *, values: bool) -> str:
    """Say what has happened to a feature."""
    name = drift.feature.name
    if kind == "missing":
        before, now = drift.missing
        return f"{name} is missing in {percent(now)} of the rows; in training it was in {percent(before)}."
    if kind == "unseen":
        if drift.feature.kind == "text":
            before, now = drift.unseen
            return f"{percent(now)} of the words of {name} are unknown; in training it was {percent(before)}."
        return f"{name} has levels that training did not have in {percent(drift.unseen[1])} of the rows."
    if drift.feature.mean is not None and drift.mean is not None and _mean_moved(drift):
        way = "higher" if drift.mean > drift.feature.mean else "lower"
        told = f": {number(drift.mean)} on average, {number(drift.feature.mean)} in training" if values else ""
        return f"{name} is {way} than in training{told}."
    place, before, now = _most_moved(drift)
    what = f"{drift.feature.bins[place]}" if values else "one of its ranges"
    return f"{name}: {what} makes up {percent(now)} of the rows; in training it was {percent(before)}."


def why_not(drift: Drift, alerts: float) -> str:
    """Say why a large effect is no alert, if the column's importance is the reason."""
    if drift.effect < alerts or drift.level == "alert" or drift.weight == 1.0:
        return ""
    return f" It matters little: it carries {percent(drift.feature.importance)} of what the model's quality stands on."


def missing_together(names: Sequence[str]) -> str:
    """Say what several features that went missing at once point to."""
    return f"{listed(names)} have gone missing together: what feeds them has probably failed or changed its names."


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words, the first five of many."""
    shown = [*names[:5], *([f"{len(names) - 5} more"] if len(names) > 5 else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _mean_moved(drift: Drift) -> bool:
    """Tell whether most of a feature's rows have moved one way over the bins, so that the mean tells the story."""
    p, q = drift.before[:-1], drift.now[:-1]
    apart = np.cumsum(p) / max(p.sum(), 1) - np.cumsum(q) / max(q.sum(), 1)
    return bool(abs(apart.sum()) > 0.7 * np.abs(apart).sum())


def _most_moved(drift: Drift) -> tuple[int, float, float]:
    p, q = drift.before / max(drift.before.sum(), 1), drift.now / max(drift.now.sum(), 1)
    place = int(np.abs(q - p).argmax())
    return place, float(p[place]), float(q[place])
