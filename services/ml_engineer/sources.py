"""Finds the data that a request is about, in the workspace and nowhere else."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from contracts.briefing import Fact
from contracts.events import Question
from services._runtime.errors import Permanent
from services._runtime.workspace import inside, rooted
from services.ml_engineer.slots import SLOTS_BY_ID, Known, listed

_SUFFIXES: Final = (
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".pq",
    ".jsonl",
    ".ndjson",
    ".json",
    ".db",
    ".sqlite",
    ".sqlite3",
    ".gz",
)
_ONNX: Final = ".onnx"
_LONGEST_HEADER: Final = 64 * 1024
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
        return Found(existing(workspace, listed(answered.value)), answered)
    if said:
        paths = existing(workspace, said)
        return Found(paths, Known("task.data", list(paths), "request", "the request"))
    datasets = _datasets(workspace, facts)
    if len(datasets) == 1:
        (path, source), *_ = datasets.items()
        return Found((path,), Known("task.data", [path], "workspace", source))
    evidence = tuple(f"{path} ({source})" for path, source in datasets.items()) or ("no data file was found here",)
    return Found(question=SLOTS_BY_ID["task.data"].question(evidence[:8]))


def own_model(workspace: Path, named: str) -> str:
    """The ONNX file that is to be served, `/`-rooted: the named one, else the only one that the workspace has.

    Raises: Permanent for a file of another kind, with what can be done, and where none or several could be meant.
    """
    if named and not named.lower().endswith(_ONNX):
        raise Permanent(
            f"{named} cannot be served: it needs the code or the framework that made it. Export it as ONNX (for PyTorch"
            " torch.onnx.export, for scikit-learn skl2onnx, for TensorFlow tf2onnx) and ask again. TorchServe is"
            " unmaintained and TensorFlow Serving runs TensorFlow alone; KServe or Triton can serve such a file itself."
        )
    if named:
        return _one(workspace, named)
    found = sorted(rooted(workspace, path) for path in _files(workspace) if path.name.lower().endswith(_ONNX))
    if len(found) != 1:
        listed = ", ".join(found[:_SHOWN_FILES]) or "it holds none"
        raise Permanent(f"name the .onnx file that is to be served, by its path in the workspace: {listed}")
    return found[0]


def standing(workspace: Path, directory: Path, spec: Mapping[str, JsonValue]) -> tuple[str, ...]:
    """Files that a system's spec names, `/`-rooted; none where it reads a database or a pattern."""
    data = spec.get("data")
    named = data.get("source") if isinstance(data, dict) else None
    sources = [str(item) for item in named] if isinstance(named, list) else []
    paths = [(directory / source).resolve() for source in sources]
    if not paths or any(source.startswith("env:") for source in sources) or not all(path.is_file() for path in paths):
        return ()
    return tuple(rooted(workspace, path) for path in paths if path.is_relative_to(workspace))


def newer(workspace: Path, before: Sequence[str]) -> tuple[str, ...]:
    """Data files that came after those of `before` and begin with the same line, the latest first."""
    known = [workspace / path.lstrip("/") for path in before]
    headers = {_first_line(path) for path in known}
    latest = max((path.stat().st_mtime for path in known), default=0.0)
    found = [
        path
        for path in _data_files(workspace)
        if path not in known and path.stat().st_mtime > latest and _first_line(path) in headers
    ]
    return tuple(rooted(workspace, path) for path in sorted(found, key=lambda path: -path.stat().st_mtime))


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(_LONGEST_HEADER).strip()


def existing(workspace: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Named files and patterns, `/`-rooted. Raises Permanent for one that is not there, with the nearest names."""
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
    if inside(workspace, str(given)).is_file() or _matches(workspace, given):
        return "/" + str(given).lstrip("/")
    files = [rooted(workspace, path) for path in _data_files(workspace)]
    named = [path for path in files if PurePosixPath(path).name == given.name]
    if len(named) == 1:
        return named[0]
    close = named[:_SHOWN_FILES] or [f"/{path}" for path in _nearest(str(given), files)]
    hint = f"the nearest are {', '.join(close)}" if close else "it holds no data file of a similar name"
    raise Permanent(f"there is no file {name!r} in the workspace {workspace}: {hint}. Name an existing file.")


def _matches(workspace: Path, pattern: Path) -> bool:
    """Whether a pattern such as `data/part-*.csv` names files, and none that a link leads out of the workspace."""
    files = [path for path in workspace.glob(str(pattern).lstrip("/")) if path.is_file()]
    return bool(files) and all(path.resolve().is_relative_to(workspace) for path in files)


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
    """Data files that lie in the workspace."""
    return (path for path in _files(workspace) if path.name.lower().endswith(_SUFFIXES))


def _files(workspace: Path) -> Iterable[Path]:
    """Files that lie in the workspace; a link that leads out of it is none."""
    seen = 0
    for directory, names, files in os.walk(workspace):
        names[:] = [name for name in names if name not in _SKIPPED]
        for file in files:
            seen += 1
            if seen > _MOST_FILES:
                return
            path = Path(directory) / file
            if path.resolve().is_relative_to(workspace):
                yield path
