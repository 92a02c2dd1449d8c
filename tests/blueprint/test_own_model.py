"""A model that somebody else made, served in place of a search: it answers as the file itself does, or is refused."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlsystem.__main__ import main
from mlsystem.compile.own import answer_of, inputs_of, match, read_model
from mlsystem.errors import DataError
from mlsystem.serving.package import Package

ROWS = 400
WEIGHTS = np.array([[0.8], [-0.5]], np.float32)


def linear_classifier(*, labels: bool = True, width: int = 2) -> onnx.ModelProto:
    """A logistic model over a matrix, with a label and a map of probabilities, as exporters write it (opset 15)."""
    known = ["yes", "no"] if labels else ["a", "b"]
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["X"],
            ["label", "table"],
            domain="ai.onnx.ml",
            coefficients=[0.8, -0.5, -0.8, 0.5],
            intercepts=[0.0, 0.0],
            post_transform="SOFTMAX",
            classlabels_strings=known,
        ),
        helper.make_node("ZipMap", ["table"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=known),
    ]
    mapping = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping)),
    ]
    return model(nodes, [("X", TensorProto.FLOAT, [None, width])], outputs)


def named_regressor() -> onnx.ModelProto:
    """A linear formula with an input a column, one of them a text, one a whole number."""
    nodes = [
        helper.make_node("Cast", ["Size"], ["size"], to=TensorProto.FLOAT),
        helper.make_node(
            "LabelEncoder",
            ["plan"],
            ["worth"],
            domain="ai.onnx.ml",
            keys_strings=["a", "b"],
            values_floats=[1.0, 5.0],
            default_float=0.0,
        ),
        helper.make_node("Add", ["size", "worth"], ["price"]),
    ]
    inputs = [("plan", TensorProto.STRING, [None, 1]), ("Size", TensorProto.INT64, [None, 1])]
    return model(nodes, inputs, [helper.make_tensor_value_info("price", TensorProto.FLOAT, [None, 1])])


def model(nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(*item) for item in inputs]
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(helper.make_graph(nodes, "theirs", infos, outputs), opset_imports=opsets, ir_version=8)


def system(root: Path, made: onnx.ModelProto, kind: str, columns: str = "") -> Path:
    """A system's directory with data, a spec and the file."""
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(2, ROWS))
    size, plan = draw.integers(1, 90, ROWS), draw.choice(["a", "b"], ROWS)
    bought = draw.random(ROWS) < 1 / (1 + np.exp(-1.6 * x + y))
    price = size + np.where(plan == "a", 1.0, 5.0) + draw.normal(scale=0.2, size=ROWS)
    lines = [
        f"{a:.4f},{b:.4f},{c},{d},{'yes' if e else 'no'},{f:.3f}"
        for a, b, c, d, e, f in zip(x, y, size, plan, bought, price, strict=True)
    ]
    (root / "rows.csv").write_text("\n".join(["x,y,size,plan,bought,price", *lines]) + "\n")
    (root / "theirs.onnx").write_bytes(made.SerializeToString())
    target = "bought" if kind == "binary" else "price"
    (root / "system.toml").write_text(
        f'format = 1\nname = "own"\n[task]\nkind = "{kind}"\ntarget = "{target}"\n[data]\nsource = ["rows.csv"]\n'
        f'[search]\nbudget = "5s"\nmodel = "theirs.onnx"\n{columns}'
    )
    mlsystem(root, "validate")
    return root


IGNORED = "".join(f'[columns.{name}]\nrole = "ignore"\n' for name in ("size", "plan", "price"))


def test_a_classifier_is_served_as_it_is(tmp_path: Path) -> None:
    """Probabilities are the file's, in the order of the contract; parity, quality and latency are gates as ever.

    The file is on record, so the version can be made again without it.
    """
    root = system(tmp_path, linear_classifier(), "binary", IGNORED)
    mlsystem(root, "train")
    found = mlsystem(root, "evaluate", "--latency-seconds", "0.2")
    gates = {gate["name"]: gate["passed"] for gate in found["gates"]}
    assert (gates["parity"], gates["beats_trivial"]) == (True, True)
    packaged = mlsystem(root, "package")
    package = Package.read(root / packaged["path"])
    session = ort.InferenceSession(package.files["model.onnx"], providers=["CPUExecutionProvider"])
    rows = np.array([[1.0, 2.0], [0.0, -1.0]])
    ours = cast("Any", session.run(["probabilities"], {"numbers": rows})[0])
    theirs = ort.InferenceSession((root / "theirs.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    maps = cast("Any", theirs.run(["probabilities"], {"X": rows.astype(np.float32)})[0])
    assert ours.tolist() == [[row["no"], row["yes"]] for row in maps]
    record = json.loads((root / "work" / "train" / _only(root / "work" / "train") / "train.json").read_text())
    assert record["ensemble"] == {"own": 1.0}
    (root / "theirs.onnx").unlink()
    assert mlsystem(root, "reproduce", "1")["identical"] is True


def test_a_file_with_an_input_a_column_takes_them_by_name(tmp_path: Path) -> None:
    """Case and spelling of exporters aside; a text and a whole number too."""
    ignored = "".join(f'[columns.{name}]\nrole = "ignore"\n' for name in ("x", "y", "bought"))
    root = system(tmp_path, named_regressor(), "regression", ignored)
    mlsystem(root, "train")
    found = mlsystem(root, "evaluate", "--latency-seconds", "0.2")
    assert {gate["name"]: gate["passed"] for gate in found["gates"]}["parity"] is True
    assert found["metrics"]["mae"]["value"] < 0.3


@pytest.mark.parametrize(
    ("made", "kind", "columns", "why"),
    [
        (linear_classifier(), "binary", "", "takes 2 number columns, and the data have 4 left"),
        (linear_classifier(labels=False), "binary", IGNORED, "tells a, b apart, and the target holds no, yes"),
        (named_regressor(), "binary", IGNORED, "takes 1 text columns, and the data have 0 left"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    made: onnx.ModelProto, kind: str, columns: str, why: str, tmp_path: Path
) -> None:
    """Before anything is served, with what to do."""
    root = system(tmp_path, made, kind, columns)
    found = mlsystem(root, "train", code=4)
    assert why in found["error"]["message"]


def test_a_missing_number_has_an_answer_whatever_the_file_does_with_it(tmp_path: Path) -> None:
    """A linear file gives NaN for NaN: the median of the training rows stands in, and that is on record."""
    root = system(tmp_path, linear_classifier(), "binary", IGNORED)
    folder = root / "work" / "train" / mlsystem(root, "train")["digest"]
    session = ort.InferenceSession((folder / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    filled = json.loads((folder / "own.json").read_text())["filled"]
    rows = np.array([[np.nan, np.nan], [filled["x"], filled["y"]]])
    missing, middle = cast("Any", session.run(["probabilities"], {"numbers": rows})[0]).tolist()
    assert missing == middle


def test_a_changed_file_is_another_model(tmp_path: Path) -> None:
    """The stage's digest covers its bytes."""
    root = system(tmp_path, linear_classifier(), "binary", IGNORED)
    first = mlsystem(root, "train")["digest"]
    changed = linear_classifier()
    changed.doc_string = "another"
    (root / "theirs.onnx").write_bytes(changed.SerializeToString())
    assert mlsystem(root, "train")["digest"] != first


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip of weights", b"\x80\x04pickle"])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    """Weights alone, a pickle, nothing at all."""
    with pytest.raises(DataError, match="is no valid ONNX model"):
        read_model(content, "theirs.onnx")


def test_an_answer_that_cannot_be_told_from_others_is_refused() -> None:
    """Two outputs of numbers, neither called probabilities."""
    two = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("a", "b")]
    nodes = [helper.make_node("Identity", ["X"], [name]) for name in ("a", "b")]
    with pytest.raises(DataError, match="none of the outputs a, b is plainly the answer"):
        answer_of(model(nodes, [("X", TensorProto.FLOAT, [None, 1])], two), regression=True)


def test_initializers_are_no_inputs() -> None:
    """Older exporters list weights among the inputs."""
    made = model(
        [helper.make_node("MatMul", ["X", "W"], ["y"])],
        [("X", TensorProto.FLOAT, [None, 2]), ("W", TensorProto.FLOAT, [2, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    made.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "W"))
    (only,) = match(inputs_of(made), ["b", "a"], [])
    assert (only.input.name, only.columns) == ("X", ("b", "a"))


def mlsystem(root: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What a command says with `--json`, run in this process."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main([*words, "--dir", str(root), "--json"]) == code, told.getvalue()
    return json.loads(told.getvalue())


def _only(folder: Path) -> str:
    (found,) = (item.name for item in folder.iterdir() if item.is_dir())
    return found
