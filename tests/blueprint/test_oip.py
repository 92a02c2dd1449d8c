"""The Open Inference Protocol: its own client works unmodified, and asks the same model in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from mlsystem.serving.process import serving
from tests.blueprint.asking import Answer, ask, get, metric
from tests.blueprint.small_system import REGRESSION, ROW, classifier, probability, regressor, write_package

triton = cast("Any", tritonclient.http)
INFER = "/v2/models/small/infer"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    package = write_package(tmp_path_factory.mktemp("package"), classifier(), max_rows=200, max_body="256KiB")
    with serving(package, "--package", str(package)) as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as found:
        yield found


def column(name: str, values: np.ndarray[Any, Any], datatype: str, *, binary: bool = True) -> Any:
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def columns(*rows: dict[str, object], binary: bool = True) -> list[Any]:
    """Return rows as a tensor a column, as the model's metadata describe them."""
    numbers = [
        column(name, np.array([[row[name]] for row in rows], np.float64), "FP64", binary=binary)
        for name in ("tenure", "charges")
    ]
    texts = [
        column(name, np.array([[row[name]] for row in rows], object), "BYTES", binary=binary)
        for name in ("plan", "joined")
    ]
    return [*numbers, *texts]


def infer(url: str, content: object, path: str = INFER) -> Answer:
    return ask(url, "POST", path, json.dumps(content).encode())


def tensor(name: str, data: list[object], datatype: str = "BYTES", **changes: object) -> dict[str, object]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data, **changes}


def one_row(**changes: object) -> list[dict[str, object]]:
    row = {**ROW, **changes}
    return [tensor(name, [row[name]]) for name in ("tenure", "charges", "plan", "joined")]


def test_the_server_and_its_model_are_live_ready_and_described(client: Any) -> None:
    ready = (
        client.is_server_live(),
        client.is_server_ready(),
        client.is_model_ready("small"),
        client.is_model_ready("x"),
    )
    assert ready == (True, True, True, False)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("small", "0") == client.get_model_metadata("small")
    assert client.get_model_metadata("small") == {
        "name": "small",
        "versions": ["0"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "tenure", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "charges", "datatype": "FP64", "shape": [-1, 1]},
            {"name": "plan", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "joined", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "prediction", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, 2]},
            {"name": "id", "datatype": "BYTES", "shape": [-1, 1]},
        ],
    }


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_its_client_gets_the_answers_of_predict_for_a_tensor_a_column(client: Any, *, binary: bool) -> None:
    rows = [{**ROW, "tenure": float(tenure)} for tenure in range(-30, 30)]
    result = client.infer("small", columns(*rows, binary=binary))
    found = result.as_numpy("probabilities")
    assert found[:, 1] == pytest.approx([probability(row) for row in rows], abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(np.ones(60))
    assert [text.decode() for text in result.as_numpy("prediction")[:, 0]] == [
        "Yes" if probability(row) >= 0.5 else "No" for row in rows
    ]
    assert len(set(result.as_numpy("id")[:, 0])) == 60


def test_wanted_outputs_come_alone_each_as_it_is_wanted_under_the_request_s_id(client: Any) -> None:
    wanted = [
        triton.InferRequestedOutput("probabilities", binary_data=True),
        triton.InferRequestedOutput("prediction", binary_data=False),
    ]
    result = client.infer("small", columns(ROW), model_version="0", request_id="mine", outputs=wanted)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "small", "0")
    assert [output["name"] for output in response["outputs"]] == ["probabilities", "prediction"]
    assert response["outputs"][1]["data"] == ["Yes"]
    assert result.as_numpy("probabilities").tolist() == pytest.approx(
        np.array([[1 - probability(ROW), probability(ROW)]])
    )


def test_nan_an_empty_text_and_null_mean_missing(client: Any, url: str) -> None:
    expected = probability({**ROW, "tenure": 0})
    result = client.infer("small", columns({**ROW, "tenure": np.nan, "joined": ""}))
    assert result.as_numpy("probabilities")[0, 1] == pytest.approx(expected)
    told = infer(url, {"inputs": one_row(tenure=None, joined=None)}).json["outputs"]
    assert told[1]["data"][1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [("INT8", "i1"), ("INT64", "i8"), ("UINT16", "u2"), ("FP16", "f2"), ("FP32", "f4"), ("FP64", "f8")],
)
def test_numbers_come_in_any_number_type(client: Any, datatype: str, kind: str) -> None:
    tensors = [column("tenure", np.array([10], kind), datatype), *columns(ROW)[1:]]
    assert client.infer("small", tensors).as_numpy("probabilities")[0, 1] == pytest.approx(probability(ROW))


def test_a_regression_gives_a_number(tmp_path: Any) -> None:
    package = write_package(tmp_path, regressor(), REGRESSION)
    with (
        serving(package, "--package", str(package)) as server,
        triton.InferenceServerClient(server.url.removeprefix("http://")) as client,
    ):
        result = client.infer("small", columns(ROW))
        assert result.as_numpy("prediction").tolist() == [[pytest.approx(1.5)]]
        assert result.as_numpy("probabilities") is None


def test_what_was_never_seen_is_answered_and_told(url: str) -> None:
    answer = infer(url, {"inputs": one_row(plan="weekly")})
    assert (answer.status, answer.json["parameters"]) == (200, {"warning_unseen_category": 1})


def test_tensors_are_counted_like_rows_and_all_paths_as_one(url: str) -> None:
    predictions = 'model_predictions_total{label="Yes",version="0"}'
    requests = 'http_requests_total{method="POST",route="/v2",status="200"}'
    before = metric(url, predictions), metric(url, requests)
    infer(url, {"inputs": one_row()}, "/v2/models/small/versions/0/infer")
    assert (metric(url, predictions) - before[0], metric(url, requests) - before[1]) == (1, 1)


@pytest.mark.parametrize(
    ("inputs", "status", "words"),
    [
        (one_row()[:3], 422, "row 0, column 'joined': missing column"),
        (one_row(charges="much"), 422, "row 0, column 'charges': not a number"),
        ([*one_row(), tensor("plan", ["monthly"])], 400, "an input stands twice"),
        ([tensor("tenure", [1, 2])], 422, "missing column"),
        ([*one_row()[1:], tensor("tenure", [1, 2])], 400, "the same number of rows"),
        ([], 400, "at least one input"),
        ([tensor("tenure", [1], "COMPLEX")], 400, "datatype 'COMPLEX' is not supported"),
        ([tensor("tenure", [1], shape=[1, 2])], 400, "a column is [N] or [N, 1]"),
        ([tensor("tenure", [1], shape=[2])], 400, "has 1 values and shape [2]"),
        ([{"name": "tenure", "shape": [1], "datatype": "FP64"}], 400, "neither data nor a binary_data_size"),
        ([tensor("tenure", [1], parameters={"binary_data_size": 8})], 400, "either data or a binary_data_size"),
        ([tensor("tenure", list(range(201)))], 413, "201 rows are more than 200"),
        ("columns", 400, "this is no inference request"),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why_in_the_protocol_s_shape(
    url: str, inputs: object, status: int, words: str
) -> None:
    answer = infer(url, {"inputs": inputs})
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert words in answer.error


@pytest.mark.parametrize(
    ("length", "body", "words"),
    [
        ("x", b"{}", "is no number"),
        ("9", b"{}", "the body has 2 bytes"),
        ("2", b"{}", "this is no inference request"),
        (None, b'{"inputs": []', "the body is not JSON"),
    ],
)
def test_lengths_and_bytes_that_do_not_fit_are_refused(url: str, length: str | None, body: bytes, words: str) -> None:
    headers = {"Inference-Header-Content-Length": length} if length else {}
    answer = ask(url, "POST", INFER, body, headers)
    assert (answer.status, words in answer.error) == (400, True)


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("tenure", b"\0" * 7, "needs 8 bytes for shape [1], 7 came"),
        ("plan", b"\5\0\0\0abc", "ends within a text"),
        ("plan", b"\1\0\0\0\xff", "no sequence of UTF-8 texts"),
        ("plan", b"\1\0", "no sequence of UTF-8 texts"),
        ("plan", b"\1\0\0\0a\1\0\0\0b", "holds 2 texts"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(url: str, name: str, raw: bytes, words: str) -> None:
    kind = "FP64" if name == "tenure" else "BYTES"
    described = {"name": name, "shape": [1], "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [described]}).encode()
    answer = ask(url, "POST", INFER, head + raw, {"Inference-Header-Content-Length": str(len(head))})
    assert (answer.status, words in answer.error) == (400, True)
    left_over = ask(url, "POST", INFER, head + raw + b"!", {"Inference-Header-Content-Length": str(len(head))})
    assert left_over.status == 400


def test_another_model_another_version_and_other_paths_are_not_found(client: Any, url: str) -> None:
    with pytest.raises(InferenceServerException, match="there is no model 'large' here, only 'small'"):
        client.infer("large", columns(ROW))
    with pytest.raises(InferenceServerException, match="version '7' does not answer here, the live one is '0'"):
        client.get_model_metadata("small", "7")
    with pytest.raises(InferenceServerException, match="Not Found; see /docs"):
        client.get_model_config("small")
    wrong = get(url, INFER)
    assert (wrong.status, wrong.headers["allow"], wrong.error) == (
        405,
        "POST",
        f"GET {INFER}: Method Not Allowed; see /docs",
    )


def test_an_output_that_there_is_not_is_refused_before_anything_is_predicted(client: Any, url: str) -> None:
    sample = 'model_predictions_total{label="Yes",version="0"}'
    before = metric(url, sample)
    with pytest.raises(InferenceServerException, match="there is no output 'shares'"):
        client.infer("small", columns(ROW), outputs=[triton.InferRequestedOutput("shares")])
    assert metric(url, sample) == before


def test_compressed_tensors_are_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="not compressed"):
        client.infer("small", columns(ROW), request_compression_algorithm="gzip")
