"""The figures as tables: for the README, between its marks, and for a person who waits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.serving.figures import Figures, Kind
from tests.bench.serving.promises import judged

README: Final = Path(__file__).parent / "README.md"
MARK: Final = "<!-- measured -->"


def markdown(figures: Figures, headline: str) -> str:
    """Everything that was measured, as it stands in the README."""
    parts = [headline, "", *_servers(figures), "", *_rungs(figures), "", *_promises(figures)]
    parts += [f"\n{name} could not be measured: {why}" for name, why in figures.missing.items()]
    return "\n".join(parts) + "\n"


def write(text: str) -> None:
    """Put the tables into the README, in place of the last ones."""
    kept = README.read_text(encoding="utf-8").partition(MARK)[0]
    README.write_text(f"{kept}{MARK}\n{text}", encoding="utf-8")


_COLUMNS: Final[tuple[tuple[str, Kind, int], ...]] = (
    ("requests/s, saturated", "rps", 0),
    ("CPU µs a request", "cpu_us", 0),
    ("p99 at half load (ms)", "p99_ms", 2),
    ("start (s)", "start_s", 2),
    ("resident (MB)", "resident_mb", 0),
    ("installed (MB)", "installed_mb", 0),
)


def _servers(figures: Figures) -> Iterator[str]:
    yield f"| server | of the floor | {' | '.join(title for title, _, _ in _COLUMNS)} |"
    yield "|---" * (len(_COLUMNS) + 2) + "|"
    for name in ("floor", "mlsystem", *figures.peers()):
        cells = [figures.told(name, kind, digits) for _, kind, digits in _COLUMNS]
        yield f"| {figures.about.get(name, name)} | {figures.ratio(name, 'rps'):.2f} | {' | '.join(cells)} |"


def _rungs(figures: Figures) -> Iterator[str]:
    if not figures.rungs:
        return
    yield "| what is on | CPU µs a request | what the last part costs (µs) | requests/s |"
    yield "|---|---|---|---|"
    before = 0.0
    for name in figures.rungs:
        cost = figures.median(name, "cpu_us")
        step = f"{before - cost:+.0f}" if before else ""
        yield f"| {figures.about[name]} | {figures.told(name, 'cpu_us')} | {step} | {figures.told(name, 'rps')} |"
        before = cost


def _promises(figures: Figures) -> Iterator[str]:
    yield "| promise | promised | measured | holds |"
    yield "|---|---|---|---|"
    for promise in judged(figures):
        yield f"| {promise.what} | {promise.promised} | {promise.measured} | {'yes' if promise.holds else '**no**'} |"
