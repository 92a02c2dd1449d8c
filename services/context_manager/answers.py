"""Briefings from a memory that is in line with its workspace.

`not_found` rather than a guess, and every path in an answer is there when the answer is made.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.briefing import Briefing, BriefingBody, ContextRequest, Fact
from services.context_manager import locations, retrieval, selection, wording, words
from services.context_manager.facets import Facet, facet_of
from services.context_manager.knowledge import KnowledgeBase, Report
from services.context_manager.locations import HISTORY

_PATHS: Final = 10
_SOURCES: Final = 6
_READMES: Final = ("/README.md", "/readme.md", "/README.rst", "/README", "/README.txt")


def answer(memory: KnowledgeBase, request: ContextRequest) -> Briefing:
    """The briefing that `request` asks for."""
    question = request.payload.query
    if request.request_type == "get_file_location":
        found = locations.file_location(memory, question)
    elif request.request_type == "get_directory_purpose":
        found = locations.directory_purposes(memory, question)
    elif request.facet is not None:
        found = _facet(memory, question, facet_of(request.facet))
    else:
        found = _task(memory, question)
    if isinstance(found, str):
        return Briefing(response_to=request.requesting_agent, status="not_found", briefing=BriefingBody(summary=found))
    return Briefing(response_to=request.requesting_agent, status="success", briefing=_present(memory.workspace, found))


def failure(request: ContextRequest, reason: str) -> Briefing:
    """The answer when there is no workspace to answer about."""
    return Briefing(response_to=request.requesting_agent, status="error", briefing=BriefingBody(summary=reason))


def _task(memory: KnowledgeBase, question: str) -> BriefingBody | str:
    """What helps with a task: the project, the files near the question, all facts, what was done."""
    purposes, reports = memory.purposes(), memory.activity(HISTORY)
    if not purposes and not reports:
        return "The workspace holds nothing that is known: no file that git would not ignore, and no report."
    terms = words.terms(question)
    hits = _near(memory, purposes, question, terms)[:_PATHS]
    facts = selection.facts(memory.facts(), terms)
    related = selection.related(reports, terms)
    name = wording.title(memory.workspace.name, purposes, facts)
    sentences = [*wording.overview(name, purposes, facts), *wording.closest(hits, purposes), *wording.lately(related)]
    readmes = [path for path in _READMES if path in purposes]
    return _body(sentences, selection.listed(hits, _sources(facts), readmes), purposes, (facts, related))


def _facet(memory: KnowledgeBase, question: str, facet: Facet) -> BriefingBody | str:
    """The part of a briefing that concerns one side of the project."""
    purposes, reports = memory.purposes(), memory.activity(HISTORY)
    placed = [path for path in purposes if facet.places and facet.places.search(path)]
    worded = memory.search(facet.terms)
    if not facet.places:
        worded = [path for path in worded if memory.covered(facet.terms, path) == len(facet.terms)]
    inside = {*placed, *worded}
    near = [path for path in _near(memory, purposes, question, words.terms(question)) if path in inside]
    both = [path for path in worded if path in placed]
    hits = selection.listed(near, both, placed, worded)[:_PATHS]
    facts = [fact for fact in selection.facts(memory.facts(), facet.terms) if facet.concerns(fact, hits)]
    related = selection.touching(reports, placed, words.terms(facet.name))
    if not hits and not facts and not related:
        return f"Nothing in the workspace is about {facet.name}."
    name = wording.title(memory.workspace.name, purposes, facts)
    sentences = [
        f"{name}, {facet.name}:",
        *wording.about_facts(facts),
        *wording.closest(hits, purposes),
        *wording.lately(related),
    ]
    return _body(sentences, selection.listed(hits, _sources(facts)), purposes, (facts, related))


def _near(memory: KnowledgeBase, purposes: Mapping[str, str], question: str, terms: tuple[str, ...]) -> list[str]:
    """Files near a question: those it names, then those that hold its words."""
    named = retrieval.matching(retrieval.named(question), purposes)
    return selection.listed(named, memory.search(terms))


def _sources(facts: Sequence[Fact]) -> list[str]:
    return selection.listed(map(selection.file_of, facts))[:_SOURCES]


def _body(
    sentences: Sequence[str], paths: Sequence[str], purposes: Mapping[str, str], known: tuple[list[Fact], list[Report]]
) -> BriefingBody:
    facts, reports = known
    return BriefingBody(
        summary=" ".join(sentences),
        relevant_paths=tuple(paths),
        file_purposes={path: purposes[path] for path in paths if path in purposes},
        related_activity=tuple(report.activity for report in reports),
        facts=tuple(facts),
    )


def _present(workspace: Path, body: BriefingBody) -> BriefingBody:
    """`body` without what was deleted since the memory was brought in line."""
    there = {path for path in (*body.relevant_paths, *map(selection.file_of, body.facts)) if _exists(workspace, path)}
    return body.model_copy(
        update={
            "relevant_paths": tuple(path for path in body.relevant_paths if path in there),
            "file_purposes": {path: text for path, text in body.file_purposes.items() if path in there},
            "facts": tuple(fact for fact in body.facts if selection.file_of(fact) in there),
        }
    )


def _exists(workspace: Path, path: str) -> bool:
    return os.path.lexists(f"{workspace}/{path.lstrip('/')}")
