"""What the project is for, how its success is measured, what an error costs, what is known when it predicts."""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import scope
from services.context_manager.facts.finding import DESCRIBED, MENTIONED, REQUIRED, STATED, Finding, Source
from services.context_manager.facts.quantities import NUMBER, number, written
from services.context_manager.facts.sentences import Sentence
from services.context_manager.outlines import shortened

_VALUE: Final = 240
_WORDY: Final = 20
"""Characters below which a line says too little to be a description."""
_GOAL_HEADING: Final = re.compile(
    r"^(?:\d+[.)]?\s*)?(?:the\s+)?(?:business\s+|project\s+|our\s+)?(?:goals?|purpose|objectives?|mission|aim)\b"
)
_REASON_HEADING: Final = re.compile(r"^(?:\d+[.)]?\s*)?(?:why\b|motivation|problem(?: statement)?$|business problem)")
_GOAL: Final = re.compile(
    r"\b(?:goal|aim|objective|purpose|mission)s?\b(?:\s+(?:of|for|behind)\b[^.;:]{0,80}?)?\s*(?:\bis\b|\bare\b|:)",
    re.IGNORECASE,
)
_SERVICE_LEVEL: Final = re.compile(
    r"\blatency\b|\bavailab\w+|\bup[- ]?time\b|\bresponse time|\bservice levels?\b|\brps\b|\d\s?ms\b|\bnines\b"
    r"|\berror rate",
    re.IGNORECASE,
)
"""An objective of operations is no goal of the business."""
_WANT: Final = re.compile(
    r"\b(?:we|the (?:business|team|company|shop|project))\s+(?:want|aim|need|intend|wish|seek)s?\s+to\s+"
    r"(?:reduce|increase|predict|prevent|cut|lower|raise|improve|retain|keep|detect|identify|forecast|save|avoid"
    r"|grow|stop|win|lose fewer)\b",
    re.IGNORECASE,
)
_KPI: Final = re.compile(
    r"\b(?:KPIs?|key metrics?|success metrics?|success criteri(?:on|a)|north[- ]star(?: metric)?|(?:business"
    r"|target) metric)\b\s*(?:\bis\b|\bare\b|:)"
    r"|\bsuccess is (?:measured|judged|defined)\b|\bwe measure success\b|\bwe (?:are|is) measured (?:by|on)\b",
    re.IGNORECASE,
)
_KPI_HEADING: Final = re.compile(r"^(?:kpis?|success (?:metrics?|criteria|measures?)|how we measure success)$")
_FALSE_POSITIVE: Final = re.compile(
    r"\bfalse (?:positive|alarm|alert)s?\b|\bwrong(?:ly)? (?:flagged|contacted|offer\w*|blocked|warned)\b"
    r"|\ba (?:wasted|needless|unneeded) \w+",
    re.IGNORECASE,
)
_FALSE_NEGATIVE: Final = re.compile(
    r"\bfalse negatives?\b|\bmissed \w+|\b(?:missing|losing) (?:a|one) \w+|\ba lost \w+"
    r"|\bundetected \w+",
    re.IGNORECASE,
)
_MONEY: Final = re.compile(
    rf"(?<![\w.])(?:[$€£]\s?)?(?P<amount>{NUMBER})(?!\s?(?:%|percent|days?|weeks?|months?"
    rf"|years?|hours?|times))",
    re.IGNORECASE,
)
_COSTS: Final = re.compile(
    r"\bcosts?\b|\bworth\b|\bmore expensive\b|\bcheaper\b|\btimes (?:worse|dearer)\b|\bworse than\b"
    r"|[$€£]\s?\d",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(
    r"\b(?:at|by) (?:the )?(?:prediction|scoring|inference|decision)[- ]time\b|\b(?:when|before|after"
    r"|until) (?:the |a )?(?:prediction|score) is (?:made|needed|asked for)\b"
    r"|\bat the (?:time|moment) of (?:the )?(?:prediction|scoring)\b",
    re.IGNORECASE,
)
_UNKNOWN: Final = re.compile(
    r"\b(?:not|never|n't|un|only|no longer|missing)\b[^.]{0,40}?\b(?:known|available|filled|recorded|there"
    r"|present)\b|\bunknown\b|\bmissing\b"
    r"|\bonly (?:known|available|filled|recorded) (?:after|once|when)\b",
    re.IGNORECASE,
)
_ALL_KNOWN: Final = re.compile(
    r"\b(?:all|every)\b[^.]{0,40}?\b(?:columns?|features?|fields?|values?)\b[^.]{0,40}?\b(?:known|available|there"
    r"|present)\b",
    re.IGNORECASE,
)
_CODE: Final = re.compile(r"`([^`\n]{1,80})`")


def goal(sentence: Sentence) -> Iterator[Finding]:
    """`business.goal`: the sentence, where it says that it is one, or opens a section that does."""
    if sentence.opening and _GOAL_HEADING.match(sentence.heading) and len(sentence.flat) > 15:
        yield _said("goal", sentence, REQUIRED)
    elif (match := _GOAL.search(sentence.text)) and not _SERVICE_LEVEL.search(sentence.text):
        yield from _unless_negated("goal", sentence, match, REQUIRED)
    elif match := _WANT.search(sentence.text):
        yield from _unless_negated("goal", sentence, match, STATED)
    elif sentence.opening and _REASON_HEADING.match(sentence.heading) and len(sentence.flat) > 30:
        yield _said("goal", sentence, DESCRIBED)


def kpi(sentence: Sentence) -> Iterator[Finding]:
    """`business.kpi`: the sentence that names the measure of success."""
    if sentence.opening and _KPI_HEADING.match(sentence.heading):
        yield _said("kpi", sentence, STATED)
    elif match := _KPI.search(sentence.text):
        yield from _unless_negated("kpi", sentence, match, STATED)


def cost_of_error(sentence: Sentence) -> Iterator[Finding]:
    """`business.cost_of_error`: `false positive 5, false negative 120`; or, as a mention, a sentence."""
    text = sentence.text
    positive, negative = _FALSE_POSITIVE.search(text), _FALSE_NEGATIVE.search(text)
    first = positive or negative
    if first is None or not _COSTS.search(text) or scope.is_negated(text[: first.end()], *first.span()):
        return
    prices = [_price(text, one, other) for one, other in ((positive, negative), (negative, positive))]
    if all(prices):
        value = f"false positive {prices[0]}, false negative {prices[1]}"
        yield Finding("business", "cost_of_error", value, sentence.line_at(first.start()), STATED)
    else:
        yield _said("cost_of_error", sentence, MENTIONED)


def _price(text: str, error: re.Match[str] | None, other: re.Match[str] | None) -> str:
    """The first amount after the error's name, before the other error's name if that comes later."""
    if error is None:
        return ""
    end = other.start() if other and other.start() > error.start() else len(text)
    amount = _MONEY.search(text, error.end(), end)
    return written(number(amount["amount"])) if amount else ""


def known_at_prediction(sentence: Sentence) -> Iterator[Finding]:
    """`data.known_at_prediction`: columns that are not known by then, or `yes`; as a mention the sentence."""
    if not _KNOWN.search(sentence.text):
        return
    late = _CODE.findall(sentence.text) if _UNKNOWN.search(sentence.text) else []
    if late:
        yield Finding("data", "known_at_prediction", ", ".join(late), sentence.line, DESCRIBED)
    elif _ALL_KNOWN.search(sentence.text) and not _UNKNOWN.search(sentence.text):
        yield Finding("data", "known_at_prediction", "yes", sentence.line, DESCRIBED)
    else:
        yield Finding("data", "known_at_prediction", shortened(sentence.flat, _VALUE), sentence.line, MENTIONED)


def description(source: Source, first: Sentence | None) -> Iterator[Finding]:
    """`business.goal`, as a mention: the first sentence of the workspace's own README describes the project."""
    is_readme = source.path.count("/") == 1 and source.path.lower().startswith("/readme")
    if is_readme and first is not None and len(first.flat) > _WORDY and not scope.is_unreal(first.text):
        yield _said("goal", first, MENTIONED)


def _unless_negated(field: str, sentence: Sentence, match: re.Match[str], confidence: float) -> Iterator[Finding]:
    if not scope.is_negated(sentence.text[: match.end()], match.start(), match.end()):
        yield _said(field, sentence, confidence)


def _said(field: str, sentence: Sentence, confidence: float) -> Finding:
    return Finding("business", field, shortened(sentence.flat, _VALUE), sentence.line, confidence)
