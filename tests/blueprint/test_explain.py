"""POST /explain: effects that add up, that are right where the right ones are known, and that cost what they may."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem.hooks import with_hooks
from mlsystem.schema import Schema
from mlsystem.serving.explain import Explainer, most_references
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.process import serving
from tests.blueprint.asking import Answer, ask, metric
from tests.blueprint.small_system import (
    REGRESSION,
    ROW,
    SCHEMA,
    THREE,
    classifier,
    probability,
    regressor,
    slow_classifier,
    three_classes,
    write_package,
)

REFERENCE = [
    {**ROW, "tenure": tenure, "charges": charges, "plan": plan}
    for tenure, charges, plan in ((0, 20, "yearly"), (30, 90, "monthly"), (None, 50, "yearly"), (5, 110, "monthly"))
]
EXACT = 1e-12


def package(folder: Path, model: bytes, schema: Schema = SCHEMA, **serving_keys: object) -> Path:
    """Write a package with REFERENCE as its reference rows."""
    write_package(folder, model, schema, **serving_keys)
    (folder / "reference.json").write_bytes(msgspec.json.encode(REFERENCE))
    return folder


def loaded(folder: Path, model: bytes, schema: Schema = SCHEMA) -> Model:
    return Model(Package.read(package(folder, model, schema)), name="small")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = package(tmp_path_factory.mktemp("package"), classifier(), timeout="20s")
    with serving(folder, "--package", str(folder)) as server:
        yield server.url


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Explainer:
    return Explainer(loaded(tmp_path_factory.mktemp("package"), classifier()))


def explain(url: str, *rows: Mapping[str, object]) -> Answer:
    return ask(url, "POST", "/explain", json.dumps({"rows": rows}).encode())


def effects_of(explanation: Mapping[str, Any]) -> dict[str, float]:
    return {reason["column"]: reason["effect"] for reason in explanation["reasons"]}


def test_base_and_effects_add_up_to_the_probability_that_predict_gives(url: str) -> None:
    answer = explain(url, ROW)
    (told,) = answer.json["explanations"]
    base = math.fsum(probability(row) for row in REFERENCE) / len(REFERENCE)
    assert (answer.status, answer.json["model"], answer.json["reference_rows"]) == (
        200,
        {"name": "small", "version": 0},
        4,
    )
    assert (told["explains"], told["prediction"], told["version"]) == ("probability of Yes", "Yes", 0)
    assert told["base"] == pytest.approx(base, abs=EXACT)
    assert told["score"] == pytest.approx(probability(ROW), abs=EXACT)
    assert told["probabilities"]["Yes"] == pytest.approx(told["score"], abs=EXACT)
    assert told["base"] + math.fsum(effects_of(told).values()) == pytest.approx(told["score"], abs=EXACT)


def test_reasons_name_column_and_value_as_it_came_the_strongest_first(url: str) -> None:
    (told,) = explain(url, {**ROW, "tenure": "60"}).json["explanations"]
    sizes = [abs(effect) for effect in effects_of(told).values()]
    assert sizes == sorted(sizes, reverse=True)
    assert {reason["column"]: reason["value"] for reason in told["reasons"]} == {
        "tenure": "60",
        "charges": 50.0,
        "plan": "monthly",
    }


def test_columns_that_are_as_in_every_reference_row_have_no_reason(url: str) -> None:
    """The date is the same everywhere and has no weight; a row of the reference alone would have no reason at all."""
    (told,) = explain(url, ROW).json["explanations"]
    assert "joined" not in effects_of(told)


def test_effects_of_a_sum_are_its_terms(tmp_path: Path) -> None:
    """Where the model adds its columns up, an effect is the weight times the distance from the mean."""
    explainer = Explainer(loaded(tmp_path, regressor(), REGRESSION))
    encoded = explainer.model.boundary.rows([ROW])
    found = explainer.explain(encoded.numbers[0], encoded.strings[0], 0, lambda: False)
    tenure = [float(row["tenure"] or 0) for row in REFERENCE]  # pyright: ignore[reportArgumentType]
    assert dict(found.effects) == {
        "tenure": pytest.approx(0.1 * (10 - np.mean(tenure))),
        "charges": pytest.approx(-0.01 * (50 - np.mean([20, 90, 50, 110]))),
        "plan": pytest.approx(1 - 0.5),
    }


def test_effects_come_near_the_exact_shapley_values(tmp_path: Path) -> None:
    """Against all orders of all columns over the same reference rows; forty rows make the sampled orders many."""
    generator = np.random.default_rng(0)
    reference = [
        {**ROW, "tenure": int(generator.integers(60)), "charges": float(generator.integers(20, 110)), "plan": plan}
        for plan in ("monthly", "yearly")
        for _ in range(20)
    ]
    folder = package(tmp_path, classifier())
    (folder / "reference.json").write_bytes(msgspec.json.encode(reference))
    explainer = Explainer(Model(Package.read(folder), name="small"))
    encoded = explainer.model.boundary.rows([ROW])
    found = explainer.explain(encoded.numbers[0], encoded.strings[0], 1, lambda: False)
    exact = dict.fromkeys(("tenure", "charges", "plan"), 0.0)
    for start in reference:
        for order in permutations(exact):
            row = dict(start)
            for column in order:
                before = probability(row)
                row[column] = ROW[column]
                exact[column] += (probability(row) - before) / (len(reference) * 6)
    assert dict(found.effects) == {column: pytest.approx(effect, abs=0.01) for column, effect in exact.items()}


@settings(max_examples=40)
@given(
    tenure=st.none() | st.floats(-1e6, 1e6),
    charges=st.none() | st.floats(-1e6, 1e6),
    plan=st.sampled_from(["monthly", "yearly", "never seen", None]),
)
def test_whatever_the_row_effects_add_up(
    explainer: Explainer, tenure: float | None, charges: float | None, plan: str | None
) -> None:
    encoded = explainer.model.boundary.rows([{**ROW, "tenure": tenure, "charges": charges, "plan": plan}])
    found = explainer.explain(encoded.numbers[0], encoded.strings[0], 1, lambda: False)
    assert found.base + math.fsum(found.effects.values()) == pytest.approx(found.score, abs=EXACT)


def test_the_same_row_has_the_same_explanation_whoever_stands_beside_it(url: str) -> None:
    alone = explain(url, ROW).json["explanations"][0]
    beside = explain(url, {**ROW, "tenure": 3}, ROW, {**ROW, "plan": "yearly"}).json["explanations"][1]
    assert alone == beside


def test_of_several_classes_the_predicted_one_is_explained(tmp_path: Path) -> None:
    folder = package(tmp_path, three_classes(), THREE)
    with serving(folder, "--package", str(folder)) as server:
        low = {**ROW, "tenure": -40}
        told, high = explain(server.url, low, {**ROW, "tenure": 90}).json["explanations"]
    assert (told["explains"], high["explains"]) == ("probability of No", "probability of Soon")
    assert told["score"] == pytest.approx(1 - probability(low))


def test_an_explanation_warns_of_what_was_never_seen_and_is_no_prediction(url: str) -> None:
    sample = 'model_predictions_total{label="Yes",version="0"}'
    before = metric(url, sample)
    answer = explain(url, {**ROW, "plan": "weekly"})
    assert answer.json["warnings"] == [{"kind": "unseen_category", "columns": ["plan"], "count": 1}]
    assert "id" not in answer.json["explanations"][0]
    assert metric(url, sample) == before


@pytest.mark.parametrize(
    ("rows", "status", "code"),
    [([ROW] * 21, 413, "too_many_rows"), ([{**ROW, "tenure": "x"}], 422, "invalid_rows"), ([], 422, "no_rows")],
    ids=["too many", "no number", "none"],
)
def test_what_cannot_be_explained_is_refused(url: str, rows: list[dict[str, object]], status: int, code: str) -> None:
    answer = explain(url, *rows)
    assert (answer.status, answer.error["code"]) == (status, code)


def reasoned(url: str, rows: list[dict[str, object]], reasons: object) -> Answer:
    return ask(url, "POST", "/predict", json.dumps({"rows": rows, "reasons": reasons}).encode())


def test_a_prediction_has_as_many_of_the_strongest_reasons_as_are_asked_for(url: str) -> None:
    """The same as an explanation tells; it is counted as the prediction that it is."""
    sample = 'model_predictions_total{label="Yes",version="0"}'
    before = metric(url, sample)
    answer = reasoned(url, [ROW, {**ROW, "tenure": 3}], 2)
    told = [explanation["reasons"][:2] for explanation in explain(url, ROW, {**ROW, "tenure": 3}).json["explanations"]]
    predictions = answer.json["predictions"]
    assert ([prediction["reasons"] for prediction in predictions], len(told[0])) == (told, 2)
    assert metric(url, sample) - before == sum(prediction["prediction"] == "Yes" for prediction in predictions)


@pytest.mark.parametrize(
    ("rows", "reasons", "status", "found"),
    [
        ([ROW] * 21, 1, 413, "too_many_rows"),
        ([{**ROW, "tenure": "x"}], 1, 422, "invalid_rows"),
        ([ROW], 0, 422, "invalid_shape"),
        ([ROW], True, 422, "invalid_shape"),
        ([ROW], None, 200, ""),
        ([{**ROW, "reasons": 3}], None, 200, ""),
    ],
    ids=["too many rows", "no number", "none", "no count", "null", "a column of that name"],
)
def test_reasons_are_a_count_from_1_on_for_rows_that_can_be_explained(
    url: str, rows: list[dict[str, object]], reasons: object, status: int, found: str
) -> None:
    answer = reasoned(url, rows, reasons)
    assert (answer.status, answer.json.get("error", {}).get("code", "")) == (status, found)
    assert status != 200 or all("reasons" not in prediction for prediction in answer.json["predictions"])


@pytest.mark.parametrize(("columns", "rows"), [(5, 64), (100, 64), (155, 64), (500, 19), (5000, 2), (20_000, 2)])
def test_the_work_for_one_row_is_bounded_however_many_columns_there_are(columns: int, rows: int) -> None:
    """With more columns fewer of the 64 reference rows are taken, so that a row costs at most some ten thousand."""
    assert min(64, most_references(columns)) == rows


def test_a_late_explanation_is_refused_and_its_work_ends(tmp_path: Path) -> None:
    folder = package(tmp_path, slow_classifier(), timeout="500ms")
    with serving(folder, "--package", str(folder)) as server:
        answer = explain(server.url, *[{**ROW, "tenure": tenure} for tenure in range(20)])
        told = answer.status, answer.error["code"], answer.error["limit"]["name"]
        deadline = time.monotonic() + 1.5  # all of the work takes longer
        while metric(server.url, "http_requests_in_progress") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert told == (503, "timeout", "serving.timeout")
        assert metric(server.url, "http_requests_in_progress") == 0


HOOKS = """
HOOKS = {"cost": "number", "a": "number", "b": "number", "c": "number", "d": "number"}

def derive(row):
    return {"cost": 100 * row["charges"] if row["plan"] == "monthly" else 0.0}

def validate_row(row):
    return "no such customer" if row["plan"] == "monthly" and row["charges"] > 80 else None
"""


def test_what_hooks_make_is_made_anew_of_every_mixed_row(tmp_path: Path) -> None:
    """It has no effect of its own: its part goes to the columns that it is made of. Mixed rows need not be valid."""
    columns = tuple(column for column in SCHEMA.columns if column.name not in {"tenure", "joined"})
    schema = with_hooks(msgspec.structs.replace(REGRESSION, columns=columns), HOOKS.encode())
    folder = package(tmp_path, regressor(), schema)
    (folder / "hooks.py").write_text(HOOKS)
    rows = [{**ROW, "charges": 90.0, "plan": "yearly"}, {**ROW, "charges": 20.0, "plan": "monthly"}]
    (folder / "reference.json").write_bytes(msgspec.json.encode(rows[:1]))
    with serving(folder, "--package", str(folder)) as server:
        (told,) = explain(server.url, rows[1]).json["explanations"]
    # The formula weighs its first number, charges, by 0.1, its second, cost, by -0.01, and monthly by 1.
    assert (told["base"], told["score"]) == (pytest.approx(9.0), pytest.approx(2.0 - 20.0 + 1.0))
    # Two ways: charges first 9 -> 2 -> -17, plan first 9 -> 9 - 90 + 1 = -80 -> -17.
    assert effects_of(told) == {
        "charges": pytest.approx((2.0 - 9.0 + -17.0 + 80.0) / 2),
        "plan": pytest.approx((-17.0 - 2.0 + -80.0 - 9.0) / 2),
    }


def test_under_a_regime_no_personal_value_is_repeated(tmp_path: Path) -> None:
    columns = tuple(
        msgspec.structs.replace(column, pii="postcode") if column.name == "plan" else column
        for column in SCHEMA.columns
    )
    folder = package(tmp_path, classifier(), msgspec.structs.replace(SCHEMA, columns=columns))
    text = (folder / "system.toml").read_text()
    (folder / "system.toml").write_text(f'{text}\n[governance]\nregime = ["gdpr"]\n')
    with serving(folder, "--package", str(folder)) as server:
        (told,) = explain(server.url, ROW).json["explanations"]
    assert {reason["column"]: reason["value"] for reason in told["reasons"]} == {
        "tenure": 10,
        "charges": 50.0,
        "plan": None,
    }
