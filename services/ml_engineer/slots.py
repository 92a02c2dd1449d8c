"""What the engagement needs to know: one slot a question, with its default and the spec key it changes.

The order is the order of asking. `fill` gathers what the request, the workspace and earlier answers say;
what nobody said is asked or assumed. A test holds that every slot here changes a named key of the spec.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from contracts.briefing import Fact
from contracts.events import AnswerValue, Question
from contracts.slots import QUESTION_IDS
from services._runtime.errors import Permanent

Origin = Literal["request", "answer", "workspace", "default"]

_CERTAIN: Final = 0.5
"""Facts below this confidence are evidence in a question, not an answer to it."""


class UnreadableError(ValueError):
    """A value that does not say what its slot needs."""


@dataclass(frozen=True, slots=True)
class Known:
    """A filled slot."""

    id: str
    value: AnswerValue
    origin: Origin
    source: str
    """`/path:line`, or who said it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing to know."""

    id: str
    text: str
    why: str
    default: AnswerValue | None
    effect: Callable[[AnswerValue], Mapping[str, JsonValue]]
    """Dotted spec keys that a value sets. Raises UnreadableError."""
    asked: bool = True
    """False: filled where something says it, never asked."""

    def question(self, evidence: Sequence[str] = ()) -> Question:
        """The question to a person."""
        slot, name = self.id.split(".")
        return Question(
            id=self.id,
            slot=slot,
            field=name,
            text=self.text,
            why=self.why,
            default=self.default,
            evidence=tuple(evidence),
        )


def number(value: AnswerValue) -> float:
    """The first number in a value, with k and m. Raises UnreadableError."""
    match = re.search(r"(\d[\d,_]*\.?\d*)\s*([kKmM](?![a-zA-Z]))?", str(value))
    if match is None:
        raise UnreadableError(f"{value!r} holds no number")
    scale = {"k": 1e3, "m": 1e6}.get((match.group(2) or "").lower(), 1.0)
    return float(re.sub(r"[,_]", "", match.group(1))) * scale


def milliseconds(value: AnswerValue) -> float:
    """A latency in milliseconds: `20 ms p99`, `0.2 s`, `none` is 0."""
    text = str(value).lower()
    if re.search(r"\b(none|no|any)\b", text) or text.strip() == "0":
        return 0.0
    match = re.search(r"(\d+\.?\d*)\s*(ms|milliseconds?|s|sec|seconds?)?\b", text)
    if match is None:
        raise UnreadableError(f"{value!r} is no latency such as '20 ms'")
    unit = match.group(2) or "ms"
    return float(match.group(1)) * (1.0 if unit.startswith("m") else 1000.0)


def per_second(value: AnswerValue) -> float:
    """A rate in requests a second: `50 rps`, `3,000 per minute`, `2k req/s`, `1M per day`."""
    text = str(value).lower()
    seconds = 1.0
    for word, length in (("minute", 60.0), ("/min", 60.0), ("hour", 3600.0), ("day", 86_400.0)):
        if word in text:
            seconds = length
    return number(text) / seconds


def fraction(value: AnswerValue) -> float:
    """`99.9 %` or `0.999` as a fraction of 1."""
    found = number(value)
    result = found / 100 if "%" in str(value) or found > 1 else found
    if not 0 < result < 1:
        raise UnreadableError(f"{value!r} is no availability such as '99.9 %'")
    return result


def duration(value: AnswerValue) -> str:
    """`7d`, `24 hours`, `weekly` as the spec writes durations."""
    text = str(value).strip().lower()
    words = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d", "yearly": "365d"}
    if text in words:
        return words[text]
    match = re.search(r"(\d+)\s*(d|day|h|hour|w|week|month|m|min|s)", text)
    if match is None:
        raise UnreadableError(f"{value!r} is no duration such as '7d'")
    amount, unit = int(match.group(1)), match.group(2)
    if unit.startswith("w"):
        return f"{amount * 7}d"
    if unit == "month":
        return f"{amount * 30}d"
    return f"{amount}{unit[0]}"


def names(value: AnswerValue) -> list[JsonValue]:
    """A list of lower-case names; `none` is the empty list."""
    parts = value if isinstance(value, list) else re.split(r"[,;]|\band\b", str(value))
    found = [part.strip().lower() for part in parts if part.strip()]
    return [part for part in found if part not in {"none", "no", "nothing", "n/a"}]


def _text(key: str) -> Callable[[AnswerValue], Mapping[str, JsonValue]]:
    return lambda value: {key: str(value).strip()}


def _no_key_when(default: str, key: str) -> Callable[[AnswerValue], Mapping[str, JsonValue]]:
    """A slot whose default is how things are anyway: only another answer sets the key."""
    return lambda value: {} if str(value).strip().lower() == default else {key: str(value).strip()}


def _cost(value: AnswerValue) -> Mapping[str, JsonValue]:
    found = [float(part) for part in re.findall(r"\d+\.?\d*", str(value))]
    if len(found) != 2:
        raise UnreadableError(
            f"{value!r}: give the cost of a false positive and of a false negative, such as '1 and 5'"
        )
    return {"decision.cost": {"false_positive": found[0], "false_negative": found[1]}}


def _kpi(value: AnswerValue) -> Mapping[str, JsonValue]:
    try:
        return {"kpi": {"name": str(value), "target": number(value)}}
    except UnreadableError:
        return {"kpi": {"name": str(value), "target": 0.0}}


def _freshness(value: AnswerValue) -> Mapping[str, JsonValue]:
    found = duration(value)
    return {} if found == "7d" else {"monitoring.freshness": found}


def _known(value: AnswerValue) -> Mapping[str, JsonValue]:
    """`yes`, or the columns that are not known when the prediction is made."""
    late = [name for name in _columns(value) if name.lower() not in {"yes", "all", "y", "true"}]
    return {f"columns.{name}": {"role": "leak", "why": "not known when the prediction is made"} for name in late}


def _columns(value: AnswerValue) -> list[str]:
    parts = value if isinstance(value, list) else re.split(r"[,;]", str(value))
    return [part.strip() for part in parts if part.strip()]


SLOT_LIST: Final = (
    Slot(
        "task.data",
        "Which file holds the data to learn from?",
        "The model is trained on it.",
        None,
        lambda value: {"data.source": list(_columns(value))},
    ),
    Slot(
        "task.target",
        "Which column is to be predicted?",
        "It is the target of the model.",
        None,
        _text("task.target"),
    ),
    Slot(
        "task.kind",
        "What kind of target is it?",
        "It decides the model and its metric.",
        None,
        _text("task.kind"),
        asked=False,
    ),
    Slot(
        "task.positive",
        "Which label is the event of interest?",
        "Its probability is reported.",
        None,
        _text("task.positive"),
        asked=False,
    ),
    Slot(
        "business.goal",
        "What is the business aim of these predictions?",
        "The design is judged by it.",
        None,
        _text("goal"),
        asked=False,
    ),
    Slot("business.kpi", "Which number shall improve?", "It is written into the spec.", None, _kpi, asked=False),
    Slot(
        "business.cost_of_error",
        "What does each kind of error cost?",
        "It sets the threshold.",
        None,
        _cost,
        asked=False,
    ),
    Slot(
        "scale.rate",
        "How many predictions a second are expected?",
        "Latency is measured at this rate.",
        "50 rps",
        lambda value: {"objectives.rate_rps": per_second(value)},
    ),
    Slot(
        "scale.spikes",
        "How high are traffic spikes, as a multiple of the usual rate?",
        "Capacity is planned for the peak.",
        "3x",
        lambda value: {"objectives.peak_factor": number(value)},
    ),
    Slot(
        "data.read_write",
        "How is the data read and written?",
        "A source that changes under the training needs a query.",
        "read only",
        _no_key_when("read only", "data.query"),
        asked=False,
    ),
    Slot(
        "data.freshness",
        "How old may the training data become?",
        "Older data raises an alert.",
        "7d",
        _freshness,
        asked=False,
    ),
    Slot(
        "data.known_at_prediction",
        "Are all columns known at the moment of prediction? If not, which are not?",
        "Columns that are known too late would make the model look better than it is.",
        "yes",
        _known,
    ),
    Slot(
        "data.time",
        "Which column says when a row was known?",
        "The holdout is the latest part.",
        None,
        _text("data.time"),
        asked=False,
    ),
    Slot(
        "data.entity",
        "Which column says who a row is about?",
        "Rows of one entity stay together.",
        None,
        _text("data.entity"),
        asked=False,
    ),
    Slot(
        "nfr.latency",
        "How fast must an answer be (p99)?",
        "It is measured on the delivered server and is a gate.",
        "none",
        lambda value: {"objectives.latency_ms_p99": milliseconds(value)},
    ),
    Slot(
        "nfr.availability",
        "Which availability is required?",
        "It is the service level objective of the server.",
        "99 %",
        lambda value: {"objectives.availability": fraction(value)},
    ),
    Slot(
        "nfr.consistency",
        "Must several servers share one state?",
        "It decides where state is kept.",
        "one host",
        _no_key_when("one host", "serving.state"),
        asked=False,
    ),
    Slot(
        "security.pii",
        "Which columns identify people?",
        "They are never features.",
        "none",
        lambda value: {
            f"columns.{name}": {"role": "ignore", "why": "identifies people"}
            for name in _columns(value)
            if name.lower() not in {"none", "no"}
        },
    ),
    Slot(
        "security.regime",
        "Which regulation applies (GDPR, HIPAA, PCI)?",
        "It sets retention, masking and gates.",
        "none",
        lambda value: {"governance.regime": names(value)} if names(value) else {},
    ),
)

SLOTS_BY_ID: Final = {slot.id: slot for slot in SLOT_LIST}


def fill(
    request: Mapping[str, AnswerValue], answers: Mapping[str, AnswerValue], facts: Sequence[Fact]
) -> dict[str, Known]:
    """Slot id -> what is known. An answer wins over the request, the request over the workspace.

    Raises: Permanent for an answer to a question that does not exist, or that does not say what is needed.
    """
    known: dict[str, Known] = {}
    for fact in sorted(facts, key=lambda fact: fact.confidence):
        slot_id = f"{fact.slot}.{fact.field}"
        if slot_id in SLOTS_BY_ID and fact.confidence >= _CERTAIN and _readable(slot_id, fact.value):
            known[slot_id] = Known(slot_id, fact.value, "workspace", fact.source)
    for slot_id, value in request.items():
        known[slot_id] = Known(slot_id, value, "request", "the request")
    for slot_id, value in answers.items():
        if slot_id not in SLOTS_BY_ID:
            raise Permanent(f"nothing is asked under {slot_id!r}: answer one of {', '.join(QUESTION_IDS)}")
        try:
            SLOTS_BY_ID[slot_id].effect(value)
        except UnreadableError as error:
            raise Permanent(f"the answer to {slot_id} cannot be used: {error}") from error
        known[slot_id] = Known(slot_id, value, "answer", "an answer")
    return known


def _readable(slot_id: str, value: str) -> bool:
    try:
        SLOTS_BY_ID[slot_id].effect(value)
    except UnreadableError:
        return False
    return True
