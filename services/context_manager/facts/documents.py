"""Facts from prose: READMEs, documents and notes.

One pass over the sentences; each kind of fact has a reader that looks at one sentence at a time.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from services.context_manager.facts import goals, obligations, scope, service_levels
from services.context_manager.facts.finding import Finding, Source
from services.context_manager.facts.sentences import Sentence, sentences

_READERS: Final[tuple[Callable[[Sentence], Iterator[Finding]], ...]] = (
    goals.goal,
    goals.kpi,
    goals.cost_of_error,
    goals.known_at_prediction,
    service_levels.load,
    service_levels.latency,
    service_levels.availability,
    obligations.consistency,
    obligations.access,
    obligations.freshness,
    obligations.regime,
    obligations.personal_data,
    obligations.retention,
)
_PROSE: Final = re.compile(
    r"\.(?:md|markdown|mdx|rst)$|(?:^|/)readme(?:\.txt)?$|(?:^|/)(?:docs?|notes?)/(?:.+/)?[^/]+\.txt$", re.IGNORECASE
)
_NOT_OURS: Final = re.compile(
    r"(?:^|/)(?:licen[cs]e|copying|notice|code_of_conduct|contributing|security|authors)(?:\.\w+)?$", re.IGNORECASE
)


def matches(path: str) -> bool:
    """Whether the file is prose about this project."""
    return _PROSE.search(path) is not None and _NOT_OURS.search(path) is None


def extract(source: Source) -> Iterator[Finding]:
    """What the document states."""
    first: Sentence | None = None
    for sentence in sentences(source.text):
        first = first or (None if sentence.is_row else sentence)
        if not scope.is_unreal(sentence.text):
            for reader in _READERS:
                yield from reader(sentence)
    yield from goals.description(source, first)
