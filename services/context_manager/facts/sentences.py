"""Documents as sentences with their lines and headings: what prose extractors read.

Leaves out what is not the project speaking: code, comments, front matter, struck-out text, open task boxes,
and everything under headings such as Non-goals, Roadmap, Examples or Changelog. Table rows become sentences
of their own, `first cell: target cell`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.context_manager.outlines import plain, without_links

_FENCE: Final = re.compile(r"^[ \t]*(```+|~~~+)")
_HEADING: Final = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$")
_UNDERLINE: Final = re.compile(r"^(={3,}|-{3,}|~{3,}|\^{3,}|\*{3,})[ \t]*$")
_ITEM: Final = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+(\[[ xX]\][ \t]+)?")
_ROW: Final = re.compile(r"^[ \t]*\|.*\|[ \t]*$")
_RULE: Final = re.compile(r"^[ \t|:-]+$")
_DIRECTIVE: Final = re.compile(r"^\.\.[ \t]|::[ \t]*$")
_END: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_SHORT_FORM: Final = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|ca|incl|resp|no|cf|fig|min|max)\.$", re.IGNORECASE)
_STRUCK: Final = re.compile(r"~~[^~\n]{1,500}~~|<(?:del|s)>[^<\n]{0,500}</(?:del|s)>")
_UNSPOKEN: Final = re.compile(
    r"\bnon[- ]?(?:goals?|requirements?|objectives?)\b|\bout of scope\b|\broad ?map\b|\bfuture\b|\bideas?\b"
    r"|\bto-?do\b|\balternatives?\b"
    r"|\bopen questions?\b|\bexamples?\b|\bbenchmarks?\b|\bchange ?log\b|\brelease notes\b|\bhistory\b|\brejected\b"
    r"|\bglossary\b"
    r"|\bfaq\b|\breferences\b|\bsee also\b|\blicen[cs]e\b|\backnowledge?ments\b|\blater\b|\bnice to have\b"
    r"|\bload test",
    re.IGNORECASE,
)
_TARGET: Final = re.compile(
    r"target|objective|slo\b|sla\b|goal|requirement|budget|value|limit"
    r"|expected",
    re.IGNORECASE,
)
_LINE: Final = 2_000
"""A longer line is data, not prose."""
_LENGTH: Final = 700
"""A longer sentence is no sentence; it also bounds what the patterns have to look at."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of prose.

    `text` may hold line feeds, and marks code with backticks. `line_at` tells where in the file a place in it is.
    """

    text: str
    line: int
    heading: str
    """The nearest heading, lower case, empty above the first."""
    opening: bool
    """Whether it is the first sentence under that heading."""
    is_row: bool = False
    """Whether it is a row of a table."""

    def line_at(self, offset: int) -> int:
        """The line of the file where the character at `offset` stands."""
        return self.line + self.text.count("\n", 0, offset)

    @property
    def flat(self) -> str:
        """The sentence on one line, without marks."""
        return " ".join(self.text.replace("`", "").split())


@dataclass(slots=True)
class _Reader:
    """Where the reading of a document stands."""

    lines: list[str]
    at: int = 0
    headings: tuple[str, ...] = ()
    opening: bool = True

    @property
    def heading(self) -> str:
        return self.headings[-1] if self.headings else ""

    @property
    def silent(self) -> bool:
        return any(_UNSPOKEN.search(heading) for heading in self.headings)

    def enter(self, level: int, title: str) -> None:
        self.headings = (*self.headings[: level - 1], *[""] * (level - 1 - len(self.headings)), plain(title).lower())
        self.opening = True


def sentences(text: str) -> Iterator[Sentence]:
    """The sentences of a Markdown, reStructuredText or plain document, in order."""
    lines = _without_comments(text.replace("\u00a0", " ")).split("\n")
    reader = _Reader([_STRUCK.sub("", line) if len(line) <= _LINE else "" for line in lines])
    _pass_front_matter(reader)
    while reader.at < len(reader.lines):
        yield from _block(reader)


def _without_comments(text: str) -> str:
    """`text` without HTML comments, on the same number of lines. One that never ends hides nothing."""
    parts = list[str]()
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        parts += (text[at:start], "\n" * text.count("\n", start, end))
        at = end + 3
    return "".join((*parts, text[at:]))


def _pass_front_matter(reader: _Reader) -> None:
    if reader.lines and reader.lines[0].strip() in {"---", "+++"}:
        mark = reader.lines[0].strip()
        end = next((n for n, line in enumerate(reader.lines[1:200], 1) if line.strip() == mark), 0)
        reader.at = end + 1 if end else 0


def _block(reader: _Reader) -> Iterator[Sentence]:
    """Reads one block at `reader.at` and moves past it."""
    line = reader.lines[reader.at]
    after = reader.lines[reader.at + 1] if reader.at + 1 < len(reader.lines) else ""
    if fence := _FENCE.match(line):
        _pass_fence(reader, fence[1])
    elif heading := _HEADING.match(line):
        reader.enter(len(heading[1]), heading[2])
        reader.at += 1
    elif line.strip() and _UNDERLINE.match(after) and not _ROW.match(line) and not _ITEM.match(line):
        reader.enter(1 if after.startswith("=") else 2, line)
        reader.at += 2
    elif _DIRECTIVE.search(line):
        _pass_indented(reader)
    elif _ROW.match(line):
        yield from _rows(reader)
    elif not line.strip() or _is_indented_code(reader):
        reader.at += 1
    else:
        yield from _paragraph(reader)


def _pass_fence(reader: _Reader, mark: str) -> None:
    reader.at += 1
    while reader.at < len(reader.lines) and not reader.lines[reader.at].strip().startswith(mark):
        reader.at += 1
    reader.at += 1


def _pass_indented(reader: _Reader) -> None:
    reader.at += 1
    while reader.at < len(reader.lines) and (
        not reader.lines[reader.at].strip() or reader.lines[reader.at][0].isspace()
    ):
        reader.at += 1


def _is_indented_code(reader: _Reader) -> bool:
    line = reader.lines[reader.at]
    above = reader.lines[reader.at - 1] if reader.at else ""
    return line.startswith(("    ", "\t")) and not above.strip() and not _ITEM.match(line)


def _paragraph(reader: _Reader) -> Iterator[Sentence]:
    """Lines that belong together: a paragraph, or one item of a list."""
    first = reader.at
    item = _ITEM.match(reader.lines[first])
    unchecked = item is not None and (item[1] or "").startswith("[ ]")
    lines = [reader.lines[first][item.end() if item else 0 :]]
    reader.at += 1
    while reader.at < len(reader.lines) and not _begins_block(reader.lines[reader.at]):
        lines.append(reader.lines[reader.at])
        reader.at += 1
    if not unchecked:
        yield from _split(reader, [line.lstrip("> \t") for line in lines], first + 1)


def _begins_block(line: str) -> bool:
    starts = (_FENCE, _HEADING, _ITEM, _ROW, _UNDERLINE)
    return not line.strip() or any(pattern.match(line) for pattern in starts)


def _split(reader: _Reader, lines: list[str], line: int) -> Iterator[Sentence]:
    block = "\n".join(without_links(text) for text in lines)
    start = 0
    for end in [match.end() for match in _END.finditer(block) if not _SHORT_FORM.search(block[: match.start()])]:
        yield from _sentence(reader, block[start:end], line + block.count("\n", 0, start))
        start = end
    yield from _sentence(reader, block[start:], line + block.count("\n", 0, start))


def _sentence(reader: _Reader, text: str, line: int, *, is_row: bool = False) -> Iterator[Sentence]:
    stripped = text.strip()
    if not stripped or len(stripped) > _LENGTH or reader.silent:
        return
    lead = len(text) - len(text.lstrip())
    yield Sentence(stripped, line + text.count("\n", 0, lead), reader.heading, reader.opening, is_row)
    reader.opening = False


def _rows(reader: _Reader) -> Iterator[Sentence]:
    """The rows of one table. With a column of targets, a row says its first cell, that column's name, and its cell."""
    header = _cells(reader.lines[reader.at])
    if reader.at + 1 < len(reader.lines) and _RULE.match(reader.lines[reader.at + 1]):
        reader.at += 2
    chosen = next((n for n, cell in enumerate(header) if n and _TARGET.search(cell)), None)
    while reader.at < len(reader.lines) and _ROW.match(reader.lines[reader.at]):
        cells = _cells(reader.lines[reader.at])
        targeted = chosen is not None and chosen < len(cells)
        said = [cells[0], f"{header[chosen or 0]} {cells[chosen or 0]}"] if targeted else cells
        yield from _sentence(reader, ": ".join(cell for cell in said if cell), reader.at + 1, is_row=True)
        reader.at += 1


def _cells(row: str) -> list[str]:
    return [without_links(cell) for cell in row.strip().strip("|").split("|")]
