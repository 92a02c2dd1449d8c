"""Packs the engine in `blueprint/` into the wheel that is delivered with a system.

Owns that the wheel is deterministic: flit_core writes it with SOURCE_DATE_EPOCH, so the same sources give the same
bytes wherever and whenever it is built. Built in a subprocess, because flit_core reads the date from the environment.
Leaves hashing and locking to who delivers it.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

BLUEPRINT: Final = Path(__file__).parent / "blueprint"

_EPOCH: Final = "315532800"  # 1980-01-01, the earliest time that a zip file can hold


class WheelError(RuntimeError):
    """The engine could not be packed; the text is what the builder said."""


def build(into: Path, *, source: Path = BLUEPRINT) -> Path:
    """Write the wheel into a directory and return its path; WheelError says why that failed."""
    into.mkdir(parents=True, exist_ok=True)
    environment = {"PATH": os.environ.get("PATH", ""), "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "flit_core.wheel", str(source), "--outdir", str(into.resolve())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip().rsplit("\n", 1)[-1]
        raise WheelError(f"the engine's wheel cannot be built from {source}: {why}")
    return into / done.stdout.strip().rsplit(os.sep, 1)[-1]
