"""Reads a request in plain words: which data, which target, how fast, how much, under which rules.

Pure text in, slots out. Only what is said is found: a number counts beside the words of its kind, in the same
clause, so that a training time is no latency and an accuracy no availability. Nothing is guessed here.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.events import AnswerValue

_TABLE: Final = r"\.(?:csv|tsv|txt|parquet|pq|xlsx?|jsonl|ndjson|feather|arrow|avro|orc)(?:\.gz)?"
_PATH = re.compile(
    rf"(?<!\w)(?P<mark>[`'\"])(?P<quoted>[^`'\"\n]+?{_TABLE})(?P=mark)"
    rf"|(?P<remote>\b(?!file:)[a-z][a-z0-9+]*://\S{{1,500}}?{_TABLE}\b|\b(?:s3|gs|abfss?|hdfs|postgres\w*|mysql|sqlite)://\S+)"
    rf"|(?<![\w/.:~=+@%-])(?P<bare>(?:file://)?~?/?(?:[\w.~=+@%-]+/)*[\w.=+@%-]+{_TABLE})\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(r"[;!?\n]|[.,](?=\s|$)|\b(?:and|but|while)\b", re.IGNORECASE)
_DURATION = re.compile(
    r"(?<![\w.,])(?P<amount>\d[\d,]*(?:\.\d+)?)[ -]?"
    r"(?:(?P<small>ms|msecs?|milliseconds?|millis)|s|secs?|seconds?)\b(?!/)",
    re.IGNORECASE,
)
_P99 = re.compile(r"\bp9\d|\b99th\b", re.IGNORECASE)
_P50 = re.compile(r"\bp50\b|\bmedian\b|\baverage\b", re.IGNORECASE)
_ANSWERING = re.compile(r"\bp9\d|\b99th\b|latenc|\brespon|\bansw|\brepl(?:y|ies)\b|round[- ]?trip", re.IGNORECASE)
_OTHER_TIMES = re.compile(
    r"\b(?:train|retrain|budget|time-?out|retr(?:y|ies)|every|interval|start|build|window)\w*",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"(?<![\w.,$€£-])(?P<amount>\d[\d,]*(?:\.\d+)?)(?P<scale>\s*(?:k|m|thousand|million)(?![a-z]))?\s*"
    r"(?:(?P<short>rps|qps|tps)\b"
    r"|(?P<noun>requests?|reqs?|predictions?|calls?|quer(?:y|ies)|scores?|scorings?|lookups?|inferences?|rows)?\s*"
    r"(?:(?P<slash>/)\s*|\b(?:per|an?|each|every)\s+)(?P<unit>seconds?|secs?|s|minutes?|mins?|hours?|hrs?|h|days?)\b)",
    re.IGNORECASE,
)
_TRAFFIC = re.compile(r"\b(?:traffic|load|rate|volume|throughput|request|call|prediction|expect)\w*", re.IGNORECASE)
_PEAK = re.compile(r"\b(?:spik|peak|burst|surg)\w*", re.IGNORECASE)
_AT_PEAK = re.compile(
    r"\s*(?:(?:at|in|on|during)\s+(?:the\s+)?(?:spik|peak|burst|surg)|(?:spike|peak|burst)\b)", re.IGNORECASE
)
_MULTIPLE = re.compile(r"(?<![\w.])(?P<amount>\d+(?:\.\d+)?)(?:\s*(?:x\b|\u00d7)|[ -]?(?:times|fold)\b)", re.IGNORECASE)
_SHARE = re.compile(r"(?<![\d.])(?P<amount>9\d(?:[.,]\d+)?)\s*(?:%|percent\b)", re.IGNORECASE)
_AVAILABLE = re.compile(r"\bavailab\w*|\bup[- ]?time\b|\bsl[ao]s?\b", re.IGNORECASE)
_NEAR: Final = 80
"""Characters before a number or a name in which a word still belongs to it."""
_REGIME: Final = r"(?:gdpr|hipaa|pci(?:[- ]dss)?)"
_REGIMES = re.compile(r"\b(gdpr|hipaa|pci)(?:[- ]dss)?\b", re.IGNORECASE)
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|non|without|neither|nor|isn't|aren't|outside)\b"
    rf"(?:[\s,-]+(?:{_REGIME}|or|and|nor|any|under|subject|to|covered|by|in|scope|of|for|the))*[\s,-]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(r"\s+(?:rules?\s+)?(?:do(?:es)?|is|are)(?:n't|\s+not)\b", re.IGNORECASE)
_KIND = re.compile(r"(?<!logistic )\b(regression|regress)\b|\b(forecast\w*)\b|\b(classif\w+)\b", re.IGNORECASE)
_NAMED = re.compile(
    r"(?:\bregression of|\btarget(?: column)?(?: is)?|\bcolumn|\bpredict(?: the)?(?: column)?"
    r"|\blabel(?: column)?(?: is)?)"
    r"(?:\s*[:=]\s*|\s+)[`'\"]?([^\W\d](?:[\w.-]*\w)?)[`'\"]?",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(r"\s*(?:\bor\b|\band\b|/)\s*(?:the\s+)?[`'\"]?([^\W\d](?:[\w.-]*\w)?)[`'\"]?", re.IGNORECASE)
_QUOTED = re.compile(r"(?<!\w)([`'\"])([^`'\"\n]{1,80})\1")
_WORD = re.compile(r"[^\W_]+")
_FILLER: Final = frozenset(
    _WORD.findall(
        "which who whether what how many much the a an our my its is are will would from for using based daily weekly"
        " if when where that this these those with of to in on by and or each every next column columns"
    )
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
    text = _PATH.sub(" ", request)
    clauses = _CLAUSE_ENDS.split(text)
    rates = [found for clause in clauses for found in _rates(clause)]
    said = {
        "nfr.latency": _latency(clauses),
        "scale.rate": next((value for value, peak in rates if not peak), ""),
        "scale.spikes": _multiple(clauses) or next((value for value, peak in rates if peak), ""),
        "nfr.availability": _availability(clauses),
        "security.regime": _regimes(text),
    }
    slots |= {slot: value for slot, value in said.items() if value}
    named = tuple(word for word in _NAMED.findall(text) if word.lower() not in _FILLER)
    return Reading(slots, _paths(request), named)


def kind_said(request: str) -> str:
    """`regression`, `forecast`, `classification` or nothing. Logistic regression is a model, not a kind."""
    match = _KIND.search(_PATH.sub(" ", request))
    if match is None:
        return ""
    return "regression" if match.group(1) else "forecast" if match.group(2) else "classification"


def targets_in(request: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that the request means, best evidence first; several when it does not decide.

    A quoted or called name wins over a name that merely occurs, which wins over a word of the same stem.
    """
    text = _PATH.sub(" ", request)
    said = [*(quoted for _, quoted in _QUOTED.findall(text)), *_NAMED.findall(text)]
    if called := [column for word in said for column in same(word, columns)]:
        return _unique(called)
    lowered = text.lower()
    occurring = [
        name for name in columns if len(name) > 1 and re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered)
    ]
    if occurring:
        return _unique(occurring)
    stems = {_stem(word) for word in _WORD.findall(lowered) if len(word) > 3 and word not in _FILLER}
    return _unique(name for name in columns if stems & {_stem(part) for part in words_of(name) if len(part) > 3})


def alternatives_in(request: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns that the request names as its target side by side, as in `predict churned or cancelled`."""
    text = _PATH.sub(" ", request)
    for match in _NAMED.finditer(text):
        words, end = [match[1]], match.end()
        while other := _OTHER_NAME.match(text, end):
            words.append(other[1])
            end = other.end()
        found = _unique(column for word in words for column in same(word, columns))
        if len(found) > 1:
            return found
    return ()


def same(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The column of this name; without it, those that differ in case alone."""
    if name in columns:
        return (name,)
    return tuple(column for column in columns if column.lower() == name.lower())


def nearest(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Up to three columns that are spelled like `name`."""
    by_lower = {column.lower(): column for column in columns}
    return tuple(by_lower[found] for found in difflib.get_close_matches(name.lower(), list(by_lower), n=3, cutoff=0.5))


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name: `MonthlyCharges` and `monthly_charges` alike."""
    return tuple(_WORD.findall(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()))


def _paths(request: str) -> tuple[str, ...]:
    """Every table that is named. A text file beside a table is prose, not data."""
    found = [match["quoted"] or match["remote"] or match["bare"] for match in _PATH.finditer(request)]
    tables = [path for path in found if not path.lower().endswith((".txt", ".txt.gz"))]
    return _unique(tables or found)


def _latency(clauses: Iterable[str]) -> str:
    """The answer time that is asked for, the one at p99 if there are several."""
    found = [(_P99.search(clause) is not None, value) for clause in clauses if (value := _answer_time(clause))]
    return max(found, key=lambda item: item[0])[1] if found else ""


def _answer_time(clause: str) -> str:
    """The time that a clause allows for an answer. Seconds need a word of answering; milliseconds speak alone."""
    high, answering = _P99.search(clause), _ANSWERING.search(clause) is not None
    if (high is None and _P50.search(clause)) or (not answering and _OTHER_TIMES.search(clause)):
        return ""
    match = (_DURATION.search(clause, high.end()) if high else None) or _DURATION.search(clause)
    if match is None or not (match["small"] or answering):
        return ""
    return f"{match['amount'].replace(',', '')} {'ms' if match['small'] else 's'} p99"


def _rates(clause: str) -> Iterator[tuple[str, bool]]:
    """(rate, whether it is a peak) of each rate of requests: the word of a peak stands before it, or right after."""
    traffic = _TRAFFIC.search(clause) is not None
    for match in _RATE.finditer(clause):
        if _is_rate(match, traffic=traffic):
            unit = (match["unit"] or "second").lower()
            word = next(word for word in ("second", "minute", "hour", "day") if word[0] == unit[0])
            scale = (match["scale"] or "").strip()
            before = re.split(r"\d", clause[max(0, match.start() - _NEAR) : match.start()])[-1]
            peak = _PEAK.search(before) or _AT_PEAK.match(clause, match.end())
            yield f"{match['amount']}{' ' * bool(scale)}{scale} per {word}", peak is not None


def _is_rate(match: re.Match[str], *, traffic: bool) -> bool:
    """A number a time: `5 m/s` is a speed, `15 an hour` without a word of traffic is a wage."""
    if match["short"] or match["noun"]:
        return True
    if match["slash"]:
        return (match["scale"] or "").lower() in {"", "k"}
    return traffic or bool(match["scale"])


def _multiple(clauses: Iterable[str]) -> str:
    """A peak as a multiple of the usual rate."""
    spiking = (clause for clause in clauses if _PEAK.search(clause))
    return next((f"{match['amount']}x" for clause in spiking if (match := _MULTIPLE.search(clause))), "")


def _availability(clauses: Iterable[str]) -> str:
    """The share that stands nearest to a word of availability in its clause."""
    found: list[tuple[int, str]] = []
    for clause in clauses:
        places = [word.start() for word in _AVAILABLE.finditer(clause)]
        for match in _SHARE.finditer(clause) if places else ():
            distance = min(abs(place - match.start()) for place in places)
            found.append((distance, match["amount"].replace(",", ".")))
    return f"{min(found)[1]} %" if found else ""


def _regimes(text: str) -> list[str] | str:
    """Regulations that apply; `none` when all that are named are denied."""
    named = list(_REGIMES.finditer(text))
    applying = {match[1].lower() for match in named if not _is_denied(text, match)}
    return sorted(applying) or ("none" if named else [])


def _is_denied(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - _NEAR) : match.start()]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(text, match.end()))


def _stem(word: str) -> str:
    return re.sub(r"(?:ings?|ers?|ed|ions?|es|(?<!s)s|e)$", "", word)


def _unique(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))
