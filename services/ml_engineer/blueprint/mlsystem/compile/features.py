"""The encoders of `features.encoders` as ONNX nodes.

All string columns go through one LabelEncoder: each value gets its column's number as a prefix, so that one
lookup serves every column, and what it finds is the row of a table that Gather reads codes and target means from
(an encoder a column costs ten times as much a row). Curves of all numbers are one sum of ramps: a ramp is held
between 0 and its width, so that nothing cancels and infinities stay finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlsystem.compile.derive import emit_derived
from mlsystem.compile.graph import DOUBLE, FLOAT, INT64, ML, Graph
from mlsystem.features.encoders import Curve, Features

Matrix = Literal["tree", "dense", "codes"]

SEPARATOR = "\x1f"
UNSEEN = 0


@dataclass(frozen=True, slots=True)
class Matrices:
    """Tensor names: `tree` and `dense` DOUBLE (tree values are float32), `codes` INT64 for target means."""

    tree: str
    dense: str
    codes: str | None


def emit_features(graph: Graph, features: Features) -> Matrices:
    """Add the nodes that turn the boundary tensors into the two matrices."""
    numbers, strings = emit_derived(graph, features.derivation)
    position = _emit_positions(graph, features, strings) if features.levels else None
    tree: list[str] = []
    dense: list[str] = []
    codes = None
    if features.curves:
        tree.append(graph.cast(graph.cast(numbers, FLOAT), DOUBLE))
        dense += _emit_numbers(graph, features.curves, numbers)
    if position is not None:
        tree.append(graph.node("Gather", graph.constant(_code_table(features), np.float64), position))
        dense.append(_emit_hot(graph, features, position))
        if features.encoded:
            codes = graph.node("Gather", position, graph.constant(features.encoded, np.int64), axis=1)
            tree.append(_emit_means(graph, features, codes))
    return Matrices(graph.concat(tree), graph.concat(dense), codes)


def feature_model(features: Features, *wanted: Matrix) -> bytes:
    """Return a graph of the encoders alone with the outputs that are wanted; `codes` are positions in the table."""
    graph = Graph(*features.boundary)
    names = emit_features(graph, features)
    outputs: dict[Matrix, tuple[str, int, int | str]] = {
        "tree": (names.tree, DOUBLE, "F"),
        "dense": (names.dense, DOUBLE, "D"),
    }
    if names.codes is not None:
        outputs["codes"] = (names.codes, INT64, len(features.encoded))
    return graph.finish({name: outputs[name] for name in wanted})


def offsets(features: Features) -> list[int]:
    """Return the table row of each string column's first level; row 0 is for unseen levels."""
    sizes = [len(levels.names) for levels in features.levels]
    return [1 + sum(sizes[:column]) for column in range(len(sizes))]


def _emit_positions(graph: Graph, features: Features, strings: str) -> str:
    prefixes = [f"{column}{SEPARATOR}" for column in range(len(features.levels))]
    keys = [prefix + name for prefix, levels in zip(prefixes, features.levels, strict=True) for name in levels.names]
    keyed = graph.node("StringConcat", graph.texts(prefixes, (1, len(prefixes))), strings)
    rows = list(range(1, len(keys) + 1))
    return graph.node("LabelEncoder", keyed, domain=ML, keys_strings=keys, values_int64s=rows, default_int64=UNSEEN)


def _code_table(features: Features) -> list[float]:
    return [0.0] + [float(code) for levels in features.levels for code in range(len(levels.names), 0, -1)]


def _emit_means(graph: Graph, features: Features, codes: str) -> str:
    """Rows of columns without target means hold the prior too: they are never read."""
    table: list[tuple[float, ...]] = [features.prior]
    for levels in features.levels:
        table.extend(levels.means or [features.prior] * len(levels.names))
    gathered = graph.node("Gather", graph.constant(table, np.float64), codes)
    width = len(features.encoded) * len(features.prior)
    return graph.node("Reshape", gathered, graph.constant([-1, width], np.int64))


def _emit_hot(graph: Graph, features: Features, position: str) -> str:
    columns: list[int] = []
    rows: list[int] = []
    for column, (start, levels) in enumerate(zip(offsets(features), features.levels, strict=True)):
        columns += [column] * levels.hot
        rows += range(start, start + levels.hot)
    spread = graph.node("Gather", position, graph.constant(columns, np.int64), axis=1)
    return graph.cast(graph.node("Equal", spread, graph.constant([rows], np.int64)), DOUBLE)


def _emit_numbers(graph: Graph, curves: tuple[Curve, ...], numbers: str) -> list[str]:
    missing = graph.node("IsNaN", numbers)
    centres = graph.constant([[curve.centre for curve in curves]], np.float64)
    known = graph.node("Where", missing, centres, numbers)
    out = [_emit_curves(graph, curves, known)]
    flagged = [column for column, curve in enumerate(curves) if curve.flag]
    if flagged:
        picked = graph.node("Gather", graph.cast(missing, DOUBLE), graph.constant(flagged, np.int64), axis=1)
        out.append(picked)
    return out


def _emit_curves(graph: Graph, curves: tuple[Curve, ...], known: str) -> str:
    ramps = max(len(curve.knots) for curve in curves) - 1
    starts, widths, slopes = (np.zeros((1, len(curves), ramps)) for _ in range(3))
    for column, curve in enumerate(curves):
        count = len(curve.knots) - 1
        starts[0, column, :count] = curve.knots[:-1]
        widths[0, column, :count] = np.diff(curve.knots)
        slopes[0, column, :count] = np.diff(curve.scores) / np.diff(curve.knots)
    deep = graph.node("Unsqueeze", known, graph.constant([2], np.int64))
    climbed = graph.node("Relu", graph.node("Sub", deep, graph.constant(starts, np.float64)))
    held = graph.node("Min", climbed, graph.constant(widths, np.float64))
    risen = graph.node("Mul", held, graph.constant(slopes, np.float64))
    total = graph.node("ReduceSum", risen, graph.constant([2], np.int64), keepdims=0)
    return graph.node("Add", total, graph.constant([[curve.scores[0] for curve in curves]], np.float64))
