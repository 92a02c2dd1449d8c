"""What was measured: values by server and kind, a list a kind, one for each turn."""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Kind = Literal["rps", "cpu_us", "p99_ms", "start_s", "resident_mb", "installed_mb"]
OURS = ("mlsystem", "floor")


@dataclass(slots=True)
class Figures:
    """All values of a run."""

    values: dict[str, dict[Kind, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    about: dict[str, str] = field(default_factory=dict[str, str])
    rungs: list[str] = field(default_factory=list[str])
    """Names of the reduced servers, in order."""
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """Peers that could not be had, and why."""
    unwanted: str = ""
    """Libraries that serving loads and must not."""

    def add(self, name: str, kind: Kind, value: float) -> None:
        """Keep a value."""
        self.values[name][kind].append(value)

    def known(self, name: str, kind: Kind) -> bool:
        """Whether it was measured."""
        return bool(self.values[name][kind])

    def median(self, name: str, kind: Kind) -> float:
        """Median over the rounds."""
        return median(self.values[name][kind])

    def ratio(self, name: str, kind: Kind) -> float:
        """Median of the ratios to the floor turn by turn; of peers, which share no turn with it, ratio of medians."""
        if name in self.peers():
            return self.median(name, kind) / self.median("floor", kind)
        pairs = zip(self.values[name][kind], self.values["floor"][kind], strict=True)
        return median(ours / floor for ours, floor in pairs)

    def peers(self) -> list[str]:
        """The servers of others."""
        return [name for name in self.values if name not in OURS and name not in self.rungs]

    def told(self, name: str, kind: Kind, digits: int = 0) -> str:
        """Median and range as text; a dash where nothing was measured."""
        if not self.known(name, kind):
            return "-"
        found = self.values[name][kind]
        if len(found) == 1:
            return f"{found[0]:,.{digits}f}"
        return f"{median(found):,.{digits}f} [{min(found):,.{digits}f}, {max(found):,.{digits}f}]"
