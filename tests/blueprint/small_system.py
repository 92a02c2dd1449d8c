"""A system small enough to write by hand: its contract, its spec, and packages whose answers are known.

The model is one logistic formula, so that a test can say what the server must answer without asking the engine:
p(Yes) = sigmoid(bias + 0.1 * tenure - 0.01 * charges + 1 if plan is "monthly"), a missing number counting as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mlsystem.registry import Note, Registry
from mlsystem.schema import Column, Schema, TaskSchema, encode_schema
from mlsystem.serving.examples import example_rows
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package

NAME = "small"
ROW: dict[str, object] = {
    "customer": "C-1",
    "tenure": 10,
    "charges": 50.0,
    "plan": "monthly",
    "joined": "2024-02-29",
}
NOTE = Note("a test", "to see it")

_COLUMNS = (
    Column(name="customer", type="category", role="id", reason="one value a row", distinct=40, levels=("C-1", "C-2")),
    Column(name="tenure", type="number", nullable=True, distinct=20, low=0, high=72),
    Column(name="charges", type="number", distinct=20, low=10, high=120),
    Column(name="plan", type="category", distinct=2, levels=("monthly", "yearly")),
    Column(name="joined", type="date", distinct=20, low=18_000, high=19_800, format="iso"),
    Column(name="left", type="category", role="target", distinct=2, levels=("No", "Yes")),
)
SCHEMA = Schema(task=TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes"), columns=_COLUMNS)
REGRESSION = Schema(task=TaskSchema(kind="regression", target="left"), columns=_COLUMNS)
THREE = Schema(task=TaskSchema(kind="multiclass", target="left", labels=("No", "Soon", "Late")), columns=_COLUMNS)

_NUMBERS = 6  # tenure, charges, and four of the date


def probability(row: Mapping[str, object], bias: float = 0.0) -> float:
    """Return what the model of this bias answers for "Yes"."""
    raw = bias + (1.0 if row["plan"] == "monthly" else 0.0)
    raw += 0.1 * float(str(row["tenure"] or 0)) - 0.01 * float(str(row["charges"] or 0))
    return 1 / (1 + math.exp(-raw))


def classifier(bias: float = 0.0) -> bytes:
    """Return the formula as an ONNX file."""
    positive = helper.make_node("Sigmoid", ["raw"], ["positive"])
    negative = helper.make_node("Sub", ["one", "positive"], ["negative"])
    both = helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1)
    return _model([*_raw_nodes(bias), positive, negative, both], "probabilities", 2)


def regressor(bias: float = 0.0) -> bytes:
    """Return the formula without its sigmoid as an ONNX file."""
    return _model([*_raw_nodes(bias), helper.make_node("Identity", ["raw"], ["value"])], "value", 1)


def three_classes() -> bytes:
    """Return the formula as an ONNX file of three classes: No, and Yes in two equal halves."""
    positive = helper.make_node("Sigmoid", ["raw"], ["positive"])
    negative = helper.make_node("Sub", ["one", "positive"], ["negative"])
    half = helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5)))
    part = helper.make_node("Mul", ["positive", "half"], ["part"])
    all_three = helper.make_node("Concat", ["negative", "part", "part"], ["probabilities"], axis=1)
    return _model([*_raw_nodes(0.0), positive, negative, half, part, all_three], "probabilities", 3)


def slow_classifier() -> bytes:
    """Return the formula as a file that takes some tenths of a second to answer, whatever it is asked."""
    size = helper.make_node("Constant", [], ["size"], value=numpy_helper.from_array(np.array([1400, 1400])))
    some = helper.make_node("ReduceMin", ["present"], ["some"], keepdims=0)
    fill = helper.make_node("Expand", ["some", "size"], ["wide"])
    work = helper.make_node("MatMul", ["wide", "wide"], ["work"])
    least = helper.make_node("ReduceMin", ["work"], ["least"], keepdims=0)
    nothing = helper.make_node("Mul", ["least", "zero"], ["nothing"])
    late = helper.make_node("Add", ["raw", "nothing"], ["late"])
    positive = helper.make_node("Sigmoid", ["late"], ["positive"])
    negative = helper.make_node("Sub", ["one", "positive"], ["negative"])
    both = helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1)
    nodes = [*_raw_nodes(0.0), size, some, fill, work, least, nothing, late, positive, negative, both]
    return _model(nodes, "probabilities", 2)


def brittle_classifier() -> bytes:
    """Return the formula as a file that fails on anything but a single row."""
    positive = helper.make_node("Sigmoid", ["raw"], ["positive"])
    negative = helper.make_node("Sub", ["one", "positive"], ["negative"])
    both = helper.make_node("Concat", ["negative", "positive"], ["both"], axis=1)
    shape = helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([1, 2])))
    single = helper.make_node("Reshape", ["both", "shape"], ["probabilities"])
    return _model([*_raw_nodes(0.0), positive, negative, both, shape, single], "probabilities", 2)


def spec_text(**serving: object) -> str:
    """Return a system.toml; `serving` are keys of its table."""
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in serving.items()]
    return "\n".join(
        [
            "format = 1",
            f'name = "{NAME}"',
            '[task]\nkind = "binary"\ntarget = "left"',
            '[data]\nsource = ["rows.csv"]',
            "[serving]",
            *lines,
            "",
        ]
    )


def package_files(model: bytes, schema: Schema = SCHEMA, *, outcome: str = "success") -> dict[str, bytes]:
    """Return the files of a package."""
    nobody = {**ROW, "customer": ""}
    rows = [nobody, {**nobody, "tenure": " 3.5 ", "charges": "", "plan": "yearly"}]
    return {
        "model.onnx": model,
        "schema.json": encode_schema(schema),
        "system.toml": spec_text().encode(),
        "metrics.json": msgspec.json.encode({"outcome": outcome}),
        "manifest.json": msgspec.json.encode({"name": NAME}),
        "reference.json": msgspec.json.encode(rows),
    }


def with_answers(files: dict[str, bytes], schema: Schema = SCHEMA) -> dict[str, bytes]:
    """Return the files of a package with what its model answers for the reference rows, as `package` records it."""
    package = Package(0, "", files)
    answer = Model(package, name=NAME).answer(example_rows(schema, package.reference()), strict=False)
    told = [{"prediction": p.prediction, "probabilities": p.probabilities} for p in answer.predictions]
    return {**files, "metrics.json": msgspec.json.encode({"reference_predictions": told})}


def write_package(directory: Path, model: bytes, schema: Schema = SCHEMA, **serving: object) -> Path:
    """Write a package into a directory of its own, as `evaluate` does to measure it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in package_files(model, schema).items():
        (directory / name).write_bytes(data)
    (directory / "system.toml").write_text(spec_text(**serving))
    return directory


def make_system(root: Path, *biases: float, **serving: object) -> Registry:
    """Make a system with one registered version a bias, none of them live; return its registry."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "system.toml").write_text(spec_text(**serving))
    (root / "schema.json").write_bytes(encode_schema(SCHEMA))
    registry = Registry.open("registry", root)
    for bias in biases:
        register(registry, bias)
    return registry


def register(registry: Registry, bias: float, *, outcome: str = "success", keep: int = 10) -> int:
    """Register the model of a bias and return its version."""
    evidence = {"outcome": outcome, "servable": outcome != "failed"}
    note = Note("a test", "a bias", evidence)
    digest = f"digest-{bias}"
    files = {**package_files(classifier(bias)), "manifest.json": msgspec.json.encode({"name": NAME, "digest": digest})}
    return registry.register(files, digest, note, keep=keep)[0]


def _raw_nodes(bias: float) -> list[NodeProto]:
    """Return nodes that end in `raw`; the bias is a constant of the graph and is put in by name."""
    encode = helper.make_node(
        "LabelEncoder",
        ["strings"],
        ["plan"],
        domain="ai.onnx.ml",
        keys_strings=["monthly", "yearly"],
        values_floats=[1.0, 0.0],
        default_float=0.0,
    )
    return [
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0.0))),
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array(1.0))),
        helper.make_node("Constant", [], ["bias"], value=numpy_helper.from_array(np.array(bias))),
        helper.make_node("Constant", [], ["weights"], value=numpy_helper.from_array(_weights())),
        helper.make_node("IsNaN", ["numbers"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numbers"], ["present"]),
        helper.make_node("MatMul", ["present", "weights"], ["linear"]),
        encode,
        helper.make_node("Cast", ["plan"], ["plan_number"], to=TensorProto.DOUBLE),
        helper.make_node("Sum", ["linear", "plan_number", "bias"], ["raw"]),
    ]


def _weights() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    weights = np.zeros((_NUMBERS, 1))
    weights[0], weights[1] = 0.1, -0.01
    return weights


def _model(nodes: list[NodeProto], output: str, width: int) -> bytes:
    inputs = [
        helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, ["N", _NUMBERS]),
        helper.make_tensor_value_info("strings", TensorProto.STRING, ["N", 1]),
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.DOUBLE, ["N", width])]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
    graph = helper.make_graph(nodes, NAME, inputs, outputs)
    model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString()
