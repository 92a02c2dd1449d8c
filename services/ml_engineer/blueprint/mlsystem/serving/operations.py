"""The paths of the OpenAPI document: what each is asked, and every answer that it gives.

Owns the operations, with an example that works where a row is sent. Leaves the schemas that they refer to to
`openapi`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem.serving.keys import scope_of
from mlsystem.serving.routes.batch import STREAMS
from mlsystem.serving.routes.explain import MAX_ROWS
from mlsystem.serving.routes.outcomes import SHAPE_EXAMPLE

if TYPE_CHECKING:
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model

Operation = dict[str, Any]

REF: Final = "#/components/schemas/{name}"
SCHEMES: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""The two ways to send a key."""

_REFUSALS: Final = {
    "400": "The body is not JSON, or not UTF-8.",
    "401": "No key came, or nobody's.",
    "403": "The key does not have the scope that the path needs.",
    "404": "There is no such model, version or path here.",
    "408": "The body did not arrive in time.",
    "413": "The body or the number of rows is over the limit; `limit` names it.",
    "415": "The content type is not one that the path takes.",
    "422": "Values cannot be taken; `details` names row, column and reason of each.",
    "429": "Callers have more of these under way than are taken at once; `limit` names it, Retry-After when to come.",
    "500": "The server failed; its log says why.",
    "503": "Overloaded, timed out or not ready; `limit` names the limit, Retry-After says when to come again.",
}
_OF_BODIES: Final = ("400", "408", "413", "415", "422", "500", "503")


def paths(model: Model, limits: Limits, *, keys: bool) -> dict[str, Any]:
    """Return every path of the server."""
    posts = {
        "/predict": _predict(model, limits),
        "/batch": _batch(model),
        "/explain": _explain(model),
        "/outcomes": _outcomes(model),
        **_infer(model),
    }
    found = {path: {"post": operation} for path, operation in posts.items()}
    found |= {path: {"get": operation} for path, operation in (_plain() | _described(model)).items()}
    if keys:
        for path, item in found.items():
            for operation in item.values():
                _guard(path, operation)
    return found


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": REF.format(name=name)}


def _guard(path: str, operation: Operation) -> None:
    """Say which scope an operation needs, or that it needs no key."""
    scope = scope_of(path)
    if scope is None:
        operation["security"] = []
        return
    shape = "InferRefusal" if path.startswith("/v2") else "Refusal"
    operation["responses"] |= _refusals(("401", "403"), shape)
    operation["description"] = f"{operation.get('description', '')} Needs a key with the scope {scope}.".strip()


def _predict(model: Model, limits: Limits) -> Operation:
    rows = [model.example]
    answer = msgspec.to_builtins(model.answer(rows, strict=False))
    return {
        "operationId": "predict",
        "summary": f"Predict {model.schema.task.target}",
        "description": f"At most {limits.max_rows} rows and {limits.max_body} bytes in one request.",
        "requestBody": _body({"application/json": {"schema": ref("Request"), "example": {"rows": rows}}}),
        "responses": {"200": _told("One prediction a row, in order.", "Predictions", answer), **_refusals(_OF_BODIES)},
    }


def _batch(model: Model) -> Operation:
    row = msgspec.json.encode(model.example).decode()
    text: dict[str, Any] = {"schema": {"type": "string"}}
    csv = {**text, "description": "A header and rows, as in the data."}
    lines = {**text, "example": f"{row}\n{row}\n"}
    content = {"text/csv": csv, "application/jsonl": lines, "application/x-ndjson": lines}
    told = "A line a row, in order: prediction and probabilities, or `error`. Cut off if the rows cannot be read on."
    return {
        "operationId": "batch",
        "summary": f"Predict {model.schema.task.target} for rows of any number",
        "description": (
            "Rows and answers are streamed: read while you send, as `curl -X POST -T rows.csv` does. `Accept` may name"
            f" the other format. A row is known by its id column, else by its number. At most {STREAMS} at once."
        ),
        "requestBody": _body(content),
        "responses": {
            "200": {"description": told, "content": {"text/csv": text, "application/jsonl": text}},
            **_refusals(("408", "415", "422", "429", "500", "503")),
        },
    }


def _explain(model: Model) -> Operation:
    rows = [model.example]
    return {
        "operationId": "explain",
        "summary": "Tell what each column did to a prediction",
        "description": (
            "`base`, the mean score of rows of the training data, and all effects add up to `score`. The same row has"
            f" the same explanation. At most {MAX_ROWS} rows in one request."
        ),
        "requestBody": _body({"application/json": {"schema": ref("ExplainRequest"), "example": {"rows": rows}}}),
        "responses": {"200": _told("One explanation a row, in order.", "Explanations"), **_refusals(_OF_BODIES)},
    }


def _outcomes(model: Model) -> Operation:
    example = SHAPE_EXAMPLE | {"actual": (model.schema.task.labels or (0.0,))[-1]}
    content = {"schema": ref("OutcomesRequest"), "example": {"outcomes": [example]}}
    return {
        "operationId": "outcomes",
        "summary": "Tell what really happened",
        "description": "One bad outcome refuses all of a request; telling one twice does no harm.",
        "requestBody": _body({"application/json": content}),
        "responses": {"202": _told("What became of them.", "Recorded"), **_refusals((*_OF_BODIES, "429"))},
    }


def _infer(model: Model) -> dict[str, Operation]:
    """Return the inference of the Open Inference Protocol, without a version and with one."""
    example = {"inputs": [_tensor(name, model.example.get(name)) for name in model.boundary.required]}
    found: dict[str, Operation] = {}
    for path, parameters in _model_paths(model).items():
        length = {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Bytes of JSON, where bytes of tensors follow.",
            "schema": {"type": "integer", "minimum": 0},
        }
        bytes_too = {
            "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        }
        answers = {"application/json": {"schema": ref("InferResponse")}, **bytes_too}
        found[f"{path}/infer"] = {
            "operationId": "infer_version" if len(parameters) > 1 else "infer",
            "summary": "Predict, a tensor a column (Open Inference Protocol 2)",
            "parameters": [*parameters, length],
            "requestBody": _body(
                {"application/json": {"schema": ref("InferRequest"), "example": example}, **bytes_too}
            ),
            "responses": {
                "200": {"description": "The outputs that were asked for, else all.", "content": answers},
                **_refusals((*_OF_BODIES, "404"), "InferRefusal"),
            },
        }
    return found


def _tensor(name: str, value: object) -> dict[str, Any]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"name": name, "shape": [1, 1], "datatype": "FP64" if number else "BYTES", "data": [value]}


def _described(model: Model) -> dict[str, Operation]:
    """Return what the Open Inference Protocol tells of server and model."""
    live = "InferRefusal"
    found = {
        "/v2": _get("server_metadata", "What the server is", "ServerMetadata"),
        "/v2/health/live": _get("server_live", "The process answers", "Live"),
        "/v2/health/ready": _get("server_ready", "A model is loaded and has predicted", "Ready"),
    }
    found["/v2/health/ready"]["responses"] |= _refusals(("503",), live)
    for path, parameters in _model_paths(model).items():
        suffix = "_version" if len(parameters) > 1 else ""
        for place, operation in (
            (path, _get(f"model_metadata{suffix}", "What the model takes and gives", "ModelMetadata")),
            (f"{path}/ready", _get(f"model_ready{suffix}", "The model answers", "ModelReady")),
        ):
            operation["parameters"] = parameters
            operation["responses"] |= _refusals(("404", "503"), live)
            found[place] = operation
    return found


def _model_paths(model: Model) -> dict[str, list[dict[str, Any]]]:
    """Return the paths of a model with their parameters: the live version need not be named."""
    name = _in_path("name", model.name.name)
    version = _in_path("version", str(model.name.version))
    return {"/v2/models/{name}": [name], "/v2/models/{name}/versions/{version}": [name, version]}


def _in_path(name: str, only: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": [only]}}


def _plain() -> dict[str, Operation]:
    found = {
        "/healthz": _get("health", "The process answers", "Status"),
        "/readyz": _get("ready", "A model is loaded and has predicted", "Status"),
        "/version": _get("version", "Which version answers", "Version"),
        "/metrics": _get("metrics", "Counters in Prometheus' format", None, media="text/plain"),
        "/openapi.json": _get("openapi", "This document", "Document"),
        "/docs": _get("docs", "This document as a page to try it", None, media="text/html"),
    }
    found["/readyz"]["responses"]["503"] = _told("No version is live yet, or the server stops.", "Status")
    found["/openapi.json"]["responses"] |= _refusals(("503",))
    return found


def _get(operation: str, summary: str, schema: str | None, *, media: str = "application/json") -> Operation:
    shape = ref(schema) if schema else {"type": "string"}
    answer = {"description": summary, "content": {media: {"schema": shape}}}
    return {"operationId": operation, "summary": summary, "responses": {"200": answer}}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": content}


def _told(description: str, schema: str, example: object = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": ref(schema)}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}}


def _refusals(codes: Sequence[str], schema: str = "Refusal") -> dict[str, Any]:
    return {code: _told(_REFUSALS[code], schema) for code in sorted(codes)}
