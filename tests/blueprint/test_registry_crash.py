"""The registry under real processes: killed at every point of a change, and changed by several at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlsystem.registry import Note, Registry
from mlsystem.registry.care import repair, verify
from tests.blueprint.made_tables import own_environment
from tests.blueprint.small_system import NOTE, make_system

DYING = """
import os, signal, sys
from pathlib import Path
from mlsystem.registry import Note, Objects, Registry
from mlsystem.registry.store import open_store

class Deadly(Objects):
    left = 0

    def step(self):
        if Deadly.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Deadly.left -= 1

    def create(self, path, data):
        self.step()
        wrote = super().create(path, data)
        self.step()
        return wrote

    def replace(self, path, data):
        self.step()
        super().replace(path, data)
        self.step()

change, roots = sys.argv[1], sys.argv[2:]
for step, root in enumerate(roots):
    if os.fork() == 0:
        Deadly.left = step
        registry = Registry(Deadly(open_store("registry", Path(root))))
        if change == "promote":
            registry.promote(2, Note("the dying one"))
        else:
            registry.register({"model.onnx": b"new"}, "new", Note("the dying one", "", {"servable": True}))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
"""Forks before the store is used: a process of its own for every point before and after each write."""

RACING = """
import os, sys
from pathlib import Path
from mlsystem.errors import RegistryError
from mlsystem.registry import Note, Objects, Registry
from mlsystem.registry.store import open_store

decided, go = os.pipe(), os.pipe()

class Waiting(Objects):
    waited = False

    def create(self, path, data):
        if not Waiting.waited:
            Waiting.waited = True
            os.write(decided[1], b".")
            os.read(go[0], 1)
        return super().create(path, data)

children = {}
for version in (2, 3, 4):
    child = os.fork()
    if child == 0:
        try:
            Registry(Waiting(open_store("registry", Path(sys.argv[1])))).promote(version, Note(f"promoter {version}"))
        except RegistryError as error:
            os.write(1, f"{version} {error.code} {error.message}\\n".encode())  # in one piece
            os._exit(1)
        os._exit(0)
    children[child] = version
for _ in children:
    os.read(decided[0], 1)
os.write(go[1], b"..." )
for _ in children:
    child, status = os.wait()
    if status == 0:
        os.write(1, f"{children[child]} won\\n".encode())
"""
"""Three processes that have all decided before the first one writes."""


def run(code: str, *words: str | Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=own_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    """Twelve copies of a system with two versions, the first one live."""
    make_system(tmp_path / "0", 0.0, 1.0).promote(1, NOTE)
    for index in range(1, 12):
        shutil.copytree(tmp_path / "0", tmp_path / str(index))
    return [tmp_path / str(index) for index in range(12)]


def opened(root: Path) -> Registry:
    return Registry.open("registry", root)


def test_a_promotion_that_is_killed_anywhere_leaves_the_old_or_the_new_state(copies: list[Path]) -> None:
    """The put of the entry decides: before it nothing has changed, after it everything has."""
    codes = run(DYING, "promote", *copies)
    active = [opened(root).ledger().active for root in copies]
    assert codes == ["-9"] * 6 + ["0"] * 6, "entry, aliases, versions: before and after each"
    assert active == [1] + [2] * 11
    for root in copies:
        found = verify(opened(root))[1]
        assert all(finding.fault.value.startswith("derived") for finding in found)
        assert repair(opened(root), root)[1] == []
        assert opened(root).promote(2, NOTE).version == 2


def test_a_registration_that_is_killed_anywhere_leaves_no_half_version(copies: list[Path]) -> None:
    codes = run(DYING, "register", *copies)
    assert codes == ["-9"] * 8 + ["0"] * 4, "blob, entry, aliases, versions: before and after each"
    for root in copies:
        registry = opened(root)
        ledger = registry.ledger()
        assert all(registry.files(ledger.versions[version]) for version in ledger.kept)
        assert registry.register({"model.onnx": b"new"}, "new", Note("again", "", {"servable": True}))[0] == 3
        assert repair(registry, root)[1] == []


def test_of_promotions_at_once_one_wins_and_the_others_are_told_who(tmp_path: Path) -> None:
    """Three processes, all decided on the same state: one entry, two refusals that name the version that went live."""
    registry = make_system(tmp_path, 0.0, 1.0, 2.0, 3.0)
    registry.promote(1, NOTE)
    told = sorted(line.split(" ", 2) for line in run(RACING, tmp_path))
    (winner,) = [int(version) for version, what, *_ in told if what == "won"]
    assert registry.ledger().active == winner
    assert [entry.by for entry in registry.entries()][5:] == [f"promoter {winner}"]
    assert sorted(line for line in told if line[1] != "won") == [
        [str(v), "conflict", f"version {winner} went live meanwhile; look at `history`, then decide again"]
        for v in (2, 3, 4)
        if v != winner
    ]


FULL = """
import json, resource, sys
from pathlib import Path
from mlsystem.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_told_by_name_and_changes_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: nothing more than 16 bytes can be written."""
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    before = registry.ledger()
    command = [sys.executable, "-c", FULL, "16", "promote", "2", "--json", "--dir", str(tmp_path)]
    done = subprocess.run(command, env=own_environment(), capture_output=True, check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (4, "registry_full")
    assert "free the disk" in error["message"]
    assert (registry.ledger(), verify(registry)[1]) == (before, [])
    assert registry.promote(2, NOTE).version == 2
