"""Which paths of a workspace are nobody's business: what git ignores, and a few names always.

Rules come from nested `.gitignore` files and `.git/info/exclude`, read from the workspace downwards and asked
one level at a time, as git does: a deeper file wins over a higher one, the last matching line wins within a
file, and nothing below an ignored directory comes back. Rules above the workspace and a user's global
excludes are left out, so that a workspace means the same wherever it lies; so is git's index: a tracked file
that a rule matches counts as ignored.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast

from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

ALWAYS_IGNORED: Final = frozenset({".git", ".mlmesh", "node_modules", ".venv", "__pycache__"})
_RULES_BYTES: Final = 512_000
"""More rules than this in one file are not read."""
_TRAILING_SPACES: Final = re.compile(r"(?<!\\) +$")
_DIRECTORY_MARK: Final = "ps_d"
"""The group with which pathspec marks the slash where a directory matched."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One rule. `ignore` is false for a line that begins with an exclamation mark."""

    pattern: re.Pattern[str]
    ignore: bool
    directories_only: bool

    def matches(self, subject: str) -> bool:
        """Whether the rule names `subject` itself (a directory ends in a slash), rather than a directory above it."""
        match = None if self.directories_only and not subject.endswith("/") else self.pattern.search(subject)
        if match is None:
            return False
        if _DIRECTORY_MARK in self.pattern.groupindex and match.group(_DIRECTORY_MARK) is not None:
            return match.end(_DIRECTORY_MARK) == len(subject)
        return not (match.end() == len(subject) and subject.endswith("/"))


@dataclass(frozen=True, slots=True)
class _Layer:
    """The rules of one file, which hold below `directory` (`""` or `a/b/`). The last line comes first."""

    directory: str
    lines: tuple[_Line, ...]

    def verdict(self, subject: str) -> bool | None:
        below = subject.removeprefix(self.directory)
        return next((line.ignore for line in self.lines if line.matches(below)), None)


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in one directory, the strongest layer first."""

    workspace: Path
    layers: tuple[_Layer, ...]

    @classmethod
    def at_root(cls, workspace: Path) -> Self:
        """The rules of the workspace's own directory."""
        exclude = tuple(_layers(workspace / ".git" / "info" / "exclude", ""))
        return cls(workspace, exclude).enter("")

    def enter(self, directory: str) -> Self:
        """The rules inside `directory`, a relative path without slashes at its ends."""
        prefix = f"{directory}/" if directory else ""
        found = tuple(_layers(self.workspace / directory / ".gitignore", prefix))
        return type(self)(self.workspace, (*found, *self.layers)) if found else self

    def ignores(self, path: str, *, directory: bool) -> bool:
        """Whether `path`, relative to the workspace and in a directory that is not ignored, is ignored."""
        if path.rpartition("/")[2] in ALWAYS_IGNORED:
            return True
        subject = f"{path}/" if directory else path
        verdicts = (layer.verdict(subject) for layer in self.layers)
        return next((verdict for verdict in verdicts if verdict is not None), False)


def _layers(file: Path, directory: str) -> Iterator[_Layer]:
    """The layer of `file`, if there is one. Git follows no link to a rules file, and neither does this."""
    try:
        if file.is_symlink() or not file.is_file():
            return
        with file.open("rb") as stream:
            body = stream.read(_RULES_BYTES)
    except OSError:  # unreadable rules are no rules, as for git
        return
    text = body.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
    lines = tuple(line for raw in text.split("\n") for line in _line(raw.removesuffix("\r")))
    if lines:
        yield _Layer(directory, lines[::-1])


def _line(raw: str) -> Iterator[_Line]:
    stripped = _TRAILING_SPACES.sub("", raw)
    rule = stripped.removesuffix("/")
    try:
        pattern = GitIgnoreSpecPattern(rule)
    except GitIgnorePatternError:  # git passes over what it cannot read
        return
    compiled = cast("re.Pattern[str] | None", pattern.regex)
    if compiled is not None and pattern.include is not None:
        yield _Line(compiled, pattern.include, rule != stripped)
