"""The windows that are judged: what all workers saw in the same time, added up until there are rows enough.

Owns merging stored sketches and joining windows that are too small. A stored sketch that cannot be read is left out
and told. Leaves judging to `drift` and `verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from mlsystem.errors import DataError
from mlsystem.monitoring.profile import Profile
from mlsystem.monitoring.sketch import Sketch
from mlsystem.spec import Monitoring, seconds
from mlsystem.state.port import Window


@dataclass(frozen=True, slots=True)
class Seen:
    """What one version saw from `start` to `end`, seconds since 1970 UTC."""

    start: float
    end: float
    sketch: Sketch


@dataclass(frozen=True, slots=True)
class Read:
    """Windows with rows enough, the oldest first, and what is still gathering."""

    ready: tuple[Seen, ...]
    gathering: Seen | None
    """The newest rows, too few to be judged yet."""
    damaged: tuple[str, ...] = field(default=())
    """Why stored windows were left out."""


def read_windows(stored: Iterable[Window], profile: Profile, settings: Monitoring, *, version: int) -> Read:
    """Add up the stored windows of one version; a window with fewer than `min_rows` is joined with the next."""
    length = seconds(settings.window)
    by_start: dict[float, Sketch] = {}
    damaged: list[str] = []
    for window in stored:
        if window.version != version:
            continue
        try:
            sketch = Sketch.from_bytes(window.content, profile)
        except DataError as error:
            damaged.append(error.message)
            continue
        if window.start in by_start:
            by_start[window.start].merge(sketch)
        else:
            by_start[window.start] = sketch
    seen = [Seen(start, start + length, by_start[start]) for start in sorted(by_start)]
    ready, gathering = _joined(seen, settings.min_rows)
    return Read(tuple(ready), gathering, tuple(damaged))


def _joined(seen: Iterable[Seen], least: int) -> tuple[list[Seen], Seen | None]:
    ready: list[Seen] = []
    gathering: Seen | None = None
    for window in seen:
        if gathering is None:
            gathering = window
        else:
            gathering.sketch.merge(window.sketch)
            gathering = replace(gathering, end=window.end)
        if gathering.sketch.rows >= least:
            ready.append(gathering)
            gathering = None
    return ready, gathering
