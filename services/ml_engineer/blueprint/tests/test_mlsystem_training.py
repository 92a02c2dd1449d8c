"""The version can be made again from what is on record: tried where that takes seconds, in a folder of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from mlsystem.registry import Entry
    from mlsystem.stages import Workspace

LONGEST_S = 15.0
"""Training that took longer is not repeated here: `python -m mlsystem reproduce` does it."""

GONE = frozenset({"source_changed", "no_such_file", "no_database_url", "stage_missing", "rows_erased", "not_on_record"})
"""What `reproduce` says where the rows are not there any more, or never were on record; anything else is a failure."""


def reproduced(workspace: Workspace, version: Entry) -> dict[str, Any]:
    """Make the version again in another process, with the engine that these tests use."""
    from mlsystem.serving.process import python_path

    command = [sys.executable, "-m", "mlsystem", "reproduce", str(version.version), "--json"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, check=False)
    return json.loads(done.stdout)


def test_the_version_can_be_made_again(workspace: Workspace, version: Entry, files: dict[str, bytes]) -> None:
    """From its rows, its seed and what the clock had decided: the same predictions, mostly the very same bytes."""
    from mlsystem import __version__

    if importlib.util.find_spec("lightgbm") is None:
        pytest.skip("training needs requirements/train.lock, which is not installed here")
    if "train.json" not in files or json.loads(files["manifest.json"]).get("engine") != __version__:
        pytest.skip("another release of the engine made this version")
    if msgspec.json.decode(files["train.json"], type=dict[str, Any])["wall_s"] > LONGEST_S:
        pytest.skip("its training takes longer than a test may: run `python -m mlsystem reproduce`")
    told = reproduced(workspace, version)
    if told.get("error", {}).get("code") in GONE:
        pytest.skip(f"its rows are not all there: {told['error']['message']}")
    assert "error" not in told, told["error"]
    if any(item["what"].startswith("platform") for item in told["differs"]):
        pytest.skip(f"it was made on another platform: {told['text']}")
    assert told["ok"], told["text"]
