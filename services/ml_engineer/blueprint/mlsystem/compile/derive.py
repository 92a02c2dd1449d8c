"""Derived features as ONNX nodes over the boundary tensors.

Owns one emitter an operation of `features.formula`; every value is a column [N, 1]. What occurs twice is emitted
once. Training runs the same nodes, so that there is no second meaning of an expression.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import numpy as np
from onnx import helper

from mlsystem.compile.graph import DOUBLE, ML, STRING, Graph
from mlsystem.compile.session import Rows, Session
from mlsystem.features.formula import Derivation, Derived, Node

_Emit = Callable[..., str]

_NUMBERS: Final = "wide_numbers"
_STRINGS: Final = "wide_strings"


def emit_derived(graph: Graph, derivation: Derivation) -> tuple[str, str]:
    """Add the derived features; return the wide numbers and strings: the boundary's columns, then the derived ones.

    A tensor without any column is "".
    """
    emitter = _Emitter(graph)
    boundary = "numbers" if graph.numbers else ""
    if derivation.hidden:
        boundary = graph.node("Gather", "numbers", graph.constant(derivation.kept, np.int64), axis=1)
    numbers = emitter.widened(boundary, derivation.of_numbers)
    return numbers, emitter.widened("strings" if graph.strings else "", derivation.of_strings)


def derived_model(derivation: Derivation) -> bytes:
    """Return a graph of the derived features alone: outputs `wide_numbers` and `wide_strings`, where there are any."""
    graph = Graph(derivation.numbers, derivation.strings)
    numbers, strings = emit_derived(graph, derivation)
    outputs: dict[str, tuple[str, int, int | str]] = {}
    if numbers:
        outputs[_NUMBERS] = numbers, DOUBLE, len(derivation.kept) + len(derivation.of_numbers)
    if strings:
        outputs[_STRINGS] = strings, STRING, derivation.strings + len(derivation.of_strings)
    return graph.finish(outputs)


def widened(derivation: Derivation, rows: Rows) -> Rows:
    """Return boundary tensors with what is derived from them, computed by the graph itself."""
    if derivation.idle:
        return rows
    names = [_NUMBERS] * bool(derivation.of_numbers or derivation.hidden) + [_STRINGS] * bool(derivation.of_strings)
    made = dict(zip(names, Session(derived_model(derivation)).run(rows, *names), strict=True))
    return Rows(made.get(_NUMBERS, rows.numbers), made.get(_STRINGS, rows.strings))


class _Emitter:
    """Emits formulas into one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._done: dict[int, str] = {}
        self._alike: dict[tuple[object, ...], str] = {}

    def widened(self, boundary: str, features: Sequence[Derived]) -> str:
        """Return a boundary tensor with features behind its columns; either may be missing."""
        parts = [boundary] * bool(boundary) + [self.column(item.node) for item in features]
        return self._graph.concat(parts) if parts else ""

    def column(self, node: Node) -> str:
        """Return the tensor [N, 1] of a node; equal operations on equal tensors are one."""
        if id(node) in self._done:
            return self._done[id(node)]
        inputs = [self.column(argument) for argument in node.arguments]
        key = (node.operation, node.textual, node.value, *inputs)
        if key not in self._alike:
            self._alike[key] = self._emit(node, inputs)
        self._done[id(node)] = self._alike[key]
        return self._alike[key]

    def _emit(self, node: Node, inputs: list[str]) -> str:
        graph = self._graph
        if node.operation == "constant":
            return graph.texts([str(node.value)], (1, 1)) if node.textual else _number(graph, cast("float", node.value))
        if node.operation == "column":
            tensor = "strings" if node.textual else "numbers"
            return graph.node("Gather", tensor, graph.constant([cast("int", node.value)], np.int64), axis=1)
        if node.operation == "among":
            return _emit_among(graph, inputs[0], cast("Sequence[str]", node.value))
        if node.operation in _PLAIN:
            return graph.node(_PLAIN[node.operation], *inputs)
        textual = [argument.textual for argument in node.arguments]
        return _OPERATIONS[node.operation](graph, textual, *inputs)


_PLAIN: Final = {
    "negate": "Neg",
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "minimum": "Min",
    "maximum": "Max",
    "absolute": "Abs",
    "log": "Log",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
}


def _number(graph: Graph, value: float) -> str:
    return graph.constant([[value]], np.float64)


def _missing(graph: Graph, value: str, *, textual: bool) -> str:
    return graph.node("Equal", value, graph.texts([""], (1, 1))) if textual else graph.node("IsNaN", value)


def _blank(graph: Graph, *, textual: bool) -> str:
    return graph.texts([""], (1, 1)) if textual else _number(graph, np.nan)


def _emit_among(graph: Graph, value: str, texts: Sequence[str]) -> str:
    """Look texts up: 1 for those of the list, missing for "", 0 for all others."""
    keys = [*(text.encode() for text in texts if text), b""]
    found = [1.0] * (len(keys) - 1) + [np.nan]
    make = cast("Any", helper.make_tensor)
    return graph.node(
        "LabelEncoder",
        value,
        domain=ML,
        keys_tensor=make("keys", STRING, [len(keys)], keys),
        values_tensor=make("values", DOUBLE, [len(keys)], found),
        default_tensor=make("default", DOUBLE, [1], [0.0]),
    )


def _modulo(graph: Graph, _textual: list[bool], value: str, divisor: str) -> str:
    """Add the divisor where the rest has the other sign: ONNX takes the sign of the value."""
    rest = graph.node("Mod", value, divisor, fmod=1)
    zero = _number(graph, 0.0)
    other_sign = graph.node("Less", graph.node("Mul", graph.node("Sign", rest), graph.node("Sign", divisor)), zero)
    return graph.node("Where", other_sign, graph.node("Add", rest, divisor), rest)


def _power(graph: Graph, _textual: list[bool], base: str, exponent: str) -> str:
    missing = graph.node("Or", graph.node("IsNaN", base), graph.node("IsNaN", exponent))
    return graph.node("Where", missing, _number(graph, np.nan), graph.node("Pow", base, exponent))


def _finite(graph: Graph, _textual: list[bool], value: str) -> str:
    return graph.node("Where", graph.node("IsInf", value), _number(graph, np.nan), value)


def _comparison(operator: str) -> _Emit:
    def emit(graph: Graph, textual: list[bool], one: str, other: str) -> str:
        truth = graph.cast(graph.node(operator, one, other), DOUBLE)
        first, second = (_missing(graph, side, textual=kind) for side, kind in zip((one, other), textual, strict=True))
        return graph.node("Where", graph.node("Or", first, second), _number(graph, np.nan), truth)

    return emit


def _decided(by: float, otherwise: str) -> _Emit:
    """Return and (decided by a 0) or or (by a 1); where neither side decides, a sum or product keeps the missing."""

    def emit(graph: Graph, _textual: list[bool], one: str, other: str) -> str:
        decisive = _number(graph, by)
        any_decides = graph.node("Or", graph.node("Equal", one, decisive), graph.node("Equal", other, decisive))
        return graph.node("Where", any_decides, decisive, graph.node(otherwise, one, other))

    return emit


def _not(graph: Graph, _textual: list[bool], value: str) -> str:
    return graph.node("Sub", _number(graph, 1.0), value)


def _is_missing(graph: Graph, textual: list[bool], value: str) -> str:
    return graph.cast(_missing(graph, value, textual=textual[0]), DOUBLE)


def _choose(graph: Graph, textual: list[bool], test: str, then: str, otherwise: str) -> str:
    chosen = graph.node("Where", graph.node("Equal", test, _number(graph, 1.0)), then, otherwise)
    return graph.node("Where", graph.node("IsNaN", test), _blank(graph, textual=textual[1]), chosen)


def _coalesce(graph: Graph, textual: list[bool], value: str, instead: str) -> str:
    return graph.node("Where", _missing(graph, value, textual=textual[0]), instead, value)


def _cross(graph: Graph, _textual: list[bool], first: str, second: str) -> str:
    joined = graph.node("StringConcat", graph.node("StringConcat", first, graph.texts(["|"], (1, 1))), second)
    missing = graph.node("Or", *(_missing(graph, part, textual=True) for part in (first, second)))
    return graph.node("Where", missing, _blank(graph, textual=True), joined)


_OPERATIONS: Final[dict[str, _Emit]] = {
    "modulo": _modulo,
    "power": _power,
    "finite": _finite,
    "less": _comparison("Less"),
    "less_equal": _comparison("LessOrEqual"),
    "equal": _comparison("Equal"),
    "same": _comparison("Equal"),
    "and": _decided(0.0, "Mul"),
    "or": _decided(1.0, "Add"),
    "not": _not,
    "is_missing": _is_missing,
    "choose": _choose,
    "coalesce": _coalesce,
    "cross": _cross,
}
