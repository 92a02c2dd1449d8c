"""What of everything known goes into one answer: which facts, which reports, which paths."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from contracts.briefing import Fact
from services.context_manager import words
from services.context_manager.knowledge import Report
from services.context_manager.paths import name_of, parents_of

_LIMIT: Final = 8
_LIMITS: Final = {"data.dataset": 25, "security.pii": 25}
"""Facts of one field in an answer."""
_BY_NAME: Final = frozenset({"stack.language", "stack.framework", "stack.database"})
"""Fields of which the surest version is told and no other."""
_REPORTS: Final = 10
_LATEST: Final = 3
"""Reports that every briefing tells, whatever it is about."""


def facts(known: Iterable[Fact], terms: tuple[str, ...] = ()) -> list[Fact]:
    """Each value once, by its surest source, those nearest to `terms` first among equals, and so many of a field."""
    kept = dict[tuple[str, str], Fact]()
    counts = dict[str, int]()
    for fact in sorted(known, key=lambda fact: (-fact.confidence, -_shared(fact, terms))):
        field = f"{fact.slot}.{fact.field}"
        value = fact.value.split(" ")[0] if field in _BY_NAME else fact.value
        if (field, value) not in kept and counts.get(field, 0) < _LIMITS.get(field, _LIMIT):
            kept[field, value] = fact
            counts[field] = counts.get(field, 0) + 1
    return list(kept.values())


def _shared(fact: Fact, terms: tuple[str, ...]) -> int:
    """How many of the question's words the fact holds."""
    lowered = f"{fact.value} {fact.source}".lower()
    return sum(1 for term in terms if term in lowered)


def file_of(fact: Fact) -> str:
    """The path in a fact's `path:line`."""
    return fact.source.rpartition(":")[0]


def related(reports: Sequence[Report], terms: tuple[str, ...]) -> list[Report]:
    """The latest reports, and older ones that share two of `terms` (or the only one). `reports` is newest first."""
    enough = min(2, len(terms)) or 1
    older = [report for report in reports[_LATEST:] if len(_said(report).intersection(terms)) >= enough]
    return [*reports[:_LATEST], *older][:_REPORTS]


def touching(reports: Sequence[Report], paths: Collection[str], terms: tuple[str, ...] = ()) -> list[Report]:
    """Reports on any of `paths`, or that say one of `terms`."""
    chosen = (r for r in reports if not paths_of(r).isdisjoint(paths) or not _said(r).isdisjoint(terms))
    return list(chosen)[:_REPORTS]


def paths_of(report: Report) -> set[str]:
    """The files that a report names."""
    return set(report.files)


@lru_cache(maxsize=4096)
def _said(report: Report) -> set[str]:
    return set(words.terms(" ".join((report.summary, *report.files))))


def listed(*paths: Iterable[str]) -> list[str]:
    """All of `paths` in order, each once."""
    return list(dict.fromkeys(path for group in paths for path in group))


def directories(purposes: Mapping[str, str]) -> list[str]:
    """Every directory that holds a known file, the shallow ones first."""
    found = {str(parent) for path in purposes for parent in parents_of(path)}
    return sorted(found, key=lambda path: (path.count("/"), path))


def nearest(names: Sequence[str], paths: Iterable[str]) -> str:
    """A sentence with names that are spelled almost like `names`, or nothing."""
    known = dict.fromkeys(name_of(path) for path in paths)
    close = listed(*(get_close_matches(name_of(name), known, n=3, cutoff=0.75) for name in names))
    return f" Names like it: {', '.join(close[:3])}." if close else ""
