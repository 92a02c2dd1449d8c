"""Erasing a person: nothing that is kept knows them any more, and the history says that it was done."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from mlsystem.data.command import validate
from mlsystem.errors import DataError
from mlsystem.governance.erase import erase
from mlsystem.governance.pseudonym import pseudonym, secret_of
from mlsystem.registry import FileRef, Note, Registry, registry_of
from mlsystem.registry.care import verify
from mlsystem.registry.command import history
from mlsystem.stages import Workspace
from mlsystem.state import Captured, OnlineRow, Outcome, state_of
from tests.blueprint.made_tables import churn, make_system

WHOM = "C-7"


def system(root: Path, more: str = 'entity = "customer"\n') -> tuple[Workspace, Registry]:
    """A validated system with one version whose snapshot is in the registry, as `package` leaves it."""
    table = churn(300) | {"customer": [f"C-{i // 3}" for i in range(300)]}
    workspace = make_system(root, table, "left", more=more)
    result = validate(workspace)
    registry = registry_of(workspace)
    digest = str(cast("dict[str, Any]", result["snapshot"])["digest"])
    (rows,) = (root / "data" / "snapshots" / digest).iterdir()
    data = {f"snapshot/{rows.name}": registry.put_file(rows)}
    split = next((root / "work" / "validate").glob("*/split.npy"))
    data["validate/split.npy"] = registry.put_file(split)
    manifest = {"snapshot": result["snapshot"]}
    files = {"schema.json": (root / "schema.json").read_bytes(), "manifest.json": msgspec.json.encode(manifest)}
    note = Note("a test", "packaged", {"servable": True})
    registry.register({**files, "model.onnx": b"a model"}, "package", note, data=data)
    registry.promote(1, Note("a test", "to see it"))
    return workspace, registry


def options(entity: str = WHOM) -> Namespace:
    """What the command line hands over."""
    return Namespace(entity=entity, by="dpo", why="they asked for it")


def everything(root: Path) -> bytes:
    """All that is on disk but the source."""
    source = root / "rows.csv"
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file() and path != source)


def test_nothing_that_is_kept_holds_them(tmp_path: Path) -> None:
    """Not the copy on disk, not the registry's; what others left there is as it was."""
    workspace, _ = system(tmp_path)
    before = everything(tmp_path)
    erase(workspace, options())
    after = everything(tmp_path)
    assert (b"\nC-7," in before, b"\nC-7," in after, b"\nC-8," in after) == (True, False, True)


def test_it_says_what_was_removed_and_from_where(tmp_path: Path) -> None:
    """Rows by version, the digest of what is left, and the rows that are still at the source."""
    workspace, _ = system(tmp_path)
    found = erase(workspace, options())
    ((version,), (folder,)) = cast("tuple[list[dict[str, Any]], ...]", (found["versions"], found["snapshots"]))
    assert (version["version"], version["rows"], folder["rows"], found["source_rows"]) == (1, 3, 3, 3)
    assert version["without"] == folder["without"]
    left = tmp_path / "data" / "snapshots" / str(version["without"]) / "rows.canonical.csv"
    assert left.read_text().count("\n") == 298


def test_the_history_says_who_why_and_a_digest_for_the_name(tmp_path: Path) -> None:
    """The name itself stands nowhere; whoever knows it can find the entry again."""
    workspace, registry = system(tmp_path)
    erase(workspace, options())
    entry = list(registry.entries())[-1]
    subject = entry.evidence["subject"]
    assert (entry.event.value, entry.version, entry.by, entry.why) == ("erased", 1, "dpo", "they asked for it")
    assert subject == pseudonym(WHOM, secret_of(registry))
    assert WHOM not in json.dumps(msgspec.to_builtins(entry))
    told = cast("list[dict[str, Any]]", history(workspace, Namespace(at=""))["entries"])[-1]["text"]
    assert told == f"{entry.at} rows of a person left the data of version 1 by dpo: they asked for it"


def test_the_registry_is_whole_afterwards_and_the_version_stays_live(tmp_path: Path) -> None:
    """What was taken out on purpose is no damage, and the model answers on."""
    workspace, registry = system(tmp_path)
    erase(workspace, options())
    ledger, findings = verify(registry)
    assert (findings, ledger.active, sorted(ledger.versions[1].data)) == ([], 1, ["snapshot/rows.canonical.csv"])
    assert [item["rows"] for item in ledger.versions[1].evidence["erased"]] == [3]


def test_captures_outcomes_and_online_rows_go_too(tmp_path: Path) -> None:
    """By the same name, whatever the state keeps under it."""
    workspace, _ = system(tmp_path)
    state = state_of(workspace)
    now = time.time()
    state.capture([Captured(f"p-{who}", now, 1, who, "Yes", (0.2, 0.8), {"tenure": 1}) for who in (WHOM, "C-8")])
    state.record([Outcome(actual="No", at=now, id=f"p-{WHOM}")])
    state.put_rows("features", [OnlineRow(who, {"tenure": 1}, now) for who in (WHOM, "C-8")])
    found = erase(workspace, options())
    left = [joined.captured.entity for joined in state.captures(since=0, until=now + 1)]
    assert found["state"] == {"captures": 1, "outcomes": 1, "rows": 1}
    assert (left, [row is None for row in state.rows("features", [WHOM, "C-8"])]) == (["C-8"], [True, False])


def test_under_a_regime_the_state_knows_pseudonyms_and_erases_by_name(tmp_path: Path) -> None:
    """The file of the state holds no entity in clear, and the command still finds theirs."""
    workspace, _ = system(tmp_path, 'entity = "customer"\n[governance]\nregime = ["gdpr"]\n')
    now = time.time()
    state = state_of(workspace)
    state.capture([Captured("p-1", now, 1, "patient-4711", "Yes", (0.2, 0.8), None)])
    written = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    found = erase(workspace, options("patient-4711"))
    assert (b"patient-4711" in written, found["state"]) == (False, {"captures": 1, "outcomes": 0, "rows": 0})


def test_under_a_regime_the_snapshot_knows_pseudonyms_and_loses_their_rows_by_name(tmp_path: Path) -> None:
    """Nothing but the source has the name, and the rows that are about them are found all the same."""
    workspace, _ = system(tmp_path, 'entity = "customer"\n[governance]\nregime = ["gdpr"]\n')
    before = everything(tmp_path)
    found = erase(workspace, options())
    ((version,), (folder,)) = cast("tuple[list[dict[str, Any]], ...]", (found["versions"], found["snapshots"]))
    assert (b"C-7," in before, version["rows"], folder["rows"], found["source_rows"]) == (False, 3, 3, 3)


def test_a_second_time_changes_nothing_but_is_written_down(tmp_path: Path) -> None:
    """Whoever asks twice gets the same end."""
    workspace, registry = system(tmp_path)
    erase(workspace, options())
    data = dict[str, FileRef](registry.ledger().versions[1].data)
    again = erase(workspace, options())
    last = list(registry.entries())[-1]
    assert (again["versions"], again["snapshots"], last.evidence["rows"]) == ([], [], 0)
    version = registry.ledger().versions[1]
    assert (version.data, [item["rows"] for item in version.evidence["erased"]]) == (data, [3])


def test_data_that_name_nobody_are_told_as_such(tmp_path: Path) -> None:
    """Nobody is erased by guessing."""
    table = {name: values for name, values in churn(300).items() if name != "customer"}
    workspace = make_system(tmp_path, table, "left")
    validate(workspace)
    with pytest.raises(DataError, match=r"set data\.entity"):
        erase(workspace, options())
