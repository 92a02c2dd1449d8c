"""Facts from files, one extractor a kind of source.

`SOURCES` is the whole registry: a new kind of source is a module with a test for its name and an extractor,
and a row here. Extractors see text without secrets, never open files, and never raise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from services.context_manager.facts import (
    containers,
    datasets,
    documents,
    environments,
    openapi,
    packages,
    pipelines,
)
from services.context_manager.facts.finding import Finding, Source
from services.context_manager.places import weight

_LEAST: Final = 0.15
"""Below this a finding is noise: a mention in a test."""


@dataclass(frozen=True, slots=True)
class SourceKind:
    """A kind of file, how to know it by its path, and what reads it."""

    name: str
    matches: Callable[[str], bool]
    extract: Callable[[Source], Iterator[Finding]]


def _is_table(path: str) -> bool:
    return path.lower().endswith((".csv", ".tsv", ".parquet"))


SOURCES: Final = (
    SourceKind("document", documents.matches, documents.extract),
    SourceKind("Python project", packages.is_pyproject, packages.pyproject),
    SourceKind("requirements", packages.is_requirements, packages.requirements),
    SourceKind("Node package", packages.is_package_json, packages.package_json),
    SourceKind("Dockerfile", containers.is_dockerfile, containers.dockerfile),
    SourceKind("compose file", containers.is_compose, containers.compose),
    SourceKind("workflow", pipelines.is_workflow, pipelines.workflow),
    SourceKind("GitLab pipeline", pipelines.is_gitlab, pipelines.gitlab),
    SourceKind("OpenAPI document", openapi.matches, openapi.extract),
    SourceKind("names of settings", environments.matches, environments.extract),
    SourceKind("table", _is_table, datasets.extract),
)


def facts_of(source: Source) -> list[Finding]:
    """What the file says, weighed by where it lies: each value once, the surest reading of it."""
    place = weight(source.path)
    best = dict[tuple[str, str, str], Finding]()
    for kind in SOURCES:
        if not kind.matches(source.path):
            continue
        for finding in kind.extract(source):
            weighed = replace(finding, confidence=round(finding.confidence * place, 3))
            key = (finding.slot, finding.field, finding.value)
            if weighed.confidence >= _LEAST and (key not in best or best[key].confidence < weighed.confidence):
                best[key] = weighed
    return list(best.values())
