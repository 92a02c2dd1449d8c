"""What the mesh promises of its cost, and whether the figures keep it.

A promise of which nothing was measured is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contracts import subjects
from tests.bench.mesh import contest, growth
from tests.bench.mesh.figures import Figures
from tests.bench.mesh.peer import PEERS
from tests.bench.start import READY_S, Measured

OVERHEAD_MS: Final = 8.0
OVERHEAD_SYNCED_MS: Final = 20.0
TASKS_A_SECOND: Final = 100.0
SHARE_OF_RAW: Final = 0.6
RESIDENT_MB: Final = 100.0
GROWTH: Final = 1.3


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise and what was measured of it."""

    text: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.measured >= self.limit if self.at_least else self.measured < self.limit


def judged(figures: Figures, started: Sequence[Measured], sizes: Sequence[int]) -> list[Promise]:
    """Every promise that something was measured of."""
    return [
        *_of_tasks(figures),
        *_beside_durable_peers(figures),
        *_of_requests(figures),
        *_of_the_start(started),
        *_of_memory(figures),
        *_of_growth(figures, sizes),
    ]


def _of_tasks(figures: Figures) -> Iterator[Promise]:
    if ours := figures.get(contest.P50, contest.OURS):
        yield Promise("overhead of a task, p50 (ms)", ours.median, OVERHEAD_MS)
    if synced := figures.get(contest.P50, contest.ALWAYS):
        yield Promise("the same, every write synced (ms)", synced.median, OVERHEAD_SYNCED_MS)
    if rate := figures.get(contest.RATE, contest.OURS):
        yield Promise("tasks a second", rate.median, TASKS_A_SECOND, at_least=True)


def _beside_durable_peers(figures: Figures) -> Iterator[Promise]:
    for name, about in PEERS.items():
        share = figures.ratio(contest.P50, contest.OURS, name)
        if about.durable and share is not None:
            yield Promise(f"overhead as a share of {name}'s", share, 1.0)


def _of_requests(figures: Figures) -> Iterator[Promise]:
    for measure in (contest.ONE_CALLER, contest.CALLERS):
        share = figures.ratio(measure, contest.OURS, "raw")
        if share is not None:
            yield Promise(f"{measure}, as a share of raw nats-py's", share, SHARE_OF_RAW, at_least=True)


def _of_the_start(started: Sequence[Measured]) -> Iterator[Promise]:
    for one in started:
        limit = one.promised or (READY_S if one.unit == "s" else 0.0)
        if limit:
            yield Promise(f"{one.what} ({one.unit})", one.value, limit)


def _of_memory(figures: Figures) -> Iterator[Promise]:
    for service in subjects.SERVICES:
        if resident := figures.get(f"{contest.RESIDENT}{service}", contest.OURS):
            yield Promise(f"{service}, resident after a run (MB)", resident.median, RESIDENT_MB)


def _of_growth(figures: Figures, sizes: Sequence[int]) -> Iterator[Promise]:
    few, many = growth.named(min(sizes)), growth.named(max(sizes))
    for measure in (growth.P50, growth.CPU):
        times = figures.ratio(measure, many, few)
        if times is not None:
            yield Promise(f"{measure}: {many} to {few}", times, GROWTH)
    slower = figures.ratio(growth.RATE, few, many)
    if slower is not None:
        yield Promise(f"{growth.RATE}: {few} to {many}", slower, GROWTH)
