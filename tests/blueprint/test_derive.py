"""Features that a person writes as expressions: what they mean, what is refused, and that no second meaning exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem.boundary import Boundary
from mlsystem.compile.derive import widened
from mlsystem.compile.model import Model, compile_model
from mlsystem.compile.parity import compare
from mlsystem.compile.session import Rows
from mlsystem.errors import SpecError
from mlsystem.expression import LONGEST
from mlsystem.features.derive import derive
from mlsystem.features.functions import FUNCTIONS
from mlsystem.features.native_derive import widen
from mlsystem.output import Reporter
from mlsystem.schema import Column, Schema, TaskSchema
from mlsystem.spec import KEYS, examine
from mlsystem.train.clock import Clock
from mlsystem.train.command import as_problem
from mlsystem.train.search import Settings, search
from tests.blueprint.made_rows import churn, made

SCHEMA = Schema(
    task=TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes"),
    columns=(
        Column(name="customer", type="category", role="id", reason="one value a row"),
        Column(name="tenure", type="integer"),
        Column(name="Total Charges", type="number"),
        Column(name="plan", type="category", levels=("monthly", "yearly"), distinct=2),
        Column(name="city", type="category", levels=("3", "4"), distinct=2),
        Column(name="joined", type="date", format="iso"),
        Column(name="seen", type="datetime", role="time", format="iso"),
        Column(name="note", type="text", role="ignore", reason="free text is set aside"),
        Column(name="paid", type="number", role="leak", reason="paid + open = total"),
        Column(name="left", type="category", role="target"),
    ),
)
BOUNDARY = Boundary.from_schema(SCHEMA)

Row = Mapping[str, Any]
Value = float | str | None


def values(expression: str, *rows: Row) -> list[Value]:
    """Return what the compiled graph makes of an expression in each row; None is missing."""
    whole = [{name: row.get(name) for name in BOUNDARY.required} for row in rows]
    derivation = derive(SCHEMA, {"made": expression})
    encoded = BOUNDARY.rows(whole)
    assert encoded.problems == ()
    graph = widened(derivation, Rows(encoded.numbers, encoded.strings))
    native = widen(derivation, encoded.numbers, encoded.strings)
    np.testing.assert_allclose(graph.numbers, native[0], rtol=1e-14)
    np.testing.assert_array_equal(graph.strings, native[1])
    made_texts = derivation.of_strings != ()
    column = (graph.strings if made_texts else graph.numbers)[:, -1].tolist()
    return [None if value == "" or value != value else value for value in column]  # noqa: PLR0124 - NaN


# What every part of the language means ---------------------------------------------------------------------------

ONE = {"tenure": 10, "Total Charges": 55.5, "plan": "monthly", "city": 3, "joined": "2024-02-29"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("`Total Charges` / max(tenure, 1)", 5.55),
        ('"Total Charges" - tenure * 2 + -1', 34.5),
        ("tenure // 3 + tenure % 4 + tenure ** 2", 105.0),
        ("-tenure % 3 + (1 - tenure) % -4", 2.0 + -1.0),
        ("1 / (tenure - 10)", None),
        ("max(1 / (tenure - 10), 5)", None),
        ("log(tenure - 10)", None),
        ("log(-tenure)", None),
        ("sqrt(-tenure)", None),
        ("exp(tenure * 1000)", None),
        ("(tenure * 1e308) * 10", None),
        ("exp(log(tenure))", pytest.approx(10.0)),
        ("round(tenure / 4) + floor(-0.5) + ceil(0.5) + abs(-2) + sqrt(tenure - 1)", 2.0 - 1 + 1 + 2 + 3),
        ("clip(tenure, 0, 5)", 5.0),
        ("min(tenure, 3, 7) + max(1, tenure)", 13.0),
        ("tenure > 5", 1.0),
        ("5 > tenure or tenure >= 10", 1.0),
        ("not (3 < tenure <= 9)", 1.0),
        ("tenure != 10", 0.0),
        ("tenure in [1, 10]", 1.0),
        ("tenure not in [1, 10]", 0.0),
        ("(tenure > 3) + (tenure > 4)", 2.0),
        ('plan == "monthly"', 1.0),
        ("'yearly' != plan", 1.0),
        ('plan in ["yearly", "monthly"]', 1.0),
        ("city == 3 and city == '3.0' and city in [3]", 1.0),
        ("plan == city", 0.0),
        ("concat(plan, city)", "monthly|3"),
        ("concat(plan, 'x', city)", "monthly|x|3"),
        ("'long' if tenure > 5 else plan", "long"),
        ("where(tenure > 50, tenure, 0)", 0.0),
        ("tenure if plan == 'yearly' else `Total Charges`", 55.5),
        ("days(joined, '2024-03-31')", 31.0),
        ("joined - '2024-02-28'", 1.0),
        ("joined < '2024-03-01'", 1.0),
        ("days(joined, joined + 7)", 7.0),
        ("month(joined) * 100 + weekday(joined) * 10 + dayofyear('joined')", 200.0 + 30 + 60),
        ("month(seen) + hour(seen)", 11.0 + 6),
        ("true and not false", None),
    ],
)
def test_an_expression_means_what_it_says(expression: str, expected: Any) -> None:
    """The graph and numpy give the value that a person would work out by hand."""
    if expression == "true and not false":
        assert "names no column" in refusal(expression)
        return
    assert values(expression, {**ONE, "seen": "2024-11-30T06:30:00"}) == [expected]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("tenure + `Total Charges`", None),
        ("tenure ** 0", None),
        ("1 ** tenure", None),
        ("max(tenure, 1)", None),
        ("tenure > 3", None),
        ("not tenure > 3", None),
        ("tenure > 3 and `Total Charges` > 1000", 0.0),
        ("tenure > 3 or `Total Charges` > 5", 1.0),
        ("tenure > 3 and `Total Charges` > 5", None),
        ("plan == 'monthly'", None),
        ("plan != 'monthly'", None),
        ("plan in ['monthly']", None),
        ("plan == city", None),
        ("concat(plan, city)", None),
        ("coalesce(plan, 'none')", "none"),
        ("coalesce(tenure, `Total Charges`, 1)", 55.5),
        ("isnull(tenure) + isnull(plan) + isnull(city) + isnull(joined)", 3.0),
        ("1 if tenure > 3 else 2", None),
        ("'a' if tenure > 3 else 'b'", None),
        ("joined - '2024-01-01'", None),
        ("coalesce(joined, '2024-01-01') - '2023-12-31'", 1.0),
    ],
)
def test_what_is_missing_stays_missing(expression: str, expected: Value) -> None:
    """A missing value makes the result missing, unless the other side decides or something is put in its place."""
    assert values(expression, {"tenure": None, "Total Charges": 55.5, "plan": "", "city": 3}) == [expected]


def test_the_time_of_a_row_can_be_reckoned_with_and_is_no_feature() -> None:
    """How old an account is when the row is known: the time's day reaches the expression, and nothing else."""
    columns = tuple(msgspec.structs.replace(c, whole=True) if c.role == "time" else c for c in SCHEMA.columns)
    schema = msgspec.structs.replace(SCHEMA, columns=columns)
    boundary = Boundary.from_schema(schema)
    derivation = derive(schema, {"age": "days(joined, seen)"})
    row: Row = {"tenure": 1, "Total Charges": 2, "plan": "yearly", "city": 3}
    encoded = boundary.rows([{**row, "joined": "2024-01-31", "seen": "2024-03-01T12:00:00"}])
    graph = widened(derivation, Rows(encoded.numbers, encoded.strings))
    native = widen(derivation, encoded.numbers, encoded.strings)
    day = boundary.numbers.index("seen")
    assert graph.numbers[0].tolist() == [*np.delete(encoded.numbers[0], day).tolist(), 30.5] == native[0][0].tolist()


def test_a_feature_may_use_those_above_it() -> None:
    derivation = derive(SCHEMA, {"monthly": "`Total Charges` / tenure", "dear": "monthly > 5"})
    encoded = BOUNDARY.rows([{name: ONE.get(name) for name in BOUNDARY.required}])
    wide = widened(derivation, Rows(encoded.numbers, encoded.strings))
    assert wide.numbers[0, -2:].tolist() == [5.55, 1.0]


# What is refused -------------------------------------------------------------------------------------------------


def refusal(expression: str) -> str:
    with pytest.raises(SpecError) as caught:
        derive(SCHEMA, {"made": expression})
    assert (caught.value.code, caught.value.details[0]["key"]) == ("bad_expression", "derive.made")
    return caught.value.message


@pytest.mark.parametrize(
    ("expression", "reason", "marked"),
    [
        ("tenure / tenur", "there is no column called 'tenur'; did you mean 'tenure'?", "tenur"),
        (
            "1 + 'total charges'",
            "no column is called 'total charges'; did you mean 'Total Charges'?",
            "'total charges'",
        ),
        ("left == 'Yes'", "'left' is the target, which is not known when a prediction is made", "left"),
        ("customer == 'C'", "'customer' is no feature (it has the role id): one value a row", "customer"),
        ("1 + paid", "'paid' is no feature (it has the role leak): paid + open = total", "paid"),
        ("note == 'a'", "free text is set aside", "note"),
        ("days(joined, seen)", "use month(seen), weekday(seen), dayofyear(seen), hour(seen)", "seen"),
        ("tenure + plan", "this is a category where a number is expected", "plan"),
        ("joined * 2", "the days between two dates are days(from, to)", "joined"),
        ("1 if tenure else 2", "this is a number where true or false is expected", "tenure"),
        ("plan < 'a'", "categories have no order", "plan"),
        ("concat(plan, tenure)", "this is a number where a category is expected", "tenure"),
        ("joined > 'soon'", "a date is expected, such as '2024-01-31'", "'soon'"),
        ("hour(joined)", "a date column with a time of day is expected", "joined"),
        ("fold(tenure)", "there is no function called 'fold'; there are min, max", "fold(tenure)"),
        ("clip(tenure)", "clip takes other values; write clip(number, low, high)", "clip(tenure)"),
        ("tenure + 1e999", "this number is too large", "1e999"),
        ("3 + 4", "this names no column", "3 + 4"),
        ("tenure in plan", "a list is expected behind `in`", "plan"),
        ("tenure.real", "a dot after a name is not part of the language", "tenure.real"),
        ("__import__('os').system('x')", "call a function by its name", "__import__('os').system('x')"),
        ("[tenure for tenure in plan]", "this is not part of the language", "[tenure for tenure in plan]"),
        ("tenure @ 2", "this operator is not part of the language", "tenure @ 2"),
        ("tenure +", "an operator or an end is expected here", "+"),
        ("(tenure", "'(' was never closed", "("),
        ("é + tenure", "there is no column called 'é'", "é"),
    ],
)
def test_a_refusal_points_at_the_place(expression: str, reason: str, marked: str) -> None:
    """The message says what is expected, and carets stand below exactly the part that is meant."""
    message = refusal(expression)
    assert reason in message
    *_, shown, carets = message.splitlines()
    assert "".join(sign for sign, mark in zip(shown, carets, strict=False) if mark == "^") == marked


def test_all_expressions_are_refused_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        derive(SCHEMA, {"a": "tenur", "tenure": "`Total Charges`", "c": "d", "d": "tenure"})
    assert [(detail["key"], detail["at"]) for detail in caught.value.details] == [
        ("derive.a", [0, 5]),
        ("derive.tenure", [0, 15]),
        ("derive.c", [0, 1]),
    ]


@pytest.mark.parametrize(
    "expression", ["(" * 300 + "tenure" + ")" * 300, "-" * 900 + "tenure", "tenure" + "+1" * 600, "tenure +\0 1", " "]
)
def test_no_expression_breaks_the_parser(expression: str) -> None:
    """Too deep, too long, not text, nothing: each is a refusal."""
    assert len(expression) <= LONGEST or "longer than 1000 characters" in refusal(expression)
    refusal(expression)


def test_features_that_double_each_other_are_refused_before_memory_is_gone() -> None:
    doubling = {"f0": "tenure + 1"} | {f"f{i}": f"f{i - 1} + f{i - 1}" for i in range(1, 40)}
    with pytest.raises(SpecError, match="too large"):
        derive(SCHEMA, doubling)


def test_the_schema_of_the_spec_names_every_function() -> None:
    """What an editor shows beside the key is the whole language."""
    words = set(KEYS["derive.*"].about.replace(".", " ").split())
    assert [name for name in FUNCTIONS if name not in words] == []


def test_the_check_of_a_spec_parses_expressions() -> None:
    """Syntax is refused before there are data; names need the contract."""
    spec = {
        "format": 1,
        "name": "made",
        "task": {"kind": "binary", "target": "left"},
        "data": {"source": ["rows.csv"]},
        "derive": {"good": "whatever / 2", "bad": "tenure +"},
    }
    _, problems = examine(spec)
    assert [(problem.code, problem.key) for problem in problems] == [("bad_value", "derive.bad")]


# One meaning -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """An expression and what plain Python says that it is in a row; None is missing."""

    text: str
    value: Callable[[Row], Any]


def unless_missing(operation: Callable[..., Any], *parts: Written) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        found = [part.value(row) for part in parts]
        if any(item is None for item in found):
            return None
        try:
            result = operation(*found)
        except (ZeroDivisionError, OverflowError):
            return None
        return None if isinstance(result, float) and not math.isfinite(result) else result

    return value


def one_of(forms: Mapping[str, Callable[..., Any]], *parts: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    def write(form: str, given: tuple[Written, ...]) -> Written:
        return Written(form.format(*(part.text for part in given)), unless_missing(forms[form], *given))

    return st.builds(write, st.sampled_from(sorted(forms)), st.tuples(*parts))


def kleene(sign: str) -> Callable[[Written, Written], Written]:
    decisive = sign == "or"

    def write(one: Written, other: Written) -> Written:
        def value(row: Row) -> bool | None:
            found = {one.value(row), other.value(row)}
            return decisive if decisive in found else None if None in found else not decisive

        return Written(f"({one.text} {sign} {other.text})", value)

    return write


def chosen(test: Written, one: Written, other: Written) -> Written:
    def value(row: Row) -> Any:
        found = test.value(row)
        return None if found is None else (one if found else other).value(row)

    return Written(f"({one.text} if {test.text} else {other.text})", value)


def instead(one: Written, other: Written) -> Written:
    def value(row: Row) -> Any:
        found = one.value(row)
        return other.value(row) if found is None else found

    return Written(f"coalesce({one.text}, {other.text})", value)


def column(name: str, text: str) -> Written:
    return Written(text, lambda row: row[name])


_One = Callable[[Any], Any]
_Two = Callable[[Any, Any], Any]


def floor(value: float) -> float:
    return float(math.floor(value))


def ceil(value: float) -> float:
    return float(math.ceil(value))


def differ(one: Any, other: Any) -> bool:
    return one != other


def is_missing(part: Written) -> Written:
    return Written(f"isnull({part.text})", lambda row: part.value(row) is None)


def crossed(one: Written, other: Written) -> Written:
    return Written(f"concat({one.text}, {other.text})", unless_missing("{}|{}".format, one, other))


NUMBER = st.one_of(
    st.just(column("tenure", "tenure")),
    st.just(column("Total Charges", "`Total Charges`")),
    st.integers(-9, 9).map(lambda value: Written(f"({value})", lambda _: float(value))),
)
CATEGORY = st.sampled_from([column("plan", "plan"), column("city", "city")])
TEXT = st.sampled_from(["monthly", "yearly", "3"]).map(lambda text: Written(f"'{text}'", lambda _: text))


def deeper(number: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    arithmetic: dict[str, _Two] = {
        "({0} + {1})": lambda a, b: a + b,
        "({0} - {1})": lambda a, b: a - b,
        "({0} * {1})": lambda a, b: a * b,
        "({0} / {1})": lambda a, b: a / b,
        "({0} % {1})": lambda a, b: a % b,
        "min({0}, {1})": min,
        "max({0}, {1})": max,
    }
    single: dict[str, _One] = {
        "(-{0})": lambda a: -a,
        "abs({0})": abs,
        "floor({0})": floor,
        "ceil({0})": ceil,
        "round({0})": lambda a: float(round(a)),
    }
    order: dict[str, _Two] = {
        "({0} < {1})": lambda a, b: a < b,
        "({0} >= {1})": lambda a, b: a >= b,
        "({0} == {1})": lambda a, b: a == b,
        "({0} != {1})": lambda a, b: a != b,
    }
    alike: dict[str, _Two] = {"({0} == {1})": lambda a, b: a == b, "({0} not in [{1}])": lambda a, b: a != b}
    truth = st.one_of(
        one_of(order, number, number),
        one_of(alike, CATEGORY, TEXT),
        one_of({"({0} != {1})": differ}, CATEGORY, CATEGORY),
        st.builds(is_missing, CATEGORY | number),
    )
    truth = truth | st.builds(kleene("or"), truth, truth) | st.builds(kleene("and"), truth, truth)
    return st.one_of(
        one_of(arithmetic, number, number),
        one_of(single, number),
        st.builds(chosen, truth, number, number),
        st.builds(instead, number, number),
        truth,
    )


CROSSED = st.one_of(
    st.builds(crossed, CATEGORY, CATEGORY | TEXT),
    st.builds(instead, CATEGORY, TEXT | CATEGORY),
)
EXPRESSION = st.recursive(NUMBER, deeper, max_leaves=8).filter(lambda one: "tenure" in one.text or "`" in one.text)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "tenure": st.none() | st.integers(-99, 99).map(float),
            "Total Charges": st.none() | st.sampled_from([0.0, 0.1, -2.5, 1e-9, 123456.789, 1e300, -1e300]),
            "plan": st.none() | st.sampled_from(["monthly", "yearly", "ünlimited", "never seen"]),
            "city": st.none() | st.sampled_from(["3", "4"]),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100)
@given(st.one_of(EXPRESSION, CROSSED), ROWS)
def test_graph_numpy_and_plain_python_agree(written: Written, rows: list[Row]) -> None:
    """Of any expression over any rows: what is trained on, what is served and what a person reads are one."""
    expected = [written.value(row) for row in rows]
    numbers = [float(value) if isinstance(value, bool) else value for value in expected]
    assert values(written.text, *rows) == [
        value if value is None or isinstance(value, str) else pytest.approx(value, rel=1e-12, abs=0)
        for value in numbers
    ]


DERIVED = {
    "a month": "charges / max(tenure, 1)",
    "new and monthly": "tenure < 6 and plan == 'monthly'",
    "plan in city": "concat(plan, city)",
    "odd": "1 / (tenure - 12)",
}


@pytest.fixture(scope="module")
def fitted() -> tuple[Model, Rows]:
    """A model of both families over derived features, with its rows."""
    numbers, strings, target = churn(300)
    problem = as_problem(made("binary", numbers, strings, target), "auto", 7, DERIVED)
    outcome = search(problem, Settings(families=("lightgbm",)), Clock.start(60), Reporter("json"))
    both_families = (outcome.model.members[0], outcome.linear.members[0])
    members = tuple(msgspec.structs.replace(item, weight=0.5) for item in both_families)
    return msgspec.structs.replace(outcome.model, members=members), problem.rows


def test_a_model_of_derived_features_passes_the_parity_gate(fitted: tuple[Model, Rows]) -> None:
    """Over hostile rows too; and the value of a model survives being written down."""
    model, rows = fitted
    again = msgspec.json.decode(msgspec.json.encode(model), type=Model)
    parity = compare(again, compile_model(model), rows, seed=1)
    assert (parity.largest < 1e-9, parity.flips) == (True, 0)


def test_the_file_takes_the_boundary_alone(fitted: tuple[Model, Rows]) -> None:
    """Callers send the columns of the source: derived ones are made inside, and the model depends on them."""
    model, rows = fitted
    shapes = {
        item.name: item.type.tensor_type.shape.dim[1].dim_value
        for item in onnx.load_from_string(compile_model(model)).graph.input
    }
    assert (
        shapes == {"numbers": 2, "strings": 2} == {"numbers": rows.numbers.shape[1], "strings": rows.strings.shape[1]}
    )
    assert [item.name for item in model.features.derivation.features] == list(DERIVED)
