"""The owner's hooks.py: the same rows in training and serving, errors with their row, and no cost while it is empty."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsystem.boundary import Boundary
from mlsystem.data.command import validate, validate_stage
from mlsystem.data.dataset import load
from mlsystem.errors import DataError, SpecError
from mlsystem.evaluation.command import evaluate
from mlsystem.hooked import boundary_of
from mlsystem.hooks import read_hooks
from mlsystem.packaging import BEHAVIOUR, package, package_digest
from mlsystem.registry import registry_of
from mlsystem.serving.answers import Refusal
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.stages import Workspace
from mlsystem.train.command import train
from services.ml_engineer.wheel import BLUEPRINT
from tests.blueprint.made_tables import churn, make_system

HOOKS = """
HOOKS = {"per_month": "number", "group": "category"}


def derive(row):
    if row["tenure"] is None:
        return {}
    return {"per_month": (row["charge"] or 0.0) / max(row["tenure"], 1), "group": f" {row['plan']}-{row['seen'].year} "}


def validate_row(row):
    return "tenure cannot be negative" if (row["tenure"] or 0) < 0 else None


def business_metric(actual, predicted):
    return sum(5.0 for was, said in zip(actual, predicted) if was == said == "Yes")
"""
SPEC = '[search]\nbudget = "10s"\nfamilies = ["linear"]\n[derive]\ndear = "per_month > 2"\n'
ROW = {"customer": "C-1", "tenure": 10, "charge": "50.5", "plan": "pro", "seen": "2024-02-29", "country": "NL"}


def table(rows: int = 300) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {**churn(rows)}
    days = np.datetime64("2023-06-01") + np.random.default_rng(1).integers(0, 400, rows)
    return {**columns, "seen": [str(day) for day in days]}


def system(root: Path, hooks: str, more: str = SPEC) -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    (root / "hooks.py").write_text(hooks)
    return make_system(root, table(), "left", more=more)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A system with hooks and a derived feature on top of them, trained, evaluated and packaged once."""
    workspace = system(tmp_path_factory.mktemp("hooked"), HOOKS)
    validate(workspace)
    train(workspace)
    evaluate(workspace, Namespace(latency_seconds=0.3))
    package(workspace, Namespace())
    return workspace


def served(workspace: Workspace) -> Model:
    return Model(Package.stored(registry_of(workspace), 1), name="made")


def test_training_and_serving_show_a_hook_the_same_rows(packaged: Workspace) -> None:
    """What hooks make of every row of the source is what they make of it when it comes as a request."""
    dataset = load(packaged, validate_stage(packaged).digest(packaged))
    model = served(packaged)
    assert (model.boundary.numbers[-1], model.boundary.strings[-1]) == ("per_month", "group")
    encoded = model.boundary.rows(dataset.records(np.arange(len(dataset.target))))
    assert encoded.problems == ()
    np.testing.assert_array_equal(encoded.numbers, dataset.encoded.numbers)
    np.testing.assert_array_equal(encoded.strings, dataset.encoded.strings)
    made = encoded.numbers[:, -1], set(encoded.strings[:, -1])
    assert np.isfinite(made[0]).all()
    assert "pro-2024" in made[1]


def test_a_request_does_not_send_what_hooks_make(packaged: Workspace) -> None:
    """The caller's columns are those of the source; a row that lacks one of these is refused, not passed to a hook."""
    model = served(packaged)
    assert "per_month" not in model.boundary.required
    assert len(model.answer([ROW], strict=True).predictions) == 1
    encoded = model.boundary.rows([{**ROW, "tenure": "many"}])
    assert [(p.row, p.column, p.reason) for p in encoded.problems] == [(0, "tenure", "not a number")]


def test_the_rule_of_a_hook_refuses_a_row(packaged: Workspace) -> None:
    with pytest.raises(Refusal) as caught:
        served(packaged).answer([ROW, {**ROW, "tenure": -1}], strict=False)
    assert (caught.value.status, caught.value.error.details[0].row) == (422, 1)
    assert (caught.value.error.details[0].column, caught.value.error.details[0].reason) == (
        "hooks.py validate_row",
        "tenure cannot be negative",
    )


def test_a_hook_that_fails_on_a_request_is_told_with_its_row(packaged: Workspace) -> None:
    """A failure of the owner's code is a 422 that names hook, row and exception; rows beside it are not to blame."""
    with pytest.raises(Refusal) as caught:
        served(packaged).answer([ROW, {**ROW, "seen": None}], strict=False)
    detail = caught.value.error.details[0]
    assert (caught.value.status, detail.row, detail.column) == (422, 1, "hooks.py")
    assert detail.reason == "AttributeError: 'NoneType' object has no attribute 'year'"


def test_cost_and_business_metric_are_told(packaged: Workspace) -> None:
    own: Any = evaluate(packaged, Namespace(latency_seconds=0.3))["own"]
    assert own["derive"]["features"] == ["dear"]
    assert own["hooks"]["features"] == ["per_month", "group"]
    assert (own["derive"]["ms_per_row"] > 0, own["hooks"]["ms_per_row"] > 0) == (True, True)
    assert {name: value % 5 for name, value in own["business"].items()} == {"value": 0, "baseline": 0, "linear": 0}


def test_another_hook_is_another_version(packaged: Workspace, tmp_path: Path) -> None:
    """hooks.py is in the package and in its digest, and every stage is run again when it changes."""
    stored = Package.stored(registry_of(packaged), 1)
    assert stored.files["hooks.py"] == HOOKS.encode()
    parts = (stored.files["model.onnx"], stored.files["schema.json"])
    behaviour = {key: packaged.spec.value(key) for key in BEHAVIOUR}
    with_hooks = {**behaviour, "hooks.py": hashlib.sha256(HOOKS.encode()).hexdigest()}
    assert stored.digest == package_digest(*parts, with_hooks) != package_digest(*parts, behaviour)
    assert package(packaged, Namespace())["created"] is False
    changed = system(tmp_path, HOOKS.replace("cannot", "must not"))
    assert validate_stage(changed).digest(changed) != validate_stage(packaged).digest(packaged)


def test_the_delivered_file_costs_nothing(tmp_path: Path) -> None:
    """As delivered it defines no hook: it is not run, not packaged, and the boundary is the plain one."""
    delivered = (BLUEPRINT / "render" / "system" / "hooks.py.j2").read_text()
    workspace = system(tmp_path, delivered + "\nraise RuntimeError('it was run')\n", more="")
    bare = validate_stage(workspace).digest(workspace)
    assert read_hooks(tmp_path) is None
    (tmp_path / "hooks.py").unlink()
    assert validate_stage(workspace).digest(workspace) == bare
    schema = served_schema(workspace)
    assert type(boundary_of(schema, read_hooks(tmp_path))) is Boundary


def served_schema(workspace: Workspace) -> Any:
    validate(workspace)
    return load(workspace, validate_stage(workspace).digest(workspace)).schema


@pytest.mark.parametrize(
    ("hooks", "error", "message"),
    [
        ("def derive(row:\n", SpecError, "it is not Python"),
        (
            "import nowhere_at_all\ndef derive(row): return {}\n",
            SpecError,
            "running it failed with ModuleNotFoundError",
        ),
        ("def derive(row): return {}\n", SpecError, "derive(row) and HOOKS go together"),
        ("HOOKS = {'a': 'date'}\ndef derive(row): return {}\n", SpecError, "HOOKS names 'a' as 'date'"),
        ("HOOKS = {'plan': 'number'}\ndef derive(row): return {}\n", SpecError, "'plan', which the data have already"),
        (
            "HOOKS = {'a': 'number'}\ndef derive(row): return [1]\n",
            DataError,
            "row 1 of the source: TypeError: derive()",
        ),
        (
            "HOOKS = {'a': 'number'}\ndef derive(row): return {'b': 1}\n",
            DataError,
            "makes b, which HOOKS does not name",
        ),
        ("HOOKS = {'a': 'number'}\ndef derive(row): return {'a': 'x'}\n", DataError, "a is str, a number is expected"),
        (
            "HOOKS = {'a': 'number'}\ndef derive(row): return {'a': 1 / (row['tenure'] - 9)}\n",
            DataError,
            "row 20 of the source: ZeroDivisionError",
        ),
    ],
)
def test_a_hook_that_cannot_be_used_is_told_at_validate(
    hooks: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Before anything is trained, with the row where there is one."""
    workspace = system(tmp_path, hooks, more="")
    with pytest.raises(error) as caught:
        validate(workspace)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("derived", "hooks"),
    [
        ('twice = "2 * tenure + 1"', ""),
        ("", "HOOKS = {'twice': 'number'}\ndef derive(row): return {'twice': row['tenure'] * 2}\n"),
    ],
)
def test_a_made_feature_that_is_the_target_is_refused(derived: str, hooks: str, tmp_path: Path) -> None:
    """The audit finds a column of the source that is the target; one that a person makes must not slip past it."""
    columns = {**table(), "months": [float(value) for value in table()["tenure"]]}
    (tmp_path / "hooks.py").write_text(hooks)
    more = f"[derive]\n{derived}\n[columns]\ntenure = {{ role = 'feature', why = 'made for the test' }}\n"
    workspace = make_system(tmp_path, columns, "months", "regression", more=more)
    with pytest.raises(DataError, match="'twice' gives 'months' away"):
        validate(workspace)
