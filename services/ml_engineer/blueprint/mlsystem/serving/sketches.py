"""The sketches that one writer of a process counts into, by window and version, and how they reach the state.

Owns which window a moment belongs to, what has changed since it was written, and the pause that counting makes for
the event loop. Belongs to one thread at a time. Leaves the bins to `monitoring.sketch`, and when to write to whoever
counts.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from mlsystem.monitoring.sketch import Sketch
from mlsystem.spec import seconds
from mlsystem.state import Window

if TYPE_CHECKING:
    from mlsystem.monitoring.profile import Profile
    from mlsystem.spec import Monitoring
    from mlsystem.state import State

BREATH_S: Final = 0.0001
"""Pause after every tenth of a millisecond of work, in which the event loop gets the interpreter, and whoever waits for
it a processor: a thread that worked on would hold up each of the requests that come meanwhile."""

_KEPT: Final = 2
"""Windows and versions that are counted on; an older one is complete."""


class Sketches:
    """One writer's sketches; `writer` tells it from others of the same process."""

    def __init__(self, state: State, settings: Monitoring, writer: str = "") -> None:
        self._state = state
        self._window_s = seconds(settings.window)
        self._worker = f"{socket.gethostname()}/{os.getpid()}/{time.time():.0f}{writer}"  # a restart is another one
        self._sketches: dict[tuple[float, int], Sketch] = {}
        self._changed: set[tuple[float, int]] = set()

    def window(self, at: float) -> float:
        """Return when the window of a moment begins, both in seconds since 1970 UTC."""
        return at // self._window_s * self._window_s

    def changing(self, at: float, version: int, profile: Profile) -> Sketch:
        """Return the sketch that rows of a version at a moment are counted into; it is written the next time."""
        key = self.window(at), version
        sketch = self._sketches.get(key)
        if sketch is None:
            sketch = self._sketches[key] = Sketch.empty(profile)
        self._changed.add(key)
        return sketch

    def save(self) -> None:
        """Write what has changed; StateError, and then it is written the next time."""
        if not self._changed:
            return
        found = [Window(key[0], key[1], self._worker, self._sketches[key].to_bytes()) for key in sorted(self._changed)]
        self._state.save_windows(found)
        self._changed.clear()
        for old in sorted(self._sketches)[:-_KEPT]:
            del self._sketches[old]


def breathe() -> None:
    """Let others have the interpreter and the processor."""
    time.sleep(BREATH_S)
