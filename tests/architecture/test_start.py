"""A service starts light: what is heavy is imported where it is used."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT
from tests.server import NatsServer

HEAVY = {
    "anthropic": "1.7 s and 40 MB",
    "duckdb": "the engine's",
    "lightgbm": "2.8 s, and the system's OpenMP library must be there",
    "mcp": ".65 s and 30 MB",
    "numpy": "the engine's",
    "onnx": "the engine's",
    "onnxruntime": "the engine's",
    "pandas": "not ours at all",
    "pyarrow": "60 MB, needed for Parquet files alone",
    "scipy": "the engine's",
    "sklearn": "the engine's",
    "starlette": "the delivered server's",
}
RESIDENT_MB = 100
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SERVICES = sorted(PROJECT["entry-points"]["mlmesh.services"])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real bus."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="module", params=SERVICES)
def took(request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it took to start a service until it was ready, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.architecture.started", request.param, url],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MLMESH_HOME": str(tmp_path_factory.mktemp("home"))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    measured = next(line for line in done.stdout.splitlines() if line.startswith('{"modules"'))
    return {"service": request.param, **json.loads(measured)}


def test_nothing_heavy_is_imported_at_start(took: dict[str, Any]) -> None:
    """Each would cost every process of the mesh, most of which never need it."""
    assert sorted(HEAVY.keys() & set(took["modules"])) == []


def test_a_service_is_small(took: dict[str, Any]) -> None:
    """Resident memory once it is ready."""
    assert took["resident_mb"] < RESIDENT_MB


def test_services_do_not_load_each_other(took: dict[str, Any]) -> None:
    """Only the entry point that was asked for."""
    others = [name for name in SERVICES if name != took["service"]]
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sys.modules)",
            PROJECT["entry-points"]["mlmesh.services"][took["service"]].split(":")[0],
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert [name for name in others if f"services.{name.replace('-', '_')}" in loaded] == []


def test_the_command_line_starts_light() -> None:
    """`mlmesh --help` and friends answer at once: the same rule for the module behind the command."""
    module = PROJECT["scripts"]["mlmesh"].split(":")[0]
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert sorted(HEAVY.keys() & set(loaded)) == []


def test_every_heavy_library_is_one_that_could_be_loaded() -> None:
    """A misspelled name in the list would guard nothing."""
    installed = {path.stem for entry in sys.path for path in Path(entry).glob("*") if Path(entry).is_dir()}

    assert HEAVY.keys() - installed <= {"pandas", "mcp"}
