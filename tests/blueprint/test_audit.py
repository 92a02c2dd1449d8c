"""The audit: what is remarkable about a table is found, told in plain words, and acted on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sklearn import datasets

from mlsystem.data import validate
from mlsystem.errors import DataError
from mlsystem.schema import Column, read_schema
from tests.blueprint.made_tables import Columns, churn, make_system

ROWS = 200


def findings(folder: Path, columns: Columns, target: str, kind: str = "binary", more: str = "") -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", validate(make_system(folder, columns, target, kind, more))["findings"])


def brief(found: list[dict[str, Any]]) -> list[tuple[str, list[str], str]]:
    return [(finding["kind"], finding["columns"], finding["action"]) for finding in found]


def column(folder: Path, name: str) -> Column:
    return read_schema(folder / "schema.json").column(name)


def noise(seed: int, rows: int = ROWS) -> list[float]:
    return [round(float(value), 9) for value in np.random.default_rng(seed).normal(size=rows)]


def labels(rows: int = ROWS) -> list[str]:
    return np.where(np.random.default_rng(5).random(rows) < 0.4, "Yes", "No").tolist()


def test_an_ordinary_table_gives_its_id_and_its_constant_away(tmp_path: Path) -> None:
    found = findings(tmp_path, churn(600), "left")
    assert brief(found) == [("constant", ["country"], "dropped"), ("id_like", ["customer"], "dropped")]


def test_a_finding_says_what_was_found_and_what_was_done(tmp_path: Path) -> None:
    found = findings(tmp_path, churn(600), "left")
    assert [finding["text"] for finding in found] == [
        "'country' has the same value in all 600 rows and is left out.",
        "'customer' has 600 different values in 600 rows: it names a row instead of describing it, and is left out.",
    ]


def test_the_contract_says_why_a_column_has_its_role(tmp_path: Path) -> None:
    findings(tmp_path, churn(600), "left")
    assert (column(tmp_path, "customer").role, column(tmp_path, "customer").reason[:25]) == (
        "id",
        "'customer' has 600 differ",
    )


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (list(range(1, 601)), "instant"),
        (list(range(600, 0, -1)), "row"),
        (np.random.default_rng(1).permutation(10**6)[:600].tolist(), "order_id"),
        ([f"{i:08x}-{i * 7919:08x}" for i in range(600)], "anything"),
    ],
)
def test_columns_that_count_or_name_the_rows_are_no_features(tmp_path: Path, values: list[object], name: str) -> None:
    found = findings(tmp_path, {name: values, "x": noise(1, 600), "y": noise(2, 600)}, "y", "regression")
    assert brief(found) == [("id_like", [name], "dropped")]


def test_whole_numbers_that_are_all_different_stay_numbers_unless_they_count_or_are_called_an_id(
    tmp_path: Path,
) -> None:
    areas = np.random.default_rng(1).permutation(10**6)[:600].tolist()
    assert findings(tmp_path, {"area": areas, "x": noise(1, 600), "y": noise(2, 600)}, "y", "regression") == []


def test_parts_that_add_up_to_the_target_are_leaks(tmp_path: Path) -> None:
    """Casual + registered = cnt: who knows the parts knows the sum."""
    draw = np.random.default_rng(1)
    casual, registered = draw.integers(0, 900, 600), draw.integers(20, 5000, 600)
    table = {"casual": casual.tolist(), "temp": noise(3, 600), "registered": registered.tolist()}
    found = findings(tmp_path, table | {"cnt": (casual + registered).tolist()}, "cnt", "regression")
    assert (brief(found), "casual + registered = cnt in 100.0% of the rows" in found[0]["text"]) == (
        [("leak_sum", ["casual", "registered"], "dropped")],
        True,
    )
    assert [column(tmp_path, name).role for name in ("casual", "registered", "temp")] == ["leak", "leak", "feature"]


def test_a_difference_is_a_leak_like_a_sum_and_so_are_three_addends(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    gross, tax, fee = (draw.integers(1, 999, 600) for _ in range(3))
    x = draw.normal(size=600)
    net = findings(tmp_path / "a", _table(gross=gross, tax=tax, x=x, y=gross - tax), "y", "regression")
    total = findings(tmp_path / "b", _table(a=gross, b=tax, c=fee, x=x, y=gross + tax + fee), "y", "regression")
    assert (brief(net), brief(total)) == (
        [("leak_sum", ["gross", "tax"], "dropped")],
        [("leak_sum", ["a", "b", "c"], "dropped")],
    )


def _table(**columns: Any) -> dict[str, list[object]]:
    return {name: values.tolist() for name, values in columns.items()}


def test_a_sum_may_fail_in_one_row_of_a_thousand_and_an_approximate_one_is_no_leak(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    a, b = draw.integers(0, 999, 2000), draw.integers(0, 999, 2000)
    almost, rough = a + b, a + b + draw.integers(-3, 4, 2000)
    almost[7] += 5
    x = draw.normal(size=2000)
    assert brief(findings(tmp_path / "a", _table(a=a, b=b, x=x, y=almost), "y", "regression")) == [
        ("leak_sum", ["a", "b"], "dropped")
    ]
    assert findings(tmp_path / "b", _table(a=a, b=b, x=x, y=rough), "y", "regression") == []


def test_the_target_on_another_scale_is_a_leak(tmp_path: Path) -> None:
    celsius = np.random.default_rng(1).normal(15, 8, 600).round(2)
    table = {"fahrenheit": (celsius * 9 / 5 + 32).round(6).tolist(), "copy": celsius.tolist(), "x": noise(2, 600)}
    found = findings(tmp_path, table | {"celsius": celsius.tolist()}, "celsius", "regression")
    assert brief(found) == [("leak_sum", ["fahrenheit"], "dropped"), ("leak_sum", ["copy"], "dropped")]


def test_another_name_of_the_class_is_a_leak(tmp_path: Path) -> None:
    table = churn(600)
    table["status"] = ["gone" if label == "Yes" else "here" for label in table["left"]]
    assert ("leak_proxy", ["status"], "dropped") in brief(findings(tmp_path, table, "left"))


def test_a_column_that_is_filled_for_one_class_alone_is_a_leak(tmp_path: Path) -> None:
    """The reason for leaving is written down after somebody has left."""
    table = churn(600)
    table["reason"] = [f"reason {i % 7}" if label == "Yes" else None for i, label in enumerate(table["left"])]
    assert ("leak_proxy", ["reason"], "dropped") in brief(findings(tmp_path, table, "left"))


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_wine, datasets.load_diabetes])
def test_good_features_of_real_data_are_no_leaks(tmp_path: Path, load: Any) -> None:
    bunch = load()
    table = {name: bunch.data[:, i].tolist() for i, name in enumerate(bunch.feature_names)}
    classes = len(getattr(bunch, "target_names", []))
    kind = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    found = findings(tmp_path, table | {"target": bunch.target.tolist()}, "target", kind)
    assert {finding["kind"] for finding in found} <= {"few_rows"}


def test_a_column_that_repeats_another_is_left_out(tmp_path: Path) -> None:
    table = churn(600)
    table["tenure again"] = table["tenure"]
    assert ("near_duplicate", ["tenure again"], "dropped") in brief(findings(tmp_path, table, "left"))


def test_different_columns_with_the_same_counts_of_values_are_no_copies(tmp_path: Path) -> None:
    flags = np.array([0, 1] * 300)
    table = _table(a=flags, b=flags[::-1], c=np.random.default_rng(1).permutation(flags))
    found = findings(tmp_path, table | {"x": noise(1, 600), "left": labels(600)}, "left")
    assert [finding for finding in found if finding["kind"] == "near_duplicate"] == []


def test_columns_that_are_mostly_missing_are_kept_and_those_that_are_nearly_empty_are_not(tmp_path: Path) -> None:
    half = [float(i) if i % 3 == 0 else None for i in range(600)]
    empty = [float(i) if i % 50 == 0 else None for i in range(600)]
    table = {"half": half, "empty": empty, "none": [None] * 600, "x": noise(1, 600), "left": labels(600)}
    found = findings(tmp_path, table, "left")
    assert (brief(found), found[1]["text"]) == (
        [
            ("mostly_missing", ["none"], "dropped"),
            ("mostly_missing", ["half"], "kept"),
            ("mostly_missing", ["empty"], "dropped"),
        ],
        "'half' is missing in 66.7% of the rows; it is kept, and that it is missing is itself used.",
    )


def test_rows_without_a_target_are_left_out_and_told(tmp_path: Path) -> None:
    table = churn(600)
    table["left"] = [None if i % 10 == 0 else label for i, label in enumerate(table["left"])]
    workspace = make_system(tmp_path, table, "left")
    result = validate(workspace)
    assert (result["rows"], "60 rows have no value of the target 'left'" in str(result["findings"])) == (540, True)


def test_free_text_is_set_aside_and_told(tmp_path: Path) -> None:
    table = churn(600) | {"note": [f"caller number {i} asked about the bill and left" for i in range(600)]}
    found = findings(tmp_path, table, "left")
    assert ("type_coerced", ["note"], "dropped") in brief(found)
    assert (column(tmp_path, "note").role, "free text is set aside" in column(tmp_path, "note").reason) == (
        "ignore",
        True,
    )


def test_codes_with_leading_zeros_are_told_to_be_categories(tmp_path: Path) -> None:
    table = churn(600) | {"zip": [f"{i % 40:05d}" for i in range(600)]}
    found = findings(tmp_path, table, "left")
    assert (brief(found)[-1], column(tmp_path, "zip").type) == (("type_coerced", ["zip"], "converted"), "category")


def test_values_that_do_not_fit_their_column_are_missing_and_told(tmp_path: Path) -> None:
    table = churn(600)
    table["charge"][3] = "plenty"
    found = findings(tmp_path, table, "left")
    assert found[-1]["text"] == "'charge' holds numbers; 1 value that is none is read as missing."


def test_ambiguous_dates_are_asked_about_with_what_is_assumed(tmp_path: Path) -> None:
    days = [f"{i % 9 + 1:02d}/{i % 11 + 1:02d}/2024" for i in range(600)]
    found = findings(tmp_path, churn(600) | {"since": days}, "left")
    assert ("ambiguous_date", ["since"], "asked") in brief(found)


def test_personal_data_is_masked_and_never_reaches_the_contract(tmp_path: Path) -> None:
    table = churn(600) | {"contact": [f"user{i % 90}@mail.example" for i in range(600)]}
    found = findings(tmp_path, table, "left")
    written = (tmp_path / "schema.json").read_text()
    assert (("pii", ["contact"], "masked") in brief(found), "mail.example" in written) == (True, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "+31 20 {:07d}"),
        ("ssn", "{:03d}-45-6789"),
        ("last_name", "Jansen{}"),
        ("iban", "NL{:02d}BANK01234567{:02d}"),
    ],
)
def test_personal_data_is_known_by_pattern_or_by_name(tmp_path: Path, name: str, value: str) -> None:
    table = churn(600) | {name: [value.format(i % 97, i % 97) for i in range(600)]}
    assert ("pii", [name], "masked") in brief(findings(tmp_path, table, "left"))


def test_card_numbers_are_known_by_their_check_digit(tmp_path: Path) -> None:
    cards = [_with_check_digit(f"411111{i:09d}") for i in range(600)]
    wrong = [f"{card[:-1]}{(int(card[-1]) + 1) % 10}" for card in cards]
    found = findings(tmp_path, churn(600) | {"a": cards, "b": wrong}, "left")
    assert [finding["columns"] for finding in found if finding["kind"] == "pii"] == [["a"]]


def _with_check_digit(digits: str) -> str:
    total = sum(int(d) if i % 2 else int(d) * 2 - 9 * (int(d) > 4) for i, d in enumerate(reversed(digits)))
    return f"{digits}{-total % 10}"


def test_a_flag_about_personal_data_is_no_personal_data(tmp_path: Path) -> None:
    table = churn(600) | {"has_email": np.random.default_rng(1).choice(["Yes", "No"], 600).tolist()}
    assert "pii" not in {finding["kind"] for finding in findings(tmp_path, table, "left")}


def test_equal_rows_and_equal_rows_with_other_outcomes_are_told(tmp_path: Path) -> None:
    table = {"a": [i % 3 for i in range(600)], "b": ["x", "y"] * 300, "left": labels(600)}
    assert brief(findings(tmp_path, table, "left")) == [
        ("duplicate_rows", [], "kept"),
        ("label_conflict", ["left"], "kept"),
    ]


def test_rare_classes_and_few_rows_are_told(tmp_path: Path) -> None:
    rare = {"x": noise(1, 600), "left": ["Yes" if i % 40 == 0 else "No" for i in range(600)]}
    few = {"x": noise(1, 90), "left": labels(90)}
    assert (brief(findings(tmp_path / "a", rare, "left")), brief(findings(tmp_path / "b", few, "left"))) == (
        [("imbalance", ["left"], "kept"), ("few_rows", ["left"], "kept")],
        [("few_rows", [], "kept")],
    )


def test_the_spec_wins_over_a_finding(tmp_path: Path) -> None:
    more = '[columns.customer]\nrole = "feature"\nwhy = "it says something"\n'
    found = findings(tmp_path, churn(600), "left", more=more)
    assert (brief(found)[-1], column(tmp_path, "customer").role, "system.toml says so" in found[-1]["text"]) == (
        ("id_like", ["customer"], "kept"),
        "feature",
        True,
    )


def test_the_spec_says_the_type_of_a_column(tmp_path: Path) -> None:
    findings(tmp_path, churn(600), "left", more='[columns.tenure]\ntype = "category"\n')
    assert (column(tmp_path, "tenure").type, len(column(tmp_path, "tenure").levels)) == ("category", 71)


def test_a_type_that_no_value_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"columns\.plan\.type is 'date', but none of its 600 values is one"):
        findings(tmp_path, churn(600), "left", more='[columns.plan]\ntype = "date"\n')


def test_a_column_that_alone_tells_the_class_is_kept_and_asked_about(tmp_path: Path) -> None:
    """A threshold parts the classes, or each level goes with one: a very good feature, or written down afterwards."""
    table = churn(600)
    gone = np.array(table["left"]) == "Yes"
    table["score"] = (np.where(gone, 1.0, -1.0) * (1 + np.abs(noise(3, 600)))).tolist()
    table["reason"] = [f"{'gone' if one else 'here'} {i % 4}" for i, one in enumerate(gone)]
    found = [finding for finding in findings(tmp_path, table, "left") if finding["kind"] == "leak_proxy"]
    assert brief(found) == [("leak_proxy", ["score"], "asked"), ("leak_proxy", ["reason"], "asked")]


def test_a_column_in_the_very_order_of_the_target_is_a_leak(tmp_path: Path) -> None:
    """A logarithm, or a class of size; a column that mostly goes along is none."""
    price = np.random.default_rng(3).lognormal(5, 1, 600)
    table = {"log": np.log(price), "tens": price // 10, "near": price + noise(4, 600), "price": price}
    columns = {name: values.tolist() for name, values in table.items()}
    found = brief(findings(tmp_path, columns, "price", "regression"))
    assert found == [("leak_sum", ["log"], "dropped"), ("leak_sum", ["tens"], "dropped")]


def test_what_is_kept_or_asked_about_and_then_taken_away_is_told_once(tmp_path: Path) -> None:
    """That a half empty column is kept is not true of one that is filled for one class alone."""
    table = churn(600) | {"cancelled": ["2024-01-01" if label == "Yes" else "" for label in churn(600)["left"]]}
    found = [finding for finding in findings(tmp_path, table, "left") if finding["columns"] == ["cancelled"]]
    assert brief(found) == [("leak_proxy", ["cancelled"], "dropped")]
    order = sorted(range(600), key=lambda i: table["left"][i] == "Yes")
    ranked = {name: [values[i] for i in order] for name, values in table.items()} | {"row": list(range(600))}
    found = [finding for finding in findings(tmp_path / "b", ranked, "left") if finding["columns"] == ["row"]]
    assert brief(found) == [("id_like", ["row"], "dropped")]


def test_a_column_of_numbers_with_other_text_among_them_is_told(tmp_path: Path) -> None:
    table = churn(600)
    table["charge"] = [f"{value} net" if i % 10 == 0 else value for i, value in enumerate(table["charge"])]
    (told,) = (finding["text"] for finding in findings(tmp_path, table, "left") if finding["columns"] == ["charge"])
    text = "'charge' holds numbers in 90% of its rows and other text in the rest, so it is read as categories; correct "
    assert told == text + "the rest, or set columns.charge.type = 'number'."
