"""When alert rules fire: durations and thresholds of the rules and the dashboard, from the spec.

Owns turning keys of the spec into what Prometheus takes. Leaves the rules to the templates.
"""

from dataclasses import dataclass
from typing import Final

from mlsystem.spec import Spec, seconds

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Buckets of the server's histogram of answer times."""


_MOST: Final = 0.9
"""Share of failed requests that always alerts: twenty times a large budget is more than there can be."""


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast the budget of errors of 30 days is used up, over a long and a short look back (SRE workbook, 5)."""

    long: str
    short: str
    factor: float
    severity: str
    wait: str

    @property
    def days(self) -> str:
        """Days until the budget is gone at this pace."""
        return f"{30 / self.factor:.3g}"


BURNS: Final = (
    Burn("1h", "5m", 14.4, "page", "2m"),
    Burn("6h", "30m", 6, "page", "15m"),
    Burn("3d", "6h", 1, "ticket", "1h"),
)


@dataclass(frozen=True, slots=True)
class Alerting:
    """A spec as the rules see it."""

    spec: Spec

    burns = BURNS
    windows = ("5m", "30m", "1h", "6h", "3d")

    def failures(self, burn: Burn) -> str:
        """Share of failed requests that burns the budget so fast; with a large budget, nearly all of them."""
        return f"{min(_MOST, burn.factor * (1 - self.spec.objectives.availability)):.6g}"

    @property
    def bucket(self) -> str:
        """The bucket of the latency objective: the next one above it; empty without an objective or a bucket."""
        objective = self.spec.objectives.latency_ms_p99 / 1000
        return next((str(edge) for edge in BUCKETS_S if 0 < objective <= edge), "")

    @property
    def window(self) -> str:
        """Length of a window."""
        return f"{self._window_s}s"

    @property
    def look_back(self) -> str:
        """Length of as many windows as persistence looks at."""
        return f"{self._window_s * self.spec.monitoring.persistence[1]}s"

    @property
    def fresh_s(self) -> int:
        """Age of the data that alerts."""
        return round(seconds(self.spec.monitoring.freshness))

    def after(self, windows: int) -> str:
        """The end of so many windows."""
        return f"{self._window_s * windows}s"

    @property
    def _window_s(self) -> int:
        return max(1, round(seconds(self.spec.monitoring.window)))
