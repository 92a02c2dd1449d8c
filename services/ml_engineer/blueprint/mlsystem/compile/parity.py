"""The proof that a compiled model answers like the native one.

Owns the rows that are compared (real ones, and ones made to find differences: missing, infinite, huge, unseen and
odd texts, numbers one step around every split) and what counts as a difference: the largest one before and after
calibration, relative to the target's deviation in regression, and every label that flips. The reference comes from
numpy encoders and the fitting libraries, never from ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsystem.compile.features import SEPARATOR
from mlsystem.compile.members import MemberPort
from mlsystem.compile.model import Model
from mlsystem.compile.session import Rows, Session

MOST_REAL_ROWS = 10_000
MOST_SPLIT_ROWS = 2_000
REPEATS = 20
"""Real rows that each hostile value is put into, one column at a time."""

ODD_NUMBERS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e9, -1e9, 1e39, -1e300, 5e-324)
ODD_TEXTS = (
    "",
    " ",
    "never seen",
    "\u65e5\u672c \u00fc \U0001f600",
    "NaN",
    "None",
    "0",
    "a\0b",
    f"0{SEPARATOR}a",
    "long" * 500,
)


@dataclass(frozen=True, slots=True)
class Parity:
    """What the comparison found; `largest` is infinite when an answer is not a finite number."""

    rows: int
    largest: float
    flips: int

    def passes(self, limit: float) -> bool:
        """Tell whether the compiled model may stand for the native one."""
        return self.largest <= limit and self.flips == 0


def compare(model: Model, compiled: bytes, rows: Rows, *, seed: int) -> Parity:
    """Compare a compiled model with its native form over real rows and hostile ones made from them."""
    probe = hostile_rows(model, rows, seed=seed)
    answer = "value" if model.kind == "regression" else "probabilities"
    raw, final = Session(compiled).run(probe, "raw", answer)
    native = model.predict(probe.numbers, probe.strings)
    differences = np.concatenate([np.abs(raw - native.raw), np.abs(final - native.final)], axis=1) / model.scale
    largest = float(differences.max()) if np.isfinite(differences).all() else float("inf")
    flipped = raw.argmax(axis=1) != native.raw.argmax(axis=1), final.argmax(axis=1) != native.final.argmax(axis=1)
    return Parity(len(probe), largest, int(np.count_nonzero(flipped[0] | flipped[1])))


def hostile_rows(model: Model, rows: Rows, *, seed: int) -> Rows:
    """Return up to 10,000 of `rows` followed by variants of them that look for differences."""
    generator = np.random.default_rng(seed)
    real = rows.pick(np.sort(generator.permutation(len(rows))[:MOST_REAL_ROWS]))
    made = [real]
    made += [_with_number(real, generator, column) for column in range(real.numbers.shape[1])]
    made += [_with_text(real, generator, column) for column in range(real.strings.shape[1])]
    made.append(_around_splits(model, real, generator))
    return Rows(np.concatenate([part.numbers for part in made]), np.concatenate([part.strings for part in made]))


def _with_number(real: Rows, generator: np.random.Generator, column: int) -> Rows:
    some = real.pick(generator.integers(len(real), size=REPEATS))
    numbers = some.numbers.copy()
    numbers[:, column] = np.resize(np.array(ODD_NUMBERS), REPEATS)
    return Rows(numbers, some.strings)


def _with_text(real: Rows, generator: np.random.Generator, column: int) -> Rows:
    some = real.pick(generator.integers(len(real), size=REPEATS))
    strings = some.strings.copy()
    strings[:, column] = np.resize(np.array(ODD_TEXTS, object), REPEATS)
    return Rows(some.numbers, strings)


def _around_splits(model: Model, real: Rows, generator: np.random.Generator) -> Rows:
    """Return real rows with one number put on a split, or one step beside it, as float64 and as float32."""
    points = _points(model, real.numbers.shape[1])
    picked = [int(point) for point in generator.permutation(len(points))[:MOST_SPLIT_ROWS]]
    some = real.pick(generator.integers(len(real), size=len(picked)))
    numbers = some.numbers.copy()
    for row, point in enumerate(picked):
        feature, value = points[point]
        numbers[row, feature] = value
    return Rows(numbers, some.strings)


def _points(model: Model, columns: int) -> list[tuple[int, float]]:
    """Return (number column, value) wherever a tree splits or a curve bends, with the values next to it.

    Of the boundary's columns: what is derived cannot be set.
    """
    derivation = model.features.derivation
    places = derivation.kept if derivation.hidden else range(columns)
    bends = [(place, knot) for place, curve in zip(places, model.features.curves, strict=False) for knot in curve.knots]
    for item in model.members:
        member: MemberPort = item.member
        splits = {column: values for column, values in member.splits().items() if column < len(places)}
        bends += [(places[column], value) for column, values in splits.items() for value in values]
    return [(place, value) for place, bend in bends for value in _neighbours(bend)]


def _neighbours(value: float) -> tuple[float, ...]:
    single = np.float32(value)
    steps = [float(np.nextafter(single, np.float32(way))) for way in (-np.inf, np.inf)]
    return (value, float(np.nextafter(value, -np.inf)), float(np.nextafter(value, np.inf)), float(single), *steps)
