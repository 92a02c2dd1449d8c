"""The parity gate: passes for what was fitted, and notices every small thing that a compiler could get wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from mlsystem.compile.calibration import Calibration
from mlsystem.compile.members import Linear, Trees
from mlsystem.compile.model import Kind, Model, Weighted, compile_model
from mlsystem.compile.parity import Parity, compare, hostile_rows
from mlsystem.compile.session import Rows
from mlsystem.data.dataset import Dataset
from mlsystem.output import Reporter
from mlsystem.train.clock import Clock
from mlsystem.train.command import as_problem
from mlsystem.train.search import Settings, search
from tests.blueprint.made_rows import bundled, churn, demand, made

LIMIT = 1e-5
EXACT = 1e-12


def dataset(kind: Kind) -> Dataset:
    if kind == "binary":
        numbers, strings, target = churn(500)
        return made("binary", numbers, strings, target)
    if kind == "multiclass":
        return bundled("wine")
    numbers, target, time = demand(500)
    return made("regression", numbers, {}, target, by=("time", time))


@cache
def fitted(kind: Kind) -> tuple[Model, Rows]:
    """A model in which both families have a part, with its rows."""
    found = dataset(kind)
    problem = as_problem(found, "auto", 7)
    outcome = search(problem, Settings(families=("lightgbm",)), Clock.start(60), Reporter("json"))
    members = [(item.name, item.member) for item in outcome.model.members] + [
        ("linear", outcome.linear.members[0].member)
    ]
    weighted = tuple(Weighted(name, 1 / len(members), member) for name, member in members)
    calibration = {"binary": Calibration("platt", 1.2, 0.1), "multiclass": Calibration("temperature", 1.2)}
    model = msgspec.structs.replace(outcome.model, members=weighted, calibration=calibration.get(kind, Calibration()))
    return model, problem.rows


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_a_fitted_model_and_its_file_agree_on_hostile_rows(kind: Kind) -> None:
    """A thousand times closer than the gate asks for, relative to the target's deviation in regression."""
    model, rows = fitted(kind)
    parity = compare(model, compile_model(model), rows, seed=1)
    assert parity.largest < EXACT
    assert parity.passes(LIMIT)
    assert parity.rows > len(rows)


def with_trees(model: Model, change: Callable[[str], str]) -> Model:
    def changed(item: Weighted) -> Weighted:
        if not isinstance(item.member, Trees):
            return item
        return Weighted(item.name, item.weight, Trees(tuple(map(change, item.member.boosters)), item.member.targets))

    return msgspec.structs.replace(model, members=tuple(map(changed, model.members)))


def numbers_of_line(text: str, key: str, change: Callable[[float], Any]) -> str:
    """Change every number of the lines `key=...` in LightGBM's text format; sizes in its head would no longer fit."""
    lines = [line for line in text.split("\n") if not line.startswith("tree_sizes=")]
    for place, line in enumerate(lines):
        if line.startswith(f"{key}="):
            values = " ".join(repr(change(float(value))) for value in line.removeprefix(f"{key}=").split())
            lines[place] = f"{key}={values}"
    return "\n".join(lines)


def up_one_float32(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def wrong_default(kind: float) -> int:
    """Send missing values to the other side, where they are told apart at all."""
    return int(kind) ^ 2


WRONG: dict[str, Callable[[Model], Model]] = {
    "thresholds rounded up to float32": lambda model: with_trees(
        model, lambda text: numbers_of_line(text, "threshold", up_one_float32)
    ),
    "missing values sent to the other side": lambda model: with_trees(
        model, lambda text: numbers_of_line(text, "decision_type", wrong_default)
    ),
    "leaves a hundredth too large": lambda model: with_trees(
        model, lambda text: numbers_of_line(text, "leaf_value", lambda value: 1.01 * value)
    ),
    "another level first": lambda model: msgspec.structs.replace(
        model,
        features=msgspec.structs.replace(
            model.features,
            levels=tuple(msgspec.structs.replace(level, names=level.names[::-1]) for level in model.features.levels),
        ),
    ),
    "unseen levels with another target mean": lambda model: msgspec.structs.replace(
        model, features=msgspec.structs.replace(model.features, prior=(model.features.prior[0] + 0.3,))
    ),
    "missing numbers replaced by another": lambda model: msgspec.structs.replace(
        model,
        features=msgspec.structs.replace(
            model.features,
            curves=tuple(msgspec.structs.replace(c, centre=c.knots[-1]) for c in model.features.curves),
        ),
    ),
    "other weights": lambda model: msgspec.structs.replace(
        model,
        members=tuple(
            Weighted(item.name, item.weight + (1e-3 if isinstance(item.member, Linear) else 0.0), item.member)
            for item in model.members
        ),
    ),
    "no calibration": lambda model: msgspec.structs.replace(model, calibration=Calibration()),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_of_the_compiler_is_noticed(mistake: str) -> None:
    """The file is compiled from a model that is wrong in one small way."""
    model, rows = fitted("binary")
    wrong = WRONG[mistake](model)
    assert wrong != model
    assert not compare(model, compile_model(wrong), rows, seed=1).passes(LIMIT)


def test_an_answer_that_is_no_number_never_passes() -> None:
    model, rows = fitted("regression")
    broken = msgspec.structs.replace(model, centre=float("nan"))
    assert compare(model, compile_model(broken), rows, seed=1).largest == float("inf")


def test_a_flipped_label_fails_however_small_the_difference() -> None:
    assert (Parity(10, 1e-9, 1).passes(LIMIT), Parity(10, 1e-9, 0).passes(LIMIT)) == (False, True)


def test_hostile_rows_look_where_models_break() -> None:
    """Missing and infinite numbers, odd texts in each column, and every kind of step around splits."""
    model, rows = fitted("binary")
    hostile = hostile_rows(model, rows, seed=1)
    added = hostile.pick(slice(len(rows), None))
    texts = {column: set(added.strings[:, column].tolist()) for column in range(2)}
    thresholds = {v for item in model.members for v in item.member.splits().get(0, []) if np.isfinite(v)}
    tenure = set(added.numbers[:, 0].tolist())
    assert [bool(np.isnan(added.numbers[:, column]).any()) for column in range(2)] == [True, True]
    assert [bool(np.isposinf(added.numbers[:, column]).any()) for column in range(2)] == [True, True]
    assert all({"", " ", "never seen", "a\0b", "0\x1fa"} <= found for found in texts.values())
    assert len(tenure & thresholds) > 5
    assert len(tenure & {float(np.nextafter(v, np.inf)) for v in thresholds}) > 5
    assert len(tenure & {float(np.nextafter(np.float32(v), np.float32(-np.inf))) for v in thresholds}) > 5


def test_hostile_rows_are_the_same_for_the_same_seed() -> None:
    model, rows = fitted("binary")
    one, again = (hostile_rows(model, rows, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.numbers, again.numbers)
    assert one.strings.tolist() == again.strings.tolist()
