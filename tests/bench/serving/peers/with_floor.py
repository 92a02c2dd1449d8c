# pyright: basic, reportMissingImports=false
"""The floor: what Starlette, msgspec and onnxruntime cost together, and nothing else.

The body is decoded by its types into the two tensors, the model runs, the answer is encoded. No value is looked at,
nothing is counted or kept, there are no limits, no time limit, no ids and no switch to another version.
"""

import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnxruntime
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Prediction(msgspec.Struct):
    """One row's answer."""

    prediction: str
    probabilities: dict[str, float]


def main(port: int, package: Path) -> None:
    """Serves until it is ended."""
    schema = msgspec.json.decode((package / "schema.json").read_bytes())
    features = [column for column in schema["columns"] if column.get("role", "feature") == "feature"]
    numbers = [c["name"] for c in features if c["type"] in {"number", "integer"}]
    strings = [c["name"] for c in features if c["type"] == "category"]
    labels = schema["task"]["labels"]
    fields = [(name, float | None, None) for name in numbers] + [(name, str | None, None) for name in strings]
    row_type = msgspec.defstruct("Row", fields)
    decoder = msgspec.json.Decoder(msgspec.defstruct("Body", [("rows", list[row_type])]))  # type: ignore[valid-type]
    encoder = msgspec.json.Encoder()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(package / "model.onnx", options, providers=["CPUExecutionProvider"])

    async def predict(request: Request) -> Response:
        rows = cast("Any", decoder.decode(await request.body())).rows
        values = [msgspec.structs.astuple(row) for row in rows]
        feed = {
            "numbers": np.array([value[: len(numbers)] for value in values], np.float64),
            "strings": np.array([value[len(numbers) :] for value in values], object),
        }
        scores = cast("list[Any]", session.run(["probabilities"], feed))[0].tolist()
        answers = [Prediction(labels[row.index(max(row))], dict(zip(labels, row, strict=True))) for row in scores]
        return Response(encoder.encode({"predictions": answers}), media_type="application/json")

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    uvicorn.run(
        app, host="127.0.0.1", port=port, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
