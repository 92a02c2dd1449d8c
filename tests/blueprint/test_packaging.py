"""`package`: the trained model becomes a version, the same model never twice."""

from __future__ import annotations

import csv
import hashlib
import math
import random
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlsystem.data.command import validate
from mlsystem.errors import GateFailed, StageMissing
from mlsystem.evaluation.command import evaluate
from mlsystem.output import Reporter
from mlsystem.packaging import example, package, package_digest
from mlsystem.registry import registry_of
from mlsystem.registry.command import promote
from mlsystem.serving.examples import example_rows
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.spec import parse_spec
from mlsystem.stages import Workspace
from mlsystem.train.command import train
from tests.blueprint.small_system import SCHEMA, classifier, package_files, spec_text

OPTIONS = Namespace(latency_seconds=0.3)

SPEC = """format = 1
name = "small"
[task]
kind = "binary"
target = "left"
[data]
source = ["rows.csv"]
[search]
budget = "10s"
families = ["linear"]
[registry]
keep = 3
"""


def write_rows(path: Path, *, signal: float) -> None:
    """Write rows whose target follows tenure and plan as strongly as `signal` says; 0 is pure chance."""
    chance = random.Random(5)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["customer", "tenure", "plan", "left"])
        for number in range(400):
            tenure, plan = chance.randrange(72), chance.choice(["monthly", "yearly"])
            raw = signal * ((36 - tenure) / 12 + (1 if plan == "monthly" else -1))
            left = "Yes" if chance.random() < 1 / (1 + math.exp(-raw)) else "No"
            writer.writerow([f"C-{number:04d}", tenure, plan, left])


def make_trained(root: Path, *, signal: float, spec: str = SPEC) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "system.toml").write_text(spec)
    write_rows(root / "rows.csv", signal=signal)
    workspace = opened(root)
    validate(workspace)
    train(workspace)
    evaluate(workspace, OPTIONS)
    return root


def opened(root: Path) -> Workspace:
    return Workspace.open(root, Reporter("json"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trained(tmp_path_factory.mktemp("trained"), signal=1.5)


@pytest.fixture
def system(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained system, so that no test sees what another one registered."""
    return Path(shutil.copytree(trained, tmp_path / "system"))


def packaged(root: Path) -> dict[str, Any]:
    return package(opened(root), Namespace())


def test_the_first_package_is_version_one_with_all_its_files(system: Path) -> None:
    """What is told is what is on disk and in the registry, digest by digest."""
    told = packaged(system)
    folder = system / str(told["path"])
    names = ["lineage.json", "manifest.json", "metrics.json", "model.onnx", "profile.json"]
    names += ["reference.json", "schema.json", "system.toml", "train.json"]
    assert (told["version"], told["created"], told["outcome"], told["servable"]) == (1, True, "success", True)
    assert list(told["files"]) == names
    for name, described in told["files"].items():
        data = (folder / name).read_bytes()
        assert described == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        assert registry_of(opened(system)).blob(described["sha256"]) == data


def test_the_row_to_try_has_a_date_of_the_data() -> None:
    """A contract has no ends of a column of dates to take the middle of, and a row without its date is no good row."""
    columns = tuple(msgspec.structs.replace(c, low=None, high=None) if c.type == "date" else c for c in SCHEMA.columns)
    files = package_files(classifier(), msgspec.structs.replace(SCHEMA, columns=columns))
    row = example(parse_spec(spec_text().encode(), "system.toml"), Package(1, "", files))
    assert row == {"tenure": 36.0, "charges": 65.0, "plan": "monthly", "joined": "2024-02-29"}


def test_packaging_again_makes_no_new_version(system: Path) -> None:
    first, second = packaged(system), packaged(system)
    assert (second["version"], second["created"]) == (1, False)
    assert second["digest"] == first["digest"]
    assert len(list(registry_of(opened(system)).entries())) == 1


def test_a_model_measured_anew_is_the_same_version(system: Path) -> None:
    """Times differ from run to run; they are in the package and not in its digest."""
    first = packaged(system)
    shutil.rmtree(system / "work" / "evaluate")
    shutil.rmtree(system / "work" / "package")
    second: dict[str, Any] = package(opened(system), OPTIONS)
    assert first["files"]["metrics.json"] != second["files"]["metrics.json"]
    assert (second["version"], second["created"], second["digest"]) == (1, False, first["digest"])


def test_another_port_is_not_another_version_and_another_seed_is(system: Path) -> None:
    packaged(system)
    (system / "system.toml").write_text(SPEC + "[serving]\nport = 9000\n")
    assert packaged(system)["created"] is False
    make_trained(system, signal=1.5, spec=SPEC.replace("[registry]", "seed = 8\n[registry]"))
    assert packaged(system)["version"] == 2


def test_the_digest_covers_what_decides_an_answer() -> None:
    base = package_digest(b"model", b"schema", {"task": {"positive": "Yes"}})
    assert base == package_digest(b"model", b"schema", {"task": {"positive": "Yes"}})
    others = {
        package_digest(b"other", b"schema", {"task": {"positive": "Yes"}}),
        package_digest(b"model", b"other", {"task": {"positive": "Yes"}}),
        package_digest(b"model", b"schema", {"task": {"positive": "No"}}),
        base,
    }
    assert len(others) == 4


def test_a_package_answers_its_reference_rows_as_it_says(system: Path) -> None:
    """Reference rows are rows of the source with every column, and the answers recorded for them can be repeated."""
    folder = system / str(packaged(system)["path"])
    rows = msgspec.json.decode((folder / "reference.json").read_bytes(), type=list[dict[str, object]])
    metrics = msgspec.json.decode((folder / "metrics.json").read_bytes(), type=dict[str, Any])
    recorded: list[dict[str, Any]] = metrics["reference_predictions"]
    model = Model(Package.read(folder), name="small")
    answer = model.answer(example_rows(model.schema, rows), strict=True)
    assert (len(rows), set(rows[0])) == (64, {"customer", "tenure", "plan", "left"})
    assert [told.prediction for told in answer.predictions] == [told["prediction"] for told in recorded]
    assert [told.probabilities for told in answer.predictions] == [
        pytest.approx(told["probabilities"]) for told in recorded
    ]


def test_the_manifest_says_where_the_package_comes_from(system: Path) -> None:
    told = packaged(system)
    path = system / str(told["path"]) / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    assert (manifest["name"], manifest["digest"], manifest["seed"]) == ("small", told["digest"], 7)
    assert manifest["snapshot"]["digest"] == hashlib.sha256((system / "rows.csv").read_bytes()).hexdigest()
    assert {"python", "onnxruntime", "mlsystem"} <= manifest["versions"].keys()
    assert set(manifest["stages"]) == {"validate", "train", "evaluate"}


def test_the_history_keeps_the_figures_that_a_version_rests_on(system: Path) -> None:
    packaged(system)
    (entry,) = registry_of(opened(system)).entries()
    assert (entry.evidence["outcome"], entry.evidence["servable"], entry.evidence["failed_gates"]) == (
        "success",
        True,
        [],
    )
    assert set(entry.evidence["metrics"]["roc_auc"]) == {"value", "low", "high", "baseline", "linear"}


def test_a_model_no_better_than_chance_is_registered_and_cannot_be_promoted(tmp_path: Path) -> None:
    """It is on record, with the gate that it failed, and no server will answer with it."""
    root = make_trained(tmp_path / "chance", signal=0.0)
    told = packaged(root)
    (entry,) = registry_of(opened(root)).entries()
    assert (told["outcome"], told["servable"], told["created"]) == ("failed", False, True)
    assert entry.evidence["failed_gates"] == ["beats_trivial"]
    with pytest.raises(GateFailed, match="version 1 failed gates"):
        promote(opened(root), Namespace(version=1, by="", why=""))


def test_there_is_nothing_to_package_before_something_was_trained(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SPEC)
    write_rows(tmp_path / "rows.csv", signal=1.0)
    with pytest.raises(StageMissing, match="python -m mlsystem train"):
        packaged(tmp_path)
