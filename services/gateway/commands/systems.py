"""`mlmesh systems`: what is delivered in a workspace, which version of each is live, and how each is.

Every system is asked through the engine that it vendors, all at once. Left out: what health means (the engine).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services._runtime.errors import Permanent
from services._runtime.systems import ask, delivered_systems, engine_version, find_engine
from services.gateway.attach import place_of
from services.gateway.exits import Exit
from services.gateway.output import Output

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Lists the systems of the workspace by name. No bus is needed."""
    workspace = place_of(options.workspace).workspace
    found = await asyncio.gather(*map(_status, delivered_systems(workspace)))
    parts: list[Any] = [_table(found)] if found else [f"no system is delivered in {workspace} yet"]
    parts += [f"{system['name']}: {trouble}" for system in found for trouble in system["troubles"]]
    output.result({"systems": found}, *parts)
    return Exit.SUCCESS


async def _status(directory: Path) -> Mapping[str, Any]:
    """What a system says of itself; one that cannot say it is told of all the same."""
    known: dict[str, Any] = {"name": directory.name.replace("_", "-"), "system_dir": str(directory)}
    try:
        known["engine"] = engine_version(find_engine(directory).name)
        said: dict[str, Any] = {**await ask(directory, "status")}
    except Permanent as error:
        said = {"ok": False, "error": {"message": str(error)}}
    if said.pop("ok", False):
        return {**known, **said}
    refusal: Mapping[str, Any] = said.get("error") or {}
    trouble = str(refusal.get("message", "it says nothing of itself"))
    return {**known, "live": None, "versions": [], "health": "unknown", "troubles": [trouble]}


def _table(systems: list[Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("system", "health", "live", "since", "versions", "server", "engine"):
        table.add_column(name, no_wrap=True)
    for system in systems:
        server: Mapping[str, Any] = system.get("server") or {}
        versions = ", ".join(map(str, system["versions"]))
        where = str(server.get("url")) if server.get("running") else "not running"
        table.add_row(
            system["name"],
            system["health"],
            str(system["live"] or "none"),
            str(system.get("since") or "")[:16].replace("T", " "),
            versions,
            where,
            str(system.get("engine", "")),
        )
    return table
