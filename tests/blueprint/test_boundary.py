"""The boundary: one coercion for rows of JSON and tables of text, and a reason for every value that is refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsystem.boundary import Boundary, Encoded, Problem, Refused, Warning_, moment_column, number_column, parse_number
from mlsystem.schema import NULLS, Column, Schema, Table, TaskSchema

COLUMNS = (
    Column(name="customer", type="category", role="id"),
    Column(name="tenure", type="integer"),
    Column(name="price", type="number", decimal=","),
    Column(name="plan", type="category", levels=("basic", "3", "True"), distinct=3),
    Column(name="joined", type="date", format="iso"),
    Column(name="seen", type="datetime", role="time", format="%d/%m/%Y %H:%M"),
    Column(name="left", type="category", role="target"),
)
SCHEMA = Schema(task=TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes"), columns=COLUMNS)
BOUNDARY = Boundary.from_schema(SCHEMA)
ROW: dict[str, object] = {
    "tenure": 3,
    "price": "1,5",
    "plan": "basic",
    "joined": "2024-02-29",
    "seen": "03/04/2024 12:30",
}


def encode(**changes: object) -> Encoded:
    return BOUNDARY.rows([ROW | changes])


def reasons(**changes: object) -> list[tuple[str, str, str]]:
    return [(problem.column, problem.reason, problem.got) for problem in encode(**changes).problems]


def table(**columns: list[str]) -> Table:
    """A table of one row or more, with the ordinary values where nothing else is said."""
    rows = max(len(values) for values in columns.values())
    texts = {name: columns.get(name, [str(value)] * rows) for name, value in ROW.items()}
    return Table({name: np.array(values, dtype=object) for name, values in texts.items()}, rows)


def test_the_tensors_have_the_features_and_the_calendar_of_the_time() -> None:
    """A date gives its day and its calendar parts; the time that rows are split by gives its parts alone."""
    assert BOUNDARY.numbers == (
        *("tenure", "price", "joined", "joined:month", "joined:weekday", "joined:dayofyear"),
        *("seen:month", "seen:weekday", "seen:dayofyear", "seen:hour"),
    )
    assert (BOUNDARY.strings, BOUNDARY.required) == (("plan",), ("tenure", "price", "plan", "joined", "seen"))


def test_a_row_becomes_numbers_and_strings() -> None:
    encoded = encode()
    assert (encoded.numbers.tolist(), encoded.strings.tolist(), encoded.problems, encoded.warnings) == (
        [[3.0, 1.5, 19782.0, 2.0, 3.0, 60.0, 4.0, 2.0, 94.0, 12.0]],
        [["basic"]],
        (),
        (),
    )


@pytest.mark.parametrize("missing", [None, "", "  ", "NA", "null", "NaN", "?", "-", "None", "Unknown", "-inf"])
def test_nothing_is_missing_however_it_is_written(missing: object) -> None:
    encoded = encode(tenure=missing, joined=missing)
    assert (encoded.problems, np.isnan(encoded.numbers[0]).tolist()) == ((), [True, False, *[True] * 4, *[False] * 4])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((3, 3.0), (3.5, 3.5), ("3", 3.0), (" 3,50 ", 3.5), ("1.889,50", 1889.5), ("€ 12", 12.0), ("7 %", 7.0)),
        *(("1 889,50 EUR", 1889.5), ("1\u202f889,50", 1889.5), ("(3,50)", -3.5)),
    ],
)
def test_a_number_may_be_a_json_number_or_a_text_as_in_the_data(value: object, number: float) -> None:
    """The column's decimal sign is a comma."""
    assert encode(price=value).numbers[0, 1] == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1889.50", 1889.5), ("-3", -3.0), (".5", 0.5), ("1,234,567.5", 1234567.5), ("2e3", 2000.0), ("-$5", -5.0)),
        *(("CHF 1'234.50", 1234.5), ("12.50 USD", 12.5), ("($1,200.00)", -1200.0)),
    ],
)
def test_numbers_are_written_as_people_and_spreadsheets_write_them(text: str, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["1_000", "$-5", "1,23", "٣", "nan", "infinity", "0x10", "e5", "1 2", "(5", "-(5)"])
def test_what_only_a_programming_language_calls_a_number_is_none(text: str) -> None:
    with pytest.raises(Refused, match="not a number"):
        parse_number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (3.0, "3"),
        ("3", "3"),
        ("3.0", "3"),
        (" basic ", "basic"),
        (True, "True"),
        (False, "false"),
        (None, ""),
    ],
)
def test_categories_are_known_by_canonical_text(value: object, text: str) -> None:
    """3 and 3.0 are the same level, true is the level `True` if the data has one."""
    assert encode(plan=value).strings[0, 0] == text


@pytest.mark.parametrize(
    ("column", "value", "reason", "got"),
    [
        ("tenure", "three", "not a number", "three"),
        ("tenure", True, "true or false where a number is expected", "True"),
        ("tenure", [1], "a list where a number is expected", "a list"),
        ("tenure", {"a": 1}, "an object where a number is expected", "an object"),
        ("tenure", float("nan"), "not a finite number", "nan"),
        ("tenure", float("-inf"), "not a finite number", "-inf"),
        ("tenure", 10**400, "too large a number", "an integer of 1329 bits"),
        ("tenure", "1e999", "too large a number", "1e999"),
        ("price", "3.50", "not a number", "3.50"),
        ("price", "9" * 5000, "not a number", "9" * 59 + "…"),
        ("plan", ["basic"], "a list where a category is expected", "a list"),
        ("plan", float("nan"), "not a finite number", "nan"),
        ("plan", "\ud800", "not valid Unicode text", "?"),
        ("joined", 20240131, "a number where a date is expected", "20240131"),
        ("joined", "2024-02-30", "not a date as in the data (2024-01-31)", "2024-02-30"),
        ("seen", "2024-04-03 12:30", "not a date as in the data (%d/%m/%Y %H:%M)", "2024-04-03 12:30"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_reason(
    column: str, value: object, reason: str, got: str
) -> None:
    assert reasons(**{column: value}) == [(column, reason, got)]


def test_an_absent_feature_is_a_problem_and_other_columns_may_be_absent() -> None:
    """The id and the target need not be sent; null is allowed where absence is not."""
    row = {name: value for name, value in ROW.items() if name != "tenure"}
    reason = "missing column; send null if the value is not known"
    assert BOUNDARY.rows([ROW, row]).problems == (Problem(1, "tenure", reason, ""),)


def test_a_row_copied_from_the_source_is_taken_with_its_id_and_target() -> None:
    assert encode(customer="C-1", left="Yes").warnings == ()


def test_an_unknown_column_is_a_warning_and_a_problem_when_strict() -> None:
    row = ROW | {"colour": "red"}
    assert BOUNDARY.rows([row, row]).warnings == (Warning_("unknown_column", ("colour",), 2),)
    assert BOUNDARY.rows([row], strict=True).problems == (Problem(0, "colour", "unknown column", "red"),)


def test_blanks_around_the_names_of_a_row_do_not_matter() -> None:
    row = {f" {name}": value for name, value in ROW.items()}
    assert (BOUNDARY.rows([row]).problems, BOUNDARY.rows([row]).warnings) == ((), ())


def test_unseen_categories_are_answered_and_counted() -> None:
    encoded = BOUNDARY.rows([ROW | {"plan": "gold"}, ROW | {"plan": ""}, ROW | {"plan": "gold"}])
    assert (encoded.strings[0, 0], encoded.warnings) == ("gold", (Warning_("unseen_category", ("plan",), 2),))


def test_a_column_with_more_levels_than_the_contract_lists_has_no_unseen_ones() -> None:
    """Which of its levels the data had is not known any more."""
    column = Column(name="city", type="category", levels=("Rome",), distinct=5000)
    boundary = Boundary.from_schema(Schema(task=SCHEMA.task, columns=(column,)))
    assert boundary.rows([{"city": "Oslo"}]).warnings == ()


def test_a_table_names_the_row_and_the_column_of_what_does_not_fit() -> None:
    encoded = BOUNDARY.table(table(tenure=["1", "x", ""], joined=["2024-01-31", "never", "-"]))
    assert [(problem.row, problem.column, problem.got) for problem in encoded.problems] == [
        (1, "tenure", "x"),
        (1, "joined", "never"),
    ]


def test_a_table_without_a_needed_column_is_a_problem() -> None:
    assert BOUNDARY.table(Table({}, 2)).problems[0] == Problem(0, "tenure", "missing column", "")


def test_a_column_called_like_a_calendar_part_keeps_its_name() -> None:
    columns = (Column(name="at", type="date", format="iso"), Column(name="at:month", type="number"))
    boundary = Boundary.from_schema(Schema(task=SCHEMA.task, columns=columns))
    assert boundary.numbers == ("at", "at::month", "at::weekday", "at::dayofyear", "at:month")


TEXTS = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.sampled_from(
        ["", " ", "1,5", "1.234,5", "NA", "?", "1_0", "٣", "nan", "inf", "3.0", "2024-01-31", "2024-13-01"]
    ),
    st.dates().map(str),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds")),
    st.datetimes().map(lambda moment: moment.strftime("%d/%m/%Y %H:%M")),
)


@given(
    texts=st.lists(TEXTS, min_size=1, max_size=5), column=st.sampled_from(["tenure", "price", "plan", "joined", "seen"])
)
def test_rows_and_tables_are_coerced_alike(texts: list[str], column: str) -> None:
    """Training reads tables, serving reads rows: whatever the text, both say the same."""
    from_table = BOUNDARY.table(table(**{column: texts}))
    from_rows = BOUNDARY.rows([ROW | {column: text} for text in texts])
    assert np.array_equal(from_table.numbers, from_rows.numbers, equal_nan=True)
    assert (from_table.strings.tolist(), from_table.problems, from_table.warnings) == (
        from_rows.strings.tolist(),
        from_rows.problems,
        from_rows.warnings,
    )


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_plain_numbers_are_read_exactly_with_and_without_the_fast_way(values: list[float]) -> None:
    texts = [repr(value) for value in values]
    fast, _ = number_column(np.array(texts, dtype=object), ".", NULLS)
    slow, _ = number_column(np.array([*texts, "$1"], dtype=object), ".", NULLS)
    assert (fast.tolist(), slow[:-1].tolist()) == (values, values)


@given(st.lists(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)), min_size=1))  # noqa: DTZ001
def test_plain_moments_are_read_alike_with_and_without_the_fast_way(moments: list[datetime]) -> None:
    """A fraction of a second in one text sends the whole column the slow way."""
    texts = [moment.isoformat(timespec="seconds") for moment in moments]
    schema = Schema(task=SCHEMA.task, columns=(Column(name="at", type="datetime", format="iso"),))
    boundary = Boundary.from_schema(schema)
    fast = boundary.table(Table({"at": np.array(texts, dtype=object)}, len(texts)))
    slow = boundary.table(Table({"at": np.array([*texts, "2024-01-01T00:00:00.5"], dtype=object)}, len(texts) + 1))
    assert fast.numbers.tolist() == slow.numbers[:-1].tolist()


def test_moments_with_a_zone_are_read_in_utc() -> None:
    texts = np.array(["2024-01-01T00:30:00+01:00", "2024-01-01 00:00:00Z", ""], dtype=object)
    seconds, problems = moment_column(texts, "iso", NULLS)
    midnight = datetime(2024, 1, 1, tzinfo=UTC)
    expected = [(midnight - timedelta(minutes=30)).timestamp(), midnight.timestamp()]
    assert (seconds[:2].tolist(), math.isnan(seconds[2]), problems) == (expected, True, ())


def test_days_count_from_1970_and_monday_is_the_first_of_a_week() -> None:
    boundary = Boundary.from_schema(Schema(task=SCHEMA.task, columns=(Column(name="d", type="date", format="iso"),)))
    days = [date(1969, 12, 31), date(1970, 1, 1), date(2024, 12, 31)]
    encoded = boundary.rows([{"d": str(day)} for day in days])
    assert encoded.numbers.tolist() == [[-1, 12, 2, 365], [0, 1, 3, 1], [20088, 12, 1, 366]]


def test_a_huge_text_is_refused_at_once() -> None:
    """Nothing that a caller sends makes the number pattern work for long."""
    assert reasons(tenure="1" * 4_000_000 + "x") == [("tenure", "not a number", "1" * 59 + "…")]


def test_no_rows_are_empty_tensors() -> None:
    encoded = BOUNDARY.rows([])
    assert (encoded.numbers.shape, encoded.strings.shape) == ((0, 10), (0, 1))
