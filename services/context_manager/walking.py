"""The files of a workspace as the file system tells them, without opening any.

Leaves out what `ignoring` names, what is no regular file, and names that cannot be said in a message (not
UTF-8). A link is offered only when it leads to a file that the walk offers under its own name too, so no link
reaches outside the workspace, into an ignored directory, or to a secret.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from services.context_manager.ignoring import IgnoreRules

_log: Final = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file. `path` is `/`-rooted at the workspace; `file` is where its bytes are, no link."""

    path: str
    file: Path
    mtime_ns: int
    ctime_ns: int
    size: int

    @classmethod
    def of(cls, path: str, file: Path, status: os.stat_result) -> Self:
        """The entry of a file with this status."""
        return cls(path, file, status.st_mtime_ns, status.st_ctime_ns, status.st_size)


def walk(workspace: Path, *, without: Path) -> dict[str, Entry]:
    """Every file of the workspace by its path. `without` is left out: the memory's own directory, or its file."""
    entries = dict[str, Entry]()
    links = dict[str, Path]()
    for path, item in _items(workspace, without):
        if item.is_symlink():
            links[path] = Path(item.path)
            continue
        try:
            status = item.stat(follow_symlinks=False)
        except FileNotFoundError:  # deleted since the directory was read
            continue
        if stat.S_ISREG(status.st_mode):
            entries[path] = Entry.of(path, Path(item.path), status)
    return entries | _followed(workspace, links, entries)


def look(workspace: Path, path: str, *, without: Path) -> Entry | None:
    """The file at the `/`-rooted `path` if the walk would offer it under its own name, else None."""
    rules = IgnoreRules.at_root(workspace)
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts)):
        directory = "/".join(parts[:depth])
        if (workspace / directory).is_symlink() or rules.ignores(directory, directory=True):
            return None
        rules = rules.enter(directory)
    relative = "/".join(parts)
    file = workspace / relative
    if rules.ignores(relative, directory=False) or file == without or without in file.parents:
        return None
    try:
        status = file.lstat()
    except OSError:  # not there, or not reachable
        return None
    return Entry.of(path, file, status) if stat.S_ISREG(status.st_mode) else None


def rooted(path: str) -> str | None:
    """`path` as the mesh writes it: `/a/b`; None when it leads out of the workspace or names nothing."""
    parts = list[str]()
    for part in path.split("/"):
        if part == "..":
            return None
        if part not in {"", "."}:
            parts.append(part)
    speakable = parts and "\0" not in path and _is_speakable(path)
    return "/" + "/".join(parts) if speakable else None


def _items(workspace: Path, without: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    own = {f"{without}{part}" for part in ("", "-wal", "-shm")}
    pending = [("", IgnoreRules.at_root(workspace))]
    while pending:
        directory, rules = pending.pop()
        for item in _scanned(workspace / directory):
            path = f"{directory}/{item.name}" if directory else item.name
            is_directory = item.is_dir(follow_symlinks=False)
            if rules.ignores(path, directory=is_directory) or item.path in own:
                continue
            if not _is_speakable(item.name):
                _log.warning("context.name_not_utf8", directory=f"/{directory}")
            elif is_directory:
                pending.append((path, rules.enter(path)))
            else:
                yield f"/{path}", item


def _scanned(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return sorted(found, key=lambda item: item.name)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        _log.warning("context.directory_not_readable", directory=str(directory), reason=type(error).__name__)
        return []


def _followed(workspace: Path, links: dict[str, Path], entries: dict[str, Entry]) -> dict[str, Entry]:
    """Entries for the links that lead to one of `entries`."""
    root = workspace.resolve()
    followed = dict[str, Entry]()
    for path, link in links.items():
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # leads nowhere, or in a circle
            continue
        if target.is_relative_to(root) and (known := entries.get(f"/{target.relative_to(root).as_posix()}")):
            followed[path] = Entry(path, known.file, known.mtime_ns, known.ctime_ns, known.size)
    return followed


def _is_speakable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
