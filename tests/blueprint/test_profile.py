"""The profile: what files hold and what could be predicted, before there is a spec."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsystem.data.command import profile
from mlsystem.errors import DataError
from mlsystem.output import Reporter
from tests.blueprint.made_tables import Columns, churn, write_csv


def profiled(folder: Path, columns: Columns, target: str = "") -> dict[str, Any]:
    write_csv(folder / "rows.csv", columns)
    return profile(folder, Namespace(data=["rows.csv"], target=target), Reporter("json"))


def refused(folder: Path, columns: Columns, target: str = "") -> DataError:
    with pytest.raises(DataError) as error:
        profiled(folder, columns, target)
    return error.value


def described(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(column for column in result["columns"] if column["name"] == name)


def test_every_column_is_described_with_its_type_and_commonest_values(tmp_path: Path) -> None:
    table = {"n": [1.5, 2.5, None, 2.5] * 10, "c": ["a", "b", "b", None] * 10, "y": [0, 1] * 20}
    result = profiled(tmp_path, table)
    assert (result["rows"], result["bytes"], described(result, "n"), described(result, "c")) == (
        40,
        (tmp_path / "rows.csv").stat().st_size,
        {
            "name": "n",
            "type": "number",
            "missing": 0.25,
            "distinct": 2,
            "levels": [],
            "low": 1.5,
            "high": 2.5,
            "examples": ["2.5", "1.5"],
        },
        {
            "name": "c",
            "type": "category",
            "missing": 0.25,
            "distinct": 2,
            "levels": [["b", 20], ["a", 10]],
            "low": None,
            "high": None,
            "examples": ["b", "a"],
        },
    )


def test_the_way_the_file_was_read_is_told(tmp_path: Path) -> None:
    assert profiled(tmp_path, churn())["reader"] == {
        "format": "csv",
        "encoding": "utf-8",
        "delimiter": ",",
        "quote": '"',
        "header": True,
    }


@pytest.mark.parametrize(
    ("columns", "first"),
    [
        (churn() | {"churned": ["Yes", "No"] * 100}, ("churned", "binary")),
        ({"target": list(range(200)), "a": ["x", "y"] * 100, "b": list(range(200))}, ("target", "regression")),
        ({"a": np.arange(200).tolist(), "species": ["x", "y", "z", "z"] * 50}, ("species", "multiclass")),
        ({"a": np.arange(200).tolist(), "price": (np.arange(200) * 1.5).tolist()}, ("price", "regression")),
    ],
)
def test_the_likeliest_target_comes_first_with_its_kind(
    tmp_path: Path, columns: Columns, first: tuple[str, str]
) -> None:
    best = profiled(tmp_path, columns)["candidates"][0]
    assert (best["target"], best["kind"]) == first


def test_two_columns_that_could_be_meant_have_scores_that_are_close(tmp_path: Path) -> None:
    """Whoever reads the profile can see that it has to ask."""
    table = {"x": np.arange(200).tolist(), "fraud": ["y", "n"] * 100, "default": ["n", "y"] * 100, "z": [1, 2] * 100}
    scores = {candidate["target"]: candidate["score"] for candidate in profiled(tmp_path, table)["candidates"]}
    assert (scores["fraud"], scores["default"]) == (0.55, 0.55)


def test_a_target_that_is_named_is_the_only_candidate(tmp_path: Path) -> None:
    assert profiled(tmp_path, churn(), "plan")["candidates"] == [
        {"target": "plan", "kind": "multiclass", "score": 1.0, "why": "it was named"}
    ]


def test_dates_and_columns_that_repeat_an_id_are_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    days = [f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" for i in range(200)]
    result = profiled(tmp_path, churn() | {"since": days, "patient_id": draw.integers(100, 150, 200).tolist()})
    assert (result["time"], result["entity"]) == (["since"], ["patient_id"])
    assert (described(result, "since")["low"], described(result, "since")["high"]) == ("2024-01-01", "2024-12-28")


def test_problems_are_told_before_there_is_a_spec(tmp_path: Path) -> None:
    problems = profiled(tmp_path, churn(600), "left")["problems"]
    assert [(problem["code"], problem["columns"]) for problem in problems] == [
        ("constant", ["country"]),
        ("id_like", ["customer"]),
    ]


def test_what_a_regime_would_protect_has_no_examples(tmp_path: Path) -> None:
    """A profile is made before anybody has said under which rules the data are."""
    days = [f"2024-01-{i % 28 + 1:02d}" for i in range(200)]
    table = churn() | {"city": ["Leeds", "Graz"] * 99 + ["Lyon"] * 2, "seen": days}
    result = profiled(tmp_path, table)
    shown = {name: bool(described(result, name)["examples"]) for name in ("city", "seen", "plan", "tenure")}
    assert shown == {"city": False, "seen": False, "plan": True, "tenure": True}


def test_personal_data_is_not_repeated_in_a_profile(tmp_path: Path) -> None:
    result = profiled(tmp_path, churn() | {"e-mail": [f"user{i}@mail.example" for i in range(200)]})
    assert (described(result, "e-mail")["examples"], "mail.example" in str(result)) == ([], False)


def test_a_target_that_is_not_there_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    error = refused(tmp_path, churn(), "Lefd")
    assert (error.code, error.details) == ("no_target", ({"column": "Lefd", "nearest": ["left"]},))


def test_a_target_with_one_value_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, churn(), "country")
    assert (error.code, "name another target" in error.message) == ("constant_target", True)


@pytest.mark.parametrize("target", ["customer", "when"])
def test_a_target_that_is_neither_classes_nor_a_quantity_is_refused(tmp_path: Path, target: str) -> None:
    table = churn() | {"when": [f"2024-01-{i % 28 + 1:02d}" for i in range(200)]}
    assert refused(tmp_path, table, target).code == "wrong_kind"


def test_too_few_rows_are_refused_with_how_many_are_needed(tmp_path: Path) -> None:
    error = refused(tmp_path, churn(19))
    assert (error.code, "at least 20" in error.message) == ("too_few_rows", True)
