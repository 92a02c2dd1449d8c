"""Where a process of the mesh spends its time under load: py-spy's samples, told as a table.

`self` is time in the function itself, `with` also in what it called; both in percent of the samples that ran.
"""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

_ROWS: Final = 30
_RATE: Final = 500


class ProfileError(Exception):
    """The sampler cannot run; the text says why."""


def begin(pid: int, target: Path, *, seconds: int) -> "subprocess.Popen[str]":
    """Starts to sample a process for so long, into a file of collapsed stacks. Raises ProfileError without py-spy."""
    sampler = Path(sys.executable).parent / "py-spy"
    if not sampler.exists():
        raise ProfileError("py-spy is not installed: pip install py-spy in this environment")
    options = ["--format", "raw", "--rate", str(_RATE), "--duration", str(seconds), "--nonblocking"]
    return subprocess.Popen(
        [str(sampler), "record", "--pid", str(pid), "--output", str(target), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told(sampling: "subprocess.Popen[str]", target: Path, name: str) -> None:
    """Waits for the samples and prints the functions that cost most."""
    said, _ = sampling.communicate(timeout=120)
    if sampling.returncode != 0 or not target.exists():
        raise ProfileError(f"py-spy failed: {said[-500:]}")
    own, within, total = _counted(target.read_text(encoding="utf-8", errors="replace"))
    for title, counts in (("self", own), ("with", within)):
        table = Table("%", "function", title=f"{name}: {title}, {total} samples ({target})")
        for function, count in counts.most_common(_ROWS):
            table.add_row(f"{100 * count / total:.1f}", function)
        Console(width=140).print(table)


def _counted(stacks: str) -> tuple[Counter[str], Counter[str], int]:
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        functions = [_short(frame) for frame in frames.split(";")]
        total += int(count)
        own[functions[-1]] += int(count)
        for function in set(functions):
            within[function] += int(count)
    return own, within, max(1, total)


def _short(frame: str) -> str:
    """`function (package/file.py)`, without the line: a function is one row."""
    name, _, place = frame.partition(" (")
    path = place.rpartition(":")[0]
    return f"{name} ({'/'.join(path.rsplit('/', 3)[-3:])})"
