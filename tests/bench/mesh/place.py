"""Where it was measured: the machine, the versions, the disk, and how large an installation is."""

import os
import platform
import re
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from statistics import median
from typing import Final

from services._runtime.embedded import find_server, version_of
from tests.architecture.tree import ROOT
from tests.environments import BENCH

OURS: Final = ("nats-py", "pydantic", "uvloop", "opentelemetry-sdk", "structlog")
_SYNCS: Final = 40
_OF_BOTH: Final = {"uvloop"}
"""What the services need as well as the engine."""


def machine() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    model = re.search(r"model name\s*:\s*(.+)", info)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    return {
        "processor": model.group(1).strip() if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory.group(1)) / 1e6:.0f} GB" if memory else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nats-server": ".".join(map(str, version_of(find_server()))),
        "fsync of 4 KiB, p50": f"{_fsync_ms():.2f} ms",
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def versions() -> dict[str, str]:
    """Of the libraries that our figures stand on."""
    return {name: distribution(name).version for name in OURS}


def _fsync_ms() -> float:
    """What the disk takes to make a small write safe: the floor of whoever does so."""
    took: list[float] = []
    BENCH.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=BENCH) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return median(took) * 1000


def installed_mb() -> tuple[float, float]:
    """Megabytes that an installation brings: without the engine's own libraries, and with them.

    The engine's are those that its wheel asks for to serve and to train, and what only they need.
    """
    whole = _closure(_needed(distribution("mlmesh")))
    engine = {name for extra in ("serve", "train") for name in _named(extra)} - _OF_BOTH
    lean = _closure([name for name in _needed(distribution("mlmesh")) if name not in engine])
    return _size_mb(lean), _size_mb(whole)


def closure_mb(names: list[str]) -> float:
    """Megabytes of these distributions and of what they need."""
    return _size_mb(_closure(names))


def engine_needs(extra: str) -> list[str]:
    """What the engine's wheel asks for, with this extra."""
    return list(_named(extra))


def _named(extra: str) -> Iterator[str]:
    """Direct requirements of the engine."""
    file = ROOT / "services" / "ml_engineer" / "blueprint" / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    for requirement in (*project.get("dependencies", ()), *project["optional-dependencies"].get(extra, ())):
        yield _name(requirement)


def _closure(names: list[str]) -> Mapping[str, Distribution]:
    """Distributions that these need, themselves included; what a platform does not install is not there."""
    found: dict[str, Distribution] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        left.extend(_needed(found[name]))
    return found


def _needed(package: Distribution) -> list[str]:
    """Names of what it requires without extras."""
    return [_name(line) for line in package.requires or () if "extra ==" not in line]


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group(0)).lower() if found else requirement


def _size_mb(packages: Mapping[str, Distribution]) -> float:
    """Bytes of their files, compiled ones left out: they are made on the first run."""
    files = (Path(str(file.locate())) for package in packages.values() for file in package.files or ())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc" and path.is_file()) / 1e6
