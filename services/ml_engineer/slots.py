"""What the engagement needs to know: one slot a question, with its default and the spec key it changes.

The order is the order of asking. `fill` gathers what the request, the workspace and earlier answers say;
what nobody said is asked or assumed. A test holds that every slot here changes a named key of the spec.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pydantic import JsonValue

from contracts.briefing import Fact
from contracts.events import AnswerValue, Question
from contracts.slots import QUESTION_IDS
from services._runtime.errors import Permanent
from services.ml_engineer.quantities import (
    UnreadableError,
    duration,
    fraction,
    milliseconds,
    number,
    peak_factor,
    per_second,
)

Origin = Literal["request", "answer", "workspace", "default"]

KINDS: Final = ("binary", "multiclass", "regression", "classification", "forecast")
"""What a person may call the kind of a target; the data decide what the last two mean."""
CERTAIN: Final = 0.5
"""Facts below this confidence are evidence in a question, not an answer to it."""
_USUAL_RPS: Final = 50.0
_REGIMES: Final = ("gdpr", "hipaa", "pci")
_NONE: Final = frozenset({"none", "no", "nothing", "n/a", "false", "no pii", "no columns"})
_ALL_KNOWN: Final = re.compile(
    r"(?:yes|y|true|all)(?:[\s,.]+(?:yes|all|of|them|are|is|known|the|columns|everything))*[\s.]*", re.IGNORECASE
)
_SQL: Final = re.compile(r"(?:select|with|from)\b", re.IGNORECASE)
_SHARED_STATE: Final = "env:MLSYSTEM_STATE"
"""The variable in which the delivered manifests hold the URL of a PostgreSQL."""
_ONE_HOST: Final = frozenset({"one host", "eventual", "none", "no"})
_GATHERED: Final = frozenset({"security.pii", "security.regime"})
"""Slots of which the workspace may say several things that hold together."""


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


def listed(value: AnswerValue) -> list[str]:
    """The parts of a list, or of a text with commas."""
    parts = value if isinstance(value, list) else re.split(r"[,;]", str(value))
    return [part.strip() for part in parts if part.strip()]


def names(value: AnswerValue) -> list[str]:
    """A list of lower-case names; `none` is the empty list."""
    parts = value if isinstance(value, list) else re.split(r"[,;&]|\band\b", str(value))
    found = [part.strip().lower() for part in parts if part.strip()]
    return [part for part in found if part not in _NONE]


def _text(key: str) -> Callable[[AnswerValue], Mapping[str, JsonValue]]:
    def effect(value: AnswerValue) -> Mapping[str, JsonValue]:
        said = str(value).strip()
        if not said:
            raise UnreadableError("it is empty")
        return {key: said}

    return effect


def _query(value: AnswerValue) -> Mapping[str, JsonValue]:
    """SQL says which rows are learnt from; how they are written matters to nothing, since a snapshot is taken."""
    said = str(value).strip()
    return {"data.query": said} if _SQL.match(said) else {}


def _state(value: AnswerValue) -> Mapping[str, JsonValue]:
    """Servers of one host share a file; for more the database's URL, a secret, is in a variable."""
    said = str(value).strip()
    if said.lower() in _ONE_HOST:
        return {}
    return {"serving.state": said if said.startswith(("env:", "sqlite:")) else _SHARED_STATE}


def _data(value: AnswerValue) -> Mapping[str, JsonValue]:
    files: list[JsonValue] = [*listed(value)]
    if not files:
        raise UnreadableError("it names no file")
    return {"data.source": files}


def _name(value: AnswerValue) -> Mapping[str, JsonValue]:
    said = str(value).strip().lower().replace("_", "-").removeprefix("ml/").strip("/")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", said):
        raise UnreadableError(f"{value!r} is no name: lower-case letters, digits, dashes, a letter first, at most 40")
    return {"name": said}


def _kind(value: AnswerValue) -> Mapping[str, JsonValue]:
    said = str(value).strip().lower()
    if said not in KINDS:
        raise UnreadableError(f"{value!r} is none of {', '.join(KINDS)}")
    return {"task.kind": said}


def _cost(value: AnswerValue) -> Mapping[str, JsonValue]:
    """Two amounts; the false positive comes first unless the text names the false negative before it."""
    text = str(value)
    found = [float(part.replace(",", "")) for part in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)]
    if len(found) != 2:
        raise UnreadableError(
            f"{value!r}: give the cost of a false positive and of a false negative, such as '1 and 5'"
        )
    negative, positive = re.search(r"negative|\bfn\b", text.lower()), re.search(r"positive|\bfp\b", text.lower())
    swapped = negative is not None and (positive is None or negative.start() < positive.start())
    costs = found[::-1] if swapped else found
    return {"decision.cost": {"false_positive": costs[0], "false_negative": costs[1]}}


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
    if value is True or _ALL_KNOWN.fullmatch(str(value).strip()):
        return {}
    late = [name for name in listed(value) if name.lower() not in {"yes", "all", *_NONE}]
    if not late:
        raise UnreadableError(f"{value!r}: name the columns that are not known yet, or say 'yes'")
    return {f"columns.{name}": {"role": "leak", "why": "not known when the prediction is made"} for name in late}


def _pii(value: AnswerValue) -> Mapping[str, JsonValue]:
    found = [name for name in listed(value) if name.lower().rstrip(".") not in _NONE]
    if value is True or [name.lower() for name in found] == ["yes"]:
        raise UnreadableError(f"{value!r}: name the columns that identify people, or say 'none'")
    return {f"columns.{name}": {"role": "ignore", "why": "identifies people"} for name in found}


def _regime(value: AnswerValue) -> Mapping[str, JsonValue]:
    found = list(dict.fromkeys(re.sub(r"[ -]?dss$", "", name) for name in names(value)))
    if strange := [name for name in found if name not in _REGIMES]:
        raise UnreadableError(f"{strange[0]!r} is none of {', '.join(_REGIMES)}")
    keys: dict[str, JsonValue] = {"governance.regime": [*found]} if found else {}
    if "hipaa" in found:  # whoever asks must be known
        keys["serving.api_keys"] = "env:MLSYSTEM_API_KEYS"
    if "pci" in found:  # a copy of the source could hold card numbers
        keys["data.snapshot"] = "digest"
    return keys


SLOT_LIST: Final = (
    Slot(
        "task.data",
        "Which file holds the data to learn from?",
        "The model is trained on it.",
        None,
        _data,
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
        _kind,
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
        "task.system",
        "Which system is meant?",
        "It is the name of the system that is built, changed or told of.",
        None,
        _name,
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
        lambda value: {"objectives.peak_factor": peak_factor(value, _USUAL_RPS)},
    ),
    Slot(
        "data.read_write",
        "How is the data read and written?",
        "A source that changes under the training needs a query.",
        "read only",
        _query,
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
        _state,
        asked=False,
    ),
    Slot(
        "security.pii",
        "Which columns identify people?",
        "They are never features.",
        "none",
        _pii,
    ),
    Slot(
        "security.regime",
        "Which regulation applies (GDPR, HIPAA, PCI)?",
        "It sets retention, masking and gates.",
        "none",
        _regime,
    ),
)

SLOTS_BY_ID: Final = {slot.id: slot for slot in SLOT_LIST}


def fill(
    request: Mapping[str, AnswerValue], answers: Mapping[str, AnswerValue], facts: Sequence[Fact]
) -> dict[str, Known]:
    """Slot id -> what is known. An answer wins over the request, the request over the workspace.

    Raises: Permanent for an answer to a question that does not exist, or that does not say what is needed.
    """
    known = _told(facts)
    for slot_id, value in request.items():
        if _readable(slot_id, value):
            known[slot_id] = Known(slot_id, value, "request", "the request")
    for slot_id, value in answers.items():
        if slot_id not in SLOTS_BY_ID:
            raise Permanent(f"nothing is asked under {slot_id!r}: answer one of {', '.join(QUESTION_IDS)}")
        try:
            SLOTS_BY_ID[slot_id].effect(value)
        except UnreadableError as error:
            raise Permanent(f"the answer to {slot_id} cannot be used: {error}; submit the request again") from error
        known[slot_id] = Known(slot_id, value, "answer", "an answer")
    return known


def effects(known: Mapping[str, Known]) -> Iterator[tuple[Known, str, JsonValue]]:
    """(what is known, dotted key, value) of all that is known; a peak that is told as a rate is one over the usual."""
    rate = known.get("scale.rate")
    usual_rps = per_second(rate.value) if rate else _USUAL_RPS
    for item in known.values():
        found = SLOTS_BY_ID[item.id].effect(item.value)
        if item.id == "scale.spikes":
            found = {"objectives.peak_factor": peak_factor(item.value, usual_rps)}
        for key, value in found.items():
            yield item, key, value


def _told(facts: Sequence[Fact]) -> dict[str, Known]:
    """What the workspace says surely enough: of each slot its surest fact, or all of them together."""
    known: dict[str, Known] = {}
    for fact in sorted(facts, key=lambda fact: -fact.confidence):
        slot_id = f"{fact.slot}.{fact.field}"
        if slot_id not in SLOTS_BY_ID or fact.confidence < CERTAIN or not _readable(slot_id, fact.value):
            continue
        before = known.get(slot_id)
        if before is None:
            known[slot_id] = Known(slot_id, fact.value, "workspace", fact.source)
        elif slot_id in _GATHERED and fact.value not in listed(before.value):
            values = [*listed(before.value), fact.value]
            known[slot_id] = replace(before, value=values, source=f"{before.source}, {fact.source}")
    return known


def _readable(slot_id: str, value: AnswerValue) -> bool:
    try:
        SLOTS_BY_ID[slot_id].effect(value)
    except UnreadableError:
        return False
    return True
