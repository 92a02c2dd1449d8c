"""A fitted model as one value, its native prediction, and its compilation to one ONNX file.

The value is JSON (`native.json`): encoders, members with weights, calibration. `predict` is the reference of the
parity gate: numpy encoders and the fitting libraries' own predictions, no ONNX. `compile_model` emits the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from scipy.special import expit

from mlsystem.compile.calibration import Calibration
from mlsystem.compile.features import emit_features
from mlsystem.compile.graph import DOUBLE, Graph
from mlsystem.compile.members import Member
from mlsystem.features.arrays import Floats, Texts
from mlsystem.features.encoders import Features
from mlsystem.features.native import dense_matrix, tree_matrix

Kind = Literal["binary", "multiclass", "regression"]


class Weighted(msgspec.Struct, frozen=True):
    """A member and its share of the ensemble."""

    name: str
    weight: float
    member: Member


class Model(msgspec.Struct, frozen=True):
    """Everything between the boundary tensors and the answer."""

    kind: Kind
    classes: int
    """Number of labels; 0 in regression."""
    features: Features
    members: tuple[Weighted, ...]
    calibration: Calibration = Calibration()
    centre: float = 0.0
    scale: float = 1.0
    """Regression: value = centre + scale * ensemble; members learn the standardised target."""

    def predict(self, numbers: Floats, strings: Texts) -> Prediction:
        """Predict natively from boundary tensors [N, C1], [N, C2]."""
        tree = tree_matrix(self.features, numbers, strings)
        dense = dense_matrix(self.features, numbers, strings)
        parts = [item.weight * link(self.kind, item.member.predict(tree, dense)) for item in self.members]
        raw = np.sum(parts, axis=0)
        if self.kind == "regression":
            value = self.centre + self.scale * raw
            return Prediction(value, value)
        return Prediction(_both(self.kind, raw), _both(self.kind, self.calibration.apply(raw)))


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answers [N, K] (probabilities) or [N, 1] (value), before and after calibration."""

    raw: Floats
    final: Floats


def link(kind: Kind, margins: Floats) -> Floats:
    """Turn margins [N, T] into probabilities (binary: of the positive label, [N, 1]) or standardised values."""
    if kind == "regression":
        return margins
    if kind == "binary":
        return expit(margins)
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def compile_model(model: Model) -> bytes:
    """Return the ONNX file: inputs `numbers`, `strings`; outputs `raw` and `probabilities` or `value`."""
    graph = Graph(*model.features.boundary)
    matrices = emit_features(graph, model.features)
    total = ""
    for item in model.members:
        answer = _emit_link(graph, model.kind, item.member.emit(graph, matrices.tree, matrices.dense))
        part = graph.node("Mul", answer, graph.constant(item.weight, np.float64))
        total = graph.node("Add", total, part) if total else part
    if model.kind == "regression":
        scaled = graph.node("Mul", total, graph.constant(model.scale, np.float64))
        value = graph.node("Add", scaled, graph.constant(model.centre, np.float64))
        return graph.finish({"value": (value, DOUBLE, 1), "raw": (value, DOUBLE, 1)})
    final = _emit_both(graph, model.kind, model.calibration.emit(graph, total))
    raw = _emit_both(graph, model.kind, total)
    return graph.finish({"probabilities": (final, DOUBLE, model.classes), "raw": (raw, DOUBLE, model.classes)})


def _both(kind: Kind, probabilities: Floats) -> Floats:
    return np.concatenate([1.0 - probabilities, probabilities], axis=1) if kind == "binary" else probabilities


def _emit_both(graph: Graph, kind: Kind, probabilities: str) -> str:
    if kind != "binary":
        return probabilities
    return graph.concat([graph.node("Sub", graph.constant(1.0, np.float64), probabilities), probabilities])


def _emit_link(graph: Graph, kind: Kind, margins: str) -> str:
    if kind == "regression":
        return margins
    return graph.node("Sigmoid", margins) if kind == "binary" else graph.node("Softmax", margins, axis=1)
