"""The README: what a newcomer reads first is true."""

import re
import subprocess
import sys

import pytest

from tests.architecture import readme_tables
from tests.architecture.tree import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST = README.splitlines()[:60]


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_two_commands_stand_at_the_top(command: str) -> None:
    """A sentence, a picture, two commands, what you then see: within the first sixty lines."""
    assert [line for line in FIRST if re.fullmatch(rf"\s*(\$ )?{command}(\s+#.*)?", line)] != []


def test_there_is_a_picture_at_the_top() -> None:
    """Where a message goes is drawn before it is told."""
    assert any(re.search(r"[─│┌┐└┘▶◀▼▲]|-->|!\[", line) for line in FIRST)


@pytest.mark.parametrize("name", readme_tables.TABLES)
def test_a_table_says_what_the_code_says(name: str) -> None:
    """Services, subjects and settings: `python -m tests.architecture.readme_tables --write` fills them in."""
    assert readme_tables.written(README, name) == f"\n{readme_tables.TABLES[name]()}\n"


def test_every_make_target_that_is_named_exists() -> None:
    """A command that is told can be typed."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)\s*(?:\$ )?make ([a-z]+)", README, re.MULTILINE))

    assert named - targets == set()


def test_every_link_leads_to_a_file() -> None:
    """Links within the repository, in every README."""
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in sorted(ROOT.glob("**/README.md"))
        if not {".venv", "node_modules", ".demo", ".bench"} & set(path.parts)
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]

    assert broken == []


def test_ci_runs_the_readmes_own_command() -> None:
    """`.ci/run` refuses a README whose test command is another one, before it runs anything."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    expression = re.search(r"sed -nE '([^']+)'", script)
    assert expression is not None
    text = "# x\n```\n$ make test   # the suite\n```\nmake testing"

    done = subprocess.run(["sed", "-nE", expression[1]], input=text, capture_output=True, text=True, check=True)

    assert done.stdout == "make test\n"


def test_the_tables_are_checked_by_a_command_too() -> None:
    """The command that fills in the tables says what is out of date without `--write`."""
    done = subprocess.run([sys.executable, "-m", "tests.architecture.readme_tables"], cwd=ROOT, check=False)

    assert done.returncode == 0
