"""Calibration that cannot jump: a straight line on the log-odds scale.

Platt's sigmoid for a binary target, one temperature for several classes. The slope is bounded, so a difference of
1e-8 before calibration stays one after it; a step function such as isotonic regression turns 6e-8 into 6e-5.
Fitting lives in `train.calibrate`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from mlsystem.compile.graph import Graph
from mlsystem.features.arrays import Floats

EDGE = 1e-9
"""Probabilities are held this far from 0 and 1 before their logarithm is taken."""


class Calibration(msgspec.Struct, frozen=True):
    """probability = link(slope * log odds + shift); temperature: softmax(slope * log probability)."""

    method: Literal["none", "platt", "temperature"] = "none"
    slope: float = 1.0
    shift: float = 0.0

    def apply(self, probabilities: Floats) -> Floats:
        """Calibrate [N, 1] (binary) or [N, K] in numpy."""
        held = np.clip(probabilities, EDGE, 1.0 - EDGE)
        if self.method == "platt":
            return 1.0 / (1.0 + np.exp(-(self.slope * (np.log(held) - np.log(1.0 - held)) + self.shift)))
        if self.method == "temperature":
            powers = np.exp(self.slope * np.log(held))
            return powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def emit(self, graph: Graph, probabilities: str) -> str:
        """Add the same as nodes."""
        if self.method == "none":
            return probabilities
        low, high = (graph.constant(edge, np.float64) for edge in (EDGE, 1.0 - EDGE))
        held = graph.node("Clip", probabilities, low, high)
        slope = graph.constant(self.slope, np.float64)
        if self.method == "temperature":
            return graph.node("Softmax", graph.node("Mul", graph.node("Log", held), slope), axis=1)
        rest = graph.node("Sub", graph.constant(1.0, np.float64), held)
        odds = graph.node("Sub", graph.node("Log", held), graph.node("Log", rest))
        line = graph.node("Add", graph.node("Mul", odds, slope), graph.constant(self.shift, np.float64))
        return graph.node("Sigmoid", line)
