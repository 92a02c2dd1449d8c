"""What git ignores is ignored, and a few names always."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from services.context_manager.ignoring import IgnoreRules
from services.context_manager.walking import look, walk
from tests.services.context_manager.workspaces import write

NOWHERE = Path("/nowhere")


def known(workspace: Path) -> list[str]:
    return sorted(walk(workspace, without=NOWHERE))


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("*.log", "a/b.log", True),
        ("*.log\n!keep.log", "keep.log", False),
        ("build/", "build/a.py", True),
        ("build/", "src/build", False),
        ("/only", "only", True),
        ("/only", "sub/only", False),
        ("sub/**", "sub/a", True),
        ("sub/**\n!sub/keep", "sub/keep", False),
        ("logs\n!logs/keep", "logs/keep", True),
        ("# comment\n\n*.tmp  ", "x.tmp", True),
        ("!\n\\\n*.bak", "x.bak", True),
        ("*", "anything", True),
    ],
)
def test_rules_mean_what_they_mean_to_git(workspace: Path, rules: str, path: str, *, ignored: bool) -> None:
    """One rule file, one path."""
    write(workspace, {".gitignore": rules, path: "text"})
    assert (f"/{path}" not in known(workspace)) == ignored
    assert (look(workspace, f"/{path}", without=NOWHERE) is None) == ignored


def test_a_deeper_rule_file_wins(workspace: Path) -> None:
    """Nested .gitignore files hold below themselves and come before those above."""
    write(
        workspace, {".gitignore": "*.csv\n", "data/.gitignore": "!small.csv\n", "data/small.csv": "a\n", "b.csv": "a\n"}
    )
    assert known(workspace) == ["/.gitignore", "/data/.gitignore", "/data/small.csv"]


def test_the_repository_s_own_excludes_hold(workspace: Path) -> None:
    """`.git/info/exclude` is the weakest of the rule files."""
    write(
        workspace,
        {".git/info/exclude": "private/\n*.md\n", ".gitignore": "!a.md\n", "private/x": "x", "a.md": "a", "b.md": "b"},
    )
    assert known(workspace) == ["/.gitignore", "/a.md"]


def test_some_names_are_always_ignored(workspace: Path) -> None:
    """No rule can bring them back."""
    names = (".git", ".mlmesh", "node_modules", ".venv", "__pycache__")
    write(
        workspace,
        {f"{name}/x.py": "x" for name in names} | {"sub/node_modules/y.js": "y", ".gitignore": "!*\n", "z.py": "z"},
    )
    assert known(workspace) == ["/.gitignore", "/z.py"]


def test_rules_with_windows_line_ends_and_a_byte_order_mark_are_read(workspace: Path) -> None:
    """As git reads them."""
    write(workspace, {".gitignore": b"\xef\xbb\xbf*.log\r\nout/\r\n", "a.log": "x", "out/b": "x", "c.py": "x"})
    assert known(workspace) == ["/.gitignore", "/c.py"]


def test_rules_above_the_workspace_do_not_hold(tmp_path: Path) -> None:
    """A workspace means the same wherever it lies, an ignored folder of another repository included."""
    write(tmp_path, {".git/HEAD": "x", ".gitignore": "demo/\n", "demo/a.py": "a"})
    assert known(tmp_path / "demo") == ["/a.py"]


PATTERNS = [
    "foo",
    "foo/",
    "/foo",
    "foo/**",
    "foo/*",
    "!foo",
    "!keep",
    "*.log",
    "!a.log",
    "**/bar",
    "foo/**/keep",
    "build/",
    "/build",
    "*",
    "!*/",
    "!b.txt",
    "foo/bar",
    "bar/",
    "[ab].*",
    "!bar/",
    "*.txt",
    "/*",
    "!/foo",
    "foo/**/",
    "bar/**",
    "!foo/keep",
    "!bar/keep",
    "a?log",
    "**/foo/keep",
    "\\!x",
    "foo//bar",
    "#c",
]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("seed", range(12))
def test_random_rules_mean_the_same_as_to_git(tmp_path: Path, seed: int) -> None:
    """The files of a walk are the ones that git lists, over random trees and random rule files."""
    draw = random.Random(seed)
    directories = [""]
    for _ in range(6):
        directories.append(f"{draw.choice(directories)}{draw.choice(['foo', 'bar', 'keep', 'build'])}/")
    for directory in directories:
        names = ("foo", "bar", "keep", "a.log", "b.txt")
        free = [name for name in names if f"{directory}{name}/" not in directories]
        write(tmp_path, {f"{directory}{name}": "x" for name in free})
    for directory in {"", *draw.sample(directories, 2)}:
        write(tmp_path, {f"{directory}.gitignore": "\n".join(draw.sample(PATTERNS, draw.randint(1, 6)))})
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True, env=environment)
    command = ["git", "-C", tmp_path, "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, env=environment).stdout.decode()
    assert known(tmp_path) == sorted(f"/{path}" for path in listed.split("\0") if path)


def test_rules_are_asked_level_by_level(workspace: Path) -> None:
    """A directory and a file of the same name can differ."""
    write(workspace, {".gitignore": "thing/\n"})
    rules = IgnoreRules.at_root(workspace)
    assert rules.ignores("thing", directory=True)
    assert not rules.ignores("thing", directory=False)
