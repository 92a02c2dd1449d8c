"""What runbook.md and rollback.md tell a person to type, typed: every command of every block, in a delivered system."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from mlsystem.registry import Note, Registry
from mlsystem.schema import encode_schema
from tests.blueprint.asking import get
from tests.blueprint.small_system import (
    NAME,
    NOTE,
    SCHEMA,
    classifier,
    package_files,
    spec_text,
    with_answers,
    write_package,
)
from tests.delivered import lay_out

pytestmark = pytest.mark.long

PATIENCE_S = 60.0

ELSEWHERE = {
    "mv registry registry.damaged",
    'make train package promote WHY="new registry after damage"',
    "make venv train package promote test",
}
"""Lines that install and train: `python -m tests.isolated runbook` types them too."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system as it is delivered, with three versions made by hand that were live, and a finished package."""
    port = free_port()
    root = lay_out(tmp_path_factory.mktemp("repository"), spec={"serving": {"port": port}}, rows=10)
    (root / "system.toml").write_text(spec_text(port=port))
    (root / "schema.json").write_bytes(encode_schema(SCHEMA))
    (finished,) = re.findall(r"--package (\S+)", (root / "docs" / "rollback.md").read_text())
    write_package(root / finished, classifier(3.0), port=port)
    registry = Registry.open("registry", root)
    for bias in (0.0, 1.0, 2.0):
        files = with_answers(package_files(classifier(bias)))
        files["manifest.json"] = msgspec.json.encode({"name": NAME, "digest": str(bias)})
        made = Note("a test", "a bias", {"servable": True, "outcome": "success"})
        registry.promote(registry.register(files, str(bias), made)[0], NOTE)
    put_python(root)
    assert typed(root, "make sbom").returncode == 0
    return root


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def blocks(root: Path) -> dict[str, list[str]]:
    """Return the commands of all blocks of both documents, by document."""
    found: dict[str, list[str]] = {}
    for name in ("rollback.md", "runbook.md"):
        lines, inside = list[str](), False
        for line in (root / "docs" / name).read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("```"):
                inside = line.strip() == "```sh"
            elif inside and line.strip():
                lines.append(line.split("  #")[0].strip())
        found[name] = lines
    return found


def typed(root: Path, line: str, timeout_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    """Run a line as a person's shell does."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def environment() -> dict[str, str]:
    """Return a person's environment: nothing of this repository."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def put_python(root: Path) -> None:
    """Let the system's environment be the one that this test runs in: to install takes minutes."""
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)


@contextlib.contextmanager
def started(root: Path, line: str) -> Generator[str]:
    """Type a line that does not end by itself, wait until it serves, and end it in order."""
    (port,) = (int(word) for word in re.findall(r"serving\.port|port = (\d+)", (root / "system.toml").read_text()))
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            f"exec {line}" if not line.startswith("PYTHONPATH") else f"export {line.replace(' ', '; exec ', 1)}",
        ],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not answers(url):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, line
            time.sleep(0.05)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def answers(url: str) -> bool:
    try:
        return get(url, "/readyz").status == 200
    except OSError:
        return False


def version_at(url: str) -> int:
    return get(url, "/version").json["version"]


def test_every_command_of_the_documents_does_what_it_says(system: Path) -> None:
    """In the order of the documents, while the server runs that they say how to start."""
    commands = [line for lines in blocks(system).values() for line in lines]
    servers = [line for line in commands if " serve " in line]
    ended: dict[str, int] = {}
    with started(system, "make serve") as url:
        assert version_at(url) == 3
        for line in commands:
            if line not in servers and line not in ELSEWHERE:
                done = typed(system, line)
                ended[line] = done.returncode
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert version_at(url) == 1
    for line in servers:
        with started(system, line) as url:
            assert version_at(url) == 0
    assert set(commands) >= ELSEWHERE
    assert len(ended) >= 7
    assert len(servers) == 1


def test_every_target_that_the_documents_name_is_in_the_makefile(system: Path) -> None:
    """Also those within a sentence: a person types what stands there."""
    targets = set(re.findall(r"^([a-z]+):", (system / "Makefile").read_text(), re.MULTILINE))
    pages = [(system / "README.md").read_text(), *(path.read_text() for path in (system / "docs").glob("*.md"))]
    spans = [words for page in pages for words in re.findall(r"`make ([^`]*)`", page)]
    bare = [re.sub(r'"[^"]*"', "", words.split("#")[0]) for words in spans]
    named = {word for words in bare for word in words.split() if re.fullmatch(r"[a-z]+", word)}
    assert len(named) >= 10
    assert named <= targets
