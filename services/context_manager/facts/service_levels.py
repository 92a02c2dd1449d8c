"""Latency, availability, load and peaks as documents state them.

A number counts only beside the words of its kind: a timeout, a rate limit or an accuracy is not a service
level. A sentence that leaves open which of several numbers is meant yields nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import quantities, scope
from services.context_manager.facts.finding import DESCRIBED, MENTIONED, REQUIRED, STATED, Finding
from services.context_manager.facts.sentences import Sentence

_DURATION: Final = re.compile(
    r"(?P<amount>\d+(?:\.\d+)?)[ -]?(?P<unit>ms|msecs?|millis(?:econds?)?|s|secs?|seconds?)\b(?!/)", re.IGNORECASE
)
_LATENCY: Final = re.compile(
    r"\blatenc(?:y|ies)\b|\bresponse[- ]times?\b|\b(?:responds?|respond|answers?|repl(?:y|ies)|answered|responses?)\b"
    r"|\bp(?:50|90|95|99|99\.9|999)\b|\bpercentile\b|\bround[- ]?trip\b|\b(?:inference|prediction|scoring"
    r"|request) times?\b",
    re.IGNORECASE,
)
_OTHER_TIMES: Final = re.compile(
    r"\b(?:time[- ]?outs?|times? out|retr(?:y|ies)|intervals?|every|caches?|cached|ttl|back-?off|sleeps?|waits?"
    r"|start(?:s|up|ing)?|boots?"
    r"|builds?|train(?:s|ing|ed)?|batch(?:es)?|keep-?alive|heartbeats?|polls?|windows?|expir\w+|deploy\w*|shutdown"
    r"|grace|cold"
    r"|ingest\w*|refresh\w*|older?|alerts?|pages?|support|p50|median|mean|average)\b",
    re.IGNORECASE,
)
_LOWER_BOUND: Final = re.compile(
    r"(?:over|above|more than|exceed(?:s|ing)?|greater than|longer than|at least|[>≥])\s*$", re.IGNORECASE
)
_PERCENTILE: Final = re.compile(
    r"\bp(?P<p>50|90|95|99\.9+|99|999)\b|\b(?P<th>\d\d(?:\.\d+)?)(?:th|st|nd|rd)[ -]percentile"
    r"|\b(?P<share>9\d(?:\.\d+)?)\s?%\s+of\s+(?:all\s+|the\s+|our\s+)?(?:\w+\s+)?(?:requests|calls|answers"
    r"|responses|predictions|queries)",
    re.IGNORECASE,
)
_RATE: Final = re.compile(
    rf"(?P<low>{quantities.NUMBER})?\s?(?:-|\u2013|to)?\s?(?<![\d.])(?P<amount>{quantities.NUMBER})\s?(?P<scale>k|m"
    rf"|thousand|million)?\s*"
    r"(?:(?P<abbreviated>rps|qps|tps|(?:req|requests?|queries|calls|predictions?)\s?/\s?(?P<slash>s|sec|second|min"
    r"|minute|hour|day))"
    r"|(?:\w+\s)?(?:requests?|queries|calls|predictions?|scorings|lookups)\s(?:per|a|each|every)\s(?P<unit>second"
    r"|sec|s|minute|min|hour|day))\b",
    re.IGNORECASE,
)
_NOT_LOAD: Final = re.compile(
    r"\blimit(?:s|ed|ing)?\b|\bthrottl\w*|\bquotas?\b|\bper (?:client|user|customer|ip|key|tenant|worker|core|pod"
    r"|replica|instance)\b"
    r"|\beach (?:client|user|worker|pod|replica)\b|\balert\w*|\bconcurrency\b|\bpolling\b",
    re.IGNORECASE,
)
_PEAK: Final = re.compile(
    r"\bpeak\w*|\bspik\w*|\bsurg\w*|\bburst\w*|\brush\b|\bblack friday\b|\bcyber monday\b|\bchristmas\b"
    r"|\bholiday season\b|\bat most\b"
    r"|\bup to\b|\bsales?\s+(?:days?|events?|seasons?)\b",
    re.IGNORECASE,
)
_TRAFFIC: Final = re.compile(
    r"\btraffic\b|\bload\b|\brequests?\b|\brates?\b|\bvolumes?\b|\bdemand\b|\bcalls?\b|\brps\b"
    r"|\bpeak\w*",
    re.IGNORECASE,
)
_MULTIPLE: Final = re.compile(
    rf"\b(?P<amount>\d+(?:\.\d+)?|{'|'.join(quantities.WORDS)})(?:\s?[x\u00d7]|[\s-]?times|[\s-]?fold)(?!\w)"
    r"|\b(?P<verb>doubl|tripl|trebl|quadrupl)(?:es?|ed|ing)\b",
    re.IGNORECASE,
)
_VERBS: Final = {"doubl": 2, "tripl": 3, "trebl": 3, "quadrupl": 4}
_BARE_PEAK: Final = re.compile(
    rf"(?:peak\w*|spik\w*|surg\w*|burst\w*|up to)(?:\s+(?:of|at|to|up|around|about|near|is|are|reach\w*"
    rf"|hit\w*))*\s+~?"
    rf"(?P<amount>{quantities.NUMBER})\s?(?P<scale>k)?\b(?!\s?(?:%|x|\u00d7|times|fold|ms|s\b|GB|MB|users|days"
    rf"|hours|am"
    rf"|pm|:|\.\d))",
    re.IGNORECASE,
)
_AVAILABILITY: Final = re.compile(r"(?<![\d.])(?P<amount>9\d(?:\.\d+)?)\s?%", re.IGNORECASE)
_NINES: Final = re.compile(r"\b(?P<count>two|three|four|five)[ -]nines\b", re.IGNORECASE)
_AVAILABLE: Final = re.compile(r"\bavailab\w*|\bup[- ]?time\b|\bslos?\b|\bslas?\b|\bnines\b", re.IGNORECASE)
_OTHER_SHARES: Final = re.compile(
    r"\b(?:accura\w*|precision|recall|coverage|confidence|auc|percentile|of (?:the |all )?(?:requests|calls|rows"
    r"|users|customers|cases)"
    r"|unavailab\w*|cache|hit rate|test)\b",
    re.IGNORECASE,
)


def latency(sentence: Sentence) -> Iterator[Finding]:
    """`nfr.latency`: `20 ms p99`, or `20 ms` where no percentile is named. One a sentence at most."""
    text = sentence.text
    if not _LATENCY.search(text) and not _LATENCY.search(sentence.heading):
        return
    found = [match for match in _DURATION.finditer(text) if _is_latency(text, match)]
    stated = {(_percentile(text, match), match["amount"], match["unit"]): match for match in found}
    if not stated:
        return
    highest = max(percentile for percentile, *_ in stated)
    best = [match for (percentile, *_), match in stated.items() if percentile == highest]
    if len(best) > 1:
        return
    value = quantities.milliseconds(best[0]["amount"], best[0]["unit"])
    named = f"{value} p{quantities.written(highest) if highest < 99.5 else f'{highest:g}'}" if highest else value
    yield Finding("nfr", "latency", named, sentence.line_at(best[0].start()), _confidence(sentence, DESCRIBED))


def _is_latency(text: str, match: re.Match[str]) -> bool:
    clause, start = _clause(text, match)
    if _OTHER_TIMES.search(clause) and not re.search(r"\bp9\d|percentile", clause, re.IGNORECASE):
        return False
    before = text[: match.start()]
    bound = _LOWER_BOUND.search(before)
    lower = bound is not None and not re.search(
        r"\b(?:not?|never|n't|cannot)\s[\w\s]{0,12}$", before[: bound.start() + 1]
    )
    near = _LATENCY.search(clause) or _LATENCY.search(text[max(0, start - 80) : match.end() + 60])
    return near is not None and not lower and not scope.is_negated(text, match.start(), match.end())


def _percentile(text: str, match: re.Match[str]) -> float:
    """The percentile that the duration belongs to: in its clause, else the nearest before it, else after; 0 if none."""
    clause, start = _clause(text, match)
    inside = _PERCENTILE.search(clause)
    found = list(_PERCENTILE.finditer(text))
    before = [one for one in found if one.end() <= start]
    chosen = inside or (before[-1] if before else next((one for one in found if one.start() >= match.end()), None))
    if chosen is None:
        return 0.0
    said = chosen["p"] or chosen["th"] or chosen["share"]
    return 99.9 if said == "999" else float(said)


def availability(sentence: Sentence) -> Iterator[Finding]:
    """`nfr.availability`: `99.9 %`."""
    text = sentence.text
    if not _AVAILABLE.search(text) and not _AVAILABLE.search(sentence.heading):
        return
    values = {match["amount"]: match for match in _AVAILABILITY.finditer(text) if _is_availability(text, match)}
    nines = _NINES.search(text)
    if nines and not values:
        values = {_nines(nines["count"]): nines}
    if len(values) != 1:
        return
    (amount, match), *_ = values.items()
    if scope.is_negated(text, match.start(), match.end()):
        return
    yield Finding("nfr", "availability", f"{amount} %", sentence.line_at(match.start()), _confidence(sentence, STATED))


def _is_availability(text: str, match: re.Match[str]) -> bool:
    clause, _ = _clause(text, match)
    return not _OTHER_SHARES.search(clause) and not re.match(r"\s+of\s", text[match.end() :])


def _nines(count: str) -> str:
    digits = int(quantities.multiple(count))
    return "99" if digits == 2 else f"99.{'9' * (digits - 2)}"


def load(sentence: Sentence) -> Iterator[Finding]:
    """`scale.rate` (`50 rps`) and `scale.spikes` (`200 rps` or `peak 3x`)."""
    text = sentence.text
    if _NOT_LOAD.search(text):
        return
    rates = [match for match in _RATE.finditer(text) if not scope.is_negated(text, match.start(), match.end())]
    usual = [match for match in rates if not _is_peak(text, match)]
    peaks = [match for match in rates if _is_peak(text, match)]
    if len(usual) == 1:
        yield _rate(sentence, usual[0], "rate")
    if len(peaks) == 1:
        yield _rate(sentence, peaks[0], "spikes")
    elif not peaks:
        yield from _other_peak(sentence, usual)


def _is_peak(text: str, match: re.Match[str]) -> bool:
    clause, _ = _clause(text, match)
    return _PEAK.search(clause) is not None


def _rate(sentence: Sentence, match: re.Match[str], field: str) -> Finding:
    unit = match["slash"] or match["unit"] or "s"
    value = quantities.per_second(quantities.number(match["amount"], match["scale"] or ""), unit)
    confidence = _confidence(sentence, STATED)
    averaged = unit[0].lower() in "hd"  # a daily count says little about a second
    return Finding(
        "scale", field, value, sentence.line_at(match.start("amount")), confidence * (0.7 if averaged else 1)
    )


def _other_peak(sentence: Sentence, usual: list[re.Match[str]]) -> Iterator[Finding]:
    """A peak told as a multiple, or as a bare number after a rate: `50 rps, peaking at 200`."""
    text = sentence.text
    if not _TRAFFIC.search(text) or not _PEAK.search(text):
        return
    multiple = _MULTIPLE.search(text)
    if multiple and not scope.is_negated(text, multiple.start(), multiple.end()):
        amount = quantities.multiple(multiple["amount"]) if multiple["amount"] else _VERBS[multiple["verb"].lower()]
        value = f"peak {quantities.written(amount)}x"
        yield Finding("scale", "spikes", value, sentence.line_at(multiple.start()), _confidence(sentence, STATED))
        return
    bare = _BARE_PEAK.search(text)
    if bare and len(usual) == 1 and bare.start() > usual[0].end():
        unit = usual[0]["slash"] or usual[0]["unit"] or "s"
        value = quantities.per_second(quantities.number(bare["amount"], bare["scale"] or ""), unit)
        yield Finding("scale", "spikes", value, sentence.line_at(bare.start()), _confidence(sentence, STATED))


def _clause(text: str, match: re.Match[str]) -> tuple[str, int]:
    """The clause that holds the match, and where it begins."""
    parts = scope.clauses(text)
    return next(
        (
            (part, at)
            for at, part in reversed(parts)
            if at <= match.start("amount" if "amount" in match.re.groupindex else 0)
        ),
        (text, 0),
    )


def _confidence(sentence: Sentence, plain: float) -> float:
    if scope.is_past_or_foreign(sentence.text) or scope.is_past_or_foreign(sentence.heading):
        return MENTIONED
    return max(plain, REQUIRED) if scope.is_binding(sentence.text) else plain
