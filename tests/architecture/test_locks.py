"""The locks: what is installed is pinned, hashed, what was declared, and comes from no place that a file names."""

import ast
import re
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.architecture.tree import ENGINE, ROOT, parsed, python_files

LOCKS = ROOT / "deploy" / "requirements"
PEERS = "peers"
"""Name of folders in which every file runs in an environment of its own."""
DELIVERED = "../../services/ml_engineer/blueprint/requirements"
SERVE, TRAIN = f"{DELIVERED}/serve.txt", f"{DELIVERED}/train.txt"
NAMES = ("runtime.txt", "dev.txt", SERVE, TRAIN)
every_lock = pytest.mark.parametrize("name", NAMES)


def pins(name: str) -> dict[str, Version]:
    """Package -> version of a lock."""
    text = (LOCKS / name).read_text(encoding="utf-8")
    return {
        canonicalize_name(found[0]): Version(found[1])
        for found in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)
    }


def project(path: Path) -> dict[str, Any]:
    """The `[project]` table of a pyproject.toml."""
    return tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(path: Path, *extras: str) -> list[Requirement]:
    """What a project needs, with these extras."""
    table = project(path)
    texts = [*table["dependencies"], *(text for extra in extras for text in table["optional-dependencies"][extra])]
    return [Requirement(text) for text in texts]


@every_lock
def test_every_pin_has_its_hashes_and_no_line_names_a_place(name: str) -> None:
    """The installer takes them with `--require-hashes` from whatever index it is set up for."""
    text = (LOCKS / name).read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    bare = [block.split()[0] for block in blocks if "--hash=sha256:" not in block]

    assert (bare, re.findall(r"://|^-.*", text, re.MULTILINE)) == ([], [])


@pytest.mark.parametrize(
    ("name", "path", "extras"),
    [
        ("runtime.txt", ROOT, ("build",)),
        ("dev.txt", ROOT, ("build", "dev")),
        (SERVE, ENGINE, ("serve",)),
        (TRAIN, ENGINE, ("serve", "train", "test")),
    ],
)
def test_a_lock_holds_what_is_declared(name: str, path: Path, extras: tuple[str, ...]) -> None:
    """Every declared package is pinned within its range; if not, `make lock` has to be run."""
    locked = pins(name)
    unmet = [
        str(need)
        for need in declared(path, *extras)
        if (version := locked.get(canonicalize_name(need.name))) is None or version not in need.specifier
    ]

    assert unmet == []


@pytest.mark.parametrize("name", NAMES[1:])
def test_all_locks_agree(name: str) -> None:
    """What is tested is what runs, and what is delivered is what was measured."""
    runtime = pins("runtime.txt")

    assert {package: pin for package, pin in pins(name).items() if runtime.get(package, pin) != pin} == {}


def test_a_delivered_system_serves_without_what_trains() -> None:
    """The serving lock is small: no training library, no table engine."""
    assert set(pins(SERVE)) & {"lightgbm", "scikit-learn", "scipy", "duckdb", "onnx", "pandas"} == set()


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("contracts", ()), ("services", ()), ("examples", ()), ("tests", ("dev",))],
)
def test_everything_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    """A package that is there only because another one needs it may be gone tomorrow."""
    ours = (path for path in python_files() if ROOT / folder in path.parents and ENGINE / "tests" not in path.parents)
    found = [path for path in ours if PEERS not in path.parts]

    assert undeclared(found, declared(ROOT, *extras)) == []


def test_everything_the_engine_imports_is_declared_by_the_engine() -> None:
    """It is delivered without the mesh, so it says itself what it needs."""
    found = [path for path in python_files() if ENGINE / "mlsystem" in path.parents]

    assert undeclared(found, declared(ENGINE, "serve", "train", "arrow")) == []


def undeclared(paths: Sequence[Path], needs: Sequence[Requirement]) -> list[str]:
    """`file imports name` for what no declared package provides."""
    needed = {canonicalize_name(need.name) for need in needs}
    by_module = packages_distributions()
    ours = {"contracts", "services", "mlsystem", "tests", "examples", *sys.stdlib_module_names}
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in sorted(_imported(path) - ours)
        if not {canonicalize_name(distribution) for distribution in by_module.get(name, [])} & needed
        and not (path.parent / f"{name}.py").exists()
    ]


def _imported(path: Path) -> set[str]:
    """Top-level names that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names
