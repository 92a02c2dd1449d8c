"""A boundary with the owner's hooks behind it.

Owns what a hook sees of a row and the checks of what it returns. Rows are made from the boundary's tensors, so that
training, batch and serving show a hook the very same values; what it makes goes back into the tensors. A hook that
fails is a problem of its row, never of the process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, cast

from mlsystem.boundary import Boundary, Encoded, Numbers, Problem, Strings, canonical
from mlsystem.hooks import HOOKS_FILE, Hooks, Row, load_hooks
from mlsystem.schema import Schema, Table

REFUSED: Final = f"{HOOKS_FILE} validate_row"
"""Column of the problem of a row that `validate_row` does not want."""
FAILED: Final = HOOKS_FILE
"""Column of the problem of a row on which a hook failed."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN: Final = 200  # characters of a hook's own words that an answer repeats


def boundary_of(schema: Schema, source: bytes | None) -> Boundary:
    """Return the boundary of a contract, with the hooks of a hooks.py behind it; without one it is the plain one."""
    return Boundary.from_schema(schema) if source is None else Hooked.of(schema, load_hooks(source))


class Hooked(Boundary):
    """A boundary whose rows also pass the owner's hooks."""

    _hooks: Hooks
    _seen: tuple[tuple[str, ...], ...]
    """Numbers and strings that a hook sees: the tensors' columns without those that it makes, which stand last."""
    _dates: Mapping[str, bool]
    """Those that are days since 1970, and whether a time of day belongs to them."""

    @classmethod
    def of(cls, schema: Schema, hooks: Hooks) -> Self:
        """Build the encoder of a contract with these hooks."""
        return cls.from_schema(schema).running(hooks, schema)

    def running(self, hooks: Hooks, schema: Schema) -> Self:
        """Take the hooks on; called once, by `of`."""
        self._hooks = hooks
        made = {column.name for column in hooks.columns}
        self._seen = tuple(tuple(name for name in names if name not in made) for names in (self.numbers, self.strings))
        dated = {column.name: column.type == "datetime" for column in schema.columns if "date" in column.type}
        self._dates = {name: dated[name] for name in self._seen[0] if name in dated}
        return self

    def rows(self, rows: Sequence[Mapping[str, object]], *, strict: bool = False) -> Encoded:
        """Encode JSON rows and run the hooks on those without a problem."""
        return self.complete(super().rows(rows, strict=strict))

    def table(self, table: Table) -> Encoded:
        """Encode rows of text and run the hooks on each."""
        return self.complete(super().table(table))

    def complete(self, encoded: Encoded, *, checked: bool = True) -> Encoded:
        """Run the hooks over encoded rows: fill the columns that they make, add the problems that they find.

        With `checked` false `validate_row` is not asked: rows that are mixed of others for an explanation may be none.
        """
        bad = {problem.row for problem in encoded.problems}
        good = (row for row in range(len(encoded.numbers)) if row not in bad)
        found = [self._run(row, (encoded.numbers, encoded.strings), checked=checked) for row in good]
        return replace(encoded, problems=(*encoded.problems, *(problem for problem in found if problem)))

    def row(self, numbers: Sequence[float], strings: Sequence[str]) -> Row:
        """Return one encoded row as a hook sees it: numbers, dates and texts, None where a value is missing."""
        seen: Row = {name: None if math.isnan(value) else value for name, value in zip(self._seen[0], numbers)}  # noqa: B905
        for name, timed in self._dates.items():
            if seen[name] is not None:
                moment = _EPOCH + timedelta(days=seen[name])
                seen[name] = moment if timed else moment.date()
        seen.update(zip(self._seen[1], (text or None for text in strings)))  # noqa: B905 - what hooks make stands last
        return seen

    def _run(self, index: int, tensors: tuple[Numbers, Strings], *, checked: bool) -> Problem | None:
        """Run the hooks on one row; what goes wrong is the row's problem."""
        numbers, strings = tensors
        row = self.row(numbers[index].tolist(), strings[index].tolist())
        hooks = self._hooks
        try:
            if checked and hooks.validate_row is not None and (reason := hooks.validate_row(dict(row))) is not None:
                return Problem(index, REFUSED, str(reason)[:_SHOWN], "")
            if hooks.derive is not None:
                self._fill(index, hooks.derive(row), numbers, strings)
        except Exception as error:  # noqa: BLE001 - a person's code may raise anything, and other rows must go on
            return Problem(index, FAILED, f"{type(error).__name__}: {error}"[:_SHOWN], "")
        return None

    def _fill(self, index: int, made: object, numbers: Numbers, strings: Strings) -> None:
        """Put what `derive` returned into its columns; a column that it leaves out is missing."""
        if not isinstance(made, Mapping):
            raise TypeError(f"derive() must return a dictionary, not {type(made).__name__}")
        values = dict(cast("Mapping[str, Any]", made))
        at = {True: len(self.strings), False: len(self.numbers)}
        for column in reversed(self._hooks.columns):
            textual = column.type == "category"
            at[textual] -= 1
            value = values.pop(column.name, None)
            if textual:
                strings[index, at[True]] = _text(column.name, value)
            else:
                numbers[index, at[False]] = _number(column.name, value)
        if values:
            raise TypeError(f"derive() makes {', '.join(map(str, values))}, which HOOKS does not name")


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {type(value).__name__}, a number is expected")
    number = float(value)
    return number if math.isfinite(number) else math.nan


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, a text is expected")
    text = canonical(value)
    text.encode()  # what is no valid Unicode cannot go through a model
    return text
