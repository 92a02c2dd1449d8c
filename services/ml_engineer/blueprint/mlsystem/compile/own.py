"""A model that somebody else made, behind our boundary: the two tensors go in, probabilities or a value come out.

Owns which columns such a file takes (by name where it has an input a column, by order where it has one matrix), which
of its outputs is the answer, and the graph that joins both. The file's own nodes and operator versions stay as they
are. What does not fit is told by name; nothing is guessed about a file that could be read in two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlsystem.compile.graph import DOUBLE, STRING
from mlsystem.errors import DataError

_NUMBERS: Final = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
)
_PREFIX: Final = "own/"
"""Before every name of the file, so that none is also one of ours."""
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that the file wants: how many columns, and of which ONNX element type."""

    name: str
    kind: int
    width: int


@dataclass(frozen=True, slots=True)
class Fed:
    """An input with the boundary columns that it is fed with, in order."""

    input: Input
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The output that is the answer, and the labels of its columns as text; none in regression, or where untold."""

    tensor: str
    labels: tuple[str, ...]


def read_model(content: bytes, name: str) -> onnx.ModelProto:
    """Return the model in a file; DataError if it is none that ONNX Runtime can run."""
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # the decoder and the checker raise what they like
        reason = str(error).strip().split("\n")[0]
        raise DataError("no_onnx_model", f"{name} is no valid ONNX model: {reason}; export it again") from error
    return model


def inputs_of(model: onnx.ModelProto) -> tuple[Input, ...]:
    """Return what the file wants; DataError for an input that is no table of numbers or texts."""
    constants = {item.name for item in model.graph.initializer}
    return tuple(_input(item) for item in model.graph.input if item.name not in constants)


def _input(item: onnx.ValueInfoProto) -> Input:
    tensor = item.type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim]
    if not item.type.HasField("tensor_type") or len(sizes) not in {1, _MATRIX}:
        raise DataError("strange_input", f"input {item.name!r} is no table with a row for each prediction")
    width = 1 if len(sizes) == 1 else sizes[1]
    if width <= 0:
        raise DataError(
            "strange_input", f"input {item.name!r} does not say how many columns it has; export it with a size"
        )
    if tensor.elem_type not in {*_NUMBERS, STRING}:
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise DataError("strange_input", f"input {item.name!r} is of type {kind}, which no column can be turned into")
    return Input(item.name, tensor.elem_type, width)


def match(inputs: Sequence[Input], numbers: Sequence[str], strings: Sequence[str]) -> tuple[Fed, ...]:
    """Return which columns each input takes.

    An input of one column is known by its name; wider ones take the number columns, or the text columns, in the order
    of the data, and must take all that no named input takes. Raises: DataError saying what is left over or missing.
    """
    known = {_plain(name): name for name in (*strings, *numbers)}
    named = {item.name: known[_plain(item.name)] for item in inputs if item.width == 1 and _plain(item.name) in known}
    left = {
        True: [name for name in numbers if name not in named.values()],
        False: [name for name in strings if name not in named.values()],
    }
    fed: list[Fed] = []
    for item in inputs:
        if item.name in named:
            fed.append(Fed(item, (named[item.name],)))
            continue
        pool = left[item.kind in _NUMBERS]
        if item.width != len(pool):
            raise _misfit(item, pool)
        fed.append(Fed(item, tuple(pool)))
        pool.clear()
    for item, columns in ((f.input, f.columns) for f in fed):
        if (item.kind in _NUMBERS) != (columns[0] in numbers):
            wanted = "numbers" if item.kind in _NUMBERS else "texts"
            raise DataError("wrong_type", f"input {item.name!r} wants {wanted}, and the data's {columns[0]!r} are none")
    return tuple(fed)


def _misfit(item: Input, pool: Sequence[str]) -> DataError:
    kind = "number" if item.kind in _NUMBERS else "text"
    has = ", ".join(pool) or "none"
    return DataError(
        "columns_do_not_fit",
        f"input {item.name!r} takes {item.width} {kind} columns, and the data have {len(pool)} left for it ({has});"
        " give the others the role 'ignore', or name the model's inputs after the columns",
    )


def answer_of(model: onnx.ModelProto, *, regression: bool) -> Answer:
    """Return the output that holds the answer: the matrix before a ZipMap, else probabilities by name or type.

    Raises: DataError if none can be told from the others.
    """
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            return Answer(node.input[0], _labels(node))
    outputs = [item for item in model.graph.output if item.type.HasField("tensor_type")]
    floats = [item for item in outputs if item.type.tensor_type.elem_type in {TensorProto.FLOAT, DOUBLE}]
    likely = [item for item in floats if regression or "prob" in item.name.lower()] or floats
    if len(likely) != 1:
        names = ", ".join(item.name for item in model.graph.output)
        raise DataError(
            "no_answer",
            f"none of the outputs {names} is plainly the answer; export one output of numbers, or name it"
            " 'probabilities'",
        )
    labels = next((_labels(node) for node in model.graph.node if _labels(node)), ())
    return Answer(likely[0].name, () if regression else labels)


def _labels(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the labels that a classifier's node names."""
    for attribute in node.attribute:
        if attribute.name.startswith(("classlabels_strings", "classlabels_string", "classlabels_int")):
            value: Any = helper.get_attribute_value(attribute)
            return tuple(item.decode() if isinstance(item, bytes) else str(item) for item in value)
    return ()


@dataclass(frozen=True, slots=True)
class Ours:
    """Our side of the joint: columns of the two tensors, labels in order, and what stands for a missing number."""

    numbers: tuple[str, ...]
    strings: tuple[str, ...]
    labels: tuple[str, ...]
    fill: tuple[float, ...] = ()
    """One value a number column; empty: a missing number is NaN to the file too."""


def join(model: onnx.ModelProto, fed: Sequence[Fed], answer: Answer, ours: Ours) -> bytes:
    """Return one graph: inputs `numbers`, `strings`; outputs `raw` and `probabilities` or `value`."""
    numbers, strings, labels = ours.numbers, ours.strings, ours.labels
    own = onnx.compose.add_prefix(model, _PREFIX, rename_functions=False)
    graph = _Joined(own.graph)
    known = graph.filled(ours.fill) if ours.fill else "numbers"
    for item in fed:
        pool, source = (numbers, known) if item.columns[0] in numbers else (strings, "strings")
        graph.feed(item, [list(pool).index(name) for name in item.columns], source)
    final = graph.final(f"{_PREFIX}{answer.tensor}", answer.labels, labels)
    name, width = ("probabilities", len(labels)) if labels else ("value", 1)
    return graph.finish(own, final, name, width, (len(numbers), len(strings)))


class _Joined:
    """The file's graph with our nodes before and after it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def filled(self, values: Sequence[float]) -> str:
        """Return the numbers with a value in the place of each missing one."""
        missing = self._node(self._before, "IsNaN", "numbers")
        return self._node(self._before, "Where", missing, self._constant([[*values]], np.float64), "numbers")

    def feed(self, item: Fed, places: Sequence[int], source: str) -> None:
        """Pick an input's columns, and cast them to its type and shape."""
        name = f"{_PREFIX}{item.input.name}"
        picked = self._node(self._before, "Gather", source, self._constant(list(places)), axis=1)
        if item.input.kind not in {DOUBLE, STRING}:
            picked = self._node(self._before, "Cast", picked, to=item.input.kind)
        flat = len(self._shape(name)) == 1
        shape = self._constant([-1] if flat else [-1, item.input.width])
        self._before.append(helper.make_node("Reshape", [picked, shape], [name]))

    def final(self, tensor: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
        """Return the answer as [N, K] or [N, 1] DOUBLE, with the labels in our order."""
        cast = self._node(self._after, "Cast", tensor, to=DOUBLE)
        if not ours:
            return self._node(self._after, "Reshape", cast, self._constant([-1, 1]))
        if len(ours) == _MATRIX and self._width(tensor) in {0, 1} and len(theirs) != _MATRIX:
            positive = self._node(self._after, "Reshape", cast, self._constant([-1, 1]))
            one = self._constant([[1.0]], np.float64)
            return self._node(self._after, "Concat", self._node(self._after, "Sub", one, positive), positive, axis=1)
        order = [list(theirs).index(label) for label in ours] if theirs else list(range(len(ours)))
        return self._node(self._after, "Gather", cast, self._constant(order), axis=1)

    def finish(self, own: onnx.ModelProto, final: str, name: str, width: int, columns: tuple[int, int]) -> bytes:
        """Return the serialised model."""
        self._after += [helper.make_node("Identity", [final], [output]) for output in (name, "raw")]
        kept = [node for node in self._graph.node if node.op_type != "ZipMap"]
        kinds = (("numbers", DOUBLE, columns[0]), ("strings", STRING, columns[1]))
        graph = helper.make_graph(
            [*self._before, *kept, *self._after],
            "model",
            [helper.make_tensor_value_info(item, kind, ["N", size]) for item, kind, size in kinds if size],
            [helper.make_tensor_value_info(item, DOUBLE, ["N", width]) for item in (name, "raw")],
            [*self._graph.initializer, *self._constants],
            sparse_initializer=list(self._graph.sparse_initializer),
        )
        joined = helper.make_model(
            graph,
            opset_imports=own.opset_import,
            functions=list(own.functions),
            ir_version=own.ir_version,
            producer_name="mlsystem",
        )
        return joined.SerializeToString(deterministic=True)

    def _node(self, into: list[onnx.NodeProto], operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"joined_{operator}_{len(self._before) + len(self._after)}"
        into.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _constant(self, values: list[Any], dtype: type[np.generic] = np.int64) -> str:
        name = f"joined_constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def _shape(self, name: str) -> Sequence[Any]:
        return next(item for item in self._graph.input if item.name == name).type.tensor_type.shape.dim

    def _width(self, tensor: str) -> int:
        """Return how many columns an output says that it has; 0 where it says nothing."""
        for item in (*self._graph.output, *self._graph.value_info):
            if item.name == tensor:
                sizes = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
                return 1 if len(sizes) == 1 else sizes[1] if len(sizes) == _MATRIX else 0
        return 0


def takes(content: bytes, name: str, columns: Sequence[str]) -> list[str]:
    """Return the columns of a table that a file has inputs for; all of them where it has one for a whole matrix.

    Raises: DataError if the file is no ONNX model.
    """
    inputs = inputs_of(read_model(content, name))
    if any(item.width > 1 for item in inputs):
        return [*columns]
    wanted = {_plain(item.name) for item in inputs}
    return [column for column in columns if _plain(column) in wanted]


def _plain(name: str) -> str:
    """Return a name as exporters write it: letters and digits alone, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
