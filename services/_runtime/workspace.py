"""Workspaces: which directory a message means, and that it lies where this process may work.

A reference is an absolute path or a file:// URL under `MLMESH_WORKSPACE_ROOTS`. Links are resolved before the
check, so neither `..` nor a symlink leads out.
"""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services._runtime.errors import Permanent
from services._runtime.settings import Settings


def roots(settings: Settings) -> tuple[Path, ...]:
    """Directories that workspaces must lie in."""
    given = [part for part in settings.workspace_roots.split(":") if part]
    return tuple(Path(part).resolve() for part in given) or (Path.cwd().resolve(),)


def resolve(reference: str, settings: Settings) -> Path:
    """The directory that a reference means.

    Raises: Permanent for a reference of another kind, a path that leads out of the roots, or none there.
    """
    text = reference or settings.workspace
    if not text:
        raise Permanent("the task names no workspace: give `workspace` as an absolute path")
    path = _path(text)
    if ".." in path.parts:
        raise Permanent(f"workspace {text!r} contains '..': give the absolute path itself")
    resolved, allowed = path.resolve(), roots(settings)
    if not any(resolved.is_relative_to(root) for root in allowed):
        raise Permanent(
            f"workspace {text!r} is outside the allowed roots ({_listed(allowed)}): move it there, or add its"
            f" directory to MLMESH_WORKSPACE_ROOTS"
        )
    if not resolved.is_dir():
        raise Permanent(f"workspace {text!r} is no directory here: create it, or mount it where this service runs")
    return resolved


def inside(workspace: Path, path: str) -> Path:
    """A `/`-rooted or relative path of a message, in the workspace. Raises Permanent when it leads out."""
    joined = (workspace / path.lstrip("/")).resolve()
    if ".." in Path(path).parts or not joined.is_relative_to(workspace):
        raise Permanent(f"path {path!r} leads out of the workspace: name a file inside it")
    return joined


def rooted(workspace: Path, path: Path) -> str:
    """A path as messages spell it: POSIX, `/`-rooted at the workspace."""
    return "/" + path.resolve().relative_to(workspace).as_posix()


def _path(text: str) -> Path:
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme and "://" in text:
        raise Permanent(f"workspace {text!r}: only absolute paths and file:// URLs are supported so far")
    if not text.startswith("/"):
        raise Permanent(f"workspace {text!r} is not an absolute path: give it from the root on, as in '/srv/shop'")
    return Path(text)


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
