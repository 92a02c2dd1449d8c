"""`mlmesh run` on a terminal: it asks, shows a picture, answers to Ctrl-C. A real terminal, fake services."""

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.cli import Cli, environment

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(slots=True)
class Terminal:
    """A person's side of a pseudo-terminal."""

    master: int
    process: "subprocess.Popen[str]"
    seen: str = ""

    def read_until(self, text: str) -> str:
        """What appeared on the screen up to `text`, without escapes."""
        limit = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < limit, f"{text!r} did not appear in {self.seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += _ESCAPES.sub("", os.read(self.master, 65_536).decode())
                except OSError:
                    raise AssertionError(f"the command ended; on the screen: {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self.master, text.encode())

    def end(self) -> tuple[int, str]:
        """Exit code and stdout, once the command has ended; the screen is read meanwhile."""
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.seen += _ESCAPES.sub("", os.read(self.master, 65_536).decode())
        assert self.process.stdout is not None
        return self.process.returncode, self.process.stdout.read()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line in an empty workspace."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    return Cli(workspace, {**environment(tmp_path / "fakes"), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"})


@contextlib.contextmanager
def terminal(cli: Cli, *words: str) -> Generator[Terminal]:
    """The command with its stdin and stderr on a terminal of its own, so that keys become signals."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *cli.command(*words)],
        cwd=cli.workspace,
        env=cli.environment,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.communicate()
        os.close(master)


def test_a_person_is_asked_with_what_is_known_first(cli: Cli) -> None:
    """Why, the evidence, the default; Enter takes the default, an answer is typed."""
    with terminal(cli, "run", "target") as person:
        question = person.read_until("  > ")
        person.type("\n")
        person.read_until("task.target: Which column?")
        person.read_until("  > ")
        person.type("\n")
        refusal = person.read_until("(Ctrl-D leaves it open)")
        person.type("Churn\n")
        code, stdout = person.end()
    known = question[question.index("Known already:") :]
    assert [line.strip() for line in known.splitlines() if line.strip()] == [
        "Known already:",
        "50 rps (/README.md:7)",
        "2 to answer; Enter takes the default.",
        "nfr.latency: How fast must an answer be?",
        "why: It is a gate.",
        "seen: /README.md:3",
        "default: none",
    ]
    assert "there is no default: an answer is needed" in refusal
    assert (code, stdout) == (0, "The model of the fake is there.\n")
    found = cli.run("tasks", "--json").object["tasks"][0]
    shown = cli.run("show", found["task"], "--json").object
    answered = next(event for event in shown["events"] if event["event"] == "answered")
    assert answered["text"] == "nfr.latency = none, task.target = Churn"


def test_a_person_sees_a_picture_of_the_whole_task(cli: Cli) -> None:
    """Every phase from the start, a bar for the step at work; not a scroll of events."""
    with terminal(cli, "run", "slow", "--accept-defaults") as person:
        picture = person.read_until("linear auc 0.8")
        (cli.workspace / "go").touch()
        code, _ = person.end()
    assert code == 0
    assert [phase for phase in ("brief", "clarify", "design", "build", "train", "━━━") if phase not in picture] == []
    assert "briefed:" not in picture + person.seen


@pytest.mark.parametrize(
    ("typed", "code", "event"), [("\n", 0, "design approved"), ("n\ntoo slow\n", 4, "design refused: too slow")]
)
def test_a_person_reads_the_design_and_decides(typed: str, code: int, event: str, cli: Cli) -> None:
    """Enter approves; a refusal may say why."""
    with terminal(cli, "run", "do it", "--accept-defaults", "--approval", "design") as person:
        assert "## Goal" in person.read_until("Build this? [Y/n] ")
        person.type(typed)
        assert person.end()[0] == code
    task = cli.run("tasks", "--json").object["tasks"][0]["task"]
    assert event in [e["text"] for e in cli.run("show", task, "--json").object["events"] if e["event"] == "approved"]


def test_the_end_of_input_leaves_the_task_waiting(cli: Cli) -> None:
    """Ctrl-D: exit code 6, as if nobody had been there."""
    with terminal(cli, "run", "do it") as person:
        person.read_until("  > ")
        person.type("\x04")
        code, stdout = person.end()
    assert (code, "mlmesh answer" in stdout) == (6, True)


def test_ctrl_c_at_a_question_cancels_the_task(cli: Cli) -> None:
    """The key, not a signal sent by hand: nothing is left blocked on input, and the server does not hear it."""
    with terminal(cli, "run", "do it") as person:
        person.read_until("  > ")
        person.type("\x03")
        code, _ = person.end()
    assert code == 5
    assert cli.run("tasks", "--json").object["tasks"][0]["state"] == "canceled"


def test_json_never_asks(cli: Cli) -> None:
    """A script that was started from a terminal gets its object."""
    with terminal(cli, "run", "do it", "--json") as person:
        code, stdout = person.end()
    assert (code, stdout.count("\n"), '"outcome": "waiting"' in stdout) == (6, 1, True)
