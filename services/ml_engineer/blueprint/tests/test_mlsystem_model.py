"""The live model answers as it was recorded, and the real server refuses what cannot be answered."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

from mlsystem.serving.answers import MAX_DETAILS

if TYPE_CHECKING:
    from mlsystem.serving.model import Model
    from mlsystem.serving.process import Listening

TOLERANCE = 1e-6
"""Relative; another processor or another build of the runtime rounds differently, by far less than this."""


def ask(server: Listening, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Send a request and return status and JSON of the answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **server.headers})
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def post(server: Listening, body: bytes) -> tuple[int, Any]:
    """Post a body to /predict."""
    return ask(server, "POST", "/predict", body)


def predict(server: Listening, *rows: object) -> tuple[int, Any]:
    """Post rows to /predict."""
    return post(server, json.dumps({"rows": rows}).encode())


def test_the_model_answers_reference_rows_as_it_was_recorded(model: Model, files: dict[str, bytes]) -> None:
    """The same file gives the same answers here as where it was made."""
    recorded = json.loads(files["metrics.json"])["reference_predictions"]
    answers = model.answer(model.examples, strict=False).predictions
    assert len(answers) == len(recorded)
    for answer, expected in zip(answers, recorded, strict=True):
        if expected["probabilities"] is None:
            assert answer.prediction == pytest.approx(expected["prediction"], rel=TOLERANCE, abs=TOLERANCE)
        else:
            assert answer.prediction == expected["prediction"]
            assert answer.probabilities == pytest.approx(expected["probabilities"], abs=TOLERANCE)


def test_a_row_copied_from_the_source_is_answered(server: Listening, reference: list[dict[str, Any]]) -> None:
    """Every value as text, the target and the columns that are no features included."""
    status, answer = predict(server, *reference)
    assert (status, len(answer["predictions"])) == (200, len(reference))


def test_a_row_without_any_known_value_is_answered(server: Listening, model: Model) -> None:
    """Null is missing, and always allowed."""
    status, _ = predict(server, dict.fromkeys(model.boundary.required))
    assert status == 200


@pytest.mark.parametrize("value", [[1], {"a": 1}], ids=["a list", "an object"])
def test_a_value_that_no_column_can_have_is_refused_by_name(server: Listening, model: Model, value: object) -> None:
    for column in model.boundary.required:
        status, answer = predict(server, {**model.examples[0], column: value})
        (detail,) = answer["error"]["details"]
        assert (status, detail["row"], detail["column"]) == (422, 0, column)


def test_a_text_is_refused_where_the_contract_has_a_number_or_a_date(server: Listening, model: Model) -> None:
    typed = [c.name for c in model.schema.columns if c.name in model.boundary.required and c.type != "category"]
    for column in typed:
        status, answer = predict(server, {**model.examples[0], column: "certainly not"})
        assert (status, [d["column"] for d in answer["error"]["details"]]) == (422, [column])


def test_a_column_that_is_left_out_is_named(server: Listening, model: Model) -> None:
    """As many of them as an error names."""
    status, answer = predict(server, {})
    named, required = {detail["column"] for detail in answer["error"]["details"]}, {*model.boundary.required}
    assert (status, len(named), named - required) == (422, min(len(required), MAX_DETAILS), set())


def test_a_category_that_was_never_seen_is_answered(server: Listening, model: Model) -> None:
    categories = [c.name for c in model.schema.columns if c.name in model.boundary.required and c.type == "category"]
    status, _ = predict(server, {**model.examples[0], **dict.fromkeys(categories, "neverseen-äöü-\N{SNOWMAN}")})
    assert status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe\x00", 400),
        (b"[" * 10_000, 400),
        (b"[]", 422),
        (b'{"rows": []}', 422),
        (b'{"rows": [1]}', 422),
    ],
    ids=["empty", "cut off", "not UTF-8", "nested", "a list", "no rows", "no object"],
)
def test_a_body_that_is_no_request_is_refused_with_a_reason(server: Listening, body: bytes, status: int) -> None:
    found, answer = post(server, body)
    assert (found, bool(answer["error"]["message"])) == (status, True)


def test_numbers_that_json_does_not_have_are_refused_by_name(server: Listening, model: Model) -> None:
    """NaN and Infinity are bent JSON; the answer names the column all the same."""
    numbers = [
        c.name for c in model.schema.columns if c.name in model.boundary.required and c.type in {"number", "integer"}
    ]
    for column in numbers[:3]:
        for value in (float("nan"), float("inf")):
            status, answer = predict(server, {**model.examples[0], column: value})
            assert (status, answer["error"]["details"][0]["column"]) == (422, column)


def test_more_rows_than_allowed_are_refused_with_the_limit_named(server: Listening, model: Model) -> None:
    rows = [dict[str, object]()] * (1 + _max_rows(server))
    status, answer = predict(server, *rows)
    assert (status, answer["error"]["limit"]["name"]) == (413, "serving.max_rows")
    assert predict(server, model.examples[0])[0] == 200


def _max_rows(server: Listening) -> int:
    _, document = ask(server, "GET", "/openapi.json")
    return document["components"]["schemas"]["Request"]["properties"]["rows"]["maxItems"]
