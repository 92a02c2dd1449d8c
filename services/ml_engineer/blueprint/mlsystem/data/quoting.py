"""Names and texts as SQL reads them: whatever they hold, they end where they should."""

from __future__ import annotations


def identifier(name: str) -> str:
    """Return the name of a column or table in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text in SQL."""
    return "'" + text.replace("'", "''") + "'"
