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
    resolved, allowed = _resolved(path, text), roots(settings)
    if not any(resolved.is_relative_to(root) for root in allowed):
        raise Permanent(
            f"workspace {text!r} is outside the allowed roots ({_listed(allowed)}): move it there, or add its"
            f" directory to MLMESH_WORKSPACE_ROOTS"
        )
    if not _is_directory(resolved, text):
        raise Permanent(f"workspace {text!r} is no directory here: create it, or mount it where this service runs")
    return resolved


def inside(workspace: Path, path: str) -> Path:
    """A `/`-rooted or relative path of a message, in the workspace. Raises Permanent when it leads out."""
    joined = _resolved(workspace / path.lstrip("/"), path)
    if ".." in Path(path).parts or not joined.is_relative_to(workspace):
        raise Permanent(f"path {path!r} leads out of the workspace: name a file inside it")
    return joined


def rooted(workspace: Path, path: Path) -> str:
    """A path as messages spell it: POSIX, `/`-rooted at the workspace."""
    return "/" + path.resolve().relative_to(workspace).as_posix()


def _is_directory(path: Path, told: str) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise Permanent(f"workspace {told[:200]!r} cannot be looked at: {error.strerror}; grant access") from error


def _resolved(path: Path, told: str) -> Path:
    """Raises Permanent for what no path can be: it holds a zero byte, is too long, links to itself."""
    try:
        return path.resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise Permanent(f"{told[:200]!r} can be no path here: {error}") from error


def _path(text: str) -> Path:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise Permanent(f"workspace {text!r} is no URL: {error}") from error
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme and "://" in text:
        raise Permanent(f"workspace {text!r}: only absolute paths and file:// URLs are supported so far")
    if not text.startswith("/"):
        raise Permanent(f"workspace {text!r} is not an absolute path: give it from the root on, as in '/srv/shop'")
    return Path(text)


def _listed(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))
