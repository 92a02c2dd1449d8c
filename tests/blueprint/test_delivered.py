"""The tests that are delivered with a system pass where they are delivered, and fail when something is wrong there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from mlsystem.registry import Note
from mlsystem.schema import Schema, encode_schema
from tests.blueprint import monitored
from tests.blueprint.made_tables import engine
from tests.blueprint.small_system import (
    NOTE,
    REGRESSION,
    SCHEMA,
    classifier,
    make_system,
    package_files,
    regressor,
    with_answers,
)
from tests.delivered import lay_out

ENGINE_TEST = """
import sys
from pathlib import Path

def test_the_engine_is_the_one_in_vendor():
    import mlsystem
    assert Path(__file__).parent.parent.joinpath("vendor") in Path(mlsystem.__file__).parents
"""


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that an engagement delivers, without a model."""
    return lay_out(tmp_path_factory.mktemp("repository"), rows=10)


def deliver(root: Path, laid: Path, schema: Schema, model: bytes) -> Path:
    """Copy what is delivered, and give it the spec and contract of a model made by hand, its one live version."""
    shutil.copytree(laid, root, ignore=shutil.ignore_patterns("__pycache__"))
    registry = make_system(root)
    (root / "schema.json").write_bytes(encode_schema(schema))
    profile = structs.replace(monitored.profile(), labels=schema.task.labels)
    files = with_answers(package_files(model, schema), schema) | {"profile.json": msgspec.json.encode(profile)}
    registry.register(files, "digest", Note("a test", "", {"servable": True, "outcome": "success"}))
    registry.promote(1, NOTE)
    assert engine("sbom", cwd=root).code == 0
    return root


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as a person would, in a directory of its own, with nothing of this repository's settings."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest is all they need
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("schema", "model"), [(SCHEMA, classifier()), (REGRESSION, regressor())], ids=["binary", "regression"]
)
def test_they_pass_in_the_system_directory_with_the_engine_that_came_along(
    tmp_path: Path, laid: Path, schema: Schema, model: bytes
) -> None:
    """Nothing of this repository is needed but the libraries: the engine is the wheel.

    Two are skipped: a model written by hand has no training that could be repeated, and was made by no release.
    """
    root = deliver(tmp_path / "ml" / "small", laid, schema, model)
    if schema is REGRESSION:
        spec = root / "system.toml"
        spec.write_text(spec.read_text().replace('"binary"', '"regression"'))
    (root / "tests" / "test_engine.py").write_text(ENGINE_TEST)
    ended = run_pytest(root)
    assert (ended.returncode, "failed" in ended.stdout, " 2 skipped" in ended.stdout) == (0, False, True), ended.stdout


@pytest.mark.long
def test_they_pass_beside_the_tests_of_a_strict_repository(tmp_path: Path, laid: Path) -> None:
    """The repository has a conftest, a tests package and strict settings of its own; one run takes both."""
    deliver(tmp_path / "ml" / "small", laid, SCHEMA, classifier())
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef server(): return 7\n")
    (tmp_path / "tests" / "test_contract.py").write_text("def test_own(server): assert server == 7\n")
    ended = run_pytest(tmp_path)
    assert (ended.returncode, " 2 skipped" in ended.stdout) == (0, True), ended.stdout


def test_a_clone_without_a_registry_says_what_is_missing(tmp_path: Path, laid: Path) -> None:
    root = deliver(tmp_path / "small", laid, SCHEMA, classifier())
    shutil.rmtree(root / "registry")
    ended = run_pytest(root, "-rs")
    assert ended.returncode == 0, ended.stdout
    assert "run `python -m mlsystem package` to make a version" in " ".join(ended.stdout.split())


def other_contract(root: Path) -> None:
    (root / "schema.json").write_bytes(encode_schema(REGRESSION))


def changed_history(root: Path) -> None:
    entry = root / "registry" / "history" / "000002.json"
    entry.write_bytes(entry.read_bytes().replace(b"to see it", b"no reason"))


def other_task(root: Path) -> None:
    spec = root / "system.toml"
    spec.write_text(spec.read_text().replace('target = "left"', 'target = "stayed"'))


@pytest.mark.parametrize(
    ("spoil", "failing"),
    [
        (other_contract, "test_schema_json_is_the_contract_of_a_registered_package"),
        (changed_history, "test_the_history_and_every_file_verify"),
        (other_task, "test_the_contract_is_about_the_task_of_the_spec"),
    ],
)
def test_they_fail_by_name_when_the_system_is_spoilt(
    tmp_path: Path, laid: Path, spoil: Callable[[Path], None], failing: str
) -> None:
    root = deliver(tmp_path / "small", laid, SCHEMA, classifier())
    spoil(root)
    ended = run_pytest(root, "-k", failing)
    assert (ended.returncode, failing in ended.stdout) == (1, True)


def test_a_model_that_answers_otherwise_than_recorded_is_noticed(tmp_path: Path, laid: Path) -> None:
    root = deliver(tmp_path / "small", laid, SCHEMA, classifier())
    registry = make_system(root)
    files = package_files(classifier(1.0))
    files["metrics.json"] = registry.files(registry.ledger().versions[1])["metrics.json"]
    registry.register(files, "other", Note("a test", "", {"servable": True}))
    registry.promote(2, NOTE)
    ended = run_pytest(root, "-k", "recorded")
    assert (ended.returncode, "test_the_model_answers_reference_rows_as_it_was_recorded" in ended.stdout) == (1, True)
