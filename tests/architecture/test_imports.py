"""The import contracts hold, and each of them bites."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

ENGINE = "services/ml_engineer/blueprint"

FORBIDDEN = [
    # file, what it imports, the contract that refuses it
    ("contracts/__init__.py", "services", "Contracts need pydantic alone and know no service"),
    ("services/summarizer/__init__.py", "services.gateway", "Services stand on the runtime and not on each other"),
    ("services/_runtime/__init__.py", "services.gateway", "Services stand on the runtime and not on each other"),
    ("services/newcomer/__init__.py", "json", "Services stand on the runtime and not on each other"),
    ("contracts/__init__.py", "numpy", "Contracts need pydantic alone and know no service"),
    ("services/gateway/__init__.py", "nats", "Only the runtime talks to NATS"),
    (f"{ENGINE}/mlsystem/__init__.py", "nats.aio.client", "Only the runtime talks to NATS"),
    ("services/_runtime/__init__.py", "anthropic", "Only one module talks to the model's API"),
    ("services/ml_engineer/__init__.py", "anthropic", "Only one module talks to the model's API"),
    (f"{ENGINE}/mlsystem/__init__.py", "contracts.events", "The engine stands alone"),
    (
        "services/ml_engineer/__init__.py",
        "mlsystem.registry",
        "The mesh reads the engine's spec and runs the rest in another process",
    ),
    (f"{ENGINE}/mlsystem/serving/__init__.py", "mlsystem.train", "What serves never imports what trains"),
    (f"{ENGINE}/mlsystem/schema.py", "sklearn", "What serves needs the serving libraries alone"),
]


def broken(tree: Path) -> set[str]:
    """The names of the broken contracts."""
    paths = [str(tree), str(tree / ENGINE)]
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)", done.stdout, re.MULTILINE)
    assert verdicts, done.stdout + done.stderr
    found = {name for name, verdict in verdicts if verdict == "BROKEN"}
    assert done.returncode == (1 if found else 0)
    return found


def copied(into: Path) -> Path:
    """A copy of everything that the import contracts are about."""
    for name in ("contracts", "services", "tests/architecture"):
        shutil.copytree(ROOT / name, into / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", into)
    return into


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy to break."""
    return copied(tmp_path)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What is broken as it is, so that a rule that bites is told from one that is broken already."""
    return broken(copied(tmp_path_factory.mktemp("tree")))


def test_the_import_contracts_hold(before: set[str]) -> None:
    """Who may import whom is declared in pyproject.toml, with the reason as the contract's name."""
    assert before == set()


@pytest.mark.parametrize(("file", "imported", "contract"), FORBIDDEN)
def test_a_forbidden_import_breaks_its_contract(
    tree: Path, before: set[str], file: str, imported: str, contract: str
) -> None:
    """One line in the wrong place is seen, and named by the rule that it breaks."""
    target = tree / file
    target.parent.mkdir(exist_ok=True)
    with target.open("a", encoding="utf-8") as source:
        source.write(f"\nimport {imported}\n")

    assert broken(tree) - before == {contract}


def test_an_indirect_import_breaks_the_contract_too(tree: Path, before: set[str]) -> None:
    """What serves must not reach what trains through a module in between."""
    (tree / ENGINE / "mlsystem" / "between.py").write_text(
        '"""Between."""\n\nimport mlsystem.train\n', encoding="utf-8"
    )
    with (tree / ENGINE / "mlsystem" / "registry.py").open("a", encoding="utf-8") as source:
        source.write("\nimport mlsystem.between\n")

    assert broken(tree) - before == {"What serves never imports what trains"}


def test_every_contract_is_seen_to_bite() -> None:
    """A rule that nothing here breaks could be one that never holds."""
    declared = re.findall(r'^name = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)

    assert {contract for _, _, contract in FORBIDDEN} == set(declared) - {"mlmesh"}
