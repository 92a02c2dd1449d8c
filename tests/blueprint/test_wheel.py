"""The engine's wheel: the same bytes every time, and it runs from where it lies."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from services.ml_engineer import wheel


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = wheel.build(tmp_path / "a"), wheel.build(tmp_path / "b")
    assert (first.name, first.read_bytes() == second.read_bytes()) == ("mlsystem-0.2.0-py3-none-any.whl", True)


def test_the_wheel_holds_the_engine_and_nothing_else(tmp_path: Path) -> None:
    names = zipfile.ZipFile(wheel.build(tmp_path)).namelist()
    assert {name.split("/")[0] for name in names} == {"mlsystem", "mlsystem-0.2.0.dist-info"}
    assert {"mlsystem/spec.py", "mlsystem/data/reader.py", "mlsystem/__main__.py"} <= set(names)
    assert [name for name in names if "__pycache__" in name] == []


def test_the_engine_runs_from_the_wheel_alone(tmp_path: Path) -> None:
    """PYTHONPATH is the wheel; what is shipped is what runs."""
    built = wheel.build(tmp_path)
    command = [sys.executable, "-c", "import mlsystem; print(mlsystem.__file__, mlsystem.__version__)"]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(built)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [f"{built}/mlsystem/__init__.py", "0.2.0"]


def test_what_the_builder_says_is_told_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(wheel.WheelError, match=r"cannot be built from .*pyproject\.toml"):
        wheel.build(tmp_path / "out", source=tmp_path)
