"""The fast way into the tensors: what it takes is what the rules would have made of it, and the rest is theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem.boundary import Boundary, Encoded
from mlsystem.schema import Column, Schema, TaskSchema

COLUMNS = (
    Column(name="customer", type="category", role="id"),
    Column(name="tenure", type="integer", nullable=True),
    Column(name="plan", type="category", levels=("basic", "3", "true", "NA", " blank ", ""), distinct=6),
    Column(name="joined", type="date", format="iso"),
    Column(name="price", type="number", decimal=","),
    Column(name="city", type="category", levels=("Köln", "Bern"), distinct=40),
    Column(name="left", type="category", role="target"),
)
TASK = TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes")
MIXED = Boundary.from_schema(Schema(task=TASK, columns=COLUMNS))
NUMBERS = Boundary.from_schema(Schema(task=TASK, columns=(COLUMNS[1], COLUMNS[4])))
STRINGS = Boundary.from_schema(Schema(task=TASK, columns=(COLUMNS[2],)))

CELLS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["basic", "3", "NA", "na", " blank ", "blank", "true", "Köln", "1,5", "7", "-0", "1e400"])
    | st.sampled_from(["2024-02-29", "2023-02-29", " 2024-01-31", "1970-01-01", "x"])
    | st.lists(st.integers(), max_size=1)
)
NAMES = st.sampled_from([*(column.name for column in COLUMNS), "colour", " tenure "])
USUAL: dict[str, Any] = {"tenure": 3, "plan": "basic", "joined": "2024-02-29", "price": 1.5, "city": "Bern"}
ROWS = st.lists(st.dictionaries(NAMES, CELLS, max_size=3).map(lambda changes: {**USUAL, **changes}), max_size=3)


def by_rules(boundary: Boundary, rows: list[dict[str, Any]], *, strict: bool) -> Encoded:
    """The tensors without the fast way: a row that is sure not to be plain is put behind, and taken off again."""
    odd = dict.fromkeys(boundary.required, "?")
    found = boundary.rows([*rows, odd], strict=strict)
    problems = tuple(problem for problem in found.problems if problem.row < len(rows))
    return Encoded(found.numbers[:-1], found.strings[:-1], problems, found.warnings)


def told(encoded: Encoded) -> object:
    """Everything of it that can be compared, NaN and negative zero included."""
    numbers = [["nan" if value != value else repr(value) for value in row] for row in encoded.numbers.tolist()]  # noqa: PLR0124
    return numbers, encoded.strings.tolist(), encoded.problems, encoded.numbers.dtype, encoded.strings.dtype


@pytest.mark.parametrize("boundary", [MIXED, NUMBERS, STRINGS], ids=["mixed", "numbers", "strings"])
@settings(max_examples=80)
@given(rows=ROWS, strict=st.booleans())
def test_rows_mean_the_same_whichever_way_they_take(
    boundary: Boundary, rows: list[dict[str, Any]], strict: bool
) -> None:
    """Hostile values included: numbers beyond a float, texts of other scripts, lists, dates that are none."""
    assert told(boundary.rows(rows, strict=strict)) == told(by_rules(boundary, rows, strict=strict))


def test_plain_rows_take_the_fast_way_and_rows_from_the_data_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules are not asked about numbers, levels, dates and nulls; they are about texts of numbers."""
    asked: list[int] = []
    rules = Boundary._rows_by_rules  # pyright: ignore[reportPrivateUsage]

    def watched(self: Boundary, rows: list[dict[str, Any]], *, strict: bool) -> Encoded:
        asked.append(len(rows))
        return rules(self, rows, strict=strict)

    monkeypatch.setattr(Boundary, "_rows_by_rules", watched)
    decoded = json.loads(json.dumps([USUAL, dict.fromkeys(USUAL), {**USUAL, "customer": "C-1"}]))
    MIXED.rows(decoded)
    assert asked == []
    MIXED.rows([{**USUAL, "tenure": "3"}])
    assert asked == [1]
