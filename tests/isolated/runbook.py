"""The runbook with nothing left out, in a system that has trained: `python -m tests.isolated runbook`.

Lays a system out as it is delivered and types every command of rollback.md and runbook.md in their order, those that
install from the locks and train included, and the drill at the end. The suite types the same blocks but for those, on
a system made by hand.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.blueprint.test_runbook import ELSEWHERE, blocks, started, typed, version_at
from tests.delivered import PLAIN, lay_out, write_customers
from tests.isolated.saying import say

_LONG_S: Final = 1800.0
"""Installing and training take longer than the commands of the suite."""


def run(_arguments: Sequence[str]) -> int:
    """Type everything; return 0 if every command ended well."""
    with tempfile.TemporaryDirectory(prefix="mlsystem-runbook-") as scratch:
        root = lay_out(Path(scratch), spec={**PLAIN, "objectives": {"latency_ms_p99": 5000.0}, **_port()})
        failed = [line for line in _prepared(root, Path(scratch)) if line]
        for line in [line for lines in blocks(root).values() for line in lines]:
            failed += _typed(root, line)
        failed += _typed(root, "make drill")
        say((root / "docs" / "drill.md").read_text())
    say(f"failed: {failed}" if failed else "every command ended well")
    return int(bool(failed))


def _port() -> dict[str, dict[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return {"serving": {"port": sock.getsockname()[1]}}


def _prepared(root: Path, repository: Path) -> list[str]:
    """Make three versions that were live, so that the rollbacks have somewhere to go, and the package of the page."""
    failed = _typed(root, "make venv")
    for rows in (400, 450, 500):
        write_customers(repository / "data" / "customers.csv", rows)
        failed += _typed(root, "make train package promote sbom")
    (named,) = re.findall(r"--package (\S+)", (root / "docs" / "rollback.md").read_text())
    made = max((root / "work" / "package").glob("*/"), key=lambda path: path.stat().st_mtime)
    shutil.copytree(made, root / named)
    return failed


def _typed(root: Path, line: str) -> list[str]:
    """Type a line beside a running server, and return it if it did not end well."""
    began = time.monotonic()
    if " serve " in line:
        with started(root, line) as url:
            ended, said = version_at(url), ""
    else:
        beside = contextlib.nullcontext() if line in ELSEWHERE or _makes(line) else started(root, "make serve")
        with beside:
            done = typed(root, line, timeout_s=_LONG_S)
        ended, said = done.returncode, done.stdout + done.stderr
    say(f"{line}: {time.monotonic() - began:.1f} s, ended with {ended}{said if ended else ''}")
    return [line] if ended else []


def _makes(line: str) -> bool:
    """Tell whether a line is one that there need be no live version for."""
    return line.startswith(("make venv", "make train", "make drill"))
