"""The compiler: each part of a graph against the library that it replaces."""

from __future__ import annotations

from typing import Any

import lightgbm
import msgspec
import numpy as np
import onnx
import pytest

from mlsystem.compile.calibration import Calibration
from mlsystem.compile.graph import DOUBLE, Graph
from mlsystem.compile.members import Linear, Trees
from mlsystem.compile.model import Kind, Model, Weighted, compile_model, link
from mlsystem.compile.session import BATCH, Rows, Session
from mlsystem.features.arrays import Floats, Singles
from mlsystem.features.encoders import Curve, Features, Levels

ROWS = 1500
COLUMNS = 5
QUIET: dict[str, Any] = {"verbosity": -1, "num_threads": 1, "num_leaves": 31, "seed": 3}


def tree_rows(*, gaps: bool) -> Singles:
    """Numbers of every magnitude, among them epoch seconds, whose neighbours differ by less than a float32 step."""
    generator = np.random.default_rng(1)
    rows = np.column_stack(
        [
            1.7e9 + generator.integers(0, 90 * 86_400, ROWS),
            generator.lognormal(12, 2, ROWS),
            51 + generator.random(ROWS) * 1e-3,
            generator.integers(0, 4, ROWS),
            generator.normal(size=ROWS),
        ]
    ).astype(np.float32)
    if gaps:
        rows[generator.random(rows.shape) < 0.1] = np.nan
    return rows


def boosted(rows: Singles, target: Floats, rounds: int = 60, **parameters: Any) -> str:
    data = lightgbm.Dataset(rows, target)
    return lightgbm.train({**QUIET, **parameters}, data, rounds).model_to_string()


def run_trees(member: Trees, rows: Singles) -> Floats:
    graph = Graph(COLUMNS, 0)
    margin = member.emit(graph, "numbers", "")
    compiled = graph.finish({"margin": (margin, DOUBLE, member.targets)})
    return Session(compiled).run(Rows(rows.astype(np.float64), np.zeros((len(rows), 0), object)), "margin")[0]


def probed(rows: Singles) -> Singles:
    """Rows with every value missing, infinite, zero or unseen once."""
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 999], np.float32)
    made = np.repeat(rows[: len(odd) * COLUMNS], 1, axis=0)
    made[np.arange(len(made)), np.arange(len(made)) % COLUMNS] = np.repeat(odd, COLUMNS)
    return np.concatenate([rows, made])


@pytest.mark.parametrize("gaps", [True, False], ids=["gaps in training", "no gaps in training"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"objective": "binary"},
        {"objective": "regression"},
        {"objective": "regression_l1"},
        {"objective": "regression", "extra_trees": True},
        {"objective": "multiclass", "num_class": 3},
    ],
    ids=str,
)
def test_trees_give_the_sums_that_lightgbm_gives(parameters: dict[str, Any], gaps: bool) -> None:
    """Equal to the last bits, wherever a missing value is sent."""
    rows = tree_rows(gaps=gaps)
    filled = np.nan_to_num(rows[:, 4]) + rows[:, 3].astype(np.float64)
    regression = str(parameters["objective"]).startswith("regression")
    bounds = [1.5] if parameters["objective"] == "binary" else [1, 3]
    target: Floats = 1e7 * filled if regression else np.digitize(filled, bounds).astype(np.float64)
    member = Trees((boosted(rows, target, **parameters),), parameters.get("num_class", 1))
    asked = probed(rows)
    native = member.predict(asked, np.zeros((len(asked), 0)))
    np.testing.assert_allclose(run_trees(member, asked), native, rtol=1e-14, atol=1e-14)


def test_trees_take_for_zero_what_lightgbm_takes_for_zero() -> None:
    """A number of both signs is split beside 0, where LightGBM reads values up to 1e-35 from it as 0."""
    rows = np.random.default_rng(2).integers(-1, 2, (ROWS, COLUMNS)).astype(np.float32)
    member = Trees((boosted(rows, (rows == 0).sum(axis=1).astype(np.float64), objective="regression"),), 1)
    near = np.float32(1e-35)
    steps = [
        near,
        np.nextafter(near, np.float32(0)),
        np.nextafter(near, np.float32(1)),
        np.float32(0),
        np.float32(1e-45),
    ]
    probe = np.repeat(rows[:1], 2 * len(steps), axis=0)
    probe[:, 0] = [*steps, *(-step for step in steps)]
    np.testing.assert_allclose(run_trees(member, probe), member.predict(probe, np.zeros((len(probe), 0))), rtol=1e-12)


def test_a_bag_is_the_mean_of_its_boosters() -> None:
    rows = tree_rows(gaps=True)
    target = np.nan_to_num(rows[:, 4].astype(np.float64))
    boosters = tuple(boosted(rows, target, 20, seed=seed, bagging_fraction=0.5, bagging_freq=1) for seed in (1, 2, 3))
    alone = [run_trees(Trees((booster,), 1), rows) for booster in boosters]
    np.testing.assert_allclose(run_trees(Trees(boosters, 1), rows), np.mean(alone, axis=0), atol=1e-12)


def test_a_tree_without_a_split_is_a_constant() -> None:
    """A target that cannot be told apart gives boosters of a single leaf."""
    rows = tree_rows(gaps=False)
    member = Trees((boosted(rows, np.full(ROWS, 7.0), 3, objective="regression"),), 1)
    assert set(run_trees(member, rows).ravel().tolist()) == {7.0}


def test_a_split_without_an_onnx_form_is_refused() -> None:
    """Native categories are not compiled: a best effort would be wrong silently."""
    rows = tree_rows(gaps=False)
    data = lightgbm.Dataset(rows, rows[:, 3] == 2, categorical_feature=[3])
    booster = lightgbm.train({**QUIET, "objective": "binary", "min_data_per_group": 1}, data, 2)
    with pytest.raises(ValueError, match="no ONNX form"):
        run_trees(Trees((booster.model_to_string(),), 1), rows)


@pytest.mark.parametrize(
    "calibration", [Calibration(), Calibration("platt", 0.3, -1.0), Calibration("platt", 5.0, 2.0)], ids=str
)
def test_a_calibration_of_one_probability_is_the_same_as_nodes(calibration: Calibration) -> None:
    probabilities = np.array([[0.0], [1e-12], [0.2], [0.5], [0.9], [1.0]])
    np.testing.assert_allclose(
        run_calibration(calibration, probabilities), calibration.apply(probabilities), atol=1e-15
    )


@pytest.mark.parametrize("slope", [0.2, 1.0, 5.0])
def test_a_temperature_is_the_same_as_nodes_and_keeps_the_order(slope: float) -> None:
    probabilities = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [0.34, 0.33, 0.33]])
    calibration = Calibration("temperature", slope)
    found = run_calibration(calibration, probabilities)
    np.testing.assert_allclose(found, calibration.apply(probabilities), atol=1e-15)
    assert found.argmax(axis=1).tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_a_calibration_does_not_enlarge_a_small_difference() -> None:
    """The steepest allowed line, at noise of float32: a step function would turn 6e-8 into 6e-5."""
    probabilities = np.linspace(0.0, 1.0, 10_001)[:, None]
    calibration = Calibration("platt", 5.0, 0.0)
    moved = np.abs(calibration.apply(np.clip(probabilities + 6e-8, 0, 1)) - calibration.apply(probabilities))
    assert moved.max() < 1e-6


def run_calibration(calibration: Calibration, probabilities: Floats) -> Floats:
    graph = Graph(probabilities.shape[1], 0)
    out = calibration.emit(graph, "numbers")
    compiled = graph.finish({"out": (out, DOUBLE, probabilities.shape[1])})
    return Session(compiled).run(Rows(probabilities, np.zeros((len(probabilities), 0), object)), "out")[0]


FEATURES = Features(
    curves=(Curve(1.0, (0.0, 1.0, 3.0), (-1.0, 0.0, 2.0), flag=True),),
    levels=(Levels(("a", "b"), 1, ()),),
    prior=(0.5,),
)
CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}


def linear_model(kind: Kind) -> Model:
    margins = 3 if kind == "multiclass" else 1
    weights = tuple(tuple(0.5 * row - 0.7 * column for column in range(margins)) for row in range(1, 4))
    member = Linear(weights, tuple(0.1 * column for column in range(margins)))
    learnt = {"binary": Calibration("platt", 0.9, 0.1), "multiclass": Calibration("temperature", 1.1)}
    members = (Weighted("linear", 0.25, member), Weighted("again", 0.75, member))
    centre, scale = (1e6, 2e5) if kind == "regression" else (0.0, 1.0)
    return Model(kind, CLASSES[kind], FEATURES, members, learnt.get(kind, Calibration()), centre, scale)


ASKED = Rows(np.array([[0.5], [np.nan], [9.0]]), np.array([["a"], ["b"], ["?"]], object))


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_compiled_model_has_the_inputs_and_outputs_that_serving_expects(kind: Kind) -> None:
    model = onnx.load_from_string(compile_model(linear_model(kind)))
    answer, width = ("value", 1) if kind == "regression" else ("probabilities", CLASSES[kind])

    assert list(map(shape, model.graph.input)) == [("numbers", "DOUBLE", ["N", 1]), ("strings", "STRING", ["N", 1])]
    assert list(map(shape, model.graph.output)) == [(answer, "DOUBLE", ["N", width]), ("raw", "DOUBLE", ["N", width])]
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    assert (model.ir_version, opsets) == (10, {"": 21, "ai.onnx.ml": 5})


def shape(info: onnx.ValueInfoProto) -> tuple[str, str, list[str | int]]:
    tensor = info.type.tensor_type
    dims: list[str | int] = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return info.name, onnx.TensorProto.DataType.Name(tensor.elem_type), dims


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_compiled_model_answers_like_its_native_form(kind: Kind) -> None:
    model = linear_model(kind)
    native = model.predict(ASKED.numbers, ASKED.strings)
    answer = "value" if kind == "regression" else "probabilities"
    raw, final = Session(compile_model(model)).run(ASKED, "raw", answer)
    np.testing.assert_allclose(raw, native.raw, rtol=1e-14)
    np.testing.assert_allclose(final, native.final, rtol=1e-14)
    if kind != "regression":
        np.testing.assert_allclose(final.sum(axis=1), 1.0, atol=1e-15)


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_model_survives_being_written_as_json(kind: Kind) -> None:
    model = linear_model(kind)
    again = msgspec.json.decode(msgspec.json.encode(model), type=Model)
    assert again == model
    assert compile_model(again) == compile_model(model)


def test_nodes_that_no_output_needs_are_left_out() -> None:
    graph = Graph(1, 1)
    kept = graph.node("Abs", "numbers")
    graph.node("Add", kept, graph.constant([[1.0]], np.float64))
    model = onnx.load_from_string(graph.finish({"out": (kept, DOUBLE, 1)}))
    assert ([node.op_type for node in model.graph.node], len(model.graph.initializer)) == (["Abs", "Identity"], 0)


def test_a_boundary_without_columns_of_a_kind_has_no_such_input() -> None:
    graph = Graph(2, 0)
    model = onnx.load_from_string(graph.finish({"out": ("numbers", DOUBLE, 2)}))
    assert [info.name for info in model.graph.input] == ["numbers"]


def test_many_rows_run_in_batches_with_the_same_answers() -> None:
    session = Session(compile_model(linear_model("binary")))
    many = ASKED.pick(np.arange(2 * BATCH + 5) % 3)
    (answers,) = session.run(many, "probabilities")
    np.testing.assert_array_equal(answers, session.run(ASKED, "probabilities")[0][np.arange(len(many)) % 3])


def test_probabilities_of_huge_margins_stay_finite() -> None:
    assert link("binary", np.array([[-1e4], [1e4]])).tolist() == [[0.0], [1.0]]
    assert link("multiclass", np.array([[-1e4, 0.0, 1e4]])).tolist() == [[0.0, 0.0, 1.0]]
