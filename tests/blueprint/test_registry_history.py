"""What was live when, who did it and why; and the commands that look after a registry."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlsystem.__main__ import exit_code
from mlsystem.errors import MlsystemError
from mlsystem.output import Reporter
from mlsystem.registry import Note, Registry
from mlsystem.registry.command import history, promote
from mlsystem.registry.command import registry as look_after
from mlsystem.registry.ledger import reign_at
from mlsystem.stages import Workspace
from tests.blueprint.made_tables import engine
from tests.blueprint.small_system import NOTE, make_system, register

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Answered:
    """What a command came to."""

    code: int
    result: dict[str, Any]


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def later(self, hours: float) -> None:
        self.now += timedelta(hours=hours)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Version 1 live from noon, 2 from 14:00, back to 1 at 18:00; registrations in between change nothing."""
    make_system(tmp_path)
    clock = Hours()
    registry = Registry(Registry.open("registry", tmp_path).objects, clock=clock)
    register(registry, 0.0)
    registry.promote(1, Note("ada", "the first"))
    clock.later(1)
    register(registry, 1.0)
    clock.later(1)
    registry.promote(2, Note("bob", "better on the holdout"))
    clock.later(4)
    registry.rollback(None, Note("ada", "too many errors"))
    return tmp_path


LIVE = {
    "2026-11-23T11:59:59Z": None,
    "2026-11-23T12:00:00Z": 1,
    "2026-11-23T13:59:59.9Z": 1,
    "2026-11-23T14:00:00Z": 2,
    "2026-11-23T18:59:59+01:00": 2,
    "2026-11-23T19:00:00+01:00": 1,
}


@pytest.mark.parametrize("at", LIVE)
def test_the_history_tells_which_version_was_live_at_a_time(root: Path, at: str) -> None:
    """A version is live from the moment of its entry on, until the entry of another."""
    reign = reign_at(Registry.open("registry", root).entries(), datetime.fromisoformat(at))
    assert reign.version == LIVE[at]


def test_an_entry_of_a_slow_clock_takes_effect_after_the_one_before_it(tmp_path: Path) -> None:
    """The order of the history decides, so that an entry from the past does not change what was live then."""
    clock = Hours()
    registry = Registry(make_system(tmp_path).objects, clock=clock)
    register(registry, 0.0)
    register(registry, 1.0)
    registry.promote(1, NOTE)
    clock.later(-3)
    registry.promote(2, NOTE)
    entries = list(registry.entries())
    assert reign_at(entries, NOON - timedelta(hours=1)).version is None
    assert reign_at(entries, NOON).version == 2


def asked(root: Path, run: Callable[..., dict[str, object]], **options: object) -> Answered:
    """Run a command of the registry as the command line does, and return its exit code and its result."""
    given = Namespace(**{"version": None, "at": "", "by": "", "why": "", **options})
    try:
        result = run(Workspace.open(root, Reporter("json")), given)
    except MlsystemError as error:
        return Answered(error.exit_code, {"error": error.as_json()})
    return Answered(exit_code(result), result)


def test_the_answer_names_time_zone_version_who_and_why(root: Path) -> None:
    """A time without a zone is this machine's, and the answer says which that is."""
    told = engine("history", "--at", "2026-11-23T16:30", "--json", cwd=root, TZ="Europe/Amsterdam").result
    assert told.pop("digest") == "digest-1.0"
    assert told == {
        "ok": True,
        "at": "2026-11-23T15:30:00Z",
        "local": "2026-11-23T16:30:00+01:00",
        "timezone": "CET",
        "version": 2,
        "since": "2026-11-23T14:00:00.000Z",
        "until": "2026-11-23T18:00:00.000Z",
        "event": "promoted",
        "by": "bob",
        "why": "better on the holdout",
        "entry": 4,
        "text": "at 2026-11-23 16:30:00 CET version 2 was live, promoted by bob at 2026-11-23 15:00:00 CET "
        "(better on the holdout), until 2026-11-23 19:00:00 CET",
    }


@pytest.mark.parametrize(
    ("at", "words"),
    [("yesterday", "write 2026-11-23T12:00"), ("2999-01-01", "is still to come")],
    ids=["odd", "future"],
)
def test_a_time_that_cannot_be_meant_is_refused(root: Path, at: str, words: str) -> None:
    told = asked(root, history, at=at)
    assert (told.code, told.result["error"]["code"]) == (2, "bad_time")
    assert words in told.result["error"]["message"]


def test_verify_is_silent_on_a_sound_registry_and_repair_has_nothing_to_do(root: Path) -> None:
    assert asked(root, look_after, action="verify").result == {"ok": True, "entries": 5, "findings": []}
    assert asked(root, look_after, action="repair").result == {"ok": True, "repaired": [], "entries": 5, "findings": []}


def test_a_damaged_model_and_a_deleted_alias_are_found_and_repaired_from_what_the_system_has(root: Path) -> None:
    """A blob comes back from the finished package if that has the very same bytes; exit 4 until all is well."""
    registry = Registry.open("registry", root)
    sha256 = registry.ledger().versions[2].files["model.onnx"].sha256
    blob = root / "registry" / "blobs" / "sha256" / sha256
    kept = root / "work" / "package" / "abc"
    kept.mkdir(parents=True)
    (kept / "metrics.json").write_bytes(b"another file")
    (kept / "model.onnx").write_bytes(blob.read_bytes())
    blob.write_bytes(b"damaged")
    (root / "registry" / "aliases.json").unlink()
    verified = asked(root, look_after, action="verify")
    assert verified.code == 4
    assert [(f["code"], f["path"]) for f in verified.result["findings"]] == [
        ("blob_changed", f"blobs/sha256/{sha256}"),
        ("derived_missing", "aliases.json"),
    ]
    repaired = asked(root, look_after, action="repair")
    assert (repaired.code, repaired.result["findings"]) == (0, [])
    assert repaired.result["repaired"] == [
        f"model.onnx of version 2 was put back from {root}/work/package/abc/model.onnx",
        "aliases.json was made anew from the history",
    ]


def test_a_blob_of_which_there_is_no_copy_stays_a_finding(root: Path) -> None:
    registry = Registry.open("registry", root)
    sha256 = registry.ledger().versions[2].files["model.onnx"].sha256
    (root / "registry" / "blobs" / "sha256" / sha256).unlink()
    told = asked(root, look_after, action="repair")
    (finding,) = told.result["findings"]
    assert (told.code, told.result["ok"], finding["code"], finding["version"]) == (4, False, "blob_missing", 2)


def test_a_damaged_version_is_not_made_live(root: Path) -> None:
    """The command refuses it by digest, before any server has to."""
    registry = Registry.open("registry", root)
    sha256 = registry.ledger().versions[2].files["model.onnx"].sha256
    (root / "registry" / "blobs" / "sha256" / sha256).write_bytes(b"damaged")
    told = asked(root, promote, version=2)
    assert (told.code, told.result["error"]["code"]) == (4, "tampered")
    assert registry.ledger().active == 1


def test_a_newer_version_that_may_not_be_served_is_told_when_an_older_one_goes_live(root: Path) -> None:
    """Whoever asks for the newest learns why it is not the one that answers."""
    registry = Registry.open("registry", root)
    unfit = Note("a test", "a bias", {"outcome": "failed", "servable": False, "failed_gates": ["parity", "ece"]})
    newest = registry.register({"model.onnx": b"another"}, "digest-unfit", unfit)[0]
    told = asked(root, promote, version=None)
    assert (told.code, told.result["version"]) == (0, newest - 1)
    assert told.result["passed_over"] == [f"version {newest} failed gates that serving needs: parity, ece"]
    assert "passed_over" not in asked(root, promote, version=1).result


def test_the_audit_says_of_every_change_who_made_it_when_and_why(root: Path) -> None:
    told = asked(root, history).result
    assert [entry["text"] for entry in told["entries"] if entry["event"] != "registered"] == [
        "2026-11-23T12:00:00.000Z version 1 promoted by ada: the first",
        "2026-11-23T14:00:00.000Z version 2 promoted by bob: better on the holdout",
        "2026-11-23T18:00:00.000Z version 1 rolled-back by ada: too many errors",
    ]
