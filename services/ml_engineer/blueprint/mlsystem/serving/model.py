"""A package as it is served: its contract, its boundary and one ONNX Runtime session.

Owns loading, the warm-up that makes a model ready, and the way from rows to predictions. A Model never changes;
another version is another Model. Leaves checking the files' digests to the registry, and HTTP to the routes.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import onnxruntime

from mlsystem.boundary import Encoded, Problem
from mlsystem.errors import ServingError
from mlsystem.hooked import boundary_of
from mlsystem.hooks import HOOKS_FILE
from mlsystem.online.fill import Needs
from mlsystem.serving.answers import ModelName, Prediction, Predictions, Refusal, refused_values, warned
from mlsystem.serving.examples import Row, example_rows, made_row
from mlsystem.serving.package import MODEL, PROFILE, Package

_TIMED = 2
"""Rows that are timed when a model is loaded."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that were answered: their tensors, what the graph said of each, and the answer."""

    encoded: Encoded
    scores: Sequence[Sequence[float]]
    answer: Predictions


class Model:
    """One version, loaded and warm; safe to use from several threads."""

    def __init__(self, package: Package, *, name: str) -> None:
        self.name = ModelName(name, package.version)
        self.digest = package.digest
        self.schema = package.schema()
        self.profile = package.files.get(PROFILE)
        """The content of profile.json, None if the package has none."""
        self.boundary = boundary_of(self.schema, package.files.get(HOOKS_FILE))
        self.needs = Needs.of(self.schema, self.boundary)
        self.examples = example_rows(self.schema, package.reference())
        self._labels = self.schema.task.labels
        self._session = _session(package)
        self._inputs = tuple(str(tensor.name) for tensor in cast("list[Any]", self._session.get_inputs()))
        self._output = "probabilities" if self._labels else "value"
        self.example = self._warm_up()
        """A row that this model answers."""
        self.row_s = self._fastest_s()
        """Seconds for one row."""

    def answer(self, rows: Sequence[Mapping[str, Any]], *, strict: bool) -> Predictions:
        """Return the predictions for JSON rows; Refusal 422 if any of them cannot be predicted."""
        return self.judge(rows, strict=strict).answer

    def judge(self, rows: Sequence[Mapping[str, Any]], *, strict: bool) -> Judged:
        """Return the predictions for JSON rows with what they stand on; Refusal 422 as `answer`."""
        encoded = self.boundary.rows(rows, strict=strict)
        if encoded.problems:
            raise refused_values(encoded.problems)
        scores = self.score(encoded)
        if problems := unanswerable(scores):
            raise refused_values(problems)
        predictions = self.predictions(scores, fresh_ids(len(rows)))
        return Judged(encoded, scores, Predictions(self.name, predictions, warned(encoded.warnings)))

    def score(self, encoded: Encoded) -> list[list[float]]:
        """Return a row of probabilities in the order of the contract's labels, or of one value, for every row.

        Lists, since a request mostly has one row: numpy's fixed cost on it would be larger than the model's.
        """
        tensors = {"numbers": encoded.numbers, "strings": encoded.strings}
        outputs = cast("list[Any]", self._session.run([self._output], {name: tensors[name] for name in self._inputs}))
        return outputs[0].tolist()

    def predictions(self, scores: Sequence[Sequence[float]], ids: Sequence[str]) -> list[Prediction]:
        """Return one prediction a row, under its id."""
        version, labels = self.name.version, self._labels
        if not labels:
            return [Prediction(name, version, row[0]) for name, row in zip(ids, scores, strict=True)]
        return [
            Prediction(name, version, labels[_chosen(row)], dict(zip(labels, row, strict=True)))
            for name, row in zip(ids, scores, strict=True)
        ]

    def _warm_up(self) -> Row:
        """Predict once, so that whoever is told that the model is ready has been told the truth; return the row."""
        refused: list[str] = []
        for row in (*self.examples, made_row(self.schema)):
            try:
                self.answer([row], strict=False)
            except Refusal as refusal:  # a row of the source may hold a value that the contract does not take
                refused.append(str(refusal))
            except Exception as error:  # ONNX Runtime's exceptions have no root but Exception
                raise ServingError("bad_package", f"version {self.name.version} does not answer: {error}") from error
            else:
                return row
        raise ServingError("bad_package", f"version {self.name.version} answers none of its own rows: {refused[0]}")

    def _fastest_s(self) -> float:
        """Return how long one row takes at best; the first run of a session, which is slower, lies behind."""
        took: list[float] = []
        for _ in range(_TIMED):
            started = time.perf_counter()
            self.answer([self.example], strict=False)
            took.append(time.perf_counter() - started)
        return min(took)


def unanswerable(scores: Sequence[Sequence[float]]) -> tuple[Problem, ...]:
    """Return a problem for every row whose answer is no number, as after values near the largest float."""
    bad = [row for row, values in enumerate(scores) if not math.isfinite(sum(values))]
    return tuple(Problem(row, "", "the model has no finite answer for these values", "") for row in bad)


def fresh_ids(count: int) -> list[str]:
    """Return UUIDs (RFC 9562, version 7), in one go: `uuid` takes as long for one as the boundary for a row.

    They begin with the time: a store appends them to its index, where random ones each go to another page of it.
    """
    now, digits = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10 * count).hex()
    return [_uuid7(now, digits[start : start + 20]) for start in range(0, len(digits), 20)]


def _uuid7(now: str, digits: str) -> str:
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"{now[:8]}-{now[8:]}-7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"


def _chosen(row: Sequence[float]) -> int:
    """Return the index of the label that is answered; binary: the positive one from a probability of one half."""
    return int(row[1] >= 0.5) if len(row) == 2 else row.index(max(row))


def _session(package: Package) -> onnxruntime.InferenceSession:
    options = cast("Any", onnxruntime.SessionOptions())
    options.intra_op_num_threads = 1  # a request is one thread's work; requests are what runs beside each other
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(package.files[MODEL], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no root but Exception
        message = f"{MODEL} of version {package.version} cannot be loaded: {error}"
        raise ServingError("bad_package", message) from error
