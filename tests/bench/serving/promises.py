"""What is promised of serving, everything on, and whether the figures hold it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.serving.figures import Figures

FLOOR_SHARE: Final = 0.7
FLOOR_P99: Final = 1.3
START_S: Final = 1.0
RESIDENT_MB: Final = 120.0
INSTALLED_MB: Final = 190.0


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise beside what was measured."""

    what: str
    promised: str
    measured: str
    holds: bool


def judged(figures: Figures) -> Iterator[Promise]:
    """Every promise that this run can judge."""
    share = figures.ratio("mlsystem", "rps")
    yield Promise("requests a second, of the floor", f">= {FLOOR_SHARE}", f"{share:.2f}", share >= FLOOR_SHARE)
    if figures.known("mlsystem", "p99_ms") and figures.known("floor", "p99_ms"):
        p99 = figures.ratio("mlsystem", "p99_ms")
        yield Promise("p99 at half the floor's load, of the floor", f"<= {FLOOR_P99}", f"{p99:.2f}", p99 <= FLOOR_P99)
    for peer in figures.peers():
        times = figures.median("mlsystem", "rps") / figures.median(peer, "rps")
        yield Promise(f"requests a second, of {peer}", "> 1", f"{times:.1f}", times > 1)
    start, resident = figures.median("mlsystem", "start_s"), figures.median("mlsystem", "resident_mb")
    yield Promise("start (s)", f"<= {START_S:g}", f"{start:.2f}", start <= START_S)
    yield Promise("resident (MB)", f"<= {RESIDENT_MB:g}", f"{resident:.0f}", resident <= RESIDENT_MB)
    installed = figures.median("mlsystem", "installed_mb")
    yield Promise("serve dependencies (MB)", f"<= {INSTALLED_MB:g}", f"{installed:.0f}", installed <= INSTALLED_MB)
    yield Promise("training or pickling libraries in serving", "none", figures.unwanted or "none", not figures.unwanted)
