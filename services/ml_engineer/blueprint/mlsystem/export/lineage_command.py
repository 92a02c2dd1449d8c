"""`export lineage`: the events of a version as a file, or sent to a catalogue that speaks OpenLineage.

`docs/lineage.json` is where a person finds them, in git beside the other documents; the registry has them for every
version.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import msgspec

from mlsystem.errors import RegistryError
from mlsystem.export.http import is_url, send
from mlsystem.export.lineage import LINEAGE
from mlsystem.registry import registry_of
from mlsystem.stages import Workspace
from mlsystem.versions import read_version

_PLACE: Final = Path("docs") / LINEAGE


def export_lineage(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Write or send the lineage of a version; RegistryError for one that was packaged without."""
    version = read_version(registry_of(workspace), options.version)
    if LINEAGE not in version.files:
        text = f"version {version.number} was packaged by an engine that kept no lineage; package it again"
        raise RegistryError("not_on_record", text)
    events = msgspec.json.decode(version.files[LINEAGE], type=list[Any])
    if is_url(options.to):
        for event in events:
            send("POST", options.to, event, {})
        return {"version": version.number, "events": len(events), "sent": True}
    path = workspace.root / (options.to or _PLACE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(version.files[LINEAGE])
    return {"version": version.number, "events": len(events), "path": str(path)}
