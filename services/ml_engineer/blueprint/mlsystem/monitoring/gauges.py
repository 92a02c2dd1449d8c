"""Drift and quality as a server's metrics.

Owns what is said and its bounded labels: at most 50 features, the most important ones, and three kinds of quality.
Drift is computed from the windows of all workers, about the running one once that has rows enough, and about the one
before it until then. Quality is what `mlsystem monitor` found when it ran last: joining outcomes to captures is not
for a process that answers. Leaves the metrics' own table to the server, and alerting to the rules in deploy/prometheus
and to `mlsystem monitor`.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mlsystem.monitoring import LAST_VERDICT
from mlsystem.monitoring.drift import Drift, drifts
from mlsystem.monitoring.windows import read_windows
from mlsystem.online import WATERMARK
from mlsystem.spec import Monitoring, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlsystem.monitoring.profile import Profile
    from mlsystem.state.port import State

MAX_FEATURES: Final = 50

_LOOK_BACK: Final = 25
"""Windows that are read to find one with rows enough."""


class Metrics(Protocol):
    """Where gauges are kept."""

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Let a gauge stand at a value."""
        ...


class Gauges:
    """The drift that one server tells."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def refresh(self, state: State, profile: Profile, settings: Monitoring, *, version: int, now: float) -> None:
        """Set the gauges from what all workers of a version saw last; what is not true any more goes to 0.

        Blocks on the state; to be called every few seconds, with and without traffic. Raises: StateError if the
        state cannot be read.
        """
        since = now - _LOOK_BACK * seconds(settings.window)
        read = read_windows(state.windows(since=since, until=math.inf), profile, settings, version=version)
        readings: dict[tuple[str, tuple[str, ...]], float] = {}
        if read.ready:
            seen = read.ready[-1]
            found = drifts(profile, seen.sketch, settings, start=seen.start, end=seen.end)
            most = sorted(found, key=lambda drift: -drift.weight)[:MAX_FEATURES]
            readings = {key: value for drift in most for key, value in _readings(drift)}
            readings["mlsystem_monitoring_window_rows", ()] = seen.sketch.rows
            readings["mlsystem_monitoring_window_end_seconds", ()] = seen.end
        readings |= _of_quality(state, version)
        if (watermark := watermark_of(state)) is not None:
            readings["mlsystem_data_age_seconds", ()] = max(0.0, now - watermark)
        for name, labels in self._told - readings.keys():
            self._metrics.set(name, labels, 0.0)
        for (name, labels), value in readings.items():
            self._metrics.set(name, labels, value)
        self._told |= readings.keys()


class _Quality(msgspec.Struct, frozen=True):
    """The newest quality by what it is known from: `holdout`, `outcomes`, `estimate`."""

    metric: str = ""
    known: dict[str, float] = {}


class _Alert(msgspec.Struct, frozen=True):
    """What is read of something that alerts."""

    kind: str


class _Verdict(msgspec.Struct, frozen=True):
    """What is read of the fact that `monitor` leaves."""

    at: datetime
    version: int
    alerts: tuple[_Alert, ...] = ()
    quality: _Quality = _Quality()


def _of_quality(state: State, version: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the quality of a version as `monitor` found it; nothing if it looked at another one last, or never."""
    stored = state.get(LAST_VERDICT)
    verdict = None if stored is None else msgspec.json.decode(stored, type=_Verdict)
    if verdict is None or verdict.version != version:
        return {}
    found = {("mlsystem_quality", (verdict.quality.metric, k)): value for k, value in verdict.quality.known.items()}
    return {
        **found,
        ("mlsystem_quality_alerting", ()): float(any(alert.kind == "quality" for alert in verdict.alerts)),
        ("mlsystem_monitor_seconds", ()): verdict.at.timestamp(),
    }


class _Watermark(msgspec.Struct, frozen=True):
    """What monitoring reads of the fact that `materialize` leaves."""

    watermark: float


def watermark_of(state: State) -> float | None:
    """Return until when the online table knows the data, None if there is no such table."""
    stored = state.get(WATERMARK)
    return None if stored is None else msgspec.json.decode(stored, type=_Watermark).watermark


def _readings(drift: Drift) -> Iterator[tuple[tuple[str, tuple[str, ...]], float]]:
    label = (drift.feature.name,)
    yield ("mlsystem_drift_psi", label), drift.effect
    yield ("mlsystem_drift_impact", label), drift.impact
    yield ("mlsystem_drift_alerting", label), float(drift.level == "alert")
    yield ("mlsystem_feature_missing_ratio", label), drift.missing[1]
    if drift.feature.kind == "category":
        yield ("mlsystem_feature_unseen_ratio", label), drift.unseen[1]
