"""`lineage.json` against OpenLineage's own client: `python -m tests.isolated openlineage_export`.

The client is generated from the published schemas. In an environment of its own it builds its objects, facet by
facet, from the events of a real package: a field that it does not know, or one that it misses, is an error, and so is
an address of a schema that is not the one it was generated from. Then it sends them as its users do.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from tests.blueprint.made_versions import two_versions
from tests.environments import environment
from tests.isolated.saying import say

_PEERS: Final = Path(__file__).parent / "peers"


def run(_arguments: Sequence[str]) -> int:
    """Build and send the events of a package; return 0 if the client gives back what it was given."""
    guest = environment(_PEERS / "openlineage-export.txt")
    say(f"openlineage-python {guest.versions['openlineage-python']}")
    with tempfile.TemporaryDirectory(prefix="openlineage-export-") as scratch:
        system = two_versions(Path(scratch))
        (lineage, *_) = sorted((system / "work" / "package").glob("*/lineage.json"))
        sent_to = Path(scratch) / "sent.log"
        command = [str(guest.python), str(_PEERS / "with_openlineage.py"), str(lineage), str(sent_to)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(done.stderr[-3000:])
            return 1
        sent = [json.loads(line) for line in sent_to.read_text().splitlines()]
        for event in sent:
            del event["run"]["facets"]["tags"]  # the client signs what it sends
        same = [_without_empty(event) for event in sent] == [_without_empty(e) for e in json.loads(lineage.read_text())]
    say(f"{len(sent)} events: {'ok' if same else 'the client sent something else'}")
    return int(not same)


def _without_empty(node: Any) -> Any:
    """Leave out what is empty: the client writes every list that an object could have had."""
    if isinstance(node, dict):
        parts = {key: _without_empty(value) for key, value in cast("dict[str, Any]", node).items()}
        return {key: value for key, value in parts.items() if value not in ([], {})}
    return [_without_empty(item) for item in cast("list[Any]", node)] if isinstance(node, list) else node
