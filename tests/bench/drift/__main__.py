"""`python -m tests.bench.drift [--windows N] [--only TABLE] [--write]`: false alarms, missed shifts, time.

Exits 1 if a promise does not hold. `--write` puts the tables into this folder's README.md.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import default_rng

from mlsystem.spec import Monitoring
from tests.bench.drift import speed, tables
from tests.bench.drift.tables import Table
from tests.bench.drift.trial import SIZES, Caught, Quiet, quiet, shifted
from tests.environments import NotToBeHadError

README: Final = Path(__file__).with_name("README.md")
MOST_ALARMS: Final = 1 / 1000
LEAST_CAUGHT: Final = 0.95
_TRIALS: Final = 200

Rows = list[tuple[str, ...]]


def main(arguments: Sequence[str]) -> int:
    """Prints the tables; the exit code says whether all promises hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.drift")
    parser.add_argument("--windows", type=int, default=10_000, help="stationary windows in all")
    parser.add_argument("--bundled", action="store_true", help="only the tables that need no environment")
    parser.add_argument("--write", action="store_true", help="put the tables into the README")
    parser.add_argument("--only", choices=("alarms", "speed"), help="one of the two tables")
    options = parser.parse_args(arguments)
    makers = {"alarms": lambda: judged(list(_tables(options.bundled)), options.windows), "speed": timed}
    made = {name: make() for name, make in makers.items() if options.only in {None, name}}
    if options.write:
        for name, (table, _) in made.items():
            README.write_text(_filled(README.read_text(encoding="utf-8"), name, table), encoding="utf-8")
    return 0 if all(held for _, held in made.values()) else 1


def judged(found: Sequence[Table], windows: int) -> tuple[str, bool]:
    """The table of false alarms and caught shifts, printed; and whether both promises hold."""
    each = -(-windows // len(found))
    size = Monitoring().psi[1]
    rows: Rows = []
    silent, noticed = Quiet(0, 0, 0), Caught(0, 0)
    for table in found:
        generator = default_rng(7)
        calm, moved = quiet(table, each, generator), shifted(table, size, _TRIALS, generator)
        rows.append(_row(table.name, len(table.scores), table.numbers.shape[1] + table.strings.shape[1], calm, moved))
        silent = Quiet(silent.windows + calm.windows, silent.bad + calm.bad, silent.alarms + calm.alarms)
        noticed = Caught(noticed.trials + moved.trials, noticed.caught + moved.caught)
        sys.stderr.write(f"{table.name} is done\n")
    rows.append(_row("**all**", sum(len(t.scores) for t in found), None, silent, noticed))
    heads = (
        "table", "rows", "features", f"stationary windows ({', '.join(map(str, SIZES))} rows)", "bad windows",
        "alarms", "alarms per 1,000", f"caught: PSI {size:g}, {SIZES[0]} rows, within 3 windows",
    )  # fmt: skip
    text = _table(heads, rows)
    sys.stdout.write(f"\n{text}\n")
    held = silent.alarms <= MOST_ALARMS * silent.windows and noticed.caught >= LEAST_CAUGHT * noticed.trials
    return text, held


def timed() -> tuple[str, bool]:
    """The table of times, printed; and whether they are as promised. Without evidently only ours is judged."""
    try:
        both = speed.measure()
    except NotToBeHadError as why:
        ours, profile_s = speed.measure_ours(speed.make(1, 0.0), speed.make(2, 1.0), 5)
        rows: Rows = [("mlsystem", f"{ours.seconds:.3f}", "", str(ours.drifted), f"{profile_s:.2f}")]
        sys.stderr.write(f"evidently is not measured: {why}\n")
        holds = ours.seconds <= speed.LONGEST_S
    else:
        peer, found = f"evidently {both.version}", str(both.evidently.drifted)
        rows = [
            ("mlsystem", f"{both.ours.seconds:.3f}", "1", str(both.ours.drifted), f"{both.profile_s:.2f}"),
            (peer, f"{both.evidently.seconds:.2f}", f"{both.ratio:.0f}", found, ""),
        ]
        holds = both.holds
    text = _table(("what", "seconds", "times ours", "columns found (5 were shifted)", "profile, once, seconds"), rows)
    sys.stdout.write(f"\n{text}\n")
    return text, holds


def _tables(only_bundled: bool) -> Iterable[Table]:
    yield from tables.bundled()
    if only_bundled:
        return
    try:
        yield from tables.larger()
    except NotToBeHadError as why:
        sys.stderr.write(f"the larger tables are not played: {why}\n")


def _row(name: str, rows: int, features: int | None, calm: Quiet, moved: Caught) -> tuple[str, ...]:
    share = 1000 * calm.alarms / calm.windows
    caught = f"{moved.caught} of {moved.trials}"
    counts = (str(features or ""), f"{calm.windows:,}", str(calm.bad), str(calm.alarms), f"{share:.2f}", caught)
    return (name, f"{rows:,}", *counts)


def _table(heads: tuple[str, ...], rows: Rows) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _filled(text: str, name: str, table: str) -> str:
    pattern = rf"(<!-- table:{name} -->\n).*?(<!-- /table -->)"
    return re.sub(pattern, lambda found: f"{found.group(1)}{table}{found.group(2)}", text, flags=re.DOTALL)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main(sys.argv[1:]))
