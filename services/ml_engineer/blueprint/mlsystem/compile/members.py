"""Families that can be compiled: the one registry, `Member`.

Each member gives a margin a row and target: log odds for a binary target, unnormalised log probabilities of the
classes, a standardised value in regression. It predicts natively, with the library that fitted it, and emits the
same as ONNX nodes; parity holds the two together. A new family is one more class in the union below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np

from mlsystem.compile.graph import Graph
from mlsystem.compile.trees import emit_trees, splits_by_feature
from mlsystem.features.arrays import Floats, Singles


class MemberPort(Protocol):
    """What the compiler and the parity gate ask of a family."""

    def predict(self, tree: Singles, dense: Floats) -> Floats:
        """Return margins [N, T] from natively computed matrices."""
        ...

    def emit(self, graph: Graph, tree: str, dense: str) -> str:
        """Add nodes for the margins; return the tensor, DOUBLE [N, T]."""
        ...

    def splits(self) -> dict[int, list[float]]:
        """Return the values at which the margin jumps, by tree feature: rows around them are worth comparing."""
        ...


class Linear(msgspec.Struct, frozen=True, tag="linear"):
    """A linear function of the dense matrix: logistic regression or ridge."""

    weights: tuple[tuple[float, ...], ...]
    """[D][T]"""
    bias: tuple[float, ...]

    def predict(self, tree: Singles, dense: Floats) -> Floats:
        """Return dense @ weights + bias."""
        del tree
        return dense @ np.array(self.weights) + np.array(self.bias)

    def emit(self, graph: Graph, tree: str, dense: str) -> str:
        """Add a product and a sum in float64."""
        del tree
        product = graph.node("MatMul", dense, graph.constant(self.weights, np.float64))
        return graph.node("Add", product, graph.constant([self.bias], np.float64))

    def splits(self) -> dict[int, list[float]]:
        """Return nothing: the function is continuous."""
        return {}


class Trees(msgspec.Struct, frozen=True, tag="trees"):
    """One or more LightGBM boosters whose raw scores are averaged; several are a bag over folds."""

    boosters: tuple[str, ...]
    """Models in LightGBM's text format, which keeps every digit."""
    targets: int

    def predict(self, tree: Singles, dense: Floats) -> Floats:
        """Return the mean raw score as LightGBM computes it, in one thread."""
        del dense
        total = np.zeros((len(tree), self.targets))
        for booster in self._load():
            total += np.reshape(booster.predict(tree, raw_score=True, num_threads=1), (len(tree), self.targets))
        return total / len(self.boosters)

    def emit(self, graph: Graph, tree: str, dense: str) -> str:
        """Add one TreeEnsemble node with every tree of the bag."""
        del dense
        return emit_trees(graph, tree, self._dumps(), self.targets)

    def splits(self) -> dict[int, list[float]]:
        """Return all thresholds."""
        return splits_by_feature(self._dumps())

    def _load(self) -> list[Any]:
        import lightgbm

        return [lightgbm.Booster(model_str=text) for text in self.boosters]

    def _dumps(self) -> list[Mapping[str, Any]]:
        return [booster.dump_model() for booster in self._load()]


Member = Linear | Trees
