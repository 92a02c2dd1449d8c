"""Reads a request in plain words: which data, which target, how fast, how much, under which rules.

Pure text in, slots out. Only what is said is found: nothing is guessed here.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.events import AnswerValue

_PATH = re.compile(
    r"(?<![\w/.-])((?:file://)?/?(?:[\w.-]+/)*[\w.-]+\.(?:csv|tsv|txt|parquet|pq)(?:\.gz)?)\b", re.IGNORECASE
)
_LATENCY = re.compile(
    r"(?:p99|latency|respon\w+|answer\w*|within|under|below|less than|<)[^.;\d]{0,30}?"
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s\b|sec\w*)",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"(\d[\d,.]*\s*[km]?)\s*(?:requests?|predictions?|calls?|req|scores?)?\s*(?:rps|qps|tps|/\s*s(?:ec(?:ond)?)?\b"
    r"|(?:a|per)\s+(second|minute|hour|day))",
    re.IGNORECASE,
)
_SPIKES = re.compile(r"(?:spikes?|peaks?)\D{0,20}(\d+(?:\.\d+)?)\s*(?:x|times|-fold)", re.IGNORECASE)
_AVAILABILITY = re.compile(r"\b(9\d(?:\.\d+)?)\s*%", re.IGNORECASE)
_REGIMES = re.compile(r"\b(gdpr|hipaa|pci(?:[- ]dss)?)\b", re.IGNORECASE)
_KIND = re.compile(r"\b(regression|regress|forecast|classif\w+)\b", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:\bregression of|\btarget(?: column)?(?: is)?|\bcolumn|\bpredict(?: the)?(?: column)?"
    r"|\blabel(?: column)?(?: is)?)"
    r"\s+[`'\"]?([A-Za-z_][\w.-]*)[`'\"]?",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[`'\"]([^`'\"\n]{1,80})[`'\"]")
_WORD = re.compile(r"[a-z0-9]+")
_FILLER: Final = frozenset(
    [
        "which",
        "who",
        "whether",
        "what",
        "how",
        "many",
        "the",
        "a",
        "an",
        "our",
        "is",
        "are",
        "will",
        "from",
        "for",
        "using",
        "based",
        "daily",
        "if",
    ]
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request says."""

    slots: dict[str, AnswerValue]
    paths: tuple[str, ...]
    named: tuple[str, ...]
    """Words that the request calls its target, whether or not the data has such a column."""


def read(request: str) -> Reading:
    """The slots that a request fills, apart from the target, which needs the data's columns."""
    slots: dict[str, AnswerValue] = {"business.goal": " ".join(request.split())}
    if match := _LATENCY.search(request):
        slots["nfr.latency"] = f"{match.group(1)} {match.group(2)} p99"
    if match := _RATE.search(request):
        slots["scale.rate"] = f"{match.group(1).strip()} per {match.group(2) or 'second'}"
    if match := _SPIKES.search(request):
        slots["scale.spikes"] = f"{match.group(1)}x"
    if match := _AVAILABILITY.search(request):
        slots["nfr.availability"] = f"{match.group(1)} %"
    if regimes := sorted({found.lower() for found in _REGIMES.findall(request)}):
        slots["security.regime"] = [*regimes]
    paths = tuple(dict.fromkeys(_PATH.findall(request)))
    named = tuple(word for word in _NAMED.findall(_PATH.sub(" ", request)) if word.lower() not in _FILLER)
    return Reading(slots, paths, named)


def kind_said(request: str) -> str:
    """`regression`, `forecast`, `classification` or nothing."""
    match = _KIND.search(request)
    if match is None:
        return ""
    word = match.group(1).lower()
    return "regression" if word.startswith("regress") else "forecast" if word == "forecast" else "classification"


def targets_in(request: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that the request means, best evidence first; several when it does not decide.

    A quoted or called name wins over a name that merely occurs, which wins over a word of the same stem.
    """
    text = _PATH.sub(" ", request)
    by_lower = {name.lower(): name for name in columns}
    called = [
        by_lower[word.lower()] for word in [*_QUOTED.findall(text), *_NAMED.findall(text)] if word.lower() in by_lower
    ]
    if called:
        return _unique(called)
    lowered = text.lower()
    occurring = [
        name for name in columns if len(name) > 1 and re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered)
    ]
    if occurring:
        return _unique(occurring)
    stems = {_stem(word) for word in _WORD.findall(lowered) if len(word) > 3 and word not in _FILLER}
    return _unique(name for name in columns if stems & {_stem(part) for part in words_of(name) if len(part) > 3})


def nearest(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Up to three columns that are spelled like `name`."""
    by_lower = {column.lower(): column for column in columns}
    return tuple(by_lower[found] for found in difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5))


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name: `MonthlyCharges` and `monthly_charges` alike."""
    return tuple(_WORD.findall(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()))


def _stem(word: str) -> str:
    return re.sub(r"(ing|ers?|ed|es|s|ion)$", "", word)


def _unique(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))
