"""What a delivered system's own tests said, test by test: the evidence that its documents name.

Owns the record and reading it from pytest's JUnit file. Leaves running the tests to `build`.
"""

import contextlib
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ConfigDict


class TestResult(BaseModel):
    """One test."""

    __test__: ClassVar = False  # pytest collects classes that are called so

    model_config = ConfigDict(frozen=True)

    name: str
    """`test_mlsystem_model::test_the_server_answers_its_own_rows`."""
    result: str
    """passed, failed or skipped."""
    seconds: float


class Tested(BaseModel):
    """How the delivered tests ended."""

    __test__: ClassVar = False

    model_config = ConfigDict(frozen=True)

    passed: bool
    text: str
    at: str = ""
    """When they were run, as pytest wrote it; empty: not said."""
    tests: tuple[TestResult, ...] = ()


def read_results(file: Path) -> tuple[str, tuple[TestResult, ...]]:
    """When tests were run, and each of them; nothing where pytest ended before it wrote the file."""
    with contextlib.suppress(FileNotFoundError, ET.ParseError):
        suite = ET.parse(file).getroot().find("testsuite")  # noqa: S314 - our own pytest wrote it
        if suite is not None:
            return suite.get("timestamp", "")[:19], tuple(_result(case) for case in suite.iter("testcase"))
    return "", ()


def _result(case: ET.Element) -> TestResult:
    kinds = {child.tag for child in case}
    result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
    module = case.get("classname", "").rsplit(".", 1)[-1]
    return TestResult(name=f"{module}::{case.get('name', '')}", result=result, seconds=float(case.get("time", 0)))
