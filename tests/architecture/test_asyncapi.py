"""AsyncAPI's own parser takes the published document, and refuses a broken one."""

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from contracts import asyncapi
from tests.architecture.tree import ROOT

PARSER = ROOT / "node_modules" / "@asyncapi" / "parser"
SCRIPT = ROOT / "tests" / "architecture" / "asyncapi_check.mjs"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PARSER.is_dir(), reason="needs node and its parser: `make lint` installs it"
)


def _unknown_action(document: dict[str, Any]) -> None:
    document["operations"]["client.send.task-submitted"]["action"] = "shout"


def _dangling_channel(document: dict[str, Any]) -> None:
    document["operations"]["client.send.task-submitted"]["channel"]["$ref"] = "#/channels/nowhere"


def _no_version(document: dict[str, Any]) -> None:
    del document["info"]["version"]


def _wrong_schema(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Briefing"]["type"] = "thing"


BREAKING = (_unknown_action, _dangling_channel, _no_version, _wrong_schema)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the documents that are found valid, of the published one and of its broken copies.

    One process reads them all: it takes two seconds to start.
    """
    directory = tmp_path_factory.mktemp("documents")
    paths = [directory / f"{name}.json" for name in ("published", *(breaking.__name__ for breaking in BREAKING))]
    for path, breaking in zip(paths, (None, *BREAKING), strict=True):
        document = asyncapi.document()
        if breaking is not None:
            breaking(document)
        path.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(["node", SCRIPT, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    valid = {path.stem for path in paths if f"{path}: valid, " in done.stdout and f"{path}: " not in done.stderr}
    assert done.returncode == 1, done.stderr
    return valid


def test_the_document_is_valid(verdicts: set[str]) -> None:
    """Without an error and without a warning."""
    assert "published" in verdicts


@pytest.mark.parametrize("breaking", BREAKING)
def test_a_broken_document_is_refused(breaking: Callable[[dict[str, Any]], None], verdicts: set[str]) -> None:
    """The check can fail: each of these is a mistake that a change here could make."""
    assert breaking.__name__ not in verdicts
