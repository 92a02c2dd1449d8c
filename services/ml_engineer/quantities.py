"""Numbers, times and rates as people answer them, in the units of the spec.

`20 ms p99`, `1 million a day`, `99,9 %`, `5 minutes`. What does not say clearly what is needed is unreadable: a
wrong reading would be built into a system, an error is one more answer.
"""

import re
from typing import Final

from contracts.events import AnswerValue

_NUMBER: Final = re.compile(
    r"(?<![\w.])(?P<minus>-)?"
    r"(?:(?P<grouped>\d{1,3}(?:[,_]\d{3})+(?:\.\d+)?)|(?P<plain>\d+(?:[.,]\d+)?(?:e[+-]?\d+)?|\.\d+))"
    r"(?:\s*(?P<scale>k|m|thousand|million)(?![a-z]))?",
    re.IGNORECASE,
)
_SCALES: Final = {"": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}
_UNIT_OF_RATE: Final = re.compile(
    r"(?:/|\bper|\ban?|\beach|\bevery)\s*(s(?:ec(?:ond)?)?|m(?:in(?:ute)?)?|h(?:(?:ou)?r)?|d(?:ay)?|w(?:eek)?)\b"
    r"|\b(daily|hourly|weekly)\b",
    re.IGNORECASE,
)
_IS_RATE: Final = re.compile(rf"\b[rqt]ps\b|{_UNIT_OF_RATE.pattern}", re.IGNORECASE)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_TIME: Final = re.compile(
    r"(?<![\w.,])(?P<amount>\d[\d,]*(?:\.\d+)?)[ -]?(?P<unit>ms|msecs?|millis\w*|s|secs?|seconds?|mins?|minutes?)\b"
)
_MILLISECONDS: Final = (("ms", 1.0), ("mil", 1.0), ("min", 60_000.0), ("s", 1000.0))
"""First letters of a unit -> milliseconds."""
_P99: Final = re.compile(r"\bp9\d[\d.]*|\b99th\b")
_NOTHING: Final = re.compile(r"\b(?:none|no|any|nothing|n/a)\b")
_SPAN: Final = re.compile(
    r"(?<![\w.,-])(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>ms|millis\w*|s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?"
    r"|w|weeks?|months?|y|years?)\b"
)
_SPANS: Final = (
    ("ms", "ms", 1), ("mil", "ms", 1), ("mo", "d", 30), ("m", "m", 1), ("s", "s", 1), ("h", "h", 1), ("d", "d", 1),
    ("w", "d", 7), ("y", "d", 365),
)  # fmt: skip
"""First letters of a unit -> unit of the spec, how many of them."""
_CADENCES: Final = {
    "hourly": "1h", "daily": "1d", "nightly": "1d", "weekly": "7d", "monthly": "30d", "yearly": "365d",
}  # fmt: skip


class UnreadableError(ValueError):
    """A value that does not say what its slot needs."""


def number(value: AnswerValue) -> float:
    """The first number in a value, with k, m, thousand and million. Raises UnreadableError for none or a negative."""
    return _number_and_rest(value)[0]


def milliseconds(value: AnswerValue) -> float:
    """A latency in milliseconds: `20 ms p99`, `p99 under 0.2 s`, `none` is 0. A number alone is milliseconds."""
    text = str(value).lower()
    high = _P99.search(text)
    match = (_TIME.search(text, high.end()) if high else None) or _TIME.search(text)
    if match is not None:
        scale = next(scale for letters, scale in _MILLISECONDS if match["unit"].startswith(letters))
        found = float(plain_amount(match["amount"])) * scale
        if not found > 0:
            raise UnreadableError(f"{value!r} asks for an answer in no time; say a time above 0 ms, or 'none'")
        return found
    if re.search(r"\d", _P99.sub("", text)) is None and _NOTHING.search(text):
        return 0.0
    if re.fullmatch(r"[\d,_.]+", text.strip()):
        return number(text)
    raise UnreadableError(f"{value!r} is no latency such as '20 ms'")


def plain_amount(text: str) -> str:
    """`1,500` as 1500 and `1,5` as 1.5."""
    return re.sub(r",(?=\d{3}(?!\d))", "", text).replace(",", ".")


def per_second(value: AnswerValue) -> float:
    """A rate in requests a second: `50 rps`, `3,000 per minute`, `2k req/s`, `1 million a day`."""
    amount, rest = _number_and_rest(value)
    unit = _UNIT_OF_RATE.search(rest)
    found = amount / (_SECONDS[(unit[1] or unit[2])[0].lower()] if unit else 1.0)
    if not found > 0:
        raise UnreadableError(f"{value!r} is no rate such as '50 rps'")
    return found


def peak_factor(value: AnswerValue, usual_rps: float) -> float:
    """How high a peak is over the usual rate: `3x`, or a rate of its own such as `200 rps`."""
    if _IS_RATE.search(str(value)):
        return max(1.0, per_second(value) / usual_rps)
    if (factor := number(value)) < 1:
        raise UnreadableError(f"{value!r} is no multiple of the usual rate such as '3x'")
    return factor


def fraction(value: AnswerValue) -> float:
    """`99.9 %` or `0.999` as a fraction of 1."""
    found = number(value)
    result = round(found / 100, 10) if "%" in str(value) or found > 1 else found
    if not 0 < result < 1:
        raise UnreadableError(f"{value!r} is no availability such as '99.9 %'")
    return result


def duration(value: AnswerValue) -> str:
    """`7d`, `24 hours`, `5 minutes`, `weekly` as the spec writes durations."""
    text = str(value).strip().lower()
    if text in _CADENCES:
        return _CADENCES[text]
    match = _SPAN.search(text)
    if match is None:
        raise UnreadableError(f"{value!r} is no duration such as '7d'")
    unit, times = next((unit, times) for letters, unit, times in _SPANS if match["unit"].startswith(letters))
    return f"{float(match['amount']) * times:.10g}{unit}"


def _number_and_rest(value: AnswerValue) -> tuple[float, str]:
    """The first number of a value, and what follows it."""
    text = str(value)
    match = _NUMBER.search(text)
    if match is None:
        raise UnreadableError(f"{value!r} holds no number")
    if match["minus"]:
        raise UnreadableError(f"{value!r} is negative")
    digits = re.sub(r"[,_]", "", match["grouped"]) if match["grouped"] else match["plain"].replace(",", ".")
    return float(digits) * _SCALES[(match["scale"] or "").lower()], text[match.end() :]
