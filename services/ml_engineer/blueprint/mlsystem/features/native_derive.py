"""Derived features computed in numpy: the reference that the compiled graph is compared with.

Deliberately shares no code with `compile.derive` but the formulas. A column is an array [N]: float64 with NaN for
missing, or object with "".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np

from mlsystem.features.arrays import Floats, Texts
from mlsystem.features.formula import Derivation, Node

_Column = Any  # Floats or Texts, by the type of the node

MISSING: Final = np.nan


def widen(derivation: Derivation, numbers: Floats, strings: Texts) -> tuple[Floats, Texts]:
    """Return the boundary tensors [N, C1], [N, C2] with the derived features behind them."""
    if derivation.idle:
        return numbers, strings
    run = _Evaluation(numbers, strings)
    with np.errstate(all="ignore"):
        floats = [run.column(item.node)[:, None] for item in derivation.of_numbers]
        texts = [run.column(item.node)[:, None] for item in derivation.of_strings]
    kept = np.delete(numbers, derivation.hidden, axis=1)
    return np.concatenate([kept, *floats], axis=1), np.concatenate([strings, *texts], axis=1)


class _Evaluation:
    """The formulas over some rows; what occurs twice is computed once."""

    def __init__(self, numbers: Floats, strings: Texts) -> None:
        self._numbers = numbers
        self._strings = strings
        self._done: dict[int, _Column] = {}

    def column(self, node: Node) -> _Column:
        """Return the values of a node in every row."""
        if id(node) not in self._done:
            self._done[id(node)] = self._compute(node)
        return self._done[id(node)]

    def _compute(self, node: Node) -> _Column:
        rows = len(self._numbers)
        if node.operation == "constant":
            return np.full(rows, node.value, object if node.textual else np.float64)
        if node.operation == "column":
            return (self._strings if node.textual else self._numbers)[:, cast("int", node.value)]
        values = [self.column(argument) for argument in node.arguments]
        if node.operation == "among":
            return _among(values[0], node.value)
        return _OPERATIONS[node.operation](*values)


def _is_missing(values: _Column) -> Any:
    return values == "" if values.dtype == object else np.isnan(values)


def _known(result: Any, *operands: _Column) -> Floats:
    """Return truths as numbers, missing where an operand is."""
    missing = np.logical_or.reduce([_is_missing(values) for values in operands])
    return np.where(missing, MISSING, np.asarray(result, np.float64))


def _among(values: Texts, texts: Any) -> Floats:
    wanted = frozenset(texts)
    return _known([text in wanted for text in values], values)


def _power(base: Floats, exponent: Floats) -> Floats:
    return np.where(np.isnan(base) | np.isnan(exponent), MISSING, np.power(base, exponent))


def _choose(test: Floats, then: _Column, otherwise: _Column) -> _Column:
    missing: Any = "" if then.dtype == object else MISSING
    return np.where(np.isnan(test), missing, np.where(test == 1.0, then, otherwise))


def _cross(first: Texts, second: Texts) -> Texts:
    joined = [f"{one}|{other}" if one and other else "" for one, other in zip(first, second, strict=True)]
    return np.array(joined, object)


_OPERATIONS: Final[dict[str, Callable[..., _Column]]] = {
    "negate": np.negative,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "modulo": np.mod,
    "power": _power,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "absolute": np.abs,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "finite": lambda values: np.where(np.isinf(values), MISSING, values),
    "less": lambda one, other: _known(one < other, one, other),
    "less_equal": lambda one, other: _known(one <= other, one, other),
    "equal": lambda one, other: _known(one == other, one, other),
    "same": lambda one, other: _known(one == other, one, other),
    "and": lambda one, other: np.where((one == 0) | (other == 0), 0.0, one * other),
    "or": lambda one, other: np.where((one == 1) | (other == 1), 1.0, one + other),
    "not": lambda value: 1.0 - value,
    "is_missing": lambda values: _is_missing(values).astype(np.float64),
    "choose": _choose,
    "coalesce": lambda value, instead: np.where(_is_missing(value), instead, value),
    "cross": _cross,
}
