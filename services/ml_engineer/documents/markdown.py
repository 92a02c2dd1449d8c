"""Text that means in Markdown what it says, whatever a column or a label is called.

Values come from data files and people: they hold pipes, backticks, line breaks, markup. Every value goes through one
of these filters; templates hold the only markup. Leaves numbers to `figures`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

NOTHING: Final = "\N{EN DASH}"
"""What a table shows where there is no value."""

_LONGEST: Final = 400
_LISTED: Final = 40
_SPECIAL: Final = re.compile(r"([\\`*\[\]|~#])")
_EDGE_UNDERSCORE: Final = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_BLOCK_START: Final = re.compile(r"^([-+=](?=\s|$|[-=])|\d+(?=[.)](?:\s|$)))")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\ufeff]")


def text(value: object) -> str:
    """A value as plain words in one line, in a paragraph, a list or a table's cell."""
    line = one_line(value)
    line = _SPECIAL.sub(r"\\\1", line.replace("&", "&amp;")).replace("<", "&lt;").replace(">", "&gt;")
    line = _EDGE_UNDERSCORE.sub(r"\\_", line)
    return _BLOCK_START.sub(lambda found: _escaped_start(found.group(1)), line)


def cell(value: object) -> str:
    """A value as plain words in a table's cell; a dash where there is none."""
    return text(value) if value is not None and one_line(value) else NOTHING


def code(value: object) -> str:
    """A name or a value as code in a paragraph or a list."""
    line = one_line(value)
    if not line:
        return '`""`'
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    padding = " " if line.startswith("`") or line.endswith("`") or line.strip() != line else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def cell_code(value: object) -> str:
    """A name or a value as code in a table's cell; as words where code could not hold it.

    A pipe ends a cell even inside code unless a backslash comes before it, and how many backslashes that takes differs
    between renderers once the name has backslashes of its own.
    """
    line = one_line(value)
    if "|" in line and ("\\" in line or "`" in line):
        return text(line)
    return code(line).replace("|", "\\|")


def names(values: Iterable[str]) -> str:
    """Names as code with commas, in a paragraph or a list; the first 40 of many."""
    return _listed([code(value) for value in values])


def cell_names(values: Iterable[str]) -> str:
    """Names as code with commas, in a table's cell."""
    return _listed([cell_code(value) for value in values])


def _listed(shown: Sequence[str]) -> str:
    told = ", ".join(shown[:_LISTED])
    return f"{told} and {len(shown) - _LISTED} more" if len(shown) > _LISTED else told or NOTHING


def one_line(value: object) -> str:
    """A value without line breaks and signs that cannot be seen, cut where it is long."""
    line = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(value).split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _escaped_start(start: str) -> str:
    return f"{start}\\" if start[0].isdigit() else f"\\{start}"
