"""A fact as an extractor finds it, and the scale on which extractors say how sure they are.

Where the file lies weighs on the confidence later; an extractor judges the words alone.
"""

from dataclasses import dataclass
from typing import Final

from services.context_manager.tables import Table

DECLARED: Final = 0.95
"""A machine reads it: a manifest, a specification, a header."""
IMPLIED: Final = 0.8
"""It follows from a declaration: a driver among the dependencies implies the database."""
REQUIRED: Final = 0.8
"""A document states it as a requirement: must, at most, objective."""
STATED: Final = 0.7
"""A document states it as so."""
DESCRIBED: Final = 0.6
"""A document says it without committing to it."""
MENTIONED: Final = 0.3
"""The word occurs, in passing, about the past or about somebody else."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file as extractors see it: `/`-rooted path, text without secrets, shape of the table if it is one."""

    path: str
    text: str
    table: Table | None = None

    def line_of(self, *words: str, start: int = 1) -> int:
        """The first line, from line `start` on, that holds all of `words`; `start` when none does."""
        lines = self.text.split("\n")
        found = (n for n, line in enumerate(lines[start - 1 :], start) if all(word in line for word in words))
        return next(found, start)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: `slot.field = value`, on `line` (from 1) of its source."""

    slot: str
    field: str
    value: str
    line: int
    confidence: float
