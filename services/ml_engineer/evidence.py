"""What was proven on a delivered system itself, by its tests and by a drill: the evidence that its documents name.

Owns the record of the tests, reading it from pytest's JUnit file, and the gates that follow. Leaves running both to
`build`.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, cast
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ConfigDict, JsonValue

from contracts.events import Gate


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


def own_gates(tested: Tested | None, drill: Mapping[str, JsonValue]) -> list[Gate]:
    """What was proven on the delivered system itself: its tests, and its recovery where that was played."""
    gates: list[Gate] = []
    if tested is not None:
        passed = tested.passed
        gates.append(Gate(name="delivered_tests", value=passed, threshold=True, passed=passed, text=tested.text))
    if drill:
        played = trials(drill)
        wrong = [str(found.get("text")) for found in played if not found.get("ok")]
        told = "; ".join(wrong) or f"{len(played)} failures were played on a copy, and it recovered from each"
        gates.append(Gate(name="recovery", value=not wrong, threshold=True, passed=not wrong, text=told))
    return gates


def trials(drill: Mapping[str, JsonValue]) -> Sequence[Mapping[str, JsonValue]]:
    """The failures that a drill played, each with what came of it."""
    return cast("Sequence[Mapping[str, JsonValue]]", drill.get("scenarios") or ())


def told_rollback(trial: Mapping[str, JsonValue]) -> str:
    """How the rollback of a drill went, in a sentence; empty where it was not played, or did not come to an end."""
    took = trial.get("recover_s")
    if not isinstance(took, int | float):
        return ""
    return (
        f"In the drill the version before answered {took:.2f} s after the command was typed, "
        f"and {trial.get('failed')} of {trial.get('requests')} requests failed meanwhile."
    )


def _result(case: ET.Element) -> TestResult:
    kinds = {child.tag for child in case}
    result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
    module = case.get("classname", "").rsplit(".", 1)[-1]
    return TestResult(name=f"{module}::{case.get('name', '')}", result=result, seconds=float(case.get("time", 0)))
