"""POST /predict and the paths beside it, on a real server process."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem import __version__
from mlsystem.serving.process import serving
from tests.blueprint.asking import begin_request, end_request, get, metric, post, predict
from tests.blueprint.small_system import (
    REGRESSION,
    ROW,
    brittle_classifier,
    classifier,
    make_system,
    probability,
    regressor,
    write_package,
)

MAX_BODY = 512 * 1024
LIMITS: dict[str, Any] = {"max_rows": 200, "max_body": "512KiB", "timeout": "2s", "concurrency": 4}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    package = write_package(tmp_path_factory.mktemp("package"), classifier(), **LIMITS)
    with serving(package, "--package", str(package)) as server:
        yield server.url


def test_a_row_is_answered_with_label_probabilities_id_and_version(url: str) -> None:
    answer = predict(url, ROW)
    (prediction,) = answer.json["predictions"]
    yes = probability(ROW)
    assert uuid.UUID(prediction.pop("id")).version == 7
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["model"] == {"name": "small", "version": 0}
    assert prediction == {
        "version": 0,
        "prediction": "Yes",
        "probabilities": pytest.approx({"No": 1 - yes, "Yes": yes}, abs=1e-9),
    }
    assert "warnings" not in answer.json


def test_rows_are_answered_in_order_each_with_its_own_id(url: str) -> None:
    rows = [{**ROW, "tenure": tenure} for tenure in range(-40, 40)]
    predictions = predict(url, *rows).json["predictions"]
    assert [p["prediction"] for p in predictions] == ["Yes" if probability(row) >= 0.5 else "No" for row in rows]
    assert len({p["id"] for p in predictions}) == len(rows)


@pytest.mark.parametrize(
    ("change", "same_as"),
    [
        ({"tenure": "10"}, {}),
        ({"tenure": 10.0}, {}),
        ({"tenure": " 10 "}, {}),
        ({"tenure": ""}, {"tenure": 0}),
        ({"tenure": "NaN"}, {"tenure": 0}),
        ({"tenure": None}, {"tenure": 0}),
        ({"plan": " monthly "}, {}),
        ({"joined": None}, {}),
        ({"left": "Yes"}, {}),
        ({"customer": 7}, {}),
    ],
    ids=str,
)
def test_values_as_they_stand_in_the_data_and_as_json_has_them_mean_the_same(
    url: str, change: dict[str, object], same_as: dict[str, object]
) -> None:
    (prediction,) = predict(url, {**ROW, **change}).json["predictions"]
    assert prediction["probabilities"]["Yes"] == pytest.approx(probability({**ROW, **same_as}), abs=1e-9)


def test_a_column_that_is_no_feature_may_be_absent(url: str) -> None:
    row = {name: value for name, value in ROW.items() if name != "customer"}
    assert predict(url, row).status == 200


def test_a_regression_is_answered_with_a_number_and_no_probabilities(tmp_path: Path) -> None:
    package = write_package(tmp_path, regressor(), REGRESSION)
    with serving(package, "--package", str(package)) as server:
        (prediction,) = predict(server.url, ROW).json["predictions"]
    assert prediction.keys() == {"id", "version", "prediction"}
    assert prediction["prediction"] == pytest.approx(0.1 * 10 - 0.01 * 50 + 1)


def test_a_category_that_was_never_seen_is_answered_told_and_counted(url: str) -> None:
    sample = 'model_input_warnings_total{kind="unseen_category"}'
    before = metric(url, sample)
    answer = predict(url, {**ROW, "plan": "weekly"}, {**ROW, "plan": "daily"}, ROW)
    assert answer.json["warnings"] == [{"kind": "unseen_category", "columns": ["plan"], "count": 2}]
    assert (answer.status, metric(url, sample) - before) == (200, 2)


def test_a_column_that_the_data_do_not_have_is_a_warning(url: str) -> None:
    answer = predict(url, {**ROW, "colour": "red"})
    assert (answer.status, answer.json["warnings"]) == (
        200,
        [{"kind": "unknown_column", "columns": ["colour"], "count": 1}],
    )


def test_a_strict_server_refuses_a_column_that_the_data_do_not_have(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier(), strict=True)
    with serving(package, "--package", str(package)) as server:
        answer = predict(server.url, {**ROW, "colour": "red"})
    assert (answer.status, answer.error["details"]) == (
        422,
        [{"row": 0, "column": "colour", "reason": "unknown column", "got": "red"}],
    )


@pytest.mark.parametrize(
    ("value", "got"),
    [("ten", "ten"), ([1], "a list"), ({"a": 1}, "an object"), (True, "True"), ("1" * 500, "1" * 59 + "…")],
    ids=str,
)
def test_a_value_that_is_no_number_is_refused_with_row_column_reason_and_what_came(
    url: str, value: object, got: str
) -> None:
    answer = predict(url, ROW, {**ROW, "charges": value})
    (detail,) = answer.error["details"]
    assert (answer.status, answer.error["code"]) == (422, "invalid_rows")
    assert (detail["row"], detail["column"], detail["got"]) == (1, "charges", got)
    assert detail["reason"]


@pytest.mark.parametrize(
    "literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" + b"0" * 5000, b'"\\ud800"'], ids=lambda v: v[:9]
)
def test_json_that_is_almost_a_number_is_refused_at_its_cell(url: str, literal: bytes) -> None:
    """The answer names the column, not a byte offset, also where the JSON itself bends the standard."""
    body = json.dumps({"rows": [ROW]}).encode().replace(b"50.0", literal)
    answer = post(url, body)
    assert (answer.status, [d["column"] for d in answer.error["details"]]) == (422, ["charges"])


def test_a_lone_surrogate_in_a_category_is_refused_not_a_failure(url: str) -> None:
    body = json.dumps({"rows": [ROW]}).encode().replace(b"monthly", b"\\ud800")
    answer = post(url, body)
    assert (answer.status, answer.error["details"][0]["column"]) == (422, "plan")


def test_values_that_the_model_has_no_finite_answer_for_are_refused_by_row(tmp_path: Path) -> None:
    package = write_package(tmp_path, regressor(bias=1.7e308), REGRESSION)
    with serving(package, "--package", str(package)) as server:
        answer = predict(server.url, ROW, {**ROW, "tenure": 1.79e308})
    reason = "the model has no finite answer for these values"
    assert (answer.status, answer.error["details"]) == (422, [{"row": 1, "column": "", "reason": reason, "got": ""}])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*ROW, "left", "Tenure", ""]) | st.text(max_size=8)
CHANGES = st.dictionaries(NAMES, JSON, max_size=2)
ROWS = st.lists(CHANGES.map(lambda changes: {**ROW, **changes}) | st.dictionaries(NAMES, JSON, max_size=7), max_size=3)


@settings(max_examples=150)
@given(rows=ROWS | JSON)
def test_no_json_whatever_makes_the_server_fail(url: str, rows: object) -> None:
    """Any body gets predictions or a refusal with a reason, in the shape of the contract."""
    answer = post(url, json.dumps({"rows": rows}).encode())
    if answer.status == 200:
        assert len(answer.json["predictions"]) == len(cast("list[object]", rows))
    else:
        assert (answer.status, bool(answer.error["message"])) == (422, True)


@settings(max_examples=100)
@given(body=st.binary(max_size=200))
def test_no_bytes_whatever_make_the_server_fail(url: str, body: bytes) -> None:
    answer = post(url, body)
    assert (answer.status in {400, 422}, bool(answer.error["message"])) == (True, True)


@pytest.mark.parametrize("rows", [2, 60], ids=["on the loop", "in a thread"])
def test_a_failure_of_the_model_is_told_as_the_servers_and_without_its_insides(tmp_path: Path, rows: int) -> None:
    """The server goes on, and counts it."""
    package = write_package(tmp_path, brittle_classifier())
    with serving(package, "--package", str(package)) as server:
        answer = predict(server.url, *([ROW] * rows))
        again = predict(server.url, ROW)
        failures = metric(server.url, 'http_requests_total{method="POST",route="/predict",status="500"}')
    assert (answer.status, answer.error["code"], again.status, failures) == (500, "internal_error", 200, 1)
    assert "Reshape" not in answer.error["message"]


def test_every_missing_column_is_named_at_once(url: str) -> None:
    answer = predict(url, {"tenure": 1})
    assert [d["column"] for d in answer.error["details"]] == ["charges", "plan", "joined"]
    assert {d["reason"] for d in answer.error["details"]} == {"missing column; send null if the value is not known"}


def test_an_answer_lists_at_most_a_hundred_problems_and_says_how_many_there_are(url: str) -> None:
    answer = predict(url, *(dict[str, object]() for _ in range(50)))
    assert len(answer.error["details"]) == 100
    assert answer.error["message"].endswith("and 199 more")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b'{"rows": [', 400, "malformed_json"),
        (b'{"rows": [{"a": 01}]}', 400, "malformed_json"),
        (b"\xff\xfe", 400, "not_utf8"),
        (b'{"rows": [{"plan": "\xe9"}]}', 400, "not_utf8"),
        (b"[" * 100_000, 400, "malformed_json"),
        (b"[]", 422, "invalid_shape"),
        (b"null", 422, "invalid_shape"),
        (b'{"row": [{}]}', 422, "invalid_shape"),
        (b'{"rows": {"a": 1}}', 422, "invalid_shape"),
        (b'{"rows": []}', 422, "no_rows"),
        (b'{"rows": [1]}', 422, "invalid_rows"),
        (b'{"rows": [null]}', 422, "invalid_rows"),
    ],
    ids=lambda v: repr(v)[:30],
)
def test_a_body_of_another_shape_is_refused_with_its_own_code(url: str, body: bytes, status: int, code: str) -> None:
    answer = post(url, body)
    assert (answer.status, answer.error["code"]) == (status, code)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/cloudevents+json", 200),
        (None, 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_json_is_taken_under_its_names_and_nothing_else_is(url: str, content_type: str | None, status: int) -> None:
    answer = post(url, json.dumps({"rows": [ROW]}).encode(), content_type)
    assert answer.status == status
    assert status == 200 or "application/json" in answer.error["message"]


def test_a_compressed_body_is_refused_by_name(url: str) -> None:
    body = gzip.compress(json.dumps({"rows": [ROW]}).encode())
    answer = post(url, body, headers={"Content-Encoding": "gzip"})
    assert (answer.status, "Content-Encoding: 'gzip'" in answer.error["message"]) == (415, True)


def test_too_many_rows_are_refused_with_the_limit_named(url: str) -> None:
    answer = predict(url, *([ROW] * 201))
    assert (answer.status, answer.error["limit"]) == (413, {"name": "serving.max_rows", "value": 200})


def test_a_body_over_the_limit_is_refused_with_the_limit_named_and_the_client_sees_it(url: str) -> None:
    """The client has sent all of it when the answer comes: a connection cut in between would hide the reason."""
    answer = post(url, b" " * (3 * MAX_BODY))
    assert (answer.status, answer.error["limit"]) == (413, {"name": "serving.max_body", "value": MAX_BODY})


def test_a_body_just_within_the_limit_is_taken(url: str) -> None:
    body = json.dumps({"rows": [ROW]}).encode()
    assert post(url, body + b" " * (MAX_BODY - len(body))).status == 200


def test_a_body_that_does_not_come_is_refused_with_the_limit_named(url: str) -> None:
    answer = end_request(begin_request(url, 100))
    assert (answer.status, answer.error["limit"]) == (408, {"name": "serving.timeout", "value": 2.0})


def test_a_body_in_pieces_is_put_together(url: str) -> None:
    body = json.dumps({"rows": [ROW]}).encode()
    sock = begin_request(url, len(body))
    for piece in (body[:7], body[7:20]):
        sock.sendall(piece)
    assert end_request(sock, body[20:]).status == 200


def test_more_requests_at_once_than_allowed_are_turned_away_and_told_when_to_come_again(url: str) -> None:
    """Places are given back when the requests that hold them end."""
    body = json.dumps({"rows": [ROW]}).encode()
    held = [begin_request(url, len(body)) for _ in range(4)]
    refused = predict(url, ROW)
    assert (refused.status, refused.error["limit"]) == (503, {"name": "serving.concurrency", "value": 4})
    assert refused.headers["retry-after"] == "1"
    assert [end_request(sock, body).status for sock in held] == [200] * 4
    assert predict(url, ROW).status == 200


def test_a_client_that_goes_away_leaves_its_place(url: str) -> None:
    for _ in range(8):
        begin_request(url, 100).close()
    while metric(url, "http_requests_in_progress"):
        pass
    assert predict(url, ROW).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nothing", 404, "not_found"), ("GET", "/predict", 405, "method_not_allowed")],
)
def test_an_unknown_path_and_another_method_are_refused_in_the_same_shape(
    url: str, method: str, path: str, status: int, code: str
) -> None:
    answer = get(url, path, method)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_health_readiness_and_version_say_what_is_answering(url: str) -> None:
    assert get(url, "/healthz").json == {"status": "ok"}
    assert get(url, "/readyz").json == {"status": "ready", "version": 0}
    assert get(url, "/version").json == {"name": "small", "version": 0, "digest": "", "engine": __version__}


def test_a_server_without_a_live_version_is_alive_but_not_ready(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    with serving(tmp_path) as server:
        answers = [get(server.url, path).status for path in ("/healthz", "/readyz", "/openapi.json", "/docs")]
        refused = predict(server.url, ROW)
    assert answers == [200, 503, 503, 200]
    assert (refused.status, refused.error["code"]) == (503, "no_model")


def test_requests_and_predictions_are_counted_under_bounded_labels(url: str) -> None:
    """A path that somebody makes up does not become a time series of its own."""
    samples = [
        'http_requests_total{method="POST",route="/predict",status="200"}',
        'http_requests_total{method="POST",route="/predict",status="422"}',
        'http_requests_total{method="GET",route="other",status="404"}',
        'model_predictions_total{label="Yes",version="0"}',
        'model_refusals_total{code="no_rows"}',
        'http_request_duration_seconds_count{route="/predict"}',
    ]
    before = [metric(url, sample) for sample in samples]
    predict(url, ROW, ROW)
    predict(url)
    get(url, f"/{uuid.uuid4()}")
    assert [metric(url, s) - b for s, b in zip(samples, before, strict=True)] == [1, 1, 1, 2, 1, 2]


def test_metrics_say_which_version_answers_and_what_the_process_uses(url: str) -> None:
    text = get(url, "/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert metric(url, 'model_info{digest="",name="small",version="0"}') == 1
    assert metric(url, "process_resident_memory_bytes") > 1e6


def test_the_openapi_document_describes_the_real_columns_and_its_example_works(url: str) -> None:
    document = get(url, "/openapi.json").json
    row = document["components"]["schemas"]["Row"]
    operation = document["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert row["required"] == ["tenure", "charges", "plan", "joined"]
    assert list(row["properties"]) == ["customer", "tenure", "charges", "plan", "joined"]
    assert "monthly, yearly" in row["properties"]["plan"]["description"]
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "500", "503"}
    assert post(url, json.dumps(example).encode()).status == 200


def test_requests_and_answers_fit_the_schemas_of_the_openapi_document(url: str) -> None:
    """What the document promises is what comes, for an answer and for a refusal."""
    document = get(url, "/openapi.json").json
    operation = document["paths"]["/predict"]["post"]

    def fits(instance: object, content: dict[str, Any]) -> None:
        schema: dict[str, Any] = {**content["schema"], "components": document["components"]}
        jsonschema.validate(instance, schema, cls=jsonschema.Draft202012Validator)

    json_of = {status: told["content"]["application/json"] for status, told in operation["responses"].items()}
    fits({"rows": [ROW]}, operation["requestBody"]["content"]["application/json"])
    fits(predict(url, {**ROW, "plan": "daily", "colour": "red"}).json, json_of["200"])
    fits(json_of["200"]["example"], json_of["200"])
    fits(predict(url, {}).json, json_of["422"])
    fits(predict(url, *([ROW] * 201)).json, json_of["413"])


def test_the_docs_page_brings_everything_along(url: str) -> None:
    """No script, style, font or picture comes from elsewhere, and the browser is told to refuse them."""
    page = get(url, "/docs")
    text = page.body.decode()
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in text.replace("http://localhost", "")
    assert "https://" not in text
    assert "/openapi.json" in text
