"""`export mlflow` as far as it can be seen without MLflow; with one it is `python -m tests.isolated mlflow_export`."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from mlsystem.errors import SpecError
from mlsystem.export.command import export
from mlsystem.export.mlflow import export_packaged
from tests.blueprint.made_tables import python
from tests.blueprint.made_versions import opened, two_versions

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="module")
def model(system: Path) -> Path:
    told = export(opened(system), Namespace(form="mlflow", version=1, to="out/model"))
    return Path(str(told["path"]))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def test_the_model_has_two_flavours_a_signature_and_an_example(model: Path) -> None:
    """Numbers that may be missing come as whole numbers or not, so their type is left open."""
    described, example = read(model / "MLmodel"), read(model / "input_example.json")
    inputs = {item["name"]: item["type"] for item in json.loads(described["signature"]["inputs"])}
    outputs = [item["name"] for item in json.loads(described["signature"]["outputs"])]
    assert sorted(described["flavors"]) == ["onnx", "python_function"]
    assert inputs == {"tenure": "long", "charge": "double", "plan": "string"}
    assert sorted(outputs) == ["prediction", "probability_No", "probability_Yes"]
    assert (example["columns"], len(example["data"])) == (list(inputs), 5)
    assert {type(value) for value in (example["data"][0][0], example["data"][0][1])} == {int, float}


def test_metrics_are_those_of_the_evaluation(system: Path, model: Path) -> None:
    (folder,) = [
        path for path in (system / "work" / "package").iterdir() if b'"country"' in (path / "schema.json").read_bytes()
    ]
    recorded = read(folder / "metrics.json")["metrics"]
    assert read(model / "metrics.json") == {name: row["value"] for name, row in recorded.items()}


def test_the_copy_of_the_engine_answers_without_anything_else_of_it(model: Path) -> None:
    """A frame is played by a class with the four things of pandas that the loader uses."""
    code = f"""
import sys
sys.path[:] = [{str(model / "code")!r}] + [p for p in sys.path if "blueprint" not in p]
import mlsystem.export.mlflow_loader as loader
class Frame(list):
    index = None
    def __init__(self, rows, index=None): super().__init__(rows)
    def astype(self, _): return self
    def notna(self): return self
    def where(self, *_): return self
    def to_dict(self, _): return list(self)
predictor = loader._load_pyfunc({str(model / "data")!r})
print(predictor.predict(Frame([{{"tenure": 3, "charge": None, "plan": "pro"}}]))[0]["prediction"])
print(loader.__file__.startswith({str(model)!r}), bool({{"duckdb", "sklearn", "lightgbm"}} & set(sys.modules)))
"""
    ran = python(code, model)
    assert (ran.out.split(), ran.code) == (["Yes", "True", "False"], 0), ran.err


def test_a_version_is_exported_once_when_it_is_packaged(system: Path) -> None:
    first = export_packaged(opened(system), 2)
    made = Path(str(first["path"])) / "MLmodel"
    written = made.stat().st_mtime_ns
    assert (export_packaged(opened(system), 2), made.stat().st_mtime_ns) == (first, written)


def test_a_directory_that_holds_something_else_is_left_alone(system: Path) -> None:
    (system / "mine").mkdir()
    (system / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(SpecError, match="give another directory"):
        export(opened(system), Namespace(form="mlflow", version=1, to="mine"))
    with pytest.raises(SpecError, match="start `mlflow server"):
        export(opened(system), Namespace(form="mlflow", version=1, to="sqlite:///mlflow.db"))
    assert [path.name for path in (system / "mine").iterdir()] == ["notes.txt"]
