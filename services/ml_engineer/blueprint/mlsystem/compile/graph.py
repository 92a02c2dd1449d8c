"""A small builder of ONNX graphs: constants and nodes with generated names, dead nodes left out.

Owns names, opsets and the two boundary inputs. What the nodes mean is up to the callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
ML_OPSET = 5
IR_VERSION = 10
ML = "ai.onnx.ml"

DOUBLE = TensorProto.DOUBLE
FLOAT = TensorProto.FLOAT
STRING = TensorProto.STRING
INT64 = TensorProto.INT64


class Graph:
    """Nodes and constants of a graph under construction; every method returns the name of a tensor."""

    def __init__(self, numbers: int, strings: int) -> None:
        """Start a graph whose boundary has `numbers` and `strings` columns; one without columns is no input."""
        self.numbers = numbers
        self.strings = strings
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, values: ArrayLike, dtype: type[np.generic]) -> str:
        """Add a constant tensor."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.asarray(values, dtype, order="C"), name)
        return name

    def texts(self, values: list[str], shape: tuple[int, ...]) -> str:
        """Add a constant string tensor."""
        name = f"constant_{len(self._constants)}"
        encoded: Any = [value.encode() for value in values]
        self._constants[name] = helper.make_tensor(name, STRING, shape, encoded)
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        output = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def cast(self, tensor: str, to: int) -> str:
        """Add a cast to the ONNX element type `to`."""
        return self.node("Cast", tensor, to=to)

    def concat(self, tensors: list[str]) -> str:
        """Join tensors [N, ...] by columns; a single one is returned as it is."""
        return tensors[0] if len(tensors) == 1 else self.node("Concat", *tensors, axis=1)

    def finish(self, outputs: Mapping[str, tuple[str, int, int | str]]) -> bytes:
        """Return the serialised model; `outputs` maps a public name to (tensor, element type, columns).

        Columns are a number, or the name of a number that is not told.
        """
        for name, (tensor, _, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
        nodes, used = self._live(set(outputs))
        graph = helper.make_graph(
            nodes,
            "model",
            self._inputs(),
            [helper.make_tensor_value_info(name, kind, ["N", width]) for name, (_, kind, width) in outputs.items()],
            [tensor for name, tensor in self._constants.items() if name in used],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="mlsystem", ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model.SerializeToString(deterministic=True)

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        inputs: list[onnx.ValueInfoProto] = []
        if self.numbers:
            inputs.append(helper.make_tensor_value_info("numbers", DOUBLE, ["N", self.numbers]))
        if self.strings:
            inputs.append(helper.make_tensor_value_info("strings", STRING, ["N", self.strings]))
        return inputs

    def _live(self, wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """Return the nodes that the outputs need, in order, and every tensor that they read."""
        kept: list[onnx.NodeProto] = []
        used = set(wanted)
        for node in reversed(self._nodes):
            if used.intersection(node.output):
                kept.append(node)
                used.update(node.input)
        return kept[::-1], used
