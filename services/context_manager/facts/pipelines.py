"""Continuous integration from workflow files."""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import yaml_files
from services.context_manager.facts.finding import DECLARED, Finding, Source
from services.context_manager.paths import name_of
from services.context_manager.shapes import mapping, text

_WORKFLOW: Final = re.compile(r"^/\.(?:github|gitea|forgejo)/workflows/[^/]+\.ya?ml$")
_GITLAB_KEYS: Final = frozenset(
    {
        "stages",
        "variables",
        "default",
        "include",
        "workflow",
        "image",
        "services",
        "cache",
        "before_script",
        "after_script",
        "pages",
    }
)
_JOBS: Final = 8


def is_workflow(path: str) -> bool:
    """Whether the file is a workflow of GitHub Actions or a sister of it."""
    return _WORKFLOW.match(path) is not None


def is_gitlab(path: str) -> bool:
    """Whether the file is the workspace's GitLab pipeline."""
    return path == "/.gitlab-ci.yml"


def workflow(source: Source) -> Iterator[Finding]:
    """`stack.ci`: `github actions: Tests (jobs lint, test)`."""
    document = mapping(yaml_files.first(source.text))
    jobs = list(mapping(document.get("jobs")))
    if jobs:
        name = text(document.get("name")) or name_of(source.path).rpartition(".")[0]
        value = f"github actions: {name} (jobs {_listed(jobs)})"
        yield Finding("stack", "ci", value, source.line_of("jobs:"), DECLARED)


def gitlab(source: Source) -> Iterator[Finding]:
    """`stack.ci`: `gitlab ci: jobs build, test`."""
    document = mapping(yaml_files.first(source.text))
    jobs = [
        name
        for name, job in document.items()
        if name not in _GITLAB_KEYS
        and not name.startswith(".")
        and mapping(job).keys() & {"script", "trigger", "extends"}
    ]
    if jobs:
        yield Finding("stack", "ci", f"gitlab ci: jobs {_listed(jobs)}", source.line_of(f"{jobs[0]}:"), DECLARED)


def _listed(jobs: list[str]) -> str:
    return ", ".join(jobs[:_JOBS]) + (", …" if len(jobs) > _JOBS else "")
