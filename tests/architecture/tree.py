"""The repository as the architecture tests see it: its root, its files, its services."""

import ast
import gc
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "services" / "ml_engineer" / "blueprint"
"""The engine's source root: what is delivered, a project of its own."""
SERVICES = tuple(
    sorted(
        folder.name
        for folder in (ROOT / "services").iterdir()
        if folder.is_dir() and not folder.name.startswith(("_", "."))
    )
)
"""Folders of the services, as Python spells them."""


def spelled(service: str) -> str:
    """A service's name outside Python: `context_manager` is `context-manager`."""
    return service.replace("_", "-")


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the repository: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return tuple(path for name in sorted(listed.stdout.split("\0")) if name and (path := ROOT / name).is_file())


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax tree. The collector waits: finalizers that run inside the parser of Python 3.11 break it."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


def python_files() -> tuple[Path, ...]:
    """Every Python file of the repository."""
    return tuple(path for path in files() if path.suffix == ".py")
