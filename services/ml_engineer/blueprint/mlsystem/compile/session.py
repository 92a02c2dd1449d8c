"""Running compiled graphs: one ONNX Runtime session, batches small enough for memory.

Owns the session options of the train side and how boundary tensors are fed. The server has its own session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnxruntime as ort

from mlsystem.features.arrays import Floats, Texts

BATCH = 8192
"""Rows a run: curves of numbers take rows x columns x knots float64 at once."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Boundary tensors of some rows: numbers [N, C1], strings [N, C2]."""

    numbers: Floats
    strings: Texts

    def __len__(self) -> int:
        return len(self.numbers)

    def pick(self, rows: slice | np.ndarray) -> Rows:
        """Return some of the rows."""
        return Rows(self.numbers[rows], self.strings[rows])


class Session:
    """A compiled graph, ready to run."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised model; it runs on one thread, as it does in the server."""
        options = cast("Any", ort.SessionOptions)()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {item.name for item in self._session.get_inputs()}
        self.outputs: tuple[str, ...] = tuple(item.name for item in self._session.get_outputs())

    def run(self, rows: Rows, *outputs: str) -> list[np.ndarray]:
        """Return the named outputs for all rows, run in batches."""
        starts = range(0, max(len(rows), 1), BATCH)
        batches = [self._run(rows.pick(slice(start, start + BATCH)), outputs) for start in starts]
        return [np.concatenate([batch[column] for batch in batches]) for column in range(len(outputs))]

    def _run(self, rows: Rows, outputs: tuple[str, ...]) -> list[np.ndarray]:
        feeds = {"numbers": rows.numbers, "strings": rows.strings}
        return self._session.run(list(outputs), {name: feeds[name] for name in feeds if name in self._inputs})
