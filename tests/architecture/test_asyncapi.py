"""AsyncAPI's own parser takes the published document, and refuses a broken one."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts import asyncapi
from tests.architecture.tree import ROOT

PARSER = ROOT / "node_modules" / "@asyncapi" / "parser"
SCRIPT = ROOT / "tests" / "architecture" / "asyncapi_check.mjs"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PARSER.is_dir(), reason="needs node and its parser: `make lint` installs it"
)


def checked(document: dict[str, Any], directory: Path) -> tuple[int, str]:
    """Exit code and complaints about a document."""
    path = directory / "asyncapi.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(["node", SCRIPT, path], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_the_document_is_valid(tmp_path: Path) -> None:
    """Without an error and without a warning."""
    assert checked(asyncapi.document(), tmp_path) == (0, "")


def _unknown_action(document: dict[str, Any]) -> None:
    document["operations"]["client.send.task-submitted"]["action"] = "shout"


def _dangling_channel(document: dict[str, Any]) -> None:
    document["operations"]["client.send.task-submitted"]["channel"]["$ref"] = "#/channels/nowhere"


def _no_version(document: dict[str, Any]) -> None:
    del document["info"]["version"]


def _wrong_schema(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Briefing"]["type"] = "thing"


@pytest.mark.parametrize("breaking", [_unknown_action, _dangling_channel, _no_version, _wrong_schema])
def test_a_broken_document_is_refused(breaking: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    """The check can fail: each of these is a mistake that a change here could make."""
    document = asyncapi.document()
    breaking(document)

    code, complaint = checked(document, tmp_path)

    assert (code, complaint != "") == (1, True)
