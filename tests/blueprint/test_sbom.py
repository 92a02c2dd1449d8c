"""The bill of materials: every part of the locks, the model and its data, with licences, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from pathlib import Path
from typing import Any, Final

import pytest

from mlsystem.errors import DataError
from mlsystem.governance.licences import Licence, licence_of
from mlsystem.governance.sbom import read_lock, sbom
from mlsystem.registry import Note
from mlsystem.stages import Workspace
from tests.blueprint.small_system import NOTE, classifier, make_system, package_files

REQUIREMENTS: Final = Path(__file__).parents[2] / "services/ml_engineer/blueprint/requirements"
WHEEL: Final = "vendor/mlsystem-0.1.0-py3-none-any.whl"
DIGEST: Final = hashlib.sha256(b"the engine").hexdigest()


def system(root: Path, *, versions: int = 1) -> Workspace:
    """A system with its locks and a live version, as it is delivered."""
    registry = make_system(root)
    (root / "requirements").mkdir()
    for name in ("serve", "train"):
        pins = (REQUIREMENTS / f"{name}.txt").read_text()
        (root / f"requirements/{name}.lock").write_text(f"{pins}./{WHEEL} \\\n    --hash=sha256:{DIGEST}\n")
    manifest = json.dumps({"snapshot": {"digest": "d" * 64, "rows": 40}}).encode()
    for bias in range(versions):
        files = {**package_files(classifier(bias)), "manifest.json": manifest}
        registry.register(files, f"digest-{bias}", Note("a test", "", {"outcome": "success", "servable": True}))
    if versions:
        registry.promote(1, NOTE)
    return Workspace.open(root)


def made(workspace: Workspace) -> tuple[dict[str, object], dict[str, Any]]:
    """What the command says, and the document that it writes."""
    told = sbom(workspace, Namespace(out=None))
    return told, json.loads((workspace.root / "docs" / "sbom.json").read_bytes())


def parts(document: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The components of a type by name."""
    return {part["name"]: part for part in document["components"] if part["type"] == kind}


def test_every_pin_of_the_locks_is_a_part_with_its_version_and_hashes(tmp_path: Path) -> None:
    """And what serving needs is told from what only training does."""
    workspace = system(tmp_path)
    libraries = parts(made(workspace)[1], "library")
    serve, train = (read_lock(tmp_path / f"requirements/{name}.lock") for name in ("serve", "train"))
    assert {name: part["version"] for name, part in libraries.items()} == {n: pin.version for n, pin in train.items()}
    assert {name for name, part in libraries.items() if part["scope"] == "required"} == set(serve)
    assert all([h["content"] for h in libraries[name]["hashes"]] == list(pin.hashes) for name, pin in train.items())


def test_the_engine_is_a_part_by_the_hash_of_its_wheel(tmp_path: Path) -> None:
    """What is vendored is known by its file."""
    engine = parts(made(system(tmp_path))[1], "library")["mlsystem"]
    assert (engine["hashes"], engine["licenses"]) == (
        [{"alg": "SHA-256", "content": DIGEST}],
        [{"expression": "MIT-0"}],
    )
    assert {"name": "mlsystem:file", "value": WHEEL} in engine["properties"]


def test_the_live_model_is_a_part_that_depends_on_its_data(tmp_path: Path) -> None:
    """By the digest of its file and of the rows that it learned from."""
    document = made(system(tmp_path, versions=2))[1]
    model = parts(document, "machine-learning-model")["small model"]
    data = parts(document, "data")["small data"]
    assert (model["version"], model["hashes"][0]["content"], data["version"]) == (
        "1",
        hashlib.sha256(classifier(0)).hexdigest(),
        "d" * 64,
    )
    assert {"ref": model["bom-ref"], "dependsOn": [data["bom-ref"]]} in document["dependencies"]


def test_before_the_first_version_there_are_only_packages(tmp_path: Path) -> None:
    """The document can be made from a clone."""
    document = made(system(tmp_path, versions=0))[1]
    assert {part["type"] for part in document["components"]} == {"library"}


def test_the_same_system_gives_the_same_bytes(tmp_path: Path) -> None:
    """There is no clock in it; the serial number is the content's."""
    workspace = system(tmp_path)
    first = made(workspace)[1]
    assert made(workspace)[1] == first
    assert first["serialNumber"].startswith("urn:uuid:")


def test_every_package_says_its_licence_and_those_that_ask_for_sharing_are_named(tmp_path: Path) -> None:
    """PostgreSQL's driver is under the LGPL, which asks nothing of who only uses it; another one would be news."""
    told, document = made(system(tmp_path))
    flagged = {
        name
        for name, part in parts(document, "library").items()
        if {"name": "mlsystem:copyleft", "value": "yes"} in part["properties"]
    }
    assert (told["copyleft"], told["unknown"]) == (["psycopg", "psycopg-binary"], [])
    assert flagged == {"psycopg", "psycopg-binary"}


@pytest.mark.parametrize(
    ("expression", "copyleft"),
    [
        ("MIT", False),
        ("Apache-2.0 AND BSD-2-Clause", False),
        ("LGPL-2.1-or-later", True),
        ("MIT OR GPL-3.0-only", True),
        ("MPL-2.0", True),
        ("GNU General Public License v3", True),
    ],
)
def test_copyleft_is_flagged(expression: str, copyleft: bool) -> None:
    """A choice between two licences is one that a person has to make."""
    assert Licence(expression, "").copyleft is copyleft


def test_a_package_that_is_not_here_is_told_as_such() -> None:
    """Its licence is in its metadata, and that is not here."""
    assert licence_of("there-is-no-such-package") is None


def test_a_missing_lock_is_told(tmp_path: Path) -> None:
    """Without the locks nobody knows what it is made of."""
    make_system(tmp_path)
    with pytest.raises(DataError, match=r"serve\.lock is missing"):
        sbom(Workspace.open(tmp_path), Namespace(out=None))
