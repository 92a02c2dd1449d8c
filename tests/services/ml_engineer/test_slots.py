"""Slots: each changes a named key of the spec, reads what people answer, and says what to do where it cannot."""

from collections.abc import Mapping

import pytest
from pydantic import JsonValue

from contracts.events import AnswerValue
from contracts.slots import QUESTION_IDS
from mlsystem.spec import KEYS, examine
from services._runtime.errors import Permanent
from services.ml_engineer.playbook import merge, nested
from services.ml_engineer.quantities import UnreadableError, duration, fraction, milliseconds, number, per_second
from services.ml_engineer.slots import SLOT_LIST, SLOTS_BY_ID, Known, Slot, effects, fill
from tests.services.ml_engineer.made import fact

SAID: Mapping[str, AnswerValue] = {
    "task.data": "data/a.csv, data/b.csv",
    "task.target": "Churn",
    "task.kind": "multiclass",
    "task.positive": "Yes",
    "business.goal": "Keep customers",
    "business.kpi": "churn rate below 5 %",
    "business.cost_of_error": "1 and 5",
    "scale.rate": "200 rps",
    "scale.spikes": "5x",
    "data.read_write": "SELECT * FROM source",
    "data.freshness": "1d",
    "data.known_at_prediction": "refund",
    "task.system": "churn-eu",
    "data.time": "day",
    "data.entity": "customer",
    "nfr.latency": "20 ms",
    "nfr.availability": "99.9 %",
    "nfr.consistency": "strong",
    "security.pii": ["e.mail", 'the "name"'],
    "security.regime": "HIPAA and GDPR",
}
"""Of every slot a value that departs from how things are without it."""

BASE: dict[str, JsonValue] = {
    "format": 1,
    "name": "x",
    "task": {"kind": "binary", "target": "y"},
    "data": {"source": ["a.csv"]},
}


def test_the_slots_are_those_of_the_contract() -> None:
    """Question ids are part of the contract with whoever answers."""
    assert tuple(sorted(slot.id for slot in SLOT_LIST)) == tuple(sorted(QUESTION_IDS))
    assert set(SAID) == set(SLOTS_BY_ID)


@pytest.mark.parametrize("slot", SLOT_LIST, ids=[slot.id for slot in SLOT_LIST])
def test_every_slot_changes_a_named_key_of_the_spec(slot: Slot) -> None:
    """A question whose answer changes nothing is not worth a person's time: the walk over KEYS finds each key."""
    changed = slot.effect(SAID[slot.id])
    leaves = [leaf for key, value in changed.items() for leaf in _leaves(key, value)]
    assert leaves
    assert [leaf for leaf in leaves if leaf not in KEYS] == []
    spec = BASE
    for key, value in changed.items():
        spec = merge(spec, nested(key, value))
    assert spec != BASE
    _, problems = examine(spec)
    wrong = [(p.key, p.code) for p in problems if p.code != "not_supported_yet" and p.key != "task.positive"]
    assert wrong == []


def _leaves(key: str, value: JsonValue) -> list[str]:
    """The key as KEYS names it: `*` for a column's name."""
    if key.startswith("columns.") and not key.startswith("columns.*"):
        key = "columns.*"
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in _leaves(f"{key}.{name}", inner)]
    return [key]


DEFAULTED = [slot for slot in SLOT_LIST if slot.default is not None]


@pytest.mark.parametrize("slot", DEFAULTED, ids=[slot.id for slot in DEFAULTED])
def test_every_default_can_be_read_and_is_how_things_are(slot: Slot) -> None:
    """Taking a default gives the same system as the engine's own defaults."""
    assert slot.default is not None
    spec = BASE
    for key, value in slot.effect(slot.default).items():
        spec = merge(spec, nested(key, value))
    assert examine(spec) == (examine(BASE)[0], ())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("20 ms", 20),
        ("20ms p99", 20),
        ("p99 under 20 ms", 20),
        ("p99 < 0.2 s", 200),
        ("99th percentile of 30 milliseconds", 30),
        ("p50 5 ms, p99 20 ms", 20),
        ("no more than 20 ms", 20),
        ("1,500 ms", 1500),
        ("2 seconds", 2000),
        ("2 minutes", 120_000),
        ("20", 20),
        (20, 20),
        (0.5, 0.5),
        ("none", 0),
        ("no requirement", 0),
        ("any", 0),
        ("0", 0),
    ],
)
def test_a_latency_is_read(value: AnswerValue, expected: float) -> None:
    """The 99 of p99 is no latency, and `no more than` is no `no`."""
    assert milliseconds(value) == expected


@pytest.mark.parametrize("value", ["fast", "", "2 hours", "p99", True, "20 rows", "-20"])
def test_a_latency_that_is_none_is_unreadable(value: AnswerValue) -> None:
    """Two hours read as two milliseconds would fail a gate that nobody asked for."""
    with pytest.raises(UnreadableError):
        milliseconds(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("50 rps", 50),
        (50, 50),
        (2.5, 2.5),
        ("2k req/s", 2000),
        ("2 k per second", 2000),
        ("1.5 million per day", 1_500_000 / 86_400),
        ("1M/day", 1_000_000 / 86_400),
        ("3,000 per minute", 50),
        ("7200/h", 2),
        ("about 600 a minute", 10),
        ("86400 daily", 1),
        ("1e3 rps", 1000),
        ("2,5 rps", 2.5),
        ("50 per second, 4 million per day", 50),
    ],
)
def test_a_rate_is_read(value: AnswerValue, expected: float) -> None:
    """In requests a second; the unit is the one that follows the number."""
    assert per_second(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["0", 0, "none", "a lot", "-5 rps", "", False])
def test_a_rate_that_is_none_is_unreadable(value: AnswerValue) -> None:
    """The latency is measured at the rate: it must be above 0."""
    with pytest.raises(UnreadableError):
        per_second(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("99.9 %", 0.999), ("99,9 %", 0.999), ("0.999", 0.999), (".999", 0.999), (99.9, 0.999), ("99.95", 0.9995)],
)
def test_an_availability_is_read(value: AnswerValue, expected: float) -> None:
    """As a fraction of 1, whether told as one or in percent."""
    assert fraction(value) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["100 %", 1, 0, "high", "999 %"])
def test_an_availability_that_is_none_is_unreadable(value: AnswerValue) -> None:
    """Nobody is available always."""
    with pytest.raises(UnreadableError):
        fraction(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7d", "7d"),
        ("24 hours", "24h"),
        ("5 minutes", "5m"),
        ("30 min", "30m"),
        ("5 months", "150d"),
        ("2 weeks", "14d"),
        ("1.5 h", "1.5h"),
        ("500 ms", "500ms"),
        ("10 seconds", "10s"),
        ("a year is too old, 2 years", "730d"),
        ("weekly", "7d"),
        ("nightly", "1d"),
    ],
)
def test_a_duration_is_written_as_the_spec_writes_it(value: AnswerValue, expected: str) -> None:
    """Months, weeks and years become days; the rest keeps its unit."""
    assert duration(value) == expected
    assert examine(merge(BASE, {"split": {"gap": expected}}))[1] == ()


@pytest.mark.parametrize("value", ["", "soon", "7", "7 dwarfs", "-3 d", True])
def test_a_duration_that_is_none_is_unreadable(value: AnswerValue) -> None:
    """A number without its unit says nothing."""
    with pytest.raises(UnreadableError):
        duration(value)


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("x3", None), ("3k", 3000), ("3 M", 3e6), ("3 months", 3), ("1_000", 1000)]
)
def test_k_and_m_are_suffixes_only_where_they_stand_alone(value: str, expected: float | None) -> None:
    """`3 months` is no 3 million."""
    if expected is None:
        with pytest.raises(UnreadableError):
            number(value)
    else:
        assert number(value) == expected


@pytest.mark.parametrize(
    ("slot", "value", "effect"),
    [
        ("scale.spikes", "3x", {"objectives.peak_factor": 3.0}),
        ("scale.spikes", "peak 3x", {"objectives.peak_factor": 3.0}),
        ("data.known_at_prediction", "yes", {}),
        ("data.known_at_prediction", True, {}),
        ("data.known_at_prediction", "Yes, all of them are known.", {}),
        ("data.known_at_prediction", "all_orders", {"columns.all_orders": {"role": "leak"}}),
        ("security.pii", "none", {}),
        ("security.pii", "No.", {}),
        ("security.pii", False, {}),
        ("security.pii", "a, b", {"columns.a": {"role": "ignore"}, "columns.b": {"role": "ignore"}}),
        ("security.regime", "none", {}),
        ("security.regime", "PCI DSS", {"governance.regime": ["pci"], "data.snapshot": "digest"}),
        ("security.regime", ["GDPR", "gdpr"], {"governance.regime": ["gdpr"]}),
        ("business.cost_of_error", "false positive 5, false negative 120", {"decision.cost": (5, 120)}),
        ("business.cost_of_error", "a false negative costs 120, a false positive 5", {"decision.cost": (5, 120)}),
        ("business.cost_of_error", "FN: 1,200, FP: 5", {"decision.cost": (5, 1200)}),
        ("data.read_write", "read-heavy", {}),
        ("data.freshness", "weekly", {}),
        ("nfr.consistency", "eventual", {}),
        ("nfr.consistency", "several servers, strong", {"serving.state": "env:MLSYSTEM_STATE"}),
        ("nfr.consistency", "env:CHURN_DB", {"serving.state": "env:CHURN_DB"}),
        ("task.kind", "Regression", {"task.kind": "regression"}),
    ],
)
def test_an_answer_means_what_a_person_meant(slot: str, value: AnswerValue, effect: dict[str, object]) -> None:
    """Nothing is set by an answer that says how things are anyway; costs go to the error that they were said of."""
    found = {key: _short(rule) for key, rule in SLOTS_BY_ID[slot].effect(value).items()}
    assert found == effect


def _short(rule: JsonValue) -> object:
    """A column's rule without its reason; costs as a pair."""
    if not isinstance(rule, dict):
        return rule
    if "false_positive" in rule:
        return (rule["false_positive"], rule["false_negative"])
    return {key: value for key, value in rule.items() if key != "why"}


@pytest.mark.parametrize(
    ("slot", "value", "advice"),
    [
        ("nfr.latency", "fast", "no latency such as '20 ms'"),
        ("scale.rate", "many", "holds no number"),
        ("scale.rate", "0", "no rate such as '50 rps'"),
        ("scale.spikes", "0.5x", "no multiple of the usual rate such as '3x'"),
        ("nfr.availability", "100 %", "no availability such as '99.9 %'"),
        ("data.freshness", "fresh", "no duration such as '7d'"),
        ("data.known_at_prediction", "no", "name the columns that are not known yet"),
        ("security.pii", "yes", "name the columns that identify people"),
        ("security.regime", "CCPA", "none of gdpr, hipaa, pci"),
        ("business.cost_of_error", "a lot", "such as '1 and 5'"),
        ("task.kind", "clustering", "none of binary, multiclass, regression"),
        ("task.target", "  ", "it is empty"),
        ("task.data", " , ", "it names no file"),
    ],
)
def test_an_answer_that_cannot_be_read_fails_the_task_with_what_to_do(
    slot: str, value: AnswerValue, advice: str
) -> None:
    """Never a guess: the reason names the slot and an answer that works."""
    with pytest.raises(Permanent, match=f"the answer to {slot} cannot be used: .*{advice}.*submit"):
        fill({}, {slot: value}, ())


def test_an_answer_to_a_question_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """A misspelt id would be lost otherwise."""
    with pytest.raises(Permanent, match=r"nothing is asked under 'nfr.speed'.*nfr\.latency"):
        fill({}, {"nfr.speed": "20 ms"}, ())


def test_an_answer_wins_over_the_request_and_the_request_over_the_workspace() -> None:
    """Who speaks last and clearest decides."""
    facts = (fact("nfr.latency", "80 ms", 0.9), fact("scale.rate", "7 rps", 0.9), fact("scale.spikes", "9x", 0.9))
    request: dict[str, AnswerValue] = {"nfr.latency": "50 ms", "scale.rate": "5 rps"}
    known = fill(request, {"nfr.latency": "20 ms"}, facts)
    assert {slot: (item.value, item.origin) for slot, item in known.items()} == {
        "nfr.latency": ("20 ms", "answer"),
        "scale.rate": ("5 rps", "request"),
        "scale.spikes": ("9x", "workspace"),
    }


def test_of_several_facts_the_surest_counts_and_among_equals_the_first() -> None:
    """The context-manager tells the nearest first; a passing mention or what cannot be read fills nothing."""
    facts = (
        fact("nfr.latency", "30 ms", 0.8, "/README.md:3"),
        fact("nfr.latency", "40 ms", 0.8, "/docs/old.md:3"),
        fact("nfr.latency", "10 ms", 0.4),
        fact("scale.rate", "5 rps", 0.49),
        fact("scale.spikes", "very high", 0.9),
        fact("stack.language", "node", 0.9),
    )
    assert fill({}, {}, facts) == {"nfr.latency": Known("nfr.latency", "30 ms", "workspace", "/README.md:3")}


def test_all_regulations_that_the_workspace_states_hold_together() -> None:
    """GDPR in one file does not hide HIPAA in another."""
    facts = (fact("security.regime", "gdpr", 0.7, "/a.md:1"), fact("security.regime", "hipaa", 0.8, "/b.md:2"))
    known = fill({}, {}, facts)
    assert known == {"security.regime": Known("security.regime", ["hipaa", "gdpr"], "workspace", "/b.md:2, /a.md:1")}
    assert SLOTS_BY_ID["security.regime"].effect(known["security.regime"].value) == {
        "governance.regime": ["hipaa", "gdpr"],
        "serving.api_keys": "env:MLSYSTEM_API_KEYS",
    }


@pytest.mark.parametrize(
    ("rate", "spikes", "factor"),
    [("50 rps", "200 rps", 4), ("50 rps", "3x", 3), ("100 rps", "20 rps", 1), (None, "100 rps", 2)],
)
def test_a_peak_told_as_a_rate_is_one_over_the_usual_rate(rate: str | None, spikes: str, factor: float) -> None:
    """`200 rps at the peak` over 50 is four times as much, not two hundred."""
    said: dict[str, AnswerValue] = {"scale.spikes": spikes, **({"scale.rate": rate} if rate else {})}
    keys = {key: value for _, key, value in effects(fill(said, {}, ()))}
    assert keys["objectives.peak_factor"] == factor
