"""The server against its own OpenAPI document: `python -m tests.isolated schemathesis [EXAMPLES]`.

Schemathesis lies in an environment of its own. It makes requests from the document, right ones and wrong ones, to a
real server with a state and API keys, and compares every answer with the document: no answer that is not documented
in status, media type, header and shape, none from 500 up, no path that forgets to ask for the key. What it counted
is told; any failure is the check's.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mlsystem.registry import Note
from mlsystem.serving.process import serving
from tests.blueprint.small_system import make_system
from tests.environments import environment
from tests.isolated.saying import say

_WANTED: Final = Path(__file__).parent / "peers" / "schemathesis.txt"
_EXAMPLES: Final = "100"
_SEED: Final = "7"
_CONFIG: Final = """
hooks = "lines.py"

[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 408, 413, 415, 422]

[[operations]]
include-operation-id = ["infer", "infer_version"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 404, 415, 422]

[[operations]]
include-operation-id = "batch"
checks.negative_data_rejection.expected-statuses = [200, 401, 405, 408, 415, 422]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 415, 422]
"""
"""What a document cannot say: which texts are a table of these columns (wrong rows are answered in their lines), and
how long the JSON before the bytes of tensors is."""

_LINES: Final = """
import schemathesis

schemathesis.serializer.alias(["application/jsonl", "application/x-ndjson"], "text/plain")
"""
"""Lines are a text to be sent as it is."""


def run(arguments: Sequence[str]) -> int:
    """Run it; the optional argument is the number of generated requests an operation."""
    found, examples = environment(_WANTED), arguments[0] if arguments else _EXAMPLES
    say(f"schemathesis {found.versions['schemathesis']}, {examples} examples an operation")
    with tempfile.TemporaryDirectory() as folder:
        make_system(Path(folder), 0.0, api_keys="env:SMALL_KEYS").promote(1, Note("a check", ""))
        (Path(folder) / "schemathesis.toml").write_text(_CONFIG)
        (Path(folder) / "lines.py").write_text(_LINES)
        with serving(Path(folder)) as server:
            command = [
                str(found.python.parent / "schemathesis"),
                "--config-file=schemathesis.toml",
                "run",
                f"{server.url}/openapi.json",
                *(part for name, value in server.headers.items() for part in ("--header", f"{name}: {value}")),
                "--checks=all",
                f"--max-examples={examples}",
                f"--seed={_SEED}",
                "--continue-on-failure",
                "--no-color",
            ]
            done = subprocess.run(command, cwd=folder, check=False)
    return done.returncode
