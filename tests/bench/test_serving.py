"""The benchmark of serving: what its figures mean, what it promises, and that its README shows a run of it."""

import re

from tests.bench.serving.figures import Figures
from tests.bench.serving.promises import Promise, judged
from tests.bench.serving.told import MARK, README, markdown

SHARES = [(900.0, 1000.0), (80.0, 100.0), (50.0, 100.0)]


def made(start_s: float = 0.6) -> Figures:
    """Three rounds: one on a fast machine, two on a slow one."""
    figures = Figures()
    for ours, floor in SHARES:
        figures.add("mlsystem", "rps", ours)
        figures.add("floor", "rps", floor)
        figures.add("peer", "rps", floor / 10)
        for name in ("mlsystem", "floor"):
            figures.add(name, "p99_ms", 1.0)
    figures.add("mlsystem", "start_s", start_s)
    figures.add("mlsystem", "resident_mb", 100)
    figures.add("mlsystem", "installed_mb", 180)
    return figures


def test_servers_are_compared_within_a_round() -> None:
    """A slow minute slows both: the median is of the ratios, not the ratio of medians."""
    assert (made().ratio("mlsystem", "rps"), made().peers()) == (0.8, ["peer"])


def test_a_promise_is_judged_by_what_was_measured() -> None:
    held = list(judged(made()))
    broken = [promise for promise in judged(made(start_s=1.5)) if not promise.holds]
    assert all(promise.holds for promise in held)
    assert broken == [Promise("start (s)", "<= 1", "1.50", holds=False)]


def test_the_readme_shows_a_run_with_every_promise() -> None:
    """What is promised in the code stands there with a figure beside it, peers included."""
    shown = README.read_text(encoding="utf-8").partition(MARK)[2]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \| (?:yes|\*\*no\*\*) \|$", shown, re.MULTILINE)
    own = {(promise.what, promise.promised) for promise in judged(made()) if "peer" not in promise.what}
    peers = {(f"requests a second, of {name}", "> 1") for name in ("mlserver", "bentoml", "mlflow")}
    assert set(rows) == own | peers
    assert "| promise | promised | measured | holds |" in markdown(made(), "a run")
