"""Programs of the system that some tests start for real: PostgreSQL, Redis, promtool, kubectl.

Nobody needs them to run the project. Without one its tests are skipped and say what to install; where `CI` is set they
fail, so that what is promised is never silently untested.
"""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

_PACKAGES: Final = {
    "postgres": "Debian's postgresql",
    "redis-server": "Debian's redis-server",
    "promtool": "Debian's prometheus",
    "kubectl": "kubectl with Kustomize 5",
}


def tool(name: str) -> str:
    """Path of a program; the test is skipped where it is not installed."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))  # Debian keeps these out of the way
    found = str(kept[-1]) if kept else shutil.which(name)
    if found:
        return found
    package = _PACKAGES.get(name, name)
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not there: install {package}")
    pytest.skip(f"{name} is not there: install {package}")
