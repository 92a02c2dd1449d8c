"""The owner's own code, hooks.py: found, loaded, and what it says that it makes.

A file that defines none of the three functions costs nothing and is not packaged; it is parsed to find that out, not
run. Leaves calling the hooks on rows to `hooked`. Loaded by the engine's own processes alone.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from mlsystem.errors import SpecError
from mlsystem.schema import Column, Schema

HOOKS_FILE: Final = "hooks.py"
FUNCTIONS: Final = ("derive", "validate_row", "business_metric")

Row = dict[str, Any]

_TYPES: Final = ("number", "category")


@dataclass(frozen=True, slots=True)
class Hooks:
    """A loaded hooks.py; what it does not define is None."""

    columns: tuple[Column, ...]
    """What `derive` makes, from HOOKS, as it stands in the contract."""
    derive: Callable[[Row], object] | None
    """Takes a row, returns the columns that it makes of it."""
    validate_row: Callable[[Row], object] | None
    """Takes a row, returns None or why it must not be predicted."""
    business_metric: Callable[[Sequence[Any], Sequence[Any]], object] | None
    """Takes what was and what was predicted, returns a number that is the better the higher it is."""


def read_hooks(root: Path) -> bytes | None:
    """Return the bytes of a system's hooks.py, None if there is no hook in it; SpecError if it is no Python."""
    try:
        source = (root / HOOKS_FILE).read_bytes()
    except FileNotFoundError:
        return None
    try:
        body = ast.parse(source, HOOKS_FILE).body
    except (SyntaxError, ValueError) as error:
        raise _bad(f"it is not Python: {error}") from None
    return source if any(name in FUNCTIONS for node in body for name in _defined(node)) else None


def load_hooks(source: bytes) -> Hooks:
    """Run a hooks.py and return its hooks; SpecError `bad_hooks` says what is wrong with it."""
    module = types.ModuleType("hooks")
    try:
        exec(compile(source, HOOKS_FILE, "exec"), module.__dict__)  # noqa: S102 - the owner's code, in their process
    except Exception as error:  # a person's code may raise anything
        raise _bad(f"running it failed with {type(error).__name__}: {error}") from error
    found = {name: getattr(module, name, None) for name in FUNCTIONS}
    for name, function in found.items():
        if function is not None and not callable(function):
            raise _bad(f"{name} is no function")
    columns = _declared(getattr(module, "HOOKS", {}))
    if (found["derive"] is None) != (not columns):
        text = 'derive(row) and HOOKS go together: HOOKS = {"name": "number"} names every column that derive makes'
        raise _bad(f"{text}, and its type, {' or '.join(_TYPES)}")
    return Hooks(columns, **cast("dict[str, Any]", found))


def with_hooks(schema: Schema, source: bytes | None) -> Schema:
    """Return the contract with the columns that hooks make; SpecError if the data have one of these names."""
    if source is None:
        return schema
    made = load_hooks(source).columns
    names = {column.name for column in schema.columns}
    if twice := [repr(column.name) for column in made if column.name in names]:
        raise _bad(f"HOOKS names {', '.join(twice)}, which the data have already; choose another name")
    return msgspec.structs.replace(schema, made=made)


def _defined(node: ast.stmt) -> tuple[str, ...]:
    """Return the names that a statement of the module gives a meaning to."""
    if isinstance(node, ast.FunctionDef):
        return (node.name,)
    if isinstance(node, ast.Assign):
        return tuple(target.id for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.ImportFrom):
        return tuple(alias.asname or alias.name for alias in node.names)
    return ()


def _declared(declared: object) -> tuple[Column, ...]:
    if not isinstance(declared, Mapping):
        raise _bad('HOOKS must be a dictionary such as {"distance_km": "number", "region": "category"}')
    columns: list[Column] = []
    for name, kind in cast("Mapping[object, object]", declared).items():
        if not isinstance(name, str) or not name.strip() or kind not in _TYPES:
            raise _bad(f"HOOKS names {name!r} as {kind!r}; a name and one of {', '.join(_TYPES)} are expected")
        typed = cast("Any", kind)
        columns.append(Column(name=name, type=typed, reason=f"made by {HOOKS_FILE}", nullable=True, distinct=1))
    return tuple(columns)


def _bad(reason: str) -> SpecError:
    return SpecError("bad_hooks", f"{HOOKS_FILE}: {reason}")
