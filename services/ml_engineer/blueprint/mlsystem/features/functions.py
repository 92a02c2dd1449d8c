"""The functions of `[derive]`: how each is called, and which operations it becomes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Final

from mlsystem.features.formula import Node, Operation
from mlsystem.features.typer import Function, Typer, checked, folded

_Make = Callable[[Typer, Sequence[ast.expr]], Node]


def _of_number(operation: Operation) -> _Make:
    return lambda typer, values: checked(Node(operation, "number", (typer.number(values[0]),)))


def _extreme(operation: Operation) -> _Make:
    def make(typer: Typer, values: Sequence[ast.expr]) -> Node:
        kind, found = typer.alike(values)
        if kind == "category":
            raise typer.expression.wrong("categories have no order; numbers or dates are expected", values[0])
        return folded(operation, "date" if kind == "date" else "number", found)

    return make


def _clip(typer: Typer, values: Sequence[ast.expr]) -> Node:
    value, low, high = map(typer.number, values)
    return Node("minimum", "number", (Node("maximum", "number", (value, low)), high))


def _is_missing(typer: Typer, values: Sequence[ast.expr]) -> Node:
    return Node("is_missing", "boolean", (typer.any(values[0]),))


def _coalesce(typer: Typer, values: Sequence[ast.expr]) -> Node:
    kind, found = typer.alike(values)
    return folded("coalesce", kind, found)


def _days(typer: Typer, values: Sequence[ast.expr]) -> Node:
    start, end = map(typer.date, values)
    return Node("subtract", "number", (end, start))


def _part(name: str) -> _Make:
    """Return a calendar part of a date column; the boundary has made them all."""

    def make(typer: Typer, values: Sequence[ast.expr]) -> Node:
        node = values[0]
        column = typer.expression.name(node) if isinstance(node, ast.Name) else None
        column = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else column
        parts = typer.scope.parts(column) if column is not None else {}
        if name not in parts:
            what = "a date column with a time of day" if name == "hour" else "a date column"
            raise typer.expression.wrong(f"{what} is expected, since {name} is taken from the data as they are", node)
        return parts[name]

    return make


def _concat(typer: Typer, values: Sequence[ast.expr]) -> Node:
    return folded("cross", "category", [typer.category(value) for value in values])


FUNCTIONS: Final[dict[str, Function]] = {
    "min": Function("min(a, b, ...)", 2, None, _extreme("minimum")),
    "max": Function("max(a, b, ...)", 2, None, _extreme("maximum")),
    "abs": Function("abs(number)", 1, 1, _of_number("absolute")),
    "log": Function("log(number), to the base e", 1, 1, _of_number("log")),
    "exp": Function("exp(number)", 1, 1, _of_number("exp")),
    "sqrt": Function("sqrt(number)", 1, 1, _of_number("sqrt")),
    "floor": Function("floor(number)", 1, 1, _of_number("floor")),
    "ceil": Function("ceil(number)", 1, 1, _of_number("ceil")),
    "round": Function("round(number), a half to the even side", 1, 1, _of_number("round")),
    "clip": Function("clip(number, low, high)", 3, 3, _clip),
    "isnull": Function("isnull(value)", 1, 1, _is_missing),
    "coalesce": Function("coalesce(value, instead, ...)", 2, None, _coalesce),
    "where": Function("where(test, then, otherwise)", 3, 3, lambda typer, v: typer.choose(v[0], v[1], v[2])),
    "days": Function("days(from, to)", 2, 2, _days),
    "month": Function("month(date column)", 1, 1, _part("month")),
    "weekday": Function("weekday(date column), Monday is 0", 1, 1, _part("weekday")),
    "dayofyear": Function("dayofyear(date column)", 1, 1, _part("dayofyear")),
    "hour": Function("hour(date column)", 1, 1, _part("hour")),
    "concat": Function("concat(category, category, ...)", 2, None, _concat),
}
