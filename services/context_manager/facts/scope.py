"""Whether a sentence really claims what a pattern found in it.

Precision comes before recall: what is negated, hypothetical, a placeholder, a question, planned or about
somebody else is no fact of this project. A missed statement costs a question; a wrong one costs the answer.
"""

import re
from typing import Final

_PLACEHOLDER: Final = re.compile(
    r"\b(?:TBD|TBC|TODO|FIXME|XX+|N/A|lorem ipsum|to be (?:defined|decided|determined|confirmed|agreed)|placeholder"
    r"|your[-_ ]\w+)\b"
    r"|\{\{|\$\{|\?\?|_{3,}|\.\.\.\s*(?:ms|%|rps)|<\w[\w -]*>"
)
_UNREAL: Final = re.compile(
    r"\b(?:if|unless|would|could|might|may|maybe|perhaps|suppose|imagine|assum(?:e|es|ing)|for (?:example|instance)"
    r"|e\.g|such as"
    r"|hypothetical\w*|some ?day|in (?:the )?future|planned|plans? to|road ?map|phase \d|nice to have|optional(?:ly)?"
    r"|whether|depends? on|configurable|by default|defaults? to|eventually(?! consisten)|next (?:quarter|year|month"
    r"|release))\b",
    re.IGNORECASE,
)
_AFFIRMED: Final = re.compile(
    r"\b(?:not|never|no|cannot|can't|mustn't|must not|may not)\s+(?:to\s+)?(?:be\s+|take\s+|get\s+)?"
    r"(?:more|less|fewer|later|longer|slower|worse|higher|lower|exceed\w*|above|over|only|greater|surpass"
    r"|go (?:above|over|beyond))\b",
    re.IGNORECASE,
)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|without|neither|nor|none|nothing|cannot|isn't|aren't|doesn't|don't|won't|wasn't|needn't"
    r"|can't|hardly"
    r"|free (?:of|from)|exempt\w*|outside|out of scope|rather than|instead of|unlike|lacks?|excluding|except)\b",
    re.IGNORECASE,
)
_NEGATED_AFTER: Final = re.compile(
    r"\b(?:(?:do|does|is|are|was|were|will|need|has|have)(?: not|n't)|not (?:applicable|required|relevant|needed"
    r"|in scope)|n/a|out of scope"
    r"|irrelevant|exempt\w*|cannot|no longer|neither|nowhere)\b",
    re.IGNORECASE,
)
_CONTRAST: Final = re.compile(
    r"\bbut\b|\bhowever\b|\balthough\b|\bwhile\b|\bwhereas\b|\byet\b|;|\u2014|\u2013|\s-\s", re.IGNORECASE
)
_PAST: Final = re.compile(
    r"\b(?:benchmark\w*|baselines?|measured?|measurement|observed|achiev\w+|was|were|had|used to|previous(?:ly)?"
    r"|formerly"
    r"|before|so far|we saw"
    r"|improv\w+|reduc\w+|dropp\w+|fell|rose|went|grew|from .{1,40}? to|last (?:week|month|year|quarter)|incident"
    r"|outage|load[- ]test\w*"
    r"|stress[- ]test\w*|on (?:my|a) (?:laptop|machine)|can (?:handle|serve|sustain|take)|able to|capable"
    r"|up to \S+ (?:rps|qps))\b",
    re.IGNORECASE,
)
_OTHERS: Final = re.compile(
    r"\b(?:aws|amazon|azure|gcp|google|cloudflare|stripe|paypal|twilio|github|datadog|snowflake|redis|kafka"
    r"|rabbitmq|postgres(?:ql)?"
    r"|mysql|mongo(?:db)?|elasticsearch|kubernetes|s3|dynamodb|third[- ]part(?:y|ies)|vendors?|providers?|upstream"
    r"|their|competitors?"
    r"|onnx ?runtime|lightgbm|xgboost|nginx)\b",
    re.IGNORECASE,
)
_BINDING: Final = re.compile(
    r"\b(?:must|shall|should|needs?|requir\w+|targets?|objectives?|slos?|slas?|budgets?|under|below|within|at most"
    r"|less than|maximum|max"
    r"|no more than|not exceed\w*|goals?|faster than|at least|minimum|commit\w*|promis\w*|guarantee\w*|contract\w*"
    r"|limit|expect\w*)\b|[<≤]",
    re.IGNORECASE,
)


def is_unreal(text: str) -> bool:
    """Whether the sentence asks, supposes, plans or leaves blank instead of stating."""
    return text.rstrip("\"')").endswith("?") or bool(_PLACEHOLDER.search(text) or _UNREAL.search(text))


def is_past_or_foreign(text: str) -> bool:
    """Whether the sentence reports a measurement, the past, an ability, or somebody else's service."""
    return bool(_PAST.search(text) or _OTHERS.search(text))


def is_binding(text: str) -> bool:
    """Whether the sentence states a requirement rather than an observation."""
    return _BINDING.search(text) is not None


def is_negated(text: str, start: int, end: int) -> bool:
    """Whether what stands at `text[start:end]` is denied in its clause.

    A clause ends at a contrast (`but`, `;`, a dash), not at a comma: `not subject to HIPAA, PCI or GDPR` denies
    all three.
    """
    before = _CONTRAST.split(_AFFIRMED.sub(" ", text[:start]))[-1]
    after = _CONTRAST.split(text[end:], maxsplit=1)[0]
    return bool(_NEGATION.search(before) or _NEGATED_AFTER.search(after))


def clauses(text: str) -> list[tuple[int, str]]:
    """The parts of a sentence between commas, brackets, dashes and words such as `and`, with their offsets."""
    parts = list[tuple[int, str]]()
    start = 0
    for mark in re.finditer(
        r"[(]|[,;)](?=[\s.,;]|$)|\s[\u2014\u2013-]\s|\s(?:and|but|with|while|although"
        r"|whereas)\s",
        text,
    ):
        parts.append((start, text[start : mark.start()]))
        start = mark.end()
    parts.append((start, text[start:]))
    return [(offset, part) for offset, part in parts if part.strip()]
