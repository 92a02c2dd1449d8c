"""The OpenAPI 3.1 document of a served model, made from its contract.

Owns the schemas: the real columns as properties, their levels and ranges as hints, and what the routes' structs are.
Leaves the paths to `operations`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem import __version__
from mlsystem.serving.answers import Error, Predictions
from mlsystem.serving.oip import InferRequest, InferResponse, ModelMetadata, ServerMetadata
from mlsystem.serving.operations import REF, SCHEMES, paths, ref
from mlsystem.serving.routes.explain import MAX_ROWS, Explanations
from mlsystem.serving.routes.outcomes import LONGEST
from mlsystem.state import Recorded

if TYPE_CHECKING:
    from mlsystem.schema import Column, Schema
    from mlsystem.serving.examples import Row
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model

_SHOWN_LEVELS = 20

_NUMBER: Final = r"^ *([+-]?[0-9]{{1,30}}({0}[0-9]{{1,30}})?([eE][+-]?[0-9]{{1,2}})?)? *$"
"""A number as text, or nothing: narrower than what is taken, so that it can be relied on."""

_JSON_TYPES: Final[dict[str, list[str]]] = {
    "number": ["number", "string", "null"],
    "integer": ["number", "string", "null"],
    "date": ["string", "null"],
    "datetime": ["string", "null"],
    "category": ["string", "number", "boolean", "null"],
    "text": ["string", "null"],
}


def document(model: Model, limits: Limits, *, keys: bool = False) -> dict[str, Any]:
    """Return the document for the version that answers; `keys` says whether callers need one."""
    name = model.name.name
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(model.name.version),
            "description": _about(model.schema),
            "x-engine": f"mlsystem {__version__}",
        },
        "servers": [{"url": "/", "description": "the server that answered this"}],
        "paths": paths(model, limits, keys=keys),
        "components": {"schemas": _components(model, limits)},
    }
    if keys:
        whole["components"]["securitySchemes"] = SCHEMES
        whole["security"] = [{scheme: []} for scheme in SCHEMES]
    return whole


def _about(schema: Schema) -> str:
    task = schema.task
    if task.kind == "regression":
        return f"Predicts the number `{task.target}`."
    labels = ", ".join(f"`{label}`" for label in task.labels[:_SHOWN_LEVELS])
    return f"Predicts `{task.target}`: one of {labels}, with the probability of each."


def _components(model: Model, limits: Limits) -> dict[str, Any]:
    _, shapes = msgspec.json.schema_components(_ANSWERS, ref_template=REF)
    predicted = {"id": {"type": "string", "format": "uuid"}, **_outcome(model.schema)}
    for name, outcome in (("Prediction", predicted), ("Explanation", _outcome(model.schema))):
        del shapes[name]["properties"]["probabilities"]
        shapes[name]["properties"] |= outcome
    rows = {"type": "array", "items": ref("Row"), "minItems": 1}
    return {
        **shapes,
        "Row": _row(model, strict=limits.strict),
        "Request": _request({**rows, "maxItems": limits.max_rows}),
        "ExplainRequest": _object({"rows": {**rows, "maxItems": min(MAX_ROWS, limits.max_rows)}}),
        "OutcomesRequest": _object({"outcomes": _outcomes(model.schema, limits)}),
        "Refusal": _object({"error": ref("Error")}),
        "InferRefusal": _object({"error": {"type": "string"}}),
        "Status": _object({"status": {"type": "string"}}),
        "Live": _object({"live": {"const": True}}),
        "Ready": _object({"ready": {"const": True}}),
        "ModelReady": _object({"name": {"type": "string"}, "ready": {"const": True}}),
        "Version": {"type": "object", "required": ["name", "version", "digest", "engine"]},
        "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
    }


_ANSWERS: Final = (
    Predictions,
    Explanations,
    Recorded,
    Error,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ServerMetadata,
)
"""What comes and goes as JSON and has a struct; the schemas are made from these."""


def _request(rows: dict[str, Any]) -> dict[str, Any]:
    """Return what a request for predictions is."""
    whole = _object({"rows": rows})
    about = (
        "How many reasons each prediction is to have: the columns that moved its score most, as /explain tells them,"
        f" the strongest first. At most {MAX_ROWS} rows then."
    )
    reasons = {"type": ["integer", "null"], "minimum": 1, "description": about}
    return {**whole, "properties": {**whole["properties"], "reasons": reasons}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _outcomes(schema: Schema, limits: Limits) -> dict[str, Any]:
    """Return what a list of outcomes is: each names its prediction by id, or by entity and time."""
    labels = list(schema.task.labels)
    actual = {"enum": labels} if labels else {"type": "number"}
    name = {"type": ["string", "number"], "maxLength": LONGEST, "pattern": "^[^\\s\\x00-\\x1f]"}
    time = {
        "type": ["string", "number"],
        "format": "date-time",
        "description": "RFC 3339, or seconds since 1970",
        "examples": ["2024-01-31T12:00:00Z"],
    }
    by_id = {**_object({"id": name, "actual": actual}), "not": {"required": ["entity"]}}
    by_entity = {**_object({"entity": name, "time": time, "actual": actual}), "not": {"required": ["id"]}}
    return {"type": "array", "items": {"oneOf": [by_id, by_entity]}, "minItems": 1, "maxItems": limits.max_rows}


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
        **_present(model),
        "properties": {column.name: _column(column, example, used=column.name in required) for column in columns},
        "additionalProperties": not strict,
    }


def _present(model: Model) -> dict[str, Any]:
    """Return what a row must have: all columns, or whom it is about, for what lies online to complete it."""
    about = "A row of the data. Columns that are no feature may come along; null is always allowed."
    whole, entity = {"required": list(model.boundary.required)}, model.needs.entity
    if not entity:
        return {"description": about, **whole}
    online = f" Columns that are left out are taken from the online row of its {entity}, if there is one."
    return {"description": about + online, "anyOf": [whole, {"required": [entity]}]}


def _column(column: Column, example: Row, *, used: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {"description": _told(column, used=used)}
    if used:
        shape |= _typed(column)
    if column.name in example:
        shape["examples"] = [example[column.name]]
    return shape


def _typed(column: Column) -> dict[str, Any]:
    """Return the values of a column as JSON; a number may be a text, a date is one."""
    shape: dict[str, Any] = {"type": _JSON_TYPES[column.type]}
    if column.type in {"number", "integer"}:
        shape["pattern"] = _NUMBER.format(re.escape(column.decimal))
    elif column.type == "date" and column.format in {None, "iso"}:
        shape["anyOf"] = [{"format": "date"}, {"maxLength": 0}]
    elif column.type == "datetime" and column.format in {None, "iso"}:
        shape["anyOf"] = [{"format": "date-time"}, {"maxLength": 0}]
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
