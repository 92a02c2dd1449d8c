"""From the expressions of `[derive]` and a data contract to typed formulas.

Owns which columns an expression may use (those that are known when a prediction is made: never the target, an id or
a leak), the types of every part, and errors that point at the part and say what is expected. Leaves the grammar to
`expression`, and what is used where to `formula`.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mlsystem.boundary import CALENDAR_PARTS, Boundary
from mlsystem.errors import SpecError
from mlsystem.expression import BadExpression, Expression, parse
from mlsystem.features.formula import Derivation, Derived, Node, ValueType
from mlsystem.features.functions import FUNCTIONS
from mlsystem.features.typer import Scope, typed
from mlsystem.schema import Column, Schema

_TYPES: Final[dict[str, ValueType]] = {
    "number": "number",
    "integer": "number",
    "date": "date",
    "datetime": "date",
    "category": "category",
}
_MOST_OPERATIONS: Final = 2000

_WHY_NOT: Final = {
    "target": "is the target, which is not known when a prediction is made",
    "label_time": "is when the outcome was known, which is later than the prediction",
    "weight": "is the weight of a row, which a request does not have",
}


def derive(schema: Schema, expressions: Mapping[str, str]) -> Derivation:
    """Return the formulas of all derived features, in order; a later one may use an earlier one.

    Raises: SpecError `bad_expression` with all that is wrong, each place marked.
    """
    boundary = Boundary.from_schema(schema)
    hidden = [
        boundary.numbers.index(column.name) for column in schema.columns if column.role == "time" and column.whole
    ]
    columns = ContractColumns(schema, boundary)
    derived: dict[str, Derived] = {}
    errors: list[tuple[str, BadExpression]] = []
    for name, source in expressions.items():
        scope = _Names(columns, {known: item.node for known, item in derived.items()}, tuple(expressions))
        try:
            _require_free(name, source, schema)
            derived[name] = Derived(name, source, _small(typed(parse(source), scope, FUNCTIONS), source))
        except BadExpression as error:
            errors.append((name, error))
    if errors:
        raise _refusal(errors)
    return Derivation(len(boundary.numbers), len(boundary.strings), tuple(derived.values()), tuple(hidden))


def uses(expressions: Mapping[str, str], name: str) -> bool:
    """Tell whether an expression names a column; BadExpression is left to `derive`."""
    for source in expressions.values():
        try:
            parsed = parse(source)
        except BadExpression:
            continue
        if any(parsed.name(node) == name for node in ast.walk(parsed.root) if isinstance(node, ast.Name)):
            return True
        if any(node.value == name for node in ast.walk(parsed.root) if isinstance(node, ast.Constant)):
            return True
    return False


def _require_free(name: str, source: str, schema: Schema) -> None:
    if any(column.name == name for column in schema.inputs):
        raise BadExpression(source, f"the data have a column called {name!r} already; give the feature another name")


def _small(node: Node, source: str) -> Node:
    """Return the node; features that use features grow like powers of two."""
    sizes: dict[int, int] = {}

    def size(part: Node) -> int:
        if id(part) not in sizes:
            sizes[id(part)] = 1 + sum(map(size, part.arguments))
        return sizes[id(part)]

    if size(node) > _MOST_OPERATIONS:
        raise BadExpression(source, "with all that it uses this is too large; use hooks.py for it")
    return node


def _refusal(errors: Iterable[tuple[str, BadExpression]]) -> SpecError:
    told = "\n".join(f"derive.{name}: {error}" for name, error in errors)
    details = [
        {"key": f"derive.{name}", "expression": error.source, "reason": error.reason, "at": [error.start, error.end]}
        for name, error in errors
    ]
    return SpecError("bad_expression", told, details=details)


class ContractColumns:
    """The columns of a contract as nodes: where each is in the tensors, or why it may not be used."""

    def __init__(self, schema: Schema, boundary: Boundary) -> None:
        self._columns = {column.name: column for column in schema.inputs}
        self._numbers = {name: place for place, name in enumerate(boundary.numbers)}
        self._strings = {name: place for place, name in enumerate(boundary.strings)}

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    @property
    def usable(self) -> tuple[str, ...]:
        """Names that an expression may use."""
        return tuple(name for name, column in self._columns.items() if not self._refused(column))

    def value(self, name: str) -> Node | str:
        """Return the column as a node, or why it cannot be one."""
        column = self._columns[name]
        if refused := self._refused(column):
            return refused
        if column.role == "time" and not column.whole:
            parts = ", ".join(f"{part}({name})" for part in self.parts(name)) or "another column"
            return f"{name!r} orders the rows, so that it is no feature as a whole; use {parts}"
        kind = _TYPES[column.type]
        places = self._strings if kind == "category" else self._numbers
        return Node("column", kind, value=places[name])

    def parts(self, name: str) -> dict[str, Node]:
        """Return the calendar parts of a date column, none of another."""
        if name not in self._columns or self._refused(self._columns[name]):
            return {}
        places = {
            part: self._numbers[full]
            for part in (*CALENDAR_PARTS, "hour")
            for full in (f"{name}::{part}", f"{name}:{part}")
            if full in self._numbers and full not in self._columns
        }
        return {part: Node("column", "number", value=place) for part, place in places.items()}

    @staticmethod
    def _refused(column: Column) -> str:
        """Return why a column may not be used, nothing if it may."""
        if column.reduced == "year":
            return f"{column.name!r} holds dates of people, of which the model is given the year alone"
        if column.role in {"feature", "time"}:
            return "" if column.type in _TYPES else f"{column.name!r} is free text, of which nothing is derived"
        reason = f": {column.reason}" if column.reason else ""
        return (
            f"{column.name!r} {_WHY_NOT.get(column.role) or f'is no feature (it has the role {column.role}){reason}'}"
        )


@dataclass(frozen=True, slots=True)
class _Names(Scope):
    """What names mean in one expression."""

    columns: ContractColumns
    derived: Mapping[str, Node]
    written: tuple[str, ...]

    def knows(self, name: str) -> bool:
        return name in self.columns or name in self.derived

    def value(self, expression: Expression, node: ast.expr, name: str) -> Node:
        if name in self.derived:
            return self.derived[name]
        if name in self.columns:
            found = self.columns.value(name)
            if isinstance(found, str):
                raise expression.wrong(found, node)
            return found
        if name in self.written:
            raise expression.wrong(f"{name!r} is defined further below; a feature uses only those above it", node)
        raise expression.wrong(f"there is no column called {name!r}{self.nearest(name)}", node)

    def parts(self, name: str) -> Mapping[str, Node]:
        return self.columns.parts(name)

    def nearest(self, name: str) -> str:
        usable = (*self.columns.usable, *self.derived)
        folded = {known.casefold(): known for known in usable}
        near = difflib.get_close_matches(name.casefold(), folded, 1, 0.6)
        return f"; did you mean {folded[near[0]]!r}?" if near else f"; there are {', '.join(usable[:12])}"
