"""Databases from the names of settings in `.env.example` and its like. Values never get this far."""

from collections.abc import Iterator

from services.context_manager.facts.finding import DESCRIBED, Finding, Source
from services.context_manager.facts.technology import DATABASE_SETTINGS
from services.context_manager.secrecy import names_only as matches

__all__ = ["extract", "matches"]


def extract(source: Source) -> Iterator[Finding]:
    """`stack.database` once for each database that a setting is named after."""
    seen = set[str]()
    for number, name in enumerate(source.text.split("\n"), 1):
        database = DATABASE_SETTINGS.get(name.upper().split("_", 1)[0])
        if database and database not in seen:
            seen.add(database)
            yield Finding("stack", "database", database, number, DESCRIBED)
