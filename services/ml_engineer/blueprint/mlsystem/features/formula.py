"""A derived feature as a value: typed, free of names, the same for numpy and ONNX.

Owns the closed list of operations with what each means, and the tree they form. Numbers and truths are float64 with
NaN for missing (true 1, false 0), dates are days since 1970-01-01, categories are texts with "" for missing. Leaves
how a tree comes about to `derive`, and running it to `native_derive` (numpy) and `compile.derive` (ONNX).
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

ValueType = Literal["number", "boolean", "category", "date"]

Operation = Literal[
    "constant",  # a number, or a text
    "column",  # `value` is the position in the numbers tensor, or in the strings tensor
    "negate",
    "add",
    "subtract",
    "multiply",
    "divide",  # by zero: missing
    "modulo",  # the sign of the divisor, as in Python
    "power",
    "minimum",
    "maximum",
    "absolute",
    "log",
    "exp",
    "sqrt",
    "floor",
    "ceil",
    "round",  # half to even
    "finite",  # an infinite number is missing
    "less",
    "less_equal",
    "equal",  # of numbers; a comparison with something missing is missing
    "same",  # of categories
    "among",  # category in `value`
    "and",  # missing and false is false
    "or",  # missing or true is true
    "not",
    "is_missing",
    "choose",  # test, if so, if not; missing where the test is
    "coalesce",  # the first of two that is not missing
    "cross",  # categories joined by |; missing where one is
]


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One operation on the results of others."""

    operation: Operation
    type: ValueType
    arguments: tuple[Node, ...] = ()
    value: float | str | int | tuple[str, ...] | None = None

    @property
    def textual(self) -> bool:
        """Whether the result is a text."""
        return self.type == "category"


class Derived(msgspec.Struct, frozen=True):
    """A derived feature: its name, how it is written, and what it is."""

    name: str
    source: str
    node: Node


class Derivation(msgspec.Struct, frozen=True):
    """All derived features of a model, behind the `numbers` and `strings` columns of the boundary."""

    numbers: int = 0
    strings: int = 0
    features: tuple[Derived, ...] = ()
    hidden: tuple[int, ...] = ()
    """Numbers of the boundary that only features use: the encoders do not see them."""

    @property
    def idle(self) -> bool:
        """Whether the encoders see the boundary as it is."""
        return not self.features and not self.hidden

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the boundary that the encoders see, in order."""
        return tuple(place for place in range(self.numbers) if place not in self.hidden)

    @property
    def of_numbers(self) -> tuple[Derived, ...]:
        """Features that widen the numbers tensor, in order."""
        return tuple(item for item in self.features if not item.node.textual)

    @property
    def of_strings(self) -> tuple[Derived, ...]:
        """Features that widen the strings tensor, in order."""
        return tuple(item for item in self.features if item.node.textual)


NOTHING_DERIVED: Final = Derivation()
