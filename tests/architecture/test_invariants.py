"""The runtime's README: each promise names tests that exist, each crash point is there, the tables are of the day."""

import ast

import pytest

from tests.architecture import readme_tables
from tests.architecture.invariants import INVARIANTS
from tests.architecture.tree import ROOT, parsed

RUNTIME = ROOT / "services" / "_runtime" / "README.md"


def defined(path: str) -> set[str]:
    """Names at the top of a test module: its tests, and the test cases of its state machines."""
    found: set[str] = set()
    for node in parsed(ROOT / "tests" / path).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case _:
                pass
    return found


@pytest.mark.parametrize("path", sorted({test.partition("::")[0] for one in INVARIANTS for test in one.tests}))
def test_the_tests_of_a_promise_exist(path: str) -> None:
    """A test that is renamed is renamed in the list of promises too."""
    tests = [test.partition("::") for one in INVARIANTS for test in one.tests]
    named = {name for file, _, name in tests if file == path}

    assert named - defined(path) == set()


def test_every_promise_has_a_test_and_is_said_once() -> None:
    """Nothing is promised that nobody shows."""
    assert [one.text for one in INVARIANTS if not one.tests] == []
    assert len({one.text for one in INVARIANTS}) == len(INVARIANTS)


@pytest.mark.parametrize("name", readme_tables.DOCUMENTS[RUNTIME])
def test_a_table_of_the_runtime_says_what_the_code_says(name: str) -> None:
    """`python -m tests.architecture.readme_tables --write` fills them in."""
    text = RUNTIME.read_text(encoding="utf-8")

    assert readme_tables.written(text, name) == f"\n{readme_tables.DOCUMENTS[RUNTIME][name]()}\n"
