"""The OpenAPI 3.1 document of a served model, made from its contract.

Owns the description of every path, with the real columns as properties, their levels and ranges as hints, and a row
of the data as example. Leaves the shapes of answers to `answers`, from whose structs the schemas come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem import __version__
from mlsystem.serving.answers import Error, Predictions

if TYPE_CHECKING:
    from mlsystem.schema import Column, Schema
    from mlsystem.serving.examples import Row
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model

_SHOWN_LEVELS = 20
_REF: Final = "#/components/schemas/{name}"

_JSON_TYPES: Final[dict[str, list[str]]] = {
    "number": ["number", "string", "null"],
    "integer": ["number", "string", "null"],
    "date": ["string", "null"],
    "datetime": ["string", "null"],
    "category": ["string", "number", "boolean", "null"],
    "text": ["string", "null"],
}

_REFUSALS: Final = {
    "400": "The body is not JSON, or not UTF-8.",
    "408": "The body did not arrive in time.",
    "413": "The body or the number of rows is over the limit; `limit` names it.",
    "415": "The content type is not application/json.",
    "422": "Values cannot be taken; `details` names row, column and reason of each.",
    "503": "Overloaded, timed out or not ready; `limit` names the limit, Retry-After says when to come again.",
}


def document(model: Model, limits: Limits) -> dict[str, Any]:
    """Return the document for the version that answers."""
    name = model.name.name
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(model.name.version),
            "description": _about(model.schema),
            "x-engine": f"mlsystem {__version__}",
        },
        "servers": [{"url": "/", "description": "the server that answered this"}],
        "paths": {"/predict": {"post": _predict(model, limits)}, **_plain_paths()},
        "components": {"schemas": _components(model, limits)},
    }


def _about(schema: Schema) -> str:
    task = schema.task
    if task.kind == "regression":
        return f"Predicts the number `{task.target}`."
    labels = ", ".join(f"`{label}`" for label in task.labels[:_SHOWN_LEVELS])
    return f"Predicts `{task.target}`: one of {labels}, with the probability of each."


def _predict(model: Model, limits: Limits) -> dict[str, Any]:
    rows = [model.example]
    return {
        "operationId": "predict",
        "summary": f"Predict {model.schema.task.target}",
        "description": f"At most {limits.max_rows} rows and {limits.max_body} bytes in one request.",
        "requestBody": {"required": True, "content": _json(_REF.format(name="Request"), {"rows": rows})},
        "responses": {
            "200": {
                "description": "One prediction a row, in order.",
                "content": _json(_REF.format(name="Predictions"), _answer(model, rows)),
            },
            **{code: _refusal(text) for code, text in _REFUSALS.items()},
        },
    }


def _answer(model: Model, rows: list[Row]) -> Any:
    return msgspec.to_builtins(model.answer(rows, strict=False))


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": _json(_REF.format(name="Refusal"))}


def _json(ref: str, example: object = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": ref}}
    return {"application/json": content if example is None else {**content, "example": example}}


def _plain_paths() -> dict[str, Any]:
    return {
        "/healthz": _get("health", "The process answers", "Status"),
        "/readyz": _get("ready", "A model is loaded and has predicted", "Status", unready=True),
        "/version": _get("version", "Which version answers", "Version"),
        "/metrics": _get("metrics", "Counters in Prometheus' format", None, media="text/plain"),
        "/openapi.json": _get("openapi", "This document", "Document", unready=True),
        "/docs": _get("docs", "This document as a page to try it", None, media="text/html"),
    }


def _get(
    operation: str, summary: str, schema: str | None, *, media: str = "application/json", unready: bool = False
) -> dict[str, Any]:
    shape = {"$ref": _REF.format(name=schema)} if schema else {"type": "string"}
    responses: dict[str, Any] = {"200": {"description": summary, "content": {media: {"schema": shape}}}}
    if unready:
        responses["503"] = {"description": "No version is live yet"}
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


def _components(model: Model, limits: Limits) -> dict[str, Any]:
    _, shapes = msgspec.json.schema_components((Predictions, Error), ref_template=_REF)
    del shapes["Prediction"]["properties"]["probabilities"]
    shapes["Prediction"]["properties"] |= {"id": {"type": "string", "format": "uuid"}, **_outcome(model.schema)}
    rows = {"type": "array", "items": {"$ref": _REF.format(name="Row")}, "minItems": 1, "maxItems": limits.max_rows}
    return {
        **shapes,
        "Row": _row(model, strict=limits.strict),
        "Request": {"type": "object", "required": ["rows"], "properties": {"rows": rows}},
        "Refusal": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"$ref": _REF.format(name="Error")}},
        },
        "Status": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
        "Version": {"type": "object", "required": ["name", "version", "digest", "engine"]},
        "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
    }


def _outcome(schema: Schema) -> dict[str, Any]:
    """Return what `prediction` and `probabilities` are for this task."""
    labels = schema.task.labels
    if not labels:
        return {"prediction": {"type": "number", "description": schema.task.target}}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    probabilities = {"type": "object", "properties": dict.fromkeys(labels, share), "required": list(labels)}
    return {"prediction": {"type": "string", "enum": list(labels)}, "probabilities": probabilities}


def _row(model: Model, *, strict: bool) -> dict[str, Any]:
    example = model.example
    required = model.boundary.required
    columns = [c for c in model.schema.columns if c.role != "target"]
    return {
        "type": "object",
        "description": "A row of the data. Columns that are no feature may come along; null is always allowed.",
        "required": list(required),
        "properties": {column.name: _column(column, example, used=column.name in required) for column in columns},
        "additionalProperties": not strict,
    }


def _column(column: Column, example: Row, *, used: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {"description": _told(column, used=used)}
    if used:
        shape["type"] = _JSON_TYPES[column.type]
    if column.name in example:
        shape["examples"] = [example[column.name]]
    return shape


def _told(column: Column, *, used: bool) -> str:
    if not used:
        return f"Not used. {column.reason}".strip()
    if column.type == "category" and column.levels:
        more = f" and {column.distinct - _SHOWN_LEVELS} more" if column.distinct > _SHOWN_LEVELS else ""
        return f"One of {', '.join(column.levels[:_SHOWN_LEVELS])}{more}; another one is answered with a warning."
    if column.type in {"date", "datetime"}:
        return f"A {column.type}, written as in the data ({column.format or 'iso'})."
    return f"A number; from {column.low:g} to {column.high:g} in the data." if _ranged(column) else "A number."


def _ranged(column: Column) -> bool:
    return column.low is not None and column.high is not None
