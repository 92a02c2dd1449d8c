"""The delivered workflow with nothing left out: `python -m tests.isolated workflow [--no-image]`.

A fresh clone, and for each job a fresh environment that its own `pip install --require-hashes` line fills, as on a
runner: the first job has what trains, the second only what serves. After it the server is started from the second
environment, as a person with nothing but the directory would.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.delivered import PLAIN, commit, git, lay_out
from tests.environments import size_mb
from tests.isolated import image
from tests.isolated.saying import say
from tests.workflow import Step, steps_of
from tests.workflow import run as run_step

_IMAGE: Final = "Build the image and ask it"
_SERVING_MB: Final = 190.0
_SPEC: Final[dict[str, Any]] = {
    **PLAIN,
    "search": {"budget": "2s", "families": ["lightgbm"]},
    "objectives": {"latency_ms_p99": 5000.0},
}


def run(arguments: Sequence[str]) -> int:
    """Run every line; return 0 if all of them ended well and the serving environment is as small as promised."""
    with tempfile.TemporaryDirectory(prefix="mlsystem-workflow-") as scratch:
        root = Path(scratch)
        lay_out(root / "origin", spec=_SPEC)
        commit(root / "origin")
        git(root, "clone", "--quiet", "origin", "clone")
        environments = {step.job: root / step.job for step in steps_of(root / "clone")}
        for step in steps_of(root / "clone"):
            _run(step, root / "clone", environments[step.job], image="--no-image" not in arguments)
        return _served(next(root.glob("clone/ml/*")), environments["promote"])


def _run(step: Step, clone: Path, environment: Path, *, image: bool) -> None:
    """Run a step in its job's environment, made anew for the job's first one."""
    if step.name == _IMAGE and not image:
        return
    if not environment.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    started = time.monotonic()
    run_step(step, clone, environment / "bin", {**_pip(), **_podman(clone)})
    say(f"{step.job}: {step.name}: {time.monotonic() - started:.1f} s")


def _pip() -> Mapping[str, str]:
    """The settings by which pip here finds the registry."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def _podman(clone: Path) -> Mapping[str, str]:
    """What podman here needs to build and run."""
    return {"BUILD_FLAGS": shlex.join(image.build_flags(clone.parent)), "RUN_FLAGS": shlex.join(image.HERE)}


def _served(directory: Path, environment: Path) -> int:
    """Start the server from what the serving lock installed, without the wheel's path, and ask it; tell sizes."""
    (packages,) = environment.glob("lib/python*/site-packages")
    brought = sum(size_mb(packages / name) for name in ("pip", "setuptools", "pkg_resources", "_distutils_hack"))
    installed = size_mb(packages) - brought
    python = environment / "bin" / "python"
    started = time.monotonic()
    command = [str(python), "-m", "mlsystem", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            start_s = time.monotonic() - started
            asked = [str(python), "-m", "mlsystem", "smoke", "--url", url, "--json"]
            told = json.loads(subprocess.run(asked, cwd=directory, capture_output=True, text=True, check=True).stdout)
        finally:
            server.terminate()
    say(f"served from requirements/serve.lock alone: version {told['version']}, started in {start_s:.2f} s")
    say(f"installed by requirements/serve.lock: {installed:.0f} MB, without compiled files")
    return 0 if installed <= _SERVING_MB and server.returncode == 0 else 1
