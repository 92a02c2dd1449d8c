"""`context-manager.json`: the memory as the one file that the protocol's family of agents knows.

A view for people and for agents that read files: the database stays the truth. Written whole or not at all,
and only when it says something new.
"""

import json
import os
from pathlib import Path
from typing import Final

from services.context_manager import selection
from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.purposes import directory_purpose

NAME: Final = "context-manager.json"
_VERSION: Final = 1
_HISTORY: Final = 2_000
_DIRECTORIES: Final = 2_000
"""A workspace with more directories than this is shown by its shallow ones."""


def export(memory: KnowledgeBase, directory: Path) -> Path:
    """Writes the view of `memory` into `directory` and returns its path. Raises OSError when it cannot be written."""
    target = directory / NAME
    body = json.dumps(_view(memory), ensure_ascii=False, indent=2).encode() + b"\n"
    if target.exists() and target.read_bytes() == body:
        return target
    draft = directory / f".{NAME}.{os.getpid()}"
    draft.write_bytes(body)
    draft.replace(target)
    return target


def _view(memory: KnowledgeBase) -> dict[str, object]:
    purposes = memory.purposes()
    directories = selection.directories(purposes)[:_DIRECTORIES]
    return {
        "version": _VERSION,
        "workspace": memory.workspace.name,
        "directories": {path: directory_purpose(path, purposes) for path in directories},
        "files": purposes,
        "agents": _agents(memory),
    }


def _agents(memory: KnowledgeBase) -> list[dict[str, object]]:
    """The last report of each agent, in the family's spelling, the most recently active agent first."""
    last = dict[str, dict[str, object]]()
    for report in memory.activity(_HISTORY):
        if report.agent not in last:
            last[report.agent] = {
                "agent_name": report.agent,
                "status": report.status,
                "lastActionSummary": report.summary,
                "filesModified": list(report.files),
                "timestamp": report.at.isoformat(),
            }
    return list(last.values())
