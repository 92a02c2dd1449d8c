"""Finds the data that a request is about, in the workspace and nowhere else."""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from contracts.briefing import Fact
from contracts.events import Question
from services._runtime.errors import Permanent
from services._runtime.workspace import inside, rooted
from services.ml_engineer.slots import SLOTS_BY_ID, Known, listed

_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".gz")
_MOST_FILES: Final = 20_000
_SHOWN_FILES: Final = 5
_SKIPPED: Final = frozenset({".git", ".venv", "node_modules", "__pycache__", ".mlmesh", "ml"})


@dataclass(frozen=True, slots=True)
class Found:
    """The data, or the question for it."""

    paths: tuple[str, ...] = ()
    """`/`-rooted at the workspace."""
    known: Known | None = None
    question: Question | None = None


def find(workspace: Path, *, said: Sequence[str], answered: Known | None, facts: Sequence[Fact]) -> Found:
    """Data that was named, else the one data set that the workspace has, else a question.

    Raises: Permanent for a named file that is not there, with the nearest names.
    """
    if answered is not None and answered.origin == "answer":
        return Found(_existing(workspace, listed(answered.value)), answered)
    if said:
        paths = _existing(workspace, said)
        return Found(paths, Known("task.data", list(paths), "request", "the request"))
    datasets = _datasets(workspace, facts)
    if len(datasets) == 1:
        (path, source), *_ = datasets.items()
        return Found((path,), Known("task.data", [path], "workspace", source))
    evidence = tuple(f"{path} ({source})" for path, source in datasets.items()) or ("no data file was found here",)
    return Found(question=SLOTS_BY_ID["task.data"].question(evidence[:8]))


def _existing(workspace: Path, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_one(workspace, name) for name in names)


def _one(workspace: Path, name: str) -> str:
    try:
        return _located(workspace, name)
    except (OSError, ValueError) as error:  # too long, or with a character that no path has
        raise Permanent(f"{name[:80]!r} is no path of a file: name an existing file") from error


def _located(workspace: Path, name: str) -> str:
    """The path itself, else the only file of that name in the workspace."""
    given = Path(_plain(name))
    if given.is_absolute() and given.resolve().is_relative_to(workspace) and given.is_file():
        return rooted(workspace, given)
    if inside(workspace, str(given)).is_file():
        return "/" + str(given).lstrip("/")
    files = [rooted(workspace, path) for path in _data_files(workspace)]
    named = [path for path in files if PurePosixPath(path).name == given.name]
    if len(named) == 1:
        return named[0]
    close = named[:_SHOWN_FILES] or [f"/{path}" for path in _nearest(str(given), files)]
    hint = f"the nearest are {', '.join(close)}" if close else "it holds no data file of a similar name"
    raise Permanent(f"there is no file {name!r} in the workspace {workspace}: {hint}. Name an existing file.")


def _nearest(name: str, files: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(name.lstrip("/"), [path.lstrip("/") for path in files], n=3, cutoff=0.4)


def _plain(name: str) -> str:
    """A path as it is written, or in a file:// URL. Raises Permanent for data that lies elsewhere."""
    scheme, mark, _ = name.partition("://")
    if not mark:
        return name
    if scheme.lower() != "file":
        raise Permanent(
            f"the data lies behind a {scheme}:// address, which is not read from here: put a copy into the workspace"
            " and name that file"
        )
    return unquote(urlsplit(name).path)


def _datasets(workspace: Path, facts: Sequence[Fact]) -> dict[str, str]:
    found: dict[str, str] = {}
    for fact in facts:
        if (fact.slot, fact.field) == ("data", "dataset"):
            path = fact.value.split(":")[0]
            if not path.startswith("/ml/") and (workspace / path.lstrip("/")).is_file():
                found.setdefault(path, fact.source)
    return found


def _data_files(workspace: Path) -> Iterable[Path]:
    """Data files that lie in the workspace; a link that leads out of it is none."""
    seen = 0
    for directory, names, files in os.walk(workspace):
        names[:] = [name for name in names if name not in _SKIPPED]
        for file in files:
            seen += 1
            if seen > _MOST_FILES:
                return
            path = Path(directory) / file
            if file.lower().endswith(_SUFFIXES) and path.resolve().is_relative_to(workspace):
                yield path
