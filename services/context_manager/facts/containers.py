"""Images, languages and databases from Dockerfiles and compose files."""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import yaml_files
from services.context_manager.facts.finding import DECLARED, IMPLIED, Finding, Source
from services.context_manager.facts.technology import DATABASE_IMAGES, LANGUAGE_IMAGES
from services.context_manager.paths import name_of
from services.context_manager.shapes import mapping, text

_COMPOSE: Final = re.compile(r"(?:docker-)?compose(?:[.-][\w-]+)*\.ya?ml")
_FROM: Final = re.compile(r"^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)(?:[ \t]+AS[ \t]+(\S+))?[ \t]*$", re.IGNORECASE)
_ARGUMENT: Final = re.compile(r"^[ \t]*ARG[ \t]+(\w+)=[\"']?([^\s\"']+)", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::?-([^}]*))?[^}]*\}|\$(\w+)")
_VERSION: Final = re.compile(r"v?(\d+(?:\.\d+)*)")


def is_dockerfile(path: str) -> bool:
    """Whether the file describes an image."""
    name = name_of(path).lower()
    return name in {"dockerfile", "containerfile"} or name.startswith("dockerfile.") or name.endswith(".dockerfile")


def is_compose(path: str) -> bool:
    """Whether the file describes services."""
    return _COMPOSE.fullmatch(name_of(path).lower()) is not None


def dockerfile(source: Source) -> Iterator[Finding]:
    """The images that stages build on; a stage that builds on another stage says nothing new."""
    arguments = dict[str, str]()
    stages = set[str]()
    for number, line in enumerate(source.text.split("\n"), 1):
        if argument := _ARGUMENT.match(line):
            arguments[argument[1]] = argument[2]
        if (match := _FROM.match(line)) is None:
            continue
        image = _filled(match[1], arguments)
        if image and image.lower() not in stages and image != "scratch":
            yield from _image(image, number)
        if match[2]:
            stages.add(match[2].lower())


def compose(source: Source) -> Iterator[Finding]:
    """The images of the services."""
    services = mapping(mapping(yaml_files.first(source.text)).get("services"))
    for name, service in services.items():
        image = _filled(text(mapping(service).get("image")), {})
        if image:
            written = text(mapping(service).get("image"))
            yield from _image(image, source.line_of(written, start=source.line_of(f"{name}:")))


def _image(image: str, line: int) -> Iterator[Finding]:
    name, version = _named(image)
    if name in DATABASE_IMAGES:
        yield Finding("stack", "database", f"{DATABASE_IMAGES[name]} {version}".strip(), line, DECLARED)
        return
    yield Finding("stack", "image", image, line, DECLARED)
    if name in LANGUAGE_IMAGES:
        yield Finding("stack", "language", f"{LANGUAGE_IMAGES[name]} {version}".strip(), line, DECLARED * IMPLIED)


def _named(image: str) -> tuple[str, str]:
    """`bitnami/postgresql:16.2-debian` -> (`postgresql`, `16.2`)."""
    without_digest = image.split("@", 1)[0]
    last = without_digest.rsplit("/", 1)[-1]
    name, _, tag = last.partition(":")
    version = _VERSION.match(tag)
    return name.lower(), version[1] if version else ""


def _filled(image: str, arguments: dict[str, str]) -> str:
    """`image` with its variables filled from defaults; empty when one has none."""
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        found = arguments.get(match[1] or match[3]) or match[2] or ""
        missing = missing or not found
        return found

    filled = _VARIABLE.sub(value, image)
    return "" if missing else filled
