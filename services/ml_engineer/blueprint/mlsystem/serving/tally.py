"""What batches see, counted into the windows that monitoring judges, beside what /predict sees.

Owns that rows of batches are counted, and written about once a second. A batch is answered whether or
not it can be counted. Its rows are counted and not captured: they have the caller's ids, by which no outcome could be
told from that of another batch. Leaves the windows to `sketches`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from mlsystem.errors import MlsystemError
from mlsystem.monitoring.profile import Profile, read_profile
from mlsystem.serving.sketches import Sketches, breathe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlsystem.boundary import Encoded
    from mlsystem.serving.model import Model
    from mlsystem.spec import Monitoring
    from mlsystem.state import State

_SAVE_S: Final = 1.0

_log = logging.getLogger(__name__)


class Tally:
    """Counts the rows of batches; safe to use from several threads."""

    def __init__(self, state: State, settings: Monitoring) -> None:
        self._sketches = Sketches(state, settings, "/batch")
        self._lock = threading.Lock()
        self._profile: tuple[Model, Profile | None] | None = None
        self._saved_at = 0.0

    def add(self, model: Model, encoded: Encoded, scores: Sequence[Sequence[float]]) -> None:
        """Count answered rows; they are written about once a second."""
        with self._lock:
            try:
                self._count(model, encoded, scores)
                if time.monotonic() >= self._saved_at + _SAVE_S:
                    self._save()
            except MlsystemError as error:
                _log.warning("a batch is answered and not counted: %s", error)

    def save(self) -> bool:
        """Write what is counted and not written yet; False if it cannot be, which is told."""
        with self._lock:
            try:
                self._save()
            except MlsystemError as error:
                _log.warning("a batch is answered and not counted: %s", error)
                return False
        return True

    def _count(self, model: Model, encoded: Encoded, scores: Sequence[Sequence[float]]) -> None:
        profile = self._profile_of(model)
        if profile is None or not scores:
            return
        sketch = self._sketches.changing(time.time(), model.name.version, profile)
        sketch.update(encoded.numbers, encoded.strings, np.array(scores, np.float64), pause=breathe)

    def _profile_of(self, model: Model) -> Profile | None:
        """Return the bins of a model, None if its package brought none; DataError if they cannot be read."""
        if self._profile is None or self._profile[0] is not model:
            self._profile = model, read_profile(model.profile) if model.profile else None
        return self._profile[1]

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        self._sketches.save()
