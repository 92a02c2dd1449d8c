"""Regimes, personal data, retention, freshness, consistency and access patterns as documents state them."""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import quantities, scope
from services.context_manager.facts.finding import DESCRIBED, MENTIONED, STATED, Finding
from services.context_manager.facts.sentences import Sentence
from services.context_manager.outlines import shortened

_REGIMES: Final = (
    ("gdpr", re.compile(r"\bGDPR\b|\bDSGVO\b|\bGeneral Data Protection Regulation\b")),
    ("hipaa", re.compile(r"\bHIPAA\b|\bHealth Insurance Portability and Accountability Act\b")),
    ("pci", re.compile(r"\bPCI[- ]?DSS\b|\bPCI(?=[ -](?:compli|scope|certif|audit|rules|requirements))")),
)
_BOUND: Final = re.compile(
    r"\bcompl(?:y|ies|iant|iance)\b|\bsubject to\b|\bappl(?:y|ies)\b|\bgovern\w*|\bregulat\w*"
    r"|\bunder (?:the )?(?:GDPR|HIPAA|PCI|DSGVO)"
    r"|\bmust\b|\bshall\b|\brequir\w*|\bobligat\w*|\bcovered by\b|\bfalls? under\b|\bin scope\b|\bbound by\b"
    r"|\bfollows?\b",
    re.IGNORECASE,
)
_SOMEBODY: Final = re.compile(
    r"\b(?:organi[sz]ations?|companies|businesses|adopters|tenants?|you|your|users?['\u2019]?s?\sresponsib\w+)\b"
    r"|\bfor customers\b",
    re.IGNORECASE,
)
"""Whose duty it is when it is not this project's."""
_PLAINLY_BOUND: Final = re.compile(
    r"\s+(?:compliance\s+)?(?:applies|is (?:required|mandatory)|is in scope)\b", re.IGNORECASE
)
_PERSONAL: Final = re.compile(
    r"\bpersonal(?:ly[ -]identif(?:iable|ying))? (?:data|information)\b|\bPII\b", re.IGNORECASE
)
_HOLDS: Final = re.compile(
    r"\b(?:contain|hold|store|process|include|handle|collect|keep)(?:s|es|ing|ed)?\b|\b(?:is|are|as"
    r"|counts? as) (?:personal|PII)\b",
    re.IGNORECASE,
)
_SPAN: Final = re.compile(
    rf"(?P<amount>{quantities.NUMBER})[ -]?(?P<unit>days?|weeks?|months?|years?)\b", re.IGNORECASE
)
_RETENTION: Final = re.compile(
    r"\bretention\b|\bretain\w*|\b(?:kept|keep|stored?|held)\b[^.;]{0,40}\bfor\b|\b(?:delete|purge|erase"
    r"|anonymi[sz]e)[sd]?\b[^.;]{0,60}\bafter\b",
    re.IGNORECASE,
)
_OTHER_KEPT: Final = re.compile(
    r"\b(?:logs?|backups?|artifacts?|caches?|metrics|traces|builds?|images|cookies?|sessions?"
    r"|tokens?)\b",
    re.IGNORECASE,
)
_RENEWED: Final = re.compile(
    r"\b(?:refresh\w*|updat\w*|load(?:s|ed)?|export\w*|ingest\w*|sync\w*|land(?:s|ed)?|arriv\w*|deliver\w*|fresh\w*"
    r"|dump\w*|extract\w*"
    r"|snapshots?|regenerat\w*|written|writes)\b",
    re.IGNORECASE,
)
_DATA: Final = re.compile(
    r"\b(?:data|data ?sets?|tables?|csv|parquet|exports?|feeds?|warehouse|dumps?|extracts?|snapshots?|features?"
    r"|records)\b",
    re.IGNORECASE,
)
_NOT_DATA: Final = re.compile(
    r"\b(?:depend\w*|release\w*|deploy\w*|documentation|build\w*|certificates?|backups?|reports?|dashboards?)\b",
    re.IGNORECASE,
)
_CADENCES: Final = (
    ("1h", re.compile(r"\bhourly\b|\b(?:every|each|once an|once per) hour\b", re.IGNORECASE)),
    (
        "1d",
        re.compile(
            r"\bdaily\b|\bnightly\b|\b(?:every|each|once a|once per) (?:day|night|morning|evening)\b|\bovernight\b",
            re.IGNORECASE,
        ),
    ),
    (
        "7d",
        re.compile(
            r"\bweekly\b|\b(?:every|each|once a|once per) (?:week|monday|tuesday|wednesday|thursday|friday|saturday"
            r"|sunday)\b",
            re.IGNORECASE,
        ),
    ),
    ("30d", re.compile(r"\bmonthly\b|\b(?:every|each|once a|once per) month\b", re.IGNORECASE)),
)
_EVERY: Final = re.compile(
    r"\b(?:every|at most|no more than|within|up to)\s(?P<amount>\d+|two|three|four|five|six|ten)\s(?P<unit>minutes?"
    r"|mins?|hours?|days?|weeks?)\b(?:\s(?P<old>old|late|behind|delay))?",
    re.IGNORECASE,
)
_UNITS: Final = {"m": "m", "h": "h", "d": "d", "w": "w"}
_CONSISTENCY: Final = (
    (
        "strong",
        re.compile(
            r"\bstrong(?:ly)?[- ]consisten(?:t|cy)\b|\blinearizab\w+|\bread[- ]your[- ](?:own[- ])?writes\b",
            re.IGNORECASE,
        ),
    ),
    ("eventual", re.compile(r"\beventual(?:ly)?[- ]consisten(?:t|cy)\b", re.IGNORECASE)),
)
_ACCESS: Final = (
    (
        "read-heavy",
        re.compile(
            r"\bread[- ](?:heavy|mostly|dominated|intensive)\b|\bmostly reads?\b|\breads (?:far )?outnumber writes\b",
            re.IGNORECASE,
        ),
    ),
    (
        "write-heavy",
        re.compile(
            r"\bwrite[- ](?:heavy|mostly|dominated|intensive)\b|\bmostly writes?\b"
            r"|\bwrites (?:far )?outnumber reads\b",
            re.IGNORECASE,
        ),
    ),
    ("append-only", re.compile(r"\bappend[- ]only\b", re.IGNORECASE)),
)
_SHARES: Final = re.compile(
    r"\b(?P<amount>\d\d)\s?%\s(?:of (?:the )?\w+ (?:is|are) )?(?P<kind>reads?|writes?)\b", re.IGNORECASE
)


def regime(sentence: Sentence) -> Iterator[Finding]:
    """`security.regime`: `gdpr`, `hipaa`, `pci`. A bare name is a mention; an obligation is a statement."""
    text = sentence.text
    for name, pattern in _REGIMES:
        match = pattern.search(text)
        if match is None:
            continue
        if _is_denied(text, match):
            continue
        binding = _BOUND.search(text) is not None and not (scope.is_past_or_foreign(text) or _SOMEBODY.search(text))
        yield Finding("security", "regime", name, sentence.line_at(match.start()), STATED if binding else MENTIONED)


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Negated, unless the name is affirmed on the spot: `GDPR applies, HIPAA does not`."""
    if _PLAINLY_BOUND.match(text, match.end()):
        return scope.is_negated(text[: match.end()], *match.span())
    return scope.is_negated(text, *match.span())


def personal_data(sentence: Sentence) -> Iterator[Finding]:
    """`security.pii`: the sentence that says that personal data are held. A mention: it names no column."""
    text = sentence.text
    match = _PERSONAL.search(text)
    if match and _HOLDS.search(text) and not scope.is_negated(text, match.start(), match.end()):
        yield Finding("security", "pii", shortened(sentence.flat), sentence.line_at(match.start()), MENTIONED)


def retention(sentence: Sentence) -> Iterator[Finding]:
    """`security.retention`: `90d`."""
    text = sentence.text
    spans = list(_SPAN.finditer(text))
    if len(spans) != 1 or not _RETENTION.search(text) or _OTHER_KEPT.search(text):
        return
    if scope.is_negated(text, spans[0].start(), spans[0].end()) or scope.is_past_or_foreign(text):
        return
    value = quantities.days(quantities.number(spans[0]["amount"]), spans[0]["unit"])
    yield Finding("security", "retention", value, sentence.line_at(spans[0].start()), STATED)


def freshness(sentence: Sentence) -> Iterator[Finding]:
    """`data.freshness`: how old the data may be or how often they are renewed: `1h`, `1d`, `15m`."""
    text = sentence.text
    if not _DATA.search(text) or _NOT_DATA.search(text):
        return
    found = [(_every(match), match) for match in _EVERY.finditer(text) if match["old"]]
    if _RENEWED.search(text):
        found += [(value, match) for value, pattern in _CADENCES if (match := pattern.search(text))]
        found += [(_every(match), match) for match in _EVERY.finditer(text) if match[0].lower().startswith("every")]
    if len(found) != 1 or scope.is_negated(text, *found[0][1].span()):
        return
    value, match = found[0]
    yield Finding("data", "freshness", value, sentence.line_at(match.start()), DESCRIBED)


def _every(match: re.Match[str]) -> str:
    return f"{quantities.multiple(match['amount']):g}{_UNITS[match['unit'][0].lower()]}"


def consistency(sentence: Sentence) -> Iterator[Finding]:
    """`nfr.consistency`: `strong` or `eventual`."""
    yield from _one_of(sentence, "nfr", "consistency", _CONSISTENCY)


def access(sentence: Sentence) -> Iterator[Finding]:
    """`data.read_write`: `read-heavy`, `write-heavy` or `append-only`."""
    yield from _one_of(sentence, "data", "read_write", _ACCESS)
    share = _SHARES.search(sentence.text)
    if share and int(share["amount"]) >= 70 and not scope.is_negated(sentence.text, *share.span()):
        kind = "read-heavy" if share["kind"].lower().startswith("read") else "write-heavy"
        yield Finding("data", "read_write", kind, sentence.line_at(share.start()), DESCRIBED)


def _one_of(
    sentence: Sentence, slot: str, field: str, kinds: tuple[tuple[str, re.Pattern[str]], ...]
) -> Iterator[Finding]:
    """The one kind that the sentence names; none when it compares several."""
    found = [(name, match) for name, pattern in kinds if (match := pattern.search(sentence.text))]
    if len(found) != 1 or scope.is_negated(sentence.text, *found[0][1].span()):
        return
    name, match = found[0]
    confidence = MENTIONED if scope.is_past_or_foreign(sentence.text) else DESCRIBED
    yield Finding(slot, field, name, sentence.line_at(match.start()), confidence)
