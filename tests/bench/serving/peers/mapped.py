# pyright: basic, reportMissingImports=false
"""What all peers do with the model: the same file, the same session options, rows into its two tensors.

No value is checked and nothing is counted: a peer is given the least that answers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime


class Mapped:
    """The model, loaded from the folder of a package."""

    def __init__(self, package: Path) -> None:
        schema = json.loads((package / "schema.json").read_bytes())
        features = [column for column in schema["columns"] if column.get("role", "feature") == "feature"]
        self.numbers = [c["name"] for c in features if c["type"] in {"number", "integer"}]
        self.strings = [c["name"] for c in features if c["type"] == "category"]
        self.labels = schema["task"]["labels"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            package / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predictions of rows."""
        numbers = np.array([[row[name] for name in self.numbers] for row in rows], np.float64)
        strings = np.array([[row[name] or "" for name in self.strings] for row in rows], object)
        return self.told(self.run(numbers, strings))

    def run(self, numbers: Any, strings: Any) -> list[list[float]]:
        """Probabilities of tensors."""
        (found,) = cast("list[Any]", self._session.run(["probabilities"], {"numbers": numbers, "strings": strings}))
        return found.tolist()

    def told(self, scores: list[list[float]]) -> list[dict[str, Any]]:
        """Predictions of probabilities."""
        return [
            {"prediction": self.labels[row.index(max(row))], "probabilities": dict(zip(self.labels, row, strict=True))}
            for row in scores
        ]
