"""Reads a request in plain words: which data, which target, how fast, how much, under which rules.

Pure text in, slots out. Only what is said is found: a number counts beside the words of its kind, in the same
clause, so that a training time is no latency and an accuracy no availability. Nothing is guessed here.
"""

import collections
import difflib
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from contracts.events import AnswerValue
from services.ml_engineer.quantities import plain_amount

_TABLE: Final = r"\.(?:csv|tsv|txt|parquet|pq|xlsx?|jsonl?|ndjson|db|sqlite3?|feather|arrow|avro|orc)(?:\.gz)?"
_PATH = re.compile(
    rf"(?<!\w)(?P<mark>[`'\"])(?P<quoted>[^`'\"\n]+?{_TABLE})(?P=mark)"
    rf"|(?P<remote>\b(?!file:)[a-z][a-z0-9+]*://\S{{1,500}}?{_TABLE}\b|\b(?:s3|gs|abfss?|hdfs|postgres\w*|mysql|sqlite)://\S+)"
    rf"|(?<![\w/.:~=+@%-])(?P<bare>(?:file://)?~?/?(?:[\w.~=+@%*?-]+/)*[\w.=+@%*?-]+{_TABLE})\b",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(r"[;!?\n]|[.,](?=\s|$)|\b(?:and|but|while)\b", re.IGNORECASE)
_DURATION = re.compile(
    r"(?<![\w.,])(?P<amount>\d[\d,]*(?:\.\d+)?)[ -]?"
    r"(?:(?P<small>ms|msecs?|milliseconds?|millisekunden?|millis)|s|secs?|seconds?|sekunden?)\b(?!/)",
    re.IGNORECASE,
)
_P99 = re.compile(r"\bp9\d|\b99th\b", re.IGNORECASE)
_P50 = re.compile(r"\bp50\b|\bmedian\b|\baverage\b", re.IGNORECASE)
_ANSWERING = re.compile(
    r"\bp9\d|\b99th\b|latenc|\brespon|\bansw|\bantwort|\brepl(?:y|ies)\b|round[- ]?trip", re.IGNORECASE
)
_TAKEN_BACK = re.compile(r"\b(?:rather|actually|instead|correction|sorry|vielmehr|lieber)\b", re.IGNORECASE)
_OTHER_TIMES = re.compile(
    r"\b(?:train|retrain|budget|time-?out|retr(?:y|ies)|every|interval|start|build|window)\w*",
    re.IGNORECASE,
)
_RATE = re.compile(
    r"(?<![\w.,$€£-])(?P<amount>\d[\d,]*(?:\.\d+)?)(?P<scale>\s*(?:k|m|thousand|million)(?![a-z]))?\s*"
    r"(?:(?P<short>rps|qps|tps)\b"
    r"|(?P<noun>requests?|reqs?|anfragen?|predictions?|calls?|quer(?:y|ies)|scores?|scorings?|lookups?|inferences?|rows)?\s*"
    r"(?:(?P<slash>/)\s*|\b(?:per|pro|an?|each|every)\s+)(?P<unit>sekunde|seconds?|secs?|s|minutes?|mins?|hours?|hrs?|h|days?)\b)",
    re.IGNORECASE,
)
_TRAFFIC = re.compile(r"\b(?:traffic|load|rate|volume|throughput|request|call|prediction|expect)\w*", re.IGNORECASE)
_PEAK = re.compile(r"\b(?:spik|peak|burst|surg)\w*", re.IGNORECASE)
_AT_PEAK = re.compile(
    r"\s*(?:(?:at|in|on|during)\s+(?:the\s+)?(?:spik|peak|burst|surg)|(?:spike|peak|burst)\b)", re.IGNORECASE
)
_MULTIPLE = re.compile(r"(?<![\w.])(?P<amount>\d+(?:\.\d+)?)(?:\s*(?:x\b|\u00d7)|[ -]?(?:times|fold)\b)", re.IGNORECASE)
_SHARE = re.compile(r"(?<![\d.])(?P<amount>9\d(?:[.,]\d+)?)\s*(?:%|percent\b)", re.IGNORECASE)
_AVAILABLE = re.compile(r"\bavailab\w*|\bverfügbar\w*|\bup[- ]?time\b|\bsl[ao]s?\b", re.IGNORECASE)
_WORDS: Final = {"two": "2", "three": "3", "four": "4", "five": "5", "ten": "10", "twenty": "20", "hundred": "100"}
_MISS: Final = r"\b(?:miss(?:ed|ing|es)?|overlooked|undetected|unnoticed|lost|false negatives?)\b"
_ALARM: Final = r"\b(?:false (?:alarms?|positives?)|needless \w+|unnecessary \w+)\b"
_MONEY: Final = r"[^\d.;]{0,60}?[$€£]?\s?(?P<NAME>\d[\d,]*(?:\.\d+)?)(?![\d%])"
_OF_MISS: Final = _MISS + _MONEY.replace("NAME", "miss_costs")
_OF_ALARM: Final = _ALARM + _MONEY.replace("NAME", "alarm_costs")
_COSTS: Final = (
    re.compile(
        rf"(?:(?P<miss>{_MISS})|{_ALARM})[^\d.;]{{0,60}}?(?:(?P<times>\d+(?:\.\d+)?|{'|'.join(_WORDS)})\s*(?:x|times)|twice)\b[^.;]{{0,60}}?"
        rf"(?(miss){_ALARM}|{_MISS})",
        re.IGNORECASE,
    ),
    re.compile(rf"{_OF_MISS}[^;]{{0,80}}?{_OF_ALARM}", re.IGNORECASE),
    re.compile(rf"{_OF_ALARM}[^;]{{0,80}}?{_OF_MISS}", re.IGNORECASE),
)
"""`a missed fraud costs 50 times as much as a false alarm`; `a false alarm costs 5, a missed one 100`."""
_NEAR: Final = 80
"""Characters before a number or a name in which a word still belongs to it."""
_REGIME: Final = r"(?:gdpr|dsgvo|rgpd|hipaa|pci(?:[- ]dss)?)"
_REGIMES = re.compile(r"\b(gdpr|dsgvo|rgpd|hipaa|pci)(?:[- ]dss)?\b", re.IGNORECASE)
_GDPR: Final = frozenset({"dsgvo", "rgpd"})
"""What the GDPR is called elsewhere."""
_DENIED_BEFORE = re.compile(
    r"\b(?:no|not|non|without|neither|nor|isn't|aren't|outside)\b"
    rf"(?:[\s,-]+(?:{_REGIME}|or|and|nor|any|under|subject|to|covered|by|in|scope|of|for|the))*[\s,-]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(r"\s+(?:rules?\s+)?(?:do(?:es)?|is|are)(?:n't|\s+not)\b", re.IGNORECASE)
_KIND = re.compile(
    r"(?<!logistic )\b(regression|regress)\b|\b(classif\w+)\b"
    r"|(?:^\W*|[.!?;:,\n]\s*|\b(?:to|please|you|we|must|should|can|a|an|our|need|want|build|make|demand|sales)\s+)"
    r"(forecast\w*)\b",
    re.IGNORECASE,
)
"""A forecast of something else that is known, as in `the weather forecast`, is a column."""
_NAMED = re.compile(
    r"(?:\bregression of|\btarget(?: column)?(?: is)?|\bcolumn|\bpredict(?: the)?(?: column)?"
    r"|\blabel(?: column)?(?: is)?)"
    r"(?:\s*[:=]\s*|\s+)[`'\"]?([^\W\d](?:[\w.-]*\w)?)[`'\"]?",
    re.IGNORECASE,
)
_OTHER_NAME = re.compile(r"\s*(?:\bor\b|\band\b|/)\s*(?:the\s+)?[`'\"]?([^\W\d](?:[\w.-]*\w)?)[`'\"]?", re.IGNORECASE)
_FOLLOWING = re.compile(r"(?:['\u2019]?s\b)?\s+([^\W\d](?:[\w.-]*\w)?)")
_QUOTED = re.compile(r"(?<!\w)([`'\"])([^`'\"\n]{1,80})\1")
_WORD = re.compile(r"[^\W_]+")
_SHORT: Final = 3
"""Letters up to which a word has no stem worth comparing."""
_ROOT: Final = 6
"""Letters that words of one root have in common at least."""
_GREATER_PART: Final = 0.5
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
        "business.cost_of_error": _costs(text),
    }
    slots |= {slot: value for slot, value in said.items() if value}
    named = tuple(word for word in _NAMED.findall(text) if word.lower() not in _FILLER)
    return Reading(slots, _paths(request), named)


def kind_said(request: str) -> str:
    """`regression`, `forecast`, `classification` or nothing. Logistic regression is a model, not a kind."""
    match = _KIND.search(_PATH.sub(" ", request))
    if match is None:
        return ""
    return "regression" if match.group(1) else "classification" if match.group(2) else "forecast"


def targets_in(request: str, columns: Sequence[str], naming: Collection[str] = ()) -> tuple[str, ...]:
    """Columns that the request means, best evidence first; several when it does not decide.

    A quoted or called name wins over a name that merely occurs, which wins over one of the same stem. `naming`: columns
    that name whom or what a row is about, which only a quoted name means: `which customers` asks for no customer id.
    """
    text = _PATH.sub(" ", request)
    fit = [name for name in columns if name not in naming]
    if called := [
        *(name for _, quoted in _QUOTED.findall(text) for name in same(quoted, columns)),
        *_called(text, fit),
    ]:
        return _unique(called)
    lowered = text.lower()
    occurring = [
        name for name in fit if len(name) > 1 and re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", lowered)
    ]
    if occurring:
        return _unique(occurring)
    stems = {_stem(word) for word in _told_words(text)}
    return _unique(name for name in fit if stems.issuperset(map(_stem, words_of(name) or [name])))


def hinted_in(request: str, columns: Sequence[str]) -> tuple[str, ...]:
    """Columns of which a word is akin to one of the request: `prices` to `SalePrice`, `cancellation` to `cancelled`."""
    said: dict[str, set[str]] = collections.defaultdict(set)
    for word in _told_words(_PATH.sub(" ", request)):
        said[_stem(word)].add(word)
        said[_root(word)[:_ROOT]].add(_root(word))
    return _unique(name for name in columns if any(_is_akin(word, said) for word in words_of(name)))


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


def _called(text: str, columns: Sequence[str]) -> Iterator[str]:
    """Columns that are called by their name; of several in a row the last: `predict customer churn` means churn."""
    for match in _NAMED.finditer(text):
        word, end = match[1], match.end()
        while (following := _FOLLOWING.match(text, end)) and same(following[1], columns):
            word, end = following[1], following.end()
        yield from same(word, columns)


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
    """Every table that is named. A text file beside a table is prose, not data, and a JSON file settings."""
    found = [match["quoted"] or match["remote"] or match["bare"] for match in _PATH.finditer(request)]
    tables = [path for path in found if not path.lower().endswith((".txt", ".txt.gz", ".json"))]
    return _unique(tables or found)


def _latency(clauses: Iterable[str]) -> str:
    """The answer time that is asked for, the one at p99 if there are several, and the last word on it."""
    clauses = list(clauses)
    last = max(
        (place for place, clause in enumerate(clauses) if _TAKEN_BACK.search(clause) and _answer_time(clause)),
        default=0,
    )
    found = [(_P99.search(clause) is not None, value) for clause in clauses[last:] if (value := _answer_time(clause))]
    return max(found, key=lambda item: item[0])[1] if found else ""


def _answer_time(clause: str) -> str:
    """The time that a clause allows for an answer. Seconds need a word of answering; milliseconds speak alone."""
    high, answering = _P99.search(clause), _ANSWERING.search(clause) is not None
    if (high is None and _P50.search(clause)) or (not answering and _OTHER_TIMES.search(clause)):
        return ""
    match = (_DURATION.search(clause, high.end()) if high else None) or _DURATION.search(clause)
    if match is None or not (match["small"] or answering):
        return ""
    return f"{plain_amount(match['amount'])} {'ms' if match['small'] else 's'} p99"


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


def _costs(text: str) -> str:
    """What each kind of error costs, where both are told, or how many times as much the one costs as the other."""
    found = next((match for pattern in _COSTS if "cost" in text.lower() and (match := pattern.search(text))), None)
    if found is None:
        return ""
    told = found.groupdict()
    if "times" in told:
        times = _WORDS.get(str(told["times"]).lower(), told["times"] or "2")
        alarm, miss = ("1", times) if told["miss"] else (times, "1")
    else:
        alarm, miss = plain_amount(told["alarm_costs"]), plain_amount(told["miss_costs"])
    return f"false positive {alarm}, false negative {miss}"


def _regimes(text: str) -> list[str] | str:
    """Regulations that apply; `none` when all that are named are denied."""
    named = list(_REGIMES.finditer(text))
    called = [match[1].lower() for match in named if not _is_denied(text, match)]
    applying = {"gdpr" if name in _GDPR else name for name in called}
    return sorted(applying) or ("none" if named else [])


def _is_denied(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - _NEAR) : match.start()]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(text, match.end()))


def _stem(word: str) -> str:
    return re.sub(r"(?:ings?|ers?|ed|ions?|es|(?<!s)s|e)$", "", word)


def _root(word: str) -> str:
    """The word without the prefix of German participles."""
    return word.removeprefix("ge")


def _is_akin(word: str, said: Mapping[str, set[str]]) -> bool:
    """Whether a word of the request has the stem, or begins alike for the greater part."""
    if len(word) <= _SHORT:
        return False
    root = _root(word)
    alike = said.get(root[:_ROOT], ()) if len(root) >= _ROOT else ()
    return _stem(word) in said or any(
        _common(root, other) > _GREATER_PART * max(len(root), len(other)) for other in alike
    )


def _common(one: str, other: str) -> int:
    """Letters that two words begin with alike."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _told_words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if len(word) > _SHORT and word not in _FILLER}


def _unique(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found))
