"""Gathers what a verdict is made from: stored windows, captures with their outcomes, the version's own record.

Owns reading them for a stretch of time. Leaves concluding to `verdict` and showing to `command` and `page`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from mlsystem.boundary import moment_column
from mlsystem.errors import MlsystemError
from mlsystem.monitoring import words
from mlsystem.monitoring.drift import drifts
from mlsystem.monitoring.findings import Facts, Judged
from mlsystem.monitoring.gauges import watermark_of
from mlsystem.monitoring.profile import PROFILE, Profile, read_profile
from mlsystem.monitoring.quality import measure
from mlsystem.monitoring.windows import Read, read_windows
from mlsystem.registry import registry_of
from mlsystem.schema import Schema
from mlsystem.serving.package import METRICS, Package
from mlsystem.spec import seconds
from mlsystem.stages import Workspace
from mlsystem.state import Joined, State

_SAMPLED: Final = 1000
"""Newest requests whose time column is looked at."""


@dataclass(frozen=True, slots=True)
class Period:
    """The time that is asked about, seconds since 1970 UTC."""

    since: float
    until: float
    now: float


@dataclass(frozen=True, slots=True)
class Gathered:
    """One version over a period."""

    version: int
    period: Period
    profile: Profile
    facts: Facts
    read: Read
    others: tuple[int, ...]
    """Further versions that answered in the period."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the verdict, in sentences."""
        settings, told = self.facts.spec.monitoring, list[str]()
        if settings.season != self.profile.season:
            told.append(
                f"Version {self.version} was packaged with monitoring.season = {self.profile.season!r} and is judged by"
                f" that; {settings.season!r} takes effect with the next version."
            )
        restless = sorted({feature.column for feature in self.profile.features if feature.usual > settings.psi[1]})
        if restless:
            told.append(
                f"{words.listed(restless)} moved by more than what alerts within training already, so only more than"
                " that is told. If that is a season, monitoring.season says its length."
            )
        if self.read.damaged:
            told.append(f"{len(self.read.damaged)} stored windows could not be read and are left out.")
        return tuple(told)


def live_version(workspace: Workspace) -> int:
    """Return the version that answers; MlsystemError if there is none."""
    active = registry_of(workspace).ledger().active
    if active is None:
        raise MlsystemError("nothing_live", "no version is live, so there is nothing to monitor; run `promote` first")
    return active


def gather(workspace: Workspace, state: State, version: int, period: Period) -> Gathered:
    """Read what is known about a version in a period.

    Blocks on state and registry. Raises: MlsystemError `no_profile` if the version came without a profile, StateError,
    RegistryError.
    """
    package = Package.stored(registry_of(workspace), version)
    profile, settings = _profile(package), workspace.spec.monitoring
    stored = state.windows(since=period.since, until=period.until)
    read = read_windows(stored, profile, settings, version=version)
    judged = [
        Judged(
            seen.start, seen.end, seen.sketch, drifts(profile, seen.sketch, settings, start=seen.start, end=seen.end)
        )
        for seen in read.ready
    ]
    schema, times = package.schema(), _Times(package.schema())
    asked = period.since - seconds(settings.label_delay)  # so old must answers be whose outcomes come now
    outcomes = measure(
        times.noted(state.captures(since=asked, until=period.until, version=version)),
        schema.task,
        profile.metric,
        window_s=seconds(settings.window),
        least=settings.min_rows,
        due=period.now - seconds(settings.label_delay),
    )
    facts = Facts(
        spec=workspace.spec,
        windows=judged,
        outcomes=outcomes,
        holdout=_holdout(package, profile.metric),
        newest=times.newest(),
        watermark=watermark_of(state),
        now=period.now,
    )
    others = tuple(sorted({window.version for window in stored} - {version}))
    return Gathered(version, period, profile, facts, read, others)


def _profile(package: Package) -> Profile:
    if PROFILE not in package.files:
        raise MlsystemError(
            "no_profile",
            f"version {package.version} came without {PROFILE}, so there is nothing to compare requests with;"
            " a version that `package` makes has one",
        )
    return read_profile(package.files[PROFILE])


def _holdout(package: Package, metric: str) -> float | None:
    """Return the deciding metric on the holdout, None if the version came without it."""
    told: dict[str, Any] = msgspec.json.decode(package.files.get(METRICS, b"{}"))
    value = told.get("metrics", {}).get(metric, {}).get("value")
    return float(value) if isinstance(value, (int, float)) else None


class _Times:
    """The time column of the newest captures, if the contract has one and captures keep it."""

    def __init__(self, schema: Schema) -> None:
        dated = [column for column in schema.columns if column.role == "time" and column.type in {"date", "datetime"}]
        self._column = dated[0] if dated else None
        self._nulls = schema.reader.null
        self._texts: deque[str] = deque(maxlen=_SAMPLED)

    def noted(self, captures: Iterable[Joined]) -> Iterator[Joined]:
        """Yield the captures as they come."""
        for joined in captures:
            features = joined.captured.features
            if self._column and features and isinstance(text := features.get(self._column.name), str):
                self._texts.append(text)
            yield joined

    def newest(self) -> float | None:
        """Return the newest time that was noted."""
        if self._column is None or not self._texts:
            return None
        times = moment_column(np.array(self._texts, dtype=object), self._column.format or "iso", self._nulls)[0]
        return None if np.isnan(times).all() else float(np.nanmax(times))
