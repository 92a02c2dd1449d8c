"""What a file or a directory is for, from what it says itself: never invented.

A docstring, a heading, a well-known name or a list of what is defined; where nothing of that is there, the
kind of file is all that is said.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from services.context_manager.kinds import KINDS, NAMED
from services.context_manager.outlines import Outline, shortened
from services.context_manager.paths import name_of, suffix_of
from services.context_manager.reading import Content, Form
from services.context_manager.tables import table_shape

_PLACED: Final = (
    ("GitHub Actions workflow", re.compile(r"/\.github/workflows/[^/]+\.ya?ml$")),
    ("Python dependencies", re.compile(r"/requirements[^/]*\.(?:txt|in)$|/requirements/[^/]+\.(?:txt|in)$")),
    ("compose services", re.compile(r"/(?:docker-)?compose(?:[.-][\w-]+)*\.ya?ml$")),
    ("container image", re.compile(r"/(?:dockerfile\.[^/]+|[^/]+\.dockerfile)$", re.IGNORECASE)),
)
_FORMS: Final = {
    Form.SECRET: "not read: made to hold secrets",
    Form.LARGE: "not read: too large",
    Form.UNREADABLE: "cannot be read",
    Form.GENERATED: "written by a tool",
}
_NAMES: Final = 6
_COLUMNS: Final = 12
_LISTED: Final = 8


def file_purpose(path: str, content: Content, outline: Outline) -> str:
    """What the file at `path` is for, in at most 160 characters."""
    name = name_of(path)
    kind = NAMED.get(name.lower()) or next((kind for kind, known in _PLACED if known.search(path)), _kind(name))
    if content.form in _FORMS:
        return f"{kind}, {_FORMS[content.form]}"
    if content.table is not None:
        return shortened(f"{kind}: {table_shape(content.table, _COLUMNS)}")
    if content.form is Form.NAMES:
        return shortened(f"names of settings: {', '.join(content.text.split())}")
    said = outline.statement or outline.title or _defined(outline.names)
    is_placed = name.lower() in NAMED or kind != _kind(name)
    return shortened(f"{kind}: {said}" if said and is_placed else said or kind)


def directory_purpose(directory: str, purposes: Mapping[str, str]) -> str:
    """What `directory` (`/a/b`, the root `/`) is for, from the files below it and what they are for."""
    base = directory.rstrip("/")
    inside = [path for path in purposes if path.startswith(f"{base}/")]
    said = _readme(base, purposes) or _package(base, purposes)
    first = list(dict.fromkeys(_child(path, base) for path in inside))
    children = sorted(first, key=lambda name: (name.endswith("/"), name))
    shown = ", ".join(children[:_LISTED]) + (f" and {len(children) - _LISTED} more" if len(children) > _LISTED else "")
    return f"{f'{said}. ' if said else ''}{counted(inside)}: {shown}"


def _child(path: str, base: str) -> str:
    """The part of `path` directly below `base`, with a slash when it is a directory."""
    name, slash, _ = path[len(base) + 1 :].partition("/")
    return name + slash


def counted(paths: Iterable[str]) -> str:
    """`12 Python, 3 Markdown and 2 other files`."""
    kinds = Counter(KINDS.get(suffix_of(path), "other") for path in paths)
    common = [(kind, number) for kind, number in kinds.most_common(4) if kind != "other"]
    other = kinds.total() - sum(number for _, number in common)
    parts = [f"{number} {kind}" for kind, number in common] + ([f"{other} other"] if other else [])
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{listed} file{'' if kinds.total() == 1 else 's'}"


def _readme(base: str, known: Mapping[str, str]) -> str:
    places = (f"{base}/{name}" for name in ("README.md", "readme.md", "Readme.md", "README.rst", "index.md"))
    return _unless_kind(next((known[path] for path in places if path in known), ""))


def _package(base: str, known: Mapping[str, str]) -> str:
    return _unless_kind(known.get(f"{base}/__init__.py", ""))


def _unless_kind(purpose: str) -> str:
    """A purpose that says something about the file: the bare kind is nothing, and neither is a list of names."""
    return "" if purpose in KINDS.values() or purpose.endswith(" file") or purpose.startswith("defines ") else purpose


def _kind(name: str) -> str:
    known = KINDS.get(suffix_of(name))
    return f"{known} file" if known else "file"


def _defined(names: tuple[str, ...]) -> str:
    public = [name for name in names if not name.startswith("_")] or list(names)
    shown = ", ".join(public[:_NAMES])
    return f"defines {shown}{', …' if len(public) > _NAMES else ''}" if public else ""
