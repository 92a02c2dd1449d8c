"""The workflow of a delivered system, read and run as GitHub's runner runs it: line by line, in a clone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

_GITHUB: Final = {"GITHUB_ACTOR": "somebody", "GITHUB_WORKFLOW": "ml", "GITHUB_SHA": "0" * 40}
_KEPT: Final = ("HOME", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Step:
    """A `run:` of the workflow, where and with what it runs."""

    job: str
    name: str
    script: str
    directory: str
    environment: Mapping[str, str]


def steps_of(clone: Path) -> Iterator[Step]:
    """The steps of the one workflow of a repository that run something, in the order in which they run."""
    (workflow,) = (clone / ".github" / "workflows").glob("*.yml")
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    directory = content["defaults"]["run"]["working-directory"]
    for name, job in content["jobs"].items():
        for step in job["steps"]:
            if "run" in step:
                environment = {**content.get("env", {}), **job.get("env", {}), **step.get("env", {})}
                yield Step(name, step["name"], step["run"], directory, environment)


def run(step: Step, clone: Path, programs: Path, given: Mapping[str, str] | None = None) -> str:
    """Run a step with the programs of a folder first; AssertionError with all that it said if it fails."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.script],
        cwd=clone / step.directory,
        env={**kept, **(given or {}), **_GITHUB, **step.environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{step.name} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
