"""The gateway's README and the command line say the same."""

import re
from pathlib import Path

from services.gateway import cli
from services.gateway.exits import Exit

README = (Path(cli.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_every_word_has_its_row() -> None:
    """And no row names a word that does not exist."""
    rows = re.findall(r"^\| `([a-z]+)", README[README.index("## The words") :], re.MULTILINE)
    assert list(dict.fromkeys(rows)) == list(cli.WORDS)


def test_every_exit_code_has_its_row() -> None:
    """Scripts decide by them."""
    rows = re.findall(r"^\| (\d) \|", README, re.MULTILINE)
    assert [int(row) for row in rows] == list(Exit)
