"""The Open Inference Protocol, version 2: a tensor for every column, in JSON or in bytes.

Owns the shapes of the protocol and the way from tensors to rows and from predictions to tensors, so that the columns
of a request go through the same code as the rows of /predict. A tensor has the shape [N] or [N, 1]; NaN, "" and, in
JSON, null mean that a value is missing. Source: the protocol's HTTP/REST document with its binary tensor data
extension (kserve/open-inference-protocol, triton-inference-server/server). Leaves HTTP to the route.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import numpy as np

from mlsystem import __version__
from mlsystem.serving.answers import Predictions, Refusal
from mlsystem.serving.intake import Rows, decode

if TYPE_CHECKING:
    from mlsystem.schema import Column
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model

_LITTLE_ENDIAN: Final = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""The protocol's datatypes as numpy writes them; BYTES is the other one."""

Parameters = dict[str, Any]


class InputTensor(msgspec.Struct, frozen=True):
    """One column of a request."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """An output that the caller asks for."""

    name: str
    parameters: Parameters = {}


class InferRequest(msgspec.Struct, frozen=True):
    """A request, without its bytes."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: Parameters = {}
    outputs: list[WantedOutput] = []


class OutputTensor(msgspec.Struct, omit_defaults=True):
    """One output of an answer."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferResponse(msgspec.Struct, omit_defaults=True):
    """An answer, without its bytes."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""
    parameters: Parameters = {}


class TensorMetadata(msgspec.Struct):
    """What a model takes or gives under a name."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(msgspec.Struct):
    """What the server is."""

    name: str = "mlsystem"
    version: str = __version__
    extensions: tuple[str, ...] = ("binary_tensor_data",)


def metadata(model: Model) -> ModelMetadata:
    """Return what the model takes and gives; the first dimension is the number of rows."""
    columns = {column.name: column for column in model.schema.columns}
    inputs = [TensorMetadata(name, _datatype(columns[name]), [-1, 1]) for name in model.boundary.required]
    labels = model.schema.task.labels
    outputs = [TensorMetadata("prediction", "BYTES" if labels else "FP64", [-1, 1])]
    if labels:
        outputs.append(TensorMetadata("probabilities", "FP64", [-1, len(labels)]))
    outputs.append(TensorMetadata("id", "BYTES", [-1, 1]))
    return ModelMetadata(model.name.name, [str(model.name.version)], "onnxruntime_onnx", inputs, outputs)


def read_request(body: bytes, json_length: int | None, limits: Limits) -> tuple[InferRequest, Rows]:
    """Return a request and its rows; the bytes of tensors follow after `json_length` bytes of JSON.

    Raises: Refusal 400 for what is not of the protocol, 413 for too many rows.
    """
    if json_length is not None and not 0 <= json_length <= len(body):
        raise malformed(f"Inference-Header-Content-Length is {json_length}, the body has {len(body)} bytes")
    content = body if json_length is None else body[:json_length]
    try:
        request = msgspec.convert(decode(content), InferRequest)
    except msgspec.ValidationError as error:
        raise malformed(f"this is no inference request: {error}") from None
    return request, _rows(request, memoryview(body)[len(content) :], limits)


def require_outputs(request: InferRequest, model: Model) -> None:
    """Raise Refusal 400 for an output that the model does not have, before anything is predicted."""
    names = [output.name for output in metadata(model).outputs]
    for wanted in request.outputs:
        if wanted.name not in names:
            raise malformed(f"there is no output {wanted.name[:60]!r}; there are {', '.join(names)}")


def write_response(request: InferRequest, answer: Predictions) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON where bytes follow."""
    made = _outputs(answer)
    wanted = request.outputs or [WantedOutput(name) for name in made]
    binary = bool(request.parameters.get("binary_data_output"))
    outputs: list[OutputTensor] = []
    tail: list[bytes] = []
    for want in wanted:
        output = made[want.name]
        if want.parameters.get("binary_data", binary):
            raw = _to_bytes(output)
            tail.append(raw)
            output = msgspec.structs.replace(
                output, data=None, parameters={**output.parameters, "binary_data_size": len(raw)}
            )
        outputs.append(output)
    told = {f"warning_{warning.kind}": warning.count for warning in answer.warnings or ()}
    name, version = answer.model.name, str(answer.model.version)
    head = msgspec.json.encode(InferResponse(name, version, outputs, request.id, told))
    return b"".join([head, *tail]), len(head) if tail else None


def malformed(message: str) -> Refusal:
    """400: not a request of this protocol."""
    return Refusal(400, "malformed_request", message)


def _datatype(column: Column) -> str:
    return "FP64" if column.type in {"number", "integer"} else "BYTES"


def _rows(request: InferRequest, raw: memoryview, limits: Limits) -> Rows:
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names):
        raise malformed("an input stands twice in the request")
    columns: list[list[Any]] = []
    at = 0
    for tensor in request.inputs:
        rows = _row_count(tensor)
        if rows > limits.max_rows:
            raise limits.too_many_rows(rows)
        size = _binary_size(tensor)
        if size is None:
            columns.append(_from_json(tensor, rows))
        else:
            columns.append(_from_bytes(tensor, rows, raw[at : at + size]))
            at += size
    if at != len(raw):
        raise malformed(f"{len(raw)} bytes follow the JSON, the inputs name {at} of them")
    if len({len(column) for column in columns}) != 1:
        raise malformed("send at least one input; all inputs need the same number of rows")
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _row_count(tensor: InputTensor) -> int:
    if tensor.datatype != "BYTES" and tensor.datatype not in _LITTLE_ENDIAN:
        raise malformed(f"input {tensor.name!r}: datatype {tensor.datatype[:20]!r} is not supported")
    shape = tensor.shape
    if len(shape) not in {1, 2} or shape[1:] not in ([], [1]) or shape[0] < 1:
        raise malformed(f"input {tensor.name!r} has shape {shape[:5]}; a column is [N] or [N, 1]")
    return shape[0]


def _binary_size(tensor: InputTensor) -> int | None:
    """Return how many of the bytes after the JSON are this tensor's, None if it stands in the JSON."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or tensor.data is not None:
        raise malformed(f"input {tensor.name!r}: give either data or a binary_data_size of at least 0")
    return size


def _from_json(tensor: InputTensor, rows: int) -> list[Any]:
    if tensor.data is None:
        raise malformed(f"input {tensor.name!r} has neither data nor a binary_data_size")
    values = [_only(item) for item in tensor.data]
    if len(values) != rows:
        raise malformed(f"input {tensor.name!r} has {len(values)} values and shape {tensor.shape}")
    return [_known(value) for value in values]


def _only(item: object) -> object:
    """Return a value, taken out of a list of its own: [N, 1] may be written nested."""
    if not isinstance(item, list):
        return item
    nested = cast("list[object]", item)
    return nested[0] if len(nested) == 1 else nested


def _from_bytes(tensor: InputTensor, rows: int, raw: memoryview) -> list[Any]:
    if tensor.datatype == "BYTES":
        texts = _texts(tensor.name, raw)
        if len(texts) != rows:
            raise malformed(f"input {tensor.name!r} holds {len(texts)} texts and has shape {tensor.shape}")
        return texts
    kind = np.dtype(_LITTLE_ENDIAN[tensor.datatype])
    if len(raw) != rows * kind.itemsize:
        text = f"input {tensor.name!r} needs {rows * kind.itemsize} bytes for shape {tensor.shape}, {len(raw)} came"
        raise malformed(text)
    return [_known(value) for value in np.frombuffer(raw, kind).tolist()]


def _texts(name: str, raw: memoryview) -> list[str]:
    """Return the elements of a BYTES tensor: each is its length in four bytes, then its text in UTF-8."""
    texts: list[str] = []
    at = 0
    try:
        while at < len(raw):
            (length,) = struct.unpack_from("<I", raw, at)
            at += 4
            if at + length > len(raw):
                raise malformed(f"input {name!r} ends within a text")
            texts.append(str(raw[at : at + length], "utf-8"))
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise malformed(f"input {name!r} is no sequence of UTF-8 texts: {error}") from None
    return texts


def _known(value: object) -> object:
    """Return a value of a tensor as a value of a row: tensors write NaN for what is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _outputs(answer: Predictions) -> dict[str, OutputTensor]:
    told = answer.predictions
    rows, first = len(told), told[0]
    kind = "BYTES" if isinstance(first.prediction, str) else "FP64"
    outputs = [OutputTensor("prediction", kind, [rows, 1], data=[p.prediction for p in told])]
    if first.probabilities is not None:
        shares = [share for p in told for share in (p.probabilities or {}).values()]
        labels = list(first.probabilities)
        outputs.append(
            OutputTensor(
                "probabilities", "FP64", [rows, len(labels)], {"labels": msgspec.json.encode(labels).decode()}, shares
            )
        )
    outputs.append(OutputTensor("id", "BYTES", [rows, 1], data=[p.id for p in told]))
    return {output.name: output for output in outputs}


def _to_bytes(output: OutputTensor) -> bytes:
    values = cast("Sequence[Any]", output.data)
    if output.datatype == "BYTES":
        return b"".join(_element(text) for text in cast("Iterable[str]", values))
    return np.asarray(values, dtype=_LITTLE_ENDIAN[output.datatype]).tobytes()


def _element(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<I", len(raw)) + raw
