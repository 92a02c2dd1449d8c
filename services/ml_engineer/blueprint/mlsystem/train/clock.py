"""The budget of the train stage as a clock.

Owns how much wall time is left. A budget bounds work, it is never filled up: what decides to stop for other
reasons stops. Where the clock cuts something off, that is recorded, because such a run depends on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Counts down from `budget_s` since `started`, seconds of `now`."""

    budget_s: float
    started: float
    now: Callable[[], float] = time.monotonic

    @classmethod
    def start(cls, budget_s: float) -> Clock:
        """Start a budget now."""
        return cls(budget_s, time.monotonic())

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.now() - self.started

    @property
    def left(self) -> float:
        """Seconds until the budget ends; negative when it is over."""
        return self.budget_s - self.spent
