"""Paths as messages write them, `/`-rooted text, taken apart without making path objects of fifteen thousand files."""


def name_of(path: str) -> str:
    """The last part: `/a/b.py` -> `b.py`."""
    return path.rpartition("/")[2]


def suffix_of(path: str) -> str:
    """The ending with its dot, lower case: `/a/b.PY` -> `.py`; empty for `.env` and `Makefile`."""
    stem, dot, suffix = name_of(path).rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def parent_of(path: str) -> str:
    """The directory: `/a/b.py` -> `/a`, `/b.py` -> `/`."""
    return path.rpartition("/")[0] or "/"


def parents_of(path: str) -> list[str]:
    """Every directory above, the nearest first, up to `/`."""
    found = [parent_of(path)]
    while found[-1] != "/":
        found.append(parent_of(found[-1]))
    return found
