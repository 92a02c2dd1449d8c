"""The summary in plain words without any model: the offline default, and what stands in when prose does not pass.

Owns the choice and the order of what is told. What matters most is taken first until the words run out; the
text then reads in its own order: how it ended, what is wrong, how good it is, what it rests on, where it is.
"""

from collections.abc import Sequence
from typing import Final

from contracts.summary import Claim
from services.summarizer.claims import Statement, Topic

MAX_WORDS: Final = 200

_PARAGRAPHS: Final[tuple[tuple[Topic, ...], ...]] = (
    ("outcome", "quality", "latency"),
    ("gates", "unmet"),
    ("findings", "known", "answered", "assumed"),
    ("place", "next"),
    ("request",),
)
_BY_IMPORTANCE: Final[tuple[Topic, ...]] = (
    *("outcome", "unmet", "gates", "quality", "place", "next", "latency", "assumed", "findings", "known", "answered"),
    "request",
)


def told(statements: Sequence[Statement]) -> tuple[str, tuple[Claim, ...]]:
    """The text, at most MAX_WORDS words unless its first sentence alone is longer, and the claims that it makes."""
    chosen = _chosen(statements)
    paragraphs = [_paragraph(topics, chosen) for topics in _PARAGRAPHS]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return text, tuple(statement.claim for topics in _PARAGRAPHS for statement in _of(topics, chosen))


def _chosen(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """Failing statements before the others, then by importance, as long as there is room."""
    ranked = sorted(statements, key=lambda s: (s.topic != "outcome", not s.failing, _BY_IMPORTANCE.index(s.topic)))
    chosen: list[Statement] = []
    for statement in ranked:
        if not chosen or sum(map(_length, chosen)) + _length(statement) <= MAX_WORDS:
            chosen.append(statement)
    return tuple(chosen)


def _paragraph(topics: tuple[Topic, ...], chosen: Sequence[Statement]) -> str:
    """The sentences of these topics; neighbours that open alike become one sentence."""
    sentences: list[str] = []
    opening = ""
    for statement in _of(topics, chosen):
        head, colon, rest = statement.claim.text.partition(": ")
        if colon and head == opening:
            sentences[-1] = f"{sentences[-1].removesuffix('.')}; {rest}"
        else:
            sentences.append(statement.claim.text)
        opening = head if colon else ""
    return " ".join(sentences)


def _of(topics: tuple[Topic, ...], chosen: Sequence[Statement]) -> tuple[Statement, ...]:
    return tuple(statement for topic in topics for statement in chosen if statement.topic == topic)


def _length(statement: Statement) -> int:
    return len(statement.claim.text.split())
