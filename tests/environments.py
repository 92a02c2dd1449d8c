"""Throwaway environments: what is too large to stand beside the project, each in a folder of its own below `.bench/`.

Owns making one from a list of requirements, once, and telling what is in it. A list that changes makes another. Leaves
what runs in them to their users: `tests.bench` (peers) and `tests.isolated` (checks against other projects).
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).resolve().parents[1] / ".bench"
"""Environments and stores; ignored by git, removed by `make clean`."""
_INSTALL_S: Final = 900


class NotToBeHadError(Exception):
    """Something cannot be installed here; the text is why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where something is installed."""

    python: Path
    versions: Mapping[str, str]
    size_mb: float
    """Of everything that is installed, the interpreter aside."""


def environment(wanted: Path, *, python: str = "") -> Environment:
    """The environment of a list of requirements, made if it is not there or its list has changed.

    `wanted` is a requirements.txt, whose stem names the environment; `python` a version or interpreter that uv finds,
    by default the one that runs now. Only wheels are installed, nothing is built. Raises NotToBeHadError.
    """
    digest = blake2b(wanted.read_bytes() + python.encode(), digest_size=6).hexdigest()
    folder = BENCH / "envs" / f"{wanted.stem}-{digest}"
    interpreter = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", python or sys.executable, str(folder))
        _uv("pip", "install", "--only-binary", ":all:", "--python", str(interpreter), "--requirement", str(wanted))
        (folder / "complete").touch()
    listed = _uv("pip", "freeze", "--python", str(interpreter)).splitlines()
    versions = dict(line.split("==", 1) for line in listed if "==" in line)
    return Environment(interpreter, versions, size_mb(folder))


def size_mb(folder: Path) -> float:
    """Bytes of what was installed, compiled files left out: they are made on the first run."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6


def _uv(*arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "uv"), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    if done.returncode != 0:
        raise NotToBeHadError(done.stderr.strip()[-400:] or f"uv {arguments[0]} failed")
    return done.stdout
