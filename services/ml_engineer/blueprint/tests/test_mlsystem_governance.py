"""Personal data is where it may be, and what the system promises about it is in its files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from mlsystem.registry import Registry
    from mlsystem.serving.model import Model
    from mlsystem.stages import Workspace


def test_no_feature_is_personal_data_that_nobody_decided_on(workspace: Workspace, model: Model) -> None:
    """A column of personal data is a feature only where system.toml says so and why."""
    from mlsystem.governance.regimes import handled

    rule = handled(workspace.spec, model.schema)
    assert rule.kept, rule.text


def test_the_rules_of_each_regime_are_kept(workspace: Workspace, model: Model) -> None:
    """The gates of the version that was delivered, decided again from the spec and contract of today."""
    from mlsystem.governance.regimes import rules

    regimes = workspace.spec.governance.regime
    found = [rule for regime in regimes for rule in rules(regime, workspace.spec, model.schema)]
    assert [rule.text for rule in found if not rule.kept] == []


def test_example_rows_name_nobody_and_hold_no_personal_data(
    workspace: Workspace, model: Model, files: dict[str, bytes], reference: list[dict[str, Any]]
) -> None:
    """What is stored with a version says nothing about whom its rows were about."""
    from mlsystem import __version__
    from mlsystem.governance.mask import mask_of

    if (engine := msgspec.json.decode(files["manifest.json"]).get("engine")) != __version__:
        pytest.skip(f"engine {engine} made this version; what is packaged with mlsystem {__version__} names nobody")

    mask = mask_of(model.schema, workspace.spec, captured=False)
    assert [{name: value or "" for name, value in mask(row).items()} for row in reference] == reference


def test_the_contract_lists_no_personal_value(model: Model) -> None:
    """Levels of a category are ordinary words; a column of personal data that is no feature has none."""
    from mlsystem.governance.pii import in_value

    held = {column.name: [level for level in column.levels if in_value(level)] for column in model.schema.columns}
    decided = {column.name for column in model.schema.columns if column.pii and column.role == "feature"}
    target = model.schema.task.target
    assert {name: levels for name, levels in held.items() if levels and name not in decided | {target}} == {}


def test_nothing_may_leave_but_what_the_network_policy_names(workspace: Workspace) -> None:
    """Egress is denied in every cluster that the delivered files are applied to."""
    policy = workspace.root / "deploy" / "kubernetes" / "base" / "networkpolicy.yml"
    if not policy.is_file():
        pytest.skip("there are no files for Kubernetes in deploy/kubernetes")
    assert re.search(r"policyTypes:.*Egress", _text(policy)), f"{policy} does not restrict what goes out"


def test_the_bill_of_materials_is_of_this_system(workspace: Workspace, registry: Registry) -> None:
    """docs/sbom.json names the parts of the lock, and a version of this registry."""
    from mlsystem.governance.sbom import read_lock

    document = msgspec.json.decode((workspace.root / "docs" / "sbom.json").read_bytes(), type=dict[str, Any])
    parts: dict[str, list[dict[str, Any]]] = {}
    for part in document["components"]:
        parts.setdefault(part["type"], []).append(part)
    models = {model["hashes"][0]["content"] for model in parts["machine-learning-model"]}
    registered = {entry.files["model.onnx"].sha256 for entry in registry.ledger().versions.values()}
    assert {part["name"] for part in parts["library"]} == set(read_lock(workspace.root / "requirements/train.lock"))
    assert models <= registered


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
