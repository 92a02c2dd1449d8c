"""An owner takes the engine over: its source is the engine's, and the wheel of it runs as the vendored one did."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mlsystem import __version__
from mlsystem.eject import LOCKS
from services.ml_engineer import wheel

LOCK = "numpy==2.1\n# The engine\n./vendor/{name} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's wheel as it is delivered."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def root(tmp_path: Path, built: Path) -> Path:
    """A directory with a vendored engine and its locks."""
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / built.name).write_bytes(built.read_bytes())
    for lock in LOCKS:
        (tmp_path / lock).parent.mkdir(exist_ok=True)
        (tmp_path / lock).write_text(LOCK.format(name=built.name, digest=sha256(built)))
    return tmp_path


def test_an_ejected_engine_is_packed_into_the_wheel_that_runs(root: Path, built: Path) -> None:
    """The same source twice gives the same bytes; a change is in the wheel, and its hash in both locks."""
    run(root, "eject")
    assert (root / "engine" / "mlsystem" / "spec.py").is_file()
    run(root, "eject", "--pack")
    first = (root / "vendor" / built.name).read_bytes()
    run(root, "eject", "--pack")
    assert (root / "vendor" / built.name).read_bytes() == first
    init = root / "engine" / "mlsystem" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{__version__}"', '"9.0.0"'))
    run(root, "eject", "--pack")
    (packed,) = (root / "vendor").iterdir()
    assert packed.name == "mlsystem-9.0.0-py3-none-any.whl"
    for lock in LOCKS:
        assert (root / lock).read_text() == LOCK.format(name=packed.name, digest=sha256(packed))
    assert run(root, "--version").strip() == "mlsystem 9.0.0"


def test_the_packed_wheel_holds_what_the_delivered_one_does(root: Path, built: Path) -> None:
    """Not one file less: templates and pages too."""
    before = _names(built)
    run(root, "eject")
    run(root, "eject", "--pack")
    assert _names(root / "vendor" / built.name) == before


def test_an_engine_is_ejected_once(root: Path) -> None:
    """What an owner has changed is never written over."""
    run(root, "eject")
    assert "is there already" in refused(root, "eject")


def test_nothing_is_packed_before_it_is_ejected(root: Path) -> None:
    """It says what to do first."""
    assert "run `python -m mlsystem eject` first" in refused(root, "eject", "--pack")


def run(root: Path, *words: str) -> str:
    """What the vendored engine says to a command that works."""
    done = _run(root, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(root: Path, *words: str) -> str:
    """What it says to one that does not."""
    done = _run(root, *words)
    assert done.returncode == 2
    return done.stderr


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    (engine,) = (root / "vendor").glob("*.whl")
    environment = {**os.environ, "PYTHONPATH": str(engine), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mlsystem", *words],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.startswith("mlsystem/")}
