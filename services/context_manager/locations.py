"""Where a file is and what a directory is for.

A name counts as it is spelled; a description counts when a file holds most of its words. What is not there is
said not to be there, with names that are spelled alike.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from contracts.briefing import BriefingBody
from services.context_manager import retrieval, selection, walking, wording, words
from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.paths import name_of, parent_of
from services.context_manager.purposes import directory_purpose

HISTORY: Final = 200
"""Reports that an answer is chosen from."""
_PATHS: Final = 12
_CANDIDATES: Final = 25
_GUESSES: Final = 5
"""Files that are told when the question describes rather than names."""
_SHARE: Final = 0.6
"""Share of a description's words that a file must hold to be what is described."""
_FILLERS: Final = frozenset(
    {"the", "a", "an", "is", "what", "for", "of", "directory", "folder", "purpose", "does", "in", "it"}
)


def file_location(memory: KnowledgeBase, question: str) -> BriefingBody | str:
    """Where the file is that `question` names or describes; text when there is none."""
    purposes = memory.purposes()
    names = retrieval.named(question)
    paths = _spelled(question, names, purposes)
    if not paths and names:
        return f"No file is called {' or '.join(names)}.{selection.nearest(names, purposes)}"
    paths = paths or _described(memory, words.terms(question))
    if not paths:
        return "No file in the workspace holds what the question describes."
    shown = paths[:_PATHS]
    more = f" {len(paths) - len(shown)} more match." if len(paths) > len(shown) else ""
    reports = selection.touching(memory.activity(HISTORY), shown)
    told = "; ".join(f"{path} ({purposes[path]})" for path in shown)
    return BriefingBody(
        summary=" ".join([f"{told}.{more}", *wording.lately(reports)]),
        relevant_paths=tuple(shown),
        file_purposes={path: purposes[path] for path in shown},
        related_activity=tuple(report.activity for report in reports),
        facts=tuple(selection.facts(fact for fact in memory.facts() if selection.file_of(fact) in shown)),
    )


def _spelled(question: str, names: Sequence[str], purposes: Mapping[str, str]) -> list[str]:
    """Files that the question names: as a whole, by a part of it, or by a name with spaces anywhere in it."""
    whole = walking.rooted(question.strip())
    if whole in purposes:
        return [str(whole)]
    lowered = question.lower()
    spaced = [path for path in purposes if " " in (name := name_of(path)) and name.lower() in lowered]
    return selection.listed(retrieval.matching(names, purposes), spaced)


def _described(memory: KnowledgeBase, terms: tuple[str, ...]) -> list[str]:
    """The files that hold the most of the words, if that is most of them."""
    held = {path: memory.covered(terms, path) for path in memory.search(terms)[:_CANDIDATES]}
    most = max(held.values(), default=0)
    if most < max(1, _SHARE * len(terms)):
        return []
    return [path for path, count in held.items() if count == most][:_GUESSES]


def directory_purposes(memory: KnowledgeBase, question: str) -> BriefingBody | str:
    """What the directories are for that `question` names; text when there are none."""
    purposes = memory.purposes()
    known = selection.directories(purposes)
    found = _named_directories(question.strip(), known)[:_PATHS]
    if not found:
        wanted = retrieval.named(question) or [question.strip()[:200]]
        return f"No such directory holds anything that is known.{selection.nearest(wanted, known)}"
    told = {path: directory_purpose(path, purposes) for path in found}
    direct = [path for path in purposes if parent_of(path) in told]
    below = [path for path in purposes if path.startswith(tuple(f"{directory.rstrip('/')}/" for directory in found))]
    shown = direct[: _PATHS - min(len(found), _PATHS - 1)]
    reports = selection.touching(memory.activity(HISTORY), below)
    return BriefingBody(
        summary=" ".join([f"{'; '.join(f'{path}: {text}' for path, text in told.items())}.", *wording.lately(reports)]),
        relevant_paths=(*found, *shown),
        file_purposes=told | {path: purposes[path] for path in shown},
        related_activity=tuple(report.activity for report in reports),
    )


def _named_directories(question: str, known: Sequence[str]) -> list[str]:
    """Directories that the question names: as a whole, by a path in it, else by a word that is a directory's name."""
    if question in {"/", ".", "./"}:
        return [path for path in known if path == "/"]
    whole = walking.rooted(question)
    if whole in known:
        return [str(whole)]
    names = retrieval.named(question)
    by_path = retrieval.matching([name for name in names if "/" in name], known)
    if by_path or any("/" in name.strip("/") for name in names):
        return by_path
    tokens = (token.strip("/.,?!:;`\"'()").lower() for token in question.split())
    spoken = {token for token in tokens if token not in _FILLERS}
    return [path for path in known if path != "/" and name_of(path).lower() in spoken]
