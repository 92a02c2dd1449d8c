"""LightGBM's trees as one TreeEnsemble node.

Trained on float32 values and compared here in float64 with LightGBM's own thresholds, so a row takes the same way
in both; leaves are summed in float64, so that a large target keeps its digits. (With float32 thresholds each would
have to be the largest float32 not above LightGBM's; the runtime's float64 kernel is as fast and needs no such care.)
A missing value goes where LightGBM sends it: to the learnt side, or, in a split that met none in training, as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import numpy_helper

from mlsystem.compile.graph import ML, Graph

LESS_OR_EQUAL = 0
SUM = 1
DUMPED_INFINITY = 1e300
NO_MORE_THAN_ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold."""


@dataclass(slots=True)
class _Ensemble:
    """The columns of a TreeEnsemble under construction."""

    feature: list[int] = field(default_factory=list[int])
    split: list[float] = field(default_factory=list[float])
    missing_true: list[int] = field(default_factory=list[int])
    true: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    false: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    roots: list[int] = field(default_factory=list[int])
    leaf: list[float] = field(default_factory=list[float])
    leaf_target: list[int] = field(default_factory=list[int])

    def add_tree(self, structure: Mapping[str, Any], target: int, scale: float) -> None:
        """Add one tree of LightGBM's dump; a tree that is a single leaf gets a split that does not matter."""
        position, is_leaf = self._add(structure, target, scale)
        if is_leaf:
            self.roots.append(self._node(0, 0.0, missing_true=1))
            self.true[-1] = self.false[-1] = (position, 1)
        else:
            self.roots.append(position)

    def _add(self, node: Mapping[str, Any], target: int, scale: float) -> tuple[int, int]:
        if "split_index" not in node:
            self.leaf.append(float(node["leaf_value"]) * scale)
            self.leaf_target.append(target)
            return len(self.leaf) - 1, 1
        threshold = _threshold(node)
        position = self._node(int(node["split_feature"]), threshold, missing_true=_missing_goes_left(node, threshold))
        self.true[position] = self._add(node["left_child"], target, scale)
        self.false[position] = self._add(node["right_child"], target, scale)
        return position, 0

    def _node(self, feature: int, split: float, *, missing_true: int) -> int:
        self.feature.append(feature)
        self.split.append(split)
        self.missing_true.append(missing_true)
        self.true.append((0, 0))
        self.false.append((0, 0))
        return len(self.feature) - 1

    def attributes(self) -> dict[str, object]:
        """Return the attributes of the node, by their ONNX names."""
        return {
            "nodes_featureids": self.feature,
            "nodes_splits": numpy_helper.from_array(np.array(self.split, np.float64)),
            "nodes_modes": numpy_helper.from_array(np.full(len(self.feature), LESS_OR_EQUAL, np.uint8)),
            "nodes_missing_value_tracks_true": self.missing_true,
            "nodes_truenodeids": [position for position, _ in self.true],
            "nodes_trueleafs": [is_leaf for _, is_leaf in self.true],
            "nodes_falsenodeids": [position for position, _ in self.false],
            "nodes_falseleafs": [is_leaf for _, is_leaf in self.false],
            "tree_roots": self.roots,
            "leaf_weights": numpy_helper.from_array(np.array(self.leaf, np.float64)),
            "leaf_targetids": self.leaf_target,
            "aggregate_function": SUM,
        }


def emit_trees(graph: Graph, tree: str, dumps: list[Mapping[str, Any]], targets: int) -> str:
    """Add a node with the mean raw score of several boosters (their dumps), DOUBLE [N, targets]."""
    ensemble = _Ensemble()
    for dump in dumps:
        for number, item in enumerate(dump["tree_info"]):
            ensemble.add_tree(item["tree_structure"], number % targets, 1.0 / len(dumps))
    return graph.node("TreeEnsemble", tree, domain=ML, n_targets=targets, **ensemble.attributes())


def splits_by_feature(dumps: list[Mapping[str, Any]]) -> dict[int, list[float]]:
    """Return every threshold that the boosters compare a tree feature with, sorted."""
    found: dict[int, set[float]] = {}
    pending = [item["tree_structure"] for dump in dumps for item in dump["tree_info"]]
    while pending:
        node = pending.pop()
        if "split_index" in node:
            found.setdefault(int(node["split_feature"]), set()).add(_threshold(node))
            pending += [node["left_child"], node["right_child"]]
    return {feature: sorted(thresholds) for feature, thresholds in sorted(found.items())}


def _threshold(node: Mapping[str, Any]) -> float:
    """Return the value that a split compares with; a split of missing values alone is dumped as 1e300, not infinity.

    LightGBM takes a value for 0 if it is no farther from it than NO_MORE_THAN_ZERO, where it splits off negative ones:
    there the value itself goes the way of 0.
    """
    threshold = float(node["threshold"])
    if threshold == -NO_MORE_THAN_ZERO:
        return float(np.nextafter(threshold, -np.inf))
    return np.inf if threshold >= DUMPED_INFINITY else threshold


def _missing_goes_left(node: Mapping[str, Any], threshold: float) -> int:
    if node["decision_type"] != "<=" or node["missing_type"] not in {"NaN", "None"}:
        raise ValueError(
            f"split {node['decision_type']!r} with missing values {node['missing_type']!r} has no ONNX form"
        )
    return int(node["default_left"]) if node["missing_type"] == "NaN" else int(threshold >= 0.0)
