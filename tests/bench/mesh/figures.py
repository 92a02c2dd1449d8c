"""What was measured: for each measure and system one value a round, and what is made of them.

A median is the figure, the lowest and highest round its range: no round is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """A median and its range."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """Of one value a round."""
        return cls(median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        """`7.1 (6.8-7.9)`; a single round has no range."""
        return (
            brief(self.median) if self.rounds == 1 else f"{brief(self.median)} ({brief(self.low)}-{brief(self.high)})"
        )


def brief(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


@dataclass(slots=True)
class Figures:
    """Every measure of every system."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    """Measure, with its unit -> system -> one value a round."""

    def add(self, measure: str, system: str, value: float) -> None:
        """One round's value."""
        self.samples.setdefault(measure, {}).setdefault(system, []).append(value)

    def get(self, measure: str, system: str) -> Figure | None:
        """The figure, where it was measured."""
        values = self.samples.get(measure, {}).get(system)
        return Figure.of(values) if values else None

    def ratio(self, measure: str, one: str, other: str) -> float | None:
        """Median over the rounds of how many times the other's value one's is; None where either was not measured."""
        systems = self.samples.get(measure, {})
        pairs = list(zip(systems.get(one, ()), systems.get(other, ()), strict=False))
        return median(a / b for a, b in pairs) if pairs else None


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
