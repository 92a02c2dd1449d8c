"""The playbook's designs: spec from slots, names of systems, an owner's keys, hostile names of columns."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from contracts.briefing import Fact
from contracts.events import AnswerValue
from mlsystem.spec import examine
from services._runtime.errors import Permanent
from services.ml_engineer import delivery
from services.ml_engineer.dossier import Design
from services.ml_engineer.engine import ColumnProfile
from services.ml_engineer.playbook import Budget, Playbook, Spec, merge, system_name, without
from tests.services.ml_engineer.made import COLUMNS, fact, profile, understand

HOSTILE = (
    "a.b",
    "columns.x",
    'say "x"',
    "it's",
    "back\\slash",
    "two\nlines",
    "tab\there",
    "#hash",
    "[table]",
    "a = 1",
    "naïve 列 🙂",
    " ",
    "\x7f\x00",
    "'''",
)


def design(
    request: str = "Predict churned",
    *,
    answers: Mapping[str, AnswerValue] | None = None,
    facts: tuple[Fact, ...] = (),
    columns: tuple[ColumnProfile, ...] = COLUMNS,
    existing: Mapping[str, Spec] | None = None,
    asked_s: float | None = None,
) -> Design:
    """A design with every default taken."""
    found = understand(request, answers=answers, facts=facts, data=profile(columns), accept_defaults=True)
    return Playbook().design(found, budget=Budget(60, asked_s), existing=existing or {})


def test_the_spec_says_what_was_said_and_what_was_assumed() -> None:
    """One file holds all of it; the engine takes it as it is."""
    made = design("Predict churned, p99 under 20 ms, 10 rps with peaks of 4x", answers={"data.time": "SIGNED"})
    assert made.system == "churn"
    assert made.spec == {
        "format": 1,
        "name": "churn",
        "goal": "Predict churned, p99 under 20 ms, 10 rps with peaks of 4x",
        "task": {"kind": "binary", "target": "churned"},
        "data": {"source": ["../../data/churn.csv"], "time": "signed"},
        "search": {"budget": "60s"},
        "objectives": {"latency_ms_p99": 20.0, "rate_rps": 10.0, "peak_factor": 4.0, "availability": 0.99},
    }
    assert examine(made.spec)[1] == ()
    assert made.assumptions == (
        "data known at prediction: yes",
        "nfr availability: 99 %",
        "security pii: none",
        "security regime: none",
    )
    assert made.unmet == ()


def test_the_same_understanding_gives_the_same_design() -> None:
    """Nothing of the clock, of chance or of an order gets in."""
    assert design() == design()


def test_columns_that_a_person_named_are_spelled_as_the_data_spell_them() -> None:
    """Case does not matter where it does not decide."""
    answers: dict[str, AnswerValue] = {"security.pii": "CUSTOMER", "data.known_at_prediction": "Plan"}
    assert design(answers=answers).spec["columns"] == {
        "customer": {"role": "ignore", "why": "identifies people"},
        "plan": {"role": "leak", "why": "not known when the prediction is made"},
    }


@pytest.mark.parametrize("slot", ["security.pii", "data.known_at_prediction", "data.time", "data.entity"])
def test_an_answer_that_names_no_column_fails_with_the_nearest(slot: str) -> None:
    """Left out silently, personal data would be learned from."""
    with pytest.raises(
        Permanent, match=rf"the answer to {slot} names 'custommer', which is no column.*: there are cust"
    ):
        design(answers={slot: "custommer"})


def test_a_fact_that_names_no_column_is_told_and_not_acted_on() -> None:
    """The workspace speaks of many tables; only a person's answer takes a column out."""
    facts = (fact("security.pii", "column email in /other.csv"), fact("data.entity", "household"))
    made = design(facts=facts)
    assert "columns" not in made.spec
    assert made.spec["data"] == {"source": ["../../data/churn.csv"]}
    assert "column email in /other.csv" in made.sections[1].text


def test_the_target_is_no_feature_whatever_is_said_of_it() -> None:
    """Of course it is not known when the prediction is made: a rule on it would break the spec."""
    assert "columns" not in design(answers={"data.known_at_prediction": "churned", "security.pii": ["churned"]}).spec


def test_a_peak_told_as_a_rate_by_the_workspace_is_a_multiple_in_the_spec() -> None:
    """50 rps with 200 at the peak is a factor of 4."""
    made = design(facts=(fact("scale.rate", "50 rps"), fact("scale.spikes", "200 rps")))
    assert made.spec["objectives"] == {"rate_rps": 50, "peak_factor": 4, "latency_ms_p99": 0, "availability": 0.99}


def test_a_forecast_is_told_as_unmet_where_it_is_one() -> None:
    """Classes are not forecast: nothing is missing there."""
    assert design("Forecast tenure").unmet == (
        "a forecast with a horizon: rows are predicted one by one, the holdout is the latest part",
    )
    assert design("Forecast churned").unmet == ()


@pytest.mark.parametrize(
    ("data", "target", "name"),
    [
        ("/data/telco_churn.csv", "Churn", "telco-churn"),
        ("/data/TelcoChurn.v2.csv.gz", "Churn", "telco-churn"),
        ("/2024 sales.csv", "x", "system-2024-sales"),
        ("/客户.csv", "x", "system"),
        ("/.csv", "x", "system"),
        ("/" + "long-" * 20 + ".csv", "x", "long-long-long-long-long-long-long-long"),
    ],
)
def test_a_system_is_named_after_its_data(data: str, target: str, name: str) -> None:
    """As the spec allows names: lower-case letters, digits, dashes, a letter first, at most 40."""
    assert system_name(data, target, {}) == name
    assert examine({"format": 1, "name": name, "task": {"kind": "binary", "target": "y"}, "data": {"source": ["a"]}})[0]


def existing(**targets: str) -> dict[str, Spec]:
    """Systems of a workspace by name."""
    return {name.replace("_", "-"): {"task": {"target": target}} for name, target in targets.items()}


def test_the_same_data_with_another_target_is_another_system() -> None:
    """And the same target again is the same system, whatever else stands there."""
    assert system_name("/churn.csv", "Churn", existing(churn="Churn", sales="x")) == "churn"
    assert system_name("/churn.csv", "Plan", existing(churn="Churn")) == "churn-plan"
    assert system_name("/churn.csv", "Plan", existing(churn="Churn", churn_plan="Plan")) == "churn-plan"
    assert system_name("/churn.csv", "a.b", existing(churn="Churn", churn_a_b="a_b")) == "churn-a-b-2"
    assert system_name("/churn.csv", "客", existing(churn="Churn")) == "churn-2"


names = st.text(st.sampled_from("abc-_. 1é"), max_size=60)


@given(st.lists(st.tuples(names, names), unique=True, max_size=12))
def test_no_two_targets_ever_share_a_system(requests: list[tuple[str, str]]) -> None:
    """Whatever files and columns are called: a second system never overwrites a first one."""
    stands: dict[str, Spec] = {}
    for file, target in requests:
        name = system_name(f"/{file}.csv", target, stands)
        assert examine(
            {"format": 1, "name": name, "task": {"kind": "binary", "target": "y"}, "data": {"source": ["a"]}}
        )[0]
        assert name not in stands or stands[name] == {"task": {"target": target}}
        stands[name] = {"task": {"target": target}}


def test_a_second_request_keeps_what_the_owner_wrote() -> None:
    """What was said now counts most, then the owner's file, then what nobody said; told so in the assumptions."""
    owners: Spec = {
        "format": 1,
        "name": "churn",
        "owner": "Ada",
        "task": {"kind": "binary", "target": "churned", "positive": "Yes"},
        "data": {"source": ["../../old.csv"], "licence": "ours"},
        "search": {"budget": "600s", "seed": 3},
        "objectives": {"rate_rps": 500.0, "latency_ms_p99": 5.0},
        "columns": {"plan": {"role": "ignore", "why": "mine"}},
    }
    made = design("Predict churned, p99 under 20 ms", existing={"churn": owners}, answers={"security.pii": "customer"})
    assert made.spec == {
        "format": 1,
        "name": "churn",
        "goal": "Predict churned, p99 under 20 ms",
        "owner": "Ada",
        "task": {"kind": "binary", "target": "churned", "positive": "Yes"},
        "data": {"source": ["../../data/churn.csv"], "licence": "ours"},
        "search": {"budget": "600s", "seed": 3},
        "objectives": {"rate_rps": 500.0, "latency_ms_p99": 20.0, "peak_factor": 3.0, "availability": 0.99},
        "columns": {
            "plan": {"role": "ignore", "why": "mine"},
            "customer": {"role": "ignore", "why": "identifies people"},
        },
    }
    assert [text for text in made.assumptions if text.startswith("scale")] == ["scale spikes: 3x"]
    assert design(existing={"churn": owners}, asked_s=30).spec["search"] == {"budget": "30s", "seed": 3}


def test_merging_lays_one_over_the_other_table_by_table() -> None:
    """Neither argument is changed."""
    below: Spec = {"a": {"b": 1, "c": 2}, "d": 1}
    above: Spec = {"a": {"b": 3}, "d": {"e": 1}}
    assert merge(below, above) == {"a": {"b": 3, "c": 2}, "d": {"e": 1}}
    assert (below, above) == ({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3}, "d": {"e": 1}})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_column_of_any_name_can_be_set_written_read_and_taken_out(name: str, tmp_path: Path) -> None:
    """Dots, quotes and line breaks in a name are part of one key, in the spec and in system.toml."""
    columns = (*COLUMNS, ColumnProfile(name=name, type="category", distinct=3))
    if name.strip():
        spec = design(answers={"security.pii": [name.strip()]}, columns=(*columns[:-1], renamed(columns[-1]))).spec
        assert spec["columns"] == {name.strip(): {"role": "ignore", "why": "identifies people"}}
    spec = merge(design().spec, {"columns": {name: {"role": "ignore", "why": name, "protected": True}}, "goal": name})
    delivery.write(tmp_path, {"system.toml": delivery.toml(spec)})
    assert delivery.read_spec(tmp_path) == spec
    assert tomllib.loads((tmp_path / "system.toml").read_text(encoding="utf-8")) == spec
    problem, *others = examine(spec)[1]
    assert (problem.code, others) == ("not_supported_yet", [])
    assert without(spec, problem.key)["columns"] == {name: {"role": "ignore", "why": name}}


def renamed(column: ColumnProfile) -> ColumnProfile:
    """A column whose name has no blanks around it: answers are stripped."""
    return column.model_copy(update={"name": column.name.strip()})


plain = st.recursive(
    st.text(max_size=8)
    | st.integers(-(2**53), 2**53)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5))
def test_any_spec_survives_system_toml(spec: dict[str, JsonValue]) -> None:
    """Whatever strings it holds: what is written is what is read, by any TOML reader."""
    assert tomllib.loads(delivery.toml(spec)) == spec


def test_taking_out_a_key_takes_empty_tables_with_it() -> None:
    """And leaves the rest alone; a key that is not there changes nothing."""
    spec: Spec = {"a": {"b": {"c": 1}}, "d": {"e": 1, "f": 2}, "a.b": 5}
    assert without(spec, "a.b.c") == {"d": {"e": 1, "f": 2}, "a.b": 5}
    assert without(spec, "d.e") == {"a": {"b": {"c": 1}}, "d": {"f": 2}, "a.b": 5}
    assert without(spec, "x.y") == spec
