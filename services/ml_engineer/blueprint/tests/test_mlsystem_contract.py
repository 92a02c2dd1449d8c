"""Spec and data contract fit each other and the package that is live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from mlsystem.registry import Registry
    from mlsystem.serving.model import Model
    from mlsystem.stages import Workspace


def test_schema_json_is_the_contract_of_a_registered_package(workspace: Workspace, registry: Registry) -> None:
    """The file in this directory is the one that a model was trained with, the newest one if there are several."""
    from mlsystem.schema import Schema, read_schema

    ledger = registry.ledger()
    contracts = [
        msgspec.json.decode(registry.blob(ledger.versions[version].files["schema.json"].sha256), type=Schema)
        for version in ledger.kept
    ]
    assert read_schema(workspace.root / "schema.json") in contracts


def test_the_contract_is_about_the_task_of_the_spec(workspace: Workspace, model: Model) -> None:
    task = model.schema.task
    assert (task.kind, task.target) == (workspace.spec.task.kind, workspace.spec.task.target)


def test_the_target_is_no_feature(model: Model) -> None:
    """Nothing that a caller must send says what is to be predicted."""
    used = set(model.boundary.required)
    roles = {column.name: column.role for column in model.schema.columns}
    assert model.schema.task.target not in used
    assert {roles[name] for name in used} <= {"feature", "time"}
