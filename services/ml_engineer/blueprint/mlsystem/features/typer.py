"""The types of an expression: from a syntax tree to a typed tree of operations.

Owns what every operator takes and gives, and the messages where something else is found. A quoted text is a column
where one of that name fits, and a text beside a category. Leaves functions to `functions`, and names to a `Scope`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from mlsystem.boundary import canonical
from mlsystem.expression import Expression
from mlsystem.features.formula import Node, Operation, ValueType

_DAY_S: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMERIC: Final = frozenset({"number", "boolean"})

_ARITHMETIC: Final[dict[type[ast.operator], Operation]] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "divide",
    ast.Mod: "modulo",
    ast.Pow: "power",
}
_SIGNS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_INFINITE: Final = frozenset({"divide", "modulo", "power", "exp", "log"})
"""Operations whose infinite results are missing where they arise: 1 / 0 must not become the larger of two."""

_OVERFLOWING: Final = frozenset({"add", "subtract", "multiply"})


class Scope(Protocol):
    """What names mean."""

    def knows(self, name: str) -> bool:
        """Tell whether there is such a column or feature."""
        ...

    def value(self, expression: Expression, node: ast.expr, name: str) -> Node:
        """Return what a name stands for; BadExpression where it may not be used."""
        ...

    def parts(self, name: str) -> Mapping[str, Node]:
        """Return the calendar parts of a date column, none of anything else."""
        ...

    def nearest(self, name: str) -> str:
        """Return a hint at what was meant by a name that is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Function:
    """A function: how it is written, how many values it takes (None: any number from `fewest`), what it makes."""

    usage: str
    fewest: int
    most: int | None
    make: Callable[[Typer, Sequence[ast.expr]], Node]


def typed(expression: Expression, scope: Scope, functions: Mapping[str, Function]) -> Node:
    """Return the typed tree of an expression; BadExpression points at what does not fit."""
    node = Typer(expression, scope, functions).any(expression.root)
    if not _has_column(node):
        raise expression.wrong("this names no column, so it is the same in every row", expression.root)
    return finite(node) if node.type in {"number", "date"} and _overflows(node) else node


def finite(node: Node) -> Node:
    """Return the node with what is infinite as missing."""
    return Node("finite", node.type, (node,))


def checked(node: Node) -> Node:
    """Return the node, with infinite results as missing if its operation makes some of ordinary numbers."""
    return finite(node) if node.operation in _INFINITE else node


def folded(operation: Operation, kind: ValueType, nodes: Sequence[Node]) -> Node:
    """Return an operation on two values over all of `nodes`, from the left."""
    result = nodes[0]
    for node in nodes[1:]:
        result = Node(operation, kind, (result, node))
    return result


def _has_column(node: Node) -> bool:
    return node.operation == "column" or any(map(_has_column, node.arguments))


def _overflows(node: Node) -> bool:
    if node.operation == "finite" or node.type == "boolean":
        return False
    return node.operation in _OVERFLOWING or any(map(_overflows, node.arguments))


def _constant(value: float) -> Node:
    return Node("constant", "number", value=value)


def _text(value: float | str) -> Node:
    return Node("constant", "category", value=_spelled(value))


def _spelled(value: float | str) -> str:
    return canonical(value if isinstance(value, str) else repr(value))


def _literal(node: ast.expr) -> float | str | None:
    """Return a number or text that is written out."""
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float, str))
        and not isinstance(node.value, bool)
    ):
        return node.value
    return None


@dataclass(frozen=True, slots=True)
class Typer:
    """Types the parts of one expression."""

    expression: Expression
    scope: Scope
    functions: Mapping[str, Function]
    _seen: dict[ast.expr, Node] = field(default_factory=dict[ast.expr, Node])
    """What was typed already: a part is looked at more than once to find out what it is."""

    def any(self, node: ast.expr) -> Node:
        """Return the typed tree of a part of any type."""
        found = self._seen.get(node)
        if found is None:
            found = self._seen[node] = self._typed(node)
        return found

    def _typed(self, node: ast.expr) -> Node:  # noqa: PLR0911 - one a kind of part
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.BoolOp(op=operator, values=values):
                return folded(
                    "and" if isinstance(operator, ast.And) else "or", "boolean", list(map(self.truth, values))
                )
            case ast.Compare():
                return self._chain(node)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.choose(test, body, other)
            case ast.Call():
                return self._call(node)
            case _:
                raise self.expression.wrong("a list stands only behind `in`", node)

    def number(self, node: ast.expr) -> Node:
        """Return a part that must be a number; a truth counts as 1 or 0."""
        found = self.any(node)
        if found.type in _NUMERIC:
            return found
        advice = {
            "date": "; the days between two dates are days(from, to)",
            "category": "; compare it with a text, or cross it with another by concat()",
        }
        raise self.expression.wrong(f"this is a {found.type} where a number is expected{advice[found.type]}", node)

    def truth(self, node: ast.expr) -> Node:
        """Return a part that must be true or false."""
        found = self.any(node)
        if found.type == "boolean":
            return found
        raise self.expression.wrong(
            f"this is a {found.type} where true or false is expected; compare it with something", node
        )

    def category(self, node: ast.expr) -> Node:
        """Return a part that must be a category; a quoted text that is no column is one."""
        if (text := self._own_text(node)) is not None:
            return _text(text)
        found = self.any(node)
        if found.type == "category":
            return found
        raise self.expression.wrong(f"this is a {found.type} where a category is expected", node)

    def date(self, node: ast.expr) -> Node:
        """Return a part that must be a date; a quoted text that is no column is read as one."""
        if (text := self._own_text(node)) is not None:
            return self._date(text, node)
        found = self.any(node)
        if found.type == "date":
            return found
        raise self.expression.wrong(f"this is a {found.type} where a date is expected", node)

    def alike(self, nodes: Sequence[ast.expr]) -> tuple[ValueType, list[Node]]:
        """Return values of one type with that type: a truth beside numbers is one, a text beside a category too."""
        first = next((node for node in nodes if self._own_text(node) is None), None)
        kind = "category" if first is None else self.any(first).type
        if kind == "category":
            return kind, [self.category(node) for node in nodes]
        if kind == "date":
            return kind, [self.date(node) for node in nodes]
        found = [self.number(node) for node in nodes]
        return "boolean" if all(item.type == "boolean" for item in found) else "number", found

    def choose(self, test: ast.expr, body: ast.expr, other: ast.expr) -> Node:
        """Return one of two values by a test."""
        condition = self.truth(test)
        kind, values = self.alike([body, other])
        return Node("choose", kind, (condition, *values))

    def _own_text(self, node: ast.expr) -> str | None:
        """Return a quoted text that is no column."""
        literal = _literal(node)
        return literal if isinstance(literal, str) and not self.scope.knows(literal) else None

    def _constant(self, node: ast.Constant) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Node("constant", "boolean", value=float(value))
        if isinstance(value, str):
            if self.scope.knows(value):
                return self.scope.value(self.expression, node, value)
            hint = self.scope.nearest(value)
            raise self.expression.wrong(
                f"a text stands beside a category, and no column is called {value!r}{hint}", node
            )
        try:
            number = float(_literal(node) or 0)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.expression.wrong("this number is too large", node)
        return _constant(number)

    def _name(self, node: ast.Name) -> Node:
        name = self.expression.name(node)
        if not self.scope.knows(name):
            if name in {"true", "false"}:
                return Node("constant", "boolean", value=float(name == "true"))
            if name in self.functions:
                raise self.expression.wrong(f"{name} is a function; write {self.functions[name].usage}", node)
        return self.scope.value(self.expression, node, name)

    def _unary(self, node: ast.UnaryOp) -> Node:
        if isinstance(node.op, ast.Not):
            return Node("not", "boolean", (self.truth(node.operand),))
        operand = self.number(node.operand)
        if isinstance(node.op, ast.UAdd):
            return operand
        if operand.operation == "constant" and isinstance(operand.value, float):
            return _constant(-operand.value)
        return Node("negate", "number", (operand,))

    def _binary(self, node: ast.BinOp) -> Node:
        if isinstance(node.op, (ast.Add, ast.Sub)) and "date" in (self._type(node.left), self._type(node.right)):
            return self._dated(node, minus=isinstance(node.op, ast.Sub))
        values = self.number(node.left), self.number(node.right)
        found = checked(Node(_ARITHMETIC[type(node.op)], "number", values))
        return Node("floor", "number", (found,)) if isinstance(node.op, ast.FloorDiv) else found

    def _type(self, node: ast.expr) -> ValueType | None:
        return None if self._own_text(node) is not None else self.any(node).type

    def _dated(self, node: ast.BinOp, *, minus: bool) -> Node:
        """Return the days between two dates, or a date some days later or earlier."""
        left, right = self._type(node.left), self._type(node.right)
        if minus and left == "date" and right not in _NUMERIC:
            return Node("subtract", "number", (self.any(node.left), self.date(node.right)))
        if minus and left != "date":
            raise self.expression.wrong("a date is taken from something that is no date", node)
        if left == right:
            raise self.expression.wrong("two dates cannot be added; the days between them are days(from, to)", node)
        day, number = (node.left, node.right) if left == "date" else (node.right, node.left)
        return Node("subtract" if minus else "add", "date", (self.any(day), self.number(number)))

    def _chain(self, node: ast.Compare) -> Node:
        sides = [node.left, *node.comparators]
        found = [
            self._compare(left, sign, right) for left, sign, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return folded("and", "boolean", found)

    def _compare(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Node:
        sign = _SIGNS.get(type(operator))
        if sign is None:
            raise self.expression.wrong("`is` is not part of the language; use ==, or isnull(...)", right)
        if sign in {"in", "not in"}:
            found = self._among(left, right)
        else:
            one, other = self._sides(left, right)
            if one.type == "category" and sign not in {"==", "!="}:
                raise self.expression.wrong("categories have no order; use == or `in [...]`", left)
            found = _comparison(sign, one, other)
        return Node("not", "boolean", (found,)) if sign in {"!=", "not in"} else found

    def _sides(self, left: ast.expr, right: ast.expr) -> tuple[Node, Node]:
        """Return both sides of a comparison as one type; what is written out takes the type of the other side."""
        if self._own_text(left) is not None and self._own_text(right) is not None:
            raise self.expression.wrong("two texts are compared here; write a column on one side", left)
        if _literal(left) is not None and _literal(right) is None:
            other, one = self._sides(right, left)
            return one, other
        one = self.any(left)
        return one, self._beside(one, right)

    def _beside(self, one: Node, right: ast.expr) -> Node:
        """Return the other side of a comparison, of the type of `one`."""
        literal = _literal(right)
        if one.type == "category":
            return self.category(right) if literal is None else _text(literal)
        return self.date(right) if one.type == "date" else self.number(right)

    def _among(self, left: ast.expr, right: ast.expr) -> Node:
        if not isinstance(right, (ast.List, ast.Tuple, ast.Set)) or not right.elts:
            raise self.expression.wrong("a list is expected behind `in`, such as [1, 2] or ['a', 'b']", right)
        one = self.any(left)
        if one.type != "category":
            equals = [Node("equal", "boolean", (one, self._beside(one, item))) for item in right.elts]
            return folded("or", "boolean", equals)
        texts = [_literal(item) for item in right.elts]
        for item, text in zip(right.elts, texts, strict=True):
            if text is None:
                raise self.expression.wrong("a text is expected in this list", item)
        return Node("among", "boolean", (one,), tuple(sorted({_spelled(text) for text in texts if text is not None})))

    def _date(self, text: str, node: ast.expr) -> Node:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self.expression.wrong("a date is expected, such as '2024-01-31'", node) from None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return Node("constant", "date", value=(moment - _EPOCH).total_seconds() / _DAY_S)

    def _call(self, node: ast.Call) -> Node:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        function = self.functions.get(name)
        if function is None:
            listed = ", ".join(self.functions)
            raise self.expression.wrong(f"there is no function called {name!r}; there are {listed}", node)
        if len(node.args) < function.fewest or (function.most is not None and len(node.args) > function.most):
            raise self.expression.wrong(f"{name} takes other values; write {function.usage}", node)
        return function.make(self, node.args)


def _comparison(sign: str, one: Node, other: Node) -> Node:
    """Return a comparison by `less`, `less_equal`, `equal` or their counterparts for categories."""
    if sign in {"==", "!="}:
        if one.type != "category":
            return Node("equal", "boolean", (one, other))
        if other.operation == "constant":
            return Node("among", "boolean", (one,), (str(other.value),))
        return Node("same", "boolean", (one, other))
    pair = (one, other) if sign.startswith("<") else (other, one)
    return Node("less_equal" if "=" in sign else "less", "boolean", pair)
