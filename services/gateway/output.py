"""What a command says, and where: one JSON object or a plain answer on stdout, everything else on stderr.

With `--json` stdout holds exactly one object, also when the command fails. Left out: the live view (progress.py).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


_WIDTH: Final = 160
"""Columns of what goes to a file or a pipe: nobody is there to make the window wider."""


@dataclass(frozen=True, slots=True)
class Output:
    """The two ways out of a command."""

    as_json: bool

    @property
    def interactive(self) -> bool:
        """True when a person sits there: a terminal on both ends, and nobody asked for JSON."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    def result(self, value: Mapping[str, Any], *plain: "RenderableType") -> None:
        """The command's answer: `value` as JSON, or `plain` for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        else:
            console = _console(stderr=False)
            for part in plain:
                console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A remark for people, on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def error(self, text: str, code: int) -> None:
        """Why the command ends without an answer."""
        if self.as_json:
            self.result({"error": text, "exit": code})
        self.say(f"mlmesh: {text}")

    def console(self) -> "Console":
        """Where people look: stderr."""
        return _console(stderr=True)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _WIDTH)
