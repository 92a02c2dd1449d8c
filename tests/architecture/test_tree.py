"""The tree says what is what: names, places and words that hold for every file of the repository."""

import ast
import contextlib
import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.tree import ENGINE, ROOT, files, parsed, python_files

TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "contracts",
    "deploy",
    "docker-compose.yml",
    "examples",
    "pyproject.toml",
    "services",
    "tests",
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "core", "info", "manager", "misc", "data", "shared", "base"}
GIVEN = {ENGINE / "mlsystem" / "data"}
"""A folder that the design of the delivered system names."""

# Spelled in halves, so that this file does not hold what it looks for.
HOSTS = [
    "".join(halves)
    for halves in (
        ("py", "pi.org"),
        ("python", "hosted"),
        ("npm", "js."),
        ("np", "mmirror"),
        ("deb", ".debian"),
        ("security", ".debian"),
        ("crates", ".io"),
        ("proxy.go", "lang"),
        ("anaconda", ".org"),
    )
]
UNFINISHED = ["".join(halves) for halves in (("TO", "DO"), ("FIX", "ME"), ("X", "XX"), ("HA", "CK"))]
ELSEWHERE = [
    "".join(halves) for halves in (("/work/ma", "in"), ("/work/sha", "red"), ("../sha", "red"), ("/bri", "efs/"))
]
LONGEST_FUNCTION = 70


def spelled(words: list[str], flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Any of these words, at the beginning of a word."""
    return re.compile("|".join(rf"(?<![A-Za-z]){re.escape(word)}" for word in words), flags)


def found(pattern: re.Pattern[str]) -> list[str]:
    """`file:line` of every occurrence in the repository's text."""
    return [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        for path, text in texts().items()
        for match in pattern.finditer(text)
    ]


@cache
def texts() -> dict[Path, str]:
    """Every file that holds text, and not bytes of another kind."""
    read: dict[Path, str] = {}
    for path in files():
        with contextlib.suppress(UnicodeDecodeError):
            read[path] = path.read_text(encoding="utf-8")
    return read


def test_the_top_level_is_what_the_readme_draws() -> None:
    """`ls` says what runs, what is said, how it is run and how we know; anything else has a place below."""
    assert {path.relative_to(ROOT).parts[0] for path in files()} == TOP_LEVEL


def test_no_file_names_a_package_registry() -> None:
    """Whoever installs decides where from: a host in a file would reach past that."""
    assert found(spelled(HOSTS, re.IGNORECASE)) == []


def test_nothing_is_left_for_later() -> None:
    """What is here is done: no comment says what should still be, no function stands for one that is missing."""
    comment = re.compile(rf"(#|//|<!--|/\*).*\b({'|'.join(UNFINISHED)})\b")

    assert (found(comment), found(spelled(["raise NotImplemented" + "Error"]))) == ([], [])


def test_no_file_points_out_of_the_repository() -> None:
    """A clone has everything: no path of one machine, no folder beside the repository."""
    assert found(spelled(ELSEWHERE)) == []


def test_modules_are_named_for_what_they_hold() -> None:
    """A module is a noun of the domain in snake case; a drawer for the rest is no noun."""
    paths = {path for file in python_files() for path in (file, *file.parents) if ROOT in path.parents}
    odd = {path for path in paths if not re.fullmatch(r"[a-z_][a-z0-9_]*", path.stem) and path.suffix == ".py"}
    vague = {path for path in paths if path.stem in VAGUE}

    assert (odd, vague - GIVEN) == (set(), set())


def test_files_outside_python_are_spelled_with_hyphens() -> None:
    """Deployment, golden files and the like. What is delivered is named by the delivered system's own design."""
    python = {".py", ".mjs"}
    ours = [path for path in files() if path.suffix not in python and not {ENGINE, ROOT / "examples"} & {*path.parents}]

    assert [str(path.relative_to(ROOT)) for path in ours if "_" in path.name] == []


def test_every_folder_of_modules_is_a_package() -> None:
    """Without `__init__.py` a folder is invisible to the import contracts. Tests and source roots are none."""
    roots = {ENGINE}
    code = {path.parent for path in python_files() if path.relative_to(ROOT).parts[0] in {"contracts", "services"}}
    packages = {folder for folder in code if "tests" not in folder.relative_to(ROOT).parts} - roots

    assert [str(f.relative_to(ROOT)) for f in sorted(packages) if not (f / "__init__.py").is_file()] == []


def _modules() -> list[Path]:
    return [path for path in python_files() if path.relative_to(ROOT).parts[0] in {"contracts", "services", "examples"}]


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_owns(path: Path) -> None:
    """A docstring at the top, in a package too: the reader learns what is there and what is left out."""
    assert (ast.get_docstring(parsed(path)) or "").strip() != ""


def test_functions_fit_on_a_screen() -> None:
    """Nothing over seventy lines: what is longer tells more than one story."""
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]

    assert long == []


def test_subjects_are_built_in_one_place() -> None:
    """`contracts/subjects.py` owns the grammar: no service spells a subject itself. Templates on spans are none."""
    spelled = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files()
        if path.relative_to(ROOT).parts[0] == "services"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and "{" not in node.value
        and re.match(r"mesh\.(task|work|timer|report|system|live|dead|context)\.", node.value)
    ]

    assert spelled == []


def test_no_test_is_skipped_without_a_condition() -> None:
    """A test that is always skipped proves nothing."""
    marks = re.compile(r"pytest\.mark\.(skip\b|xfail)")

    assert found(marks) == []
