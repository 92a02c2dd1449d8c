"""A bill of materials in CycloneDX's own validator: `python -m tests.isolated sbom`.

The document is that of a small system with the real locks; the validator checks it against the published schema of
CycloneDX 1.6, strictly, and its reader takes every component.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mlsystem.governance.sbom import sbom
from tests.blueprint.test_sbom import system
from tests.environments import environment
from tests.isolated.saying import say

PEERS: Final = Path(__file__).parent / "peers"


def run(_arguments: Sequence[str]) -> int:
    """Return 0 if the document is valid and whole."""
    found = environment(PEERS / "sbom.txt")
    say(f"cyclonedx-python-lib {found.versions['cyclonedx-python-lib']}")
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as folder:
        told = sbom(system(Path(folder), versions=1), Namespace(out=None))
        file = Path(folder) / "docs" / "sbom.json"
        command = [str(found.python), str(PEERS / "with_cyclonedx.py"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    good = not seen["problem"] and seen["components"] == told["components"]
    verdict = seen["problem"] or "valid CycloneDX 1.6"
    say(f"{told['components']} components written, {seen['components']} read; {verdict}")
    return 0 if good else 1
