"""Languages, frameworks and databases from the manifests of Python and Node packages."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts.finding import DECLARED, IMPLIED, MENTIONED, Finding, Source
from services.context_manager.facts.technology import DATABASE_DRIVERS, NODE_FRAMEWORKS, PYTHON_FRAMEWORKS
from services.context_manager.outlines import shortened
from services.context_manager.shapes import mapping, text, texts

_REQUIREMENTS: Final = re.compile(
    r"(?:^|/)(?:requirements[^/]*|constraints[^/]*)\.(?:txt|in)$|(?:^|/)requirements/[^/]+\.(?:txt|in)$"
)
_REQUIREMENT: Final = re.compile(
    r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([<>=!~^]+\s*[^;#\s\\]+(?:\s*,\s*[<>=!~]+\s*[^;#\s\\]+)*)?"
)
_DEVELOPMENT: Final = 0.5
"""What only developers install says less about what runs."""


def is_pyproject(path: str) -> bool:
    """Whether the file is a Python project's manifest."""
    return path.endswith("/pyproject.toml")


def is_requirements(path: str) -> bool:
    """Whether the file is a list of requirements."""
    return _REQUIREMENTS.search(path) is not None


def is_package_json(path: str) -> bool:
    """Whether the file is a Node package's manifest."""
    return path.endswith("/package.json")


def pyproject(source: Source) -> Iterator[Finding]:
    """`[project]` of pyproject.toml, and Poetry's own tables."""
    try:
        document = mapping(tomllib.loads(source.text))
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    project = mapping(document.get("project"))
    poetry = mapping(mapping(document.get("tool")).get("poetry"))
    if not project and not poetry:
        return  # settings of tools alone say nothing about the language of the project
    needed = mapping(poetry.get("dependencies"))
    version = text(project.get("requires-python")) or text(needed.get("python"))
    yield Finding("stack", "language", f"python {version}".strip(), source.line_of("python"), DECLARED)
    yield from _described(source, text(project.get("description")) or text(poetry.get("description")))
    for requirement in texts(project.get("dependencies")):
        yield from _python(requirement, DECLARED, source.line_of(requirement))
    for name, wanted in needed.items():
        yield from _python(f"{name}{_poetry_version(wanted)}", DECLARED, source.line_of(f"{name} "))
    for group in mapping(project.get("optional-dependencies")).values():
        for requirement in texts(group):
            yield from _python(requirement, DECLARED * _DEVELOPMENT, source.line_of(requirement))


def _poetry_version(wanted: object) -> str:
    version = text(wanted) or text(mapping(wanted).get("version"))
    return version if not version or version[0] in "<>=!~^" else f"=={version}"


def requirements(source: Source) -> Iterator[Finding]:
    """A requirements file, line by line."""
    is_lock = "--hash=" in source.text  # then most lines are there for another one's sake
    lines = [line for line in source.text.split("\n") if line.strip() and not line.lstrip().startswith(("#", "-"))]
    if lines:
        yield Finding("stack", "language", "python", source.line_of(lines[0]), IMPLIED)
    for number, line in enumerate(source.text.split("\n"), 1):
        if line[:1].isalnum():
            yield from _python(line, DECLARED * (_DEVELOPMENT if is_lock else 1), number)


def _python(requirement: str, confidence: float, line: int) -> Iterator[Finding]:
    match = _REQUIREMENT.match(requirement)
    if match is None:
        return
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    version = re.sub(r"\s+", "", match[2] or "")
    if name in PYTHON_FRAMEWORKS:
        yield Finding("stack", "framework", f"{name} {version}".strip(), line, confidence)
    if name in DATABASE_DRIVERS:
        yield Finding("stack", "database", DATABASE_DRIVERS[name], line, confidence * IMPLIED)


def package_json(source: Source) -> Iterator[Finding]:
    """A Node package's manifest."""
    try:
        document = mapping(json.loads(source.text))
    except (ValueError, RecursionError):
        return
    if not any(key in document for key in ("name", "dependencies", "devDependencies", "scripts")):
        return
    engine = text(mapping(document.get("engines")).get("node"))
    yield Finding("stack", "language", f"node {engine}".strip(), source.line_of('"node"') if engine else 1, DECLARED)
    yield from _described(source, text(document.get("description")))
    for table, share in (("dependencies", 1.0), ("devDependencies", _DEVELOPMENT)):
        for name, version in mapping(document.get(table)).items():
            yield from _node(source, name, text(version), table=table, sure=DECLARED * share)


def _node(source: Source, name: str, version: str, *, table: str, sure: float) -> Iterator[Finding]:
    line = source.line_of(f'"{name}"', start=source.line_of(f'"{table}"'))
    if name in NODE_FRAMEWORKS:
        yield Finding("stack", "framework", f"{name} {version}".strip(), line, sure)
    if name in DATABASE_DRIVERS:
        yield Finding("stack", "database", DATABASE_DRIVERS[name], line, sure * IMPLIED)
    if name == "typescript":
        yield Finding("stack", "language", f"typescript {version}".strip(), line, DECLARED)


def _described(source: Source, description: str) -> Iterator[Finding]:
    """The description of the workspace's own package says what it is, which is less than what it is for."""
    if len(description) > 20 and source.path.count("/") == 1:
        yield Finding("business", "goal", shortened(description, 240), source.line_of("description"), MENTIONED)
