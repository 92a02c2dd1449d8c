"""`mlmesh upgrade`: gives a delivered system the engine of this mesh, as a task like any other.

Left out: what an upgrade does and keeps (the ml-engineer).
"""

from dataclasses import dataclass
from pathlib import Path

from services.gateway.attach import place_of
from services.gateway.commands import run
from services.gateway.commands.serve import find_system
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    system: str
    workspace: str


async def execute(options: Options, output: Output) -> int:
    """Submits the upgrade, follows it to its end, tells how it came out. Raises Usage: no such system."""
    directory = find_system(options.system, place_of(options.workspace).workspace)
    name = directory.name.replace("_", "-")
    request = run.Options(
        request=f"Upgrade the engine of the system {name}",
        workspace=options.workspace or str(_workspace(directory)),
        answers=None,
        accept_defaults=True,
        time_budget="",
        approval="auto",
        mind=None,
        task=None,
    )
    return await run.execute(request, output)


def _workspace(directory: Path) -> Path:
    """The workspace that a system lies in, two levels up."""
    return directory.parent.parent
