"""The registry: a history that only grows, one winner of a race, and nothing changed unseen."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore, ObjectStore

from mlsystem.errors import GateFailed, MlsystemError, RegistryError
from mlsystem.output import Reporter
from mlsystem.registry import NO_HASH, Event, Ledger, Note, Objects, Registry
from mlsystem.registry.care import Fault, verify
from mlsystem.registry.command import history, promote, rollback
from mlsystem.stages import Workspace
from tests.blueprint.small_system import NOTE, make_system, register

OPEN: dict[str, Callable[[Path], ObjectStore]] = {
    "directory": lambda folder: LocalStore(prefix=folder, mkdir=True),
    "memory": lambda _folder: MemoryStore(),
}


@pytest.fixture(params=sorted(OPEN))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return OPEN[request.param](tmp_path / "registry")


@pytest.fixture
def registry(store: ObjectStore) -> Registry:
    return Registry(store)


def add(registry: Registry, name: str, *, servable: bool = True, keep: int = 10) -> int:
    evidence = {"servable": servable, "outcome": "success" if servable else "failed"}
    return registry.register({"model.onnx": name.encode()}, name, Note("a test", "", evidence), keep=keep)[0]


def findings(registry: Registry) -> list[str]:
    return [finding.fault.value for finding in verify(registry)[1]]


def events(registry: Registry) -> list[tuple[str, int]]:
    return [(entry.event.value, entry.version) for entry in registry.entries()]


class InBetween(Objects):
    """Objects of which something else is created between the decision and the write, once."""

    def __init__(self, store: ObjectStore, meanwhile: Callable[[], object]) -> None:
        super().__init__(store)
        self._meanwhile: Callable[[], object] | None = meanwhile

    def create(self, path: str, data: bytes) -> bool:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().create(path, data)


def test_versions_count_from_one_and_nothing_is_live_before_a_promotion(registry: Registry) -> None:
    """Registering makes a version, it does not let it answer."""
    assert (add(registry, "a"), add(registry, "b")) == (1, 2)
    assert (registry.ledger().active, registry.ledger().kept) == (None, (1, 2))


def test_the_same_package_makes_no_new_version(registry: Registry) -> None:
    """A digest that is there is answered with its version and writes no entry."""
    add(registry, "a")
    assert registry.register({"model.onnx": b"a"}, "a", NOTE) == (1, False)
    assert events(registry) == [("registered", 1)]


def test_a_promotion_and_a_rollback_are_entries_and_the_active_version_is_their_fold(registry: Registry) -> None:
    for name in "abc":
        add(registry, name)
    moves = [registry.promote(1, NOTE), registry.promote(3, NOTE), registry.rollback(None, NOTE)]
    assert [(move.version, move.previous, move.changed) for move in moves] == [
        (1, None, True),
        (3, 1, True),
        (1, None, True),
    ]
    assert events(registry)[3:] == [("promoted", 1), ("promoted", 3), ("rolled-back", 1)]


def test_promoting_nothing_in_particular_takes_the_newest_that_may_be_served(registry: Registry) -> None:
    add(registry, "a")
    add(registry, "b")
    add(registry, "c", servable=False)
    assert registry.promote(None, NOTE).version == 2


def test_promoting_the_active_version_changes_nothing(registry: Registry) -> None:
    add(registry, "a")
    registry.promote(1, NOTE)
    assert registry.promote(1, NOTE).changed is False
    assert events(registry) == [("registered", 1), ("promoted", 1)]


def test_a_version_that_failed_its_gates_is_not_promoted(registry: Registry) -> None:
    add(registry, "a", servable=False)
    with pytest.raises(GateFailed, match="version 1 failed gates"):
        registry.promote(1, NOTE)


IMPOSSIBLE: dict[str, Callable[[Registry], object]] = {
    "unknown_version": lambda registry: registry.promote(7, NOTE),
    "nothing_to_roll_back_to": lambda registry: registry.rollback(None, NOTE),
    "never_live": lambda registry: registry.rollback(2, NOTE),
}


@pytest.mark.parametrize("code", IMPOSSIBLE)
def test_an_impossible_move_is_refused_by_name_and_leaves_no_entry(registry: Registry, code: str) -> None:
    add(registry, "a")
    add(registry, "b")
    registry.promote(1, NOTE)
    with pytest.raises(RegistryError) as refused:
        IMPOSSIBLE[code](registry)
    assert (refused.value.code, len(events(registry))) == (code, 3)


def test_a_rollback_can_go_further_back_than_one_step(registry: Registry) -> None:
    for name in "abc":
        registry.promote(add(registry, name), NOTE)
    move = registry.rollback(1, NOTE)
    assert (move.version, move.previous) == (1, None)


def test_every_entry_says_who_what_when_and_why_and_names_the_one_before(registry: Registry) -> None:
    add(registry, "a")
    registry.promote(1, Note("ada", "it is better"))
    first, second = registry.entries()
    assert (second.by, second.why, second.event, second.digest) == ("ada", "it is better", Event.PROMOTED, "a")
    assert second.evidence == {"from": None, "outcome": "success"}
    assert (first.previous_hash, second.previous_hash) == (NO_HASH, first.hash)
    assert datetime.fromisoformat(second.at).tzinfo == UTC


def test_of_two_promoters_one_wins_and_the_other_is_told(store: ObjectStore) -> None:
    """Whoever decided on an older state does not undo a promotion that they have not seen."""
    other = Registry(store)
    add(other, "a")
    add(other, "b")
    slow = Registry(InBetween(store, lambda: other.promote(2, Note("the quick one"))))
    with pytest.raises(RegistryError, match="version 2 went live meanwhile") as conflict:
        slow.promote(1, Note("the slow one"))
    assert conflict.value.code == "conflict"
    assert [(entry.event, entry.by) for entry in other.entries()][2:] == [(Event.PROMOTED, "the quick one")]


def test_a_promotion_is_retried_when_only_a_registration_came_in_between(store: ObjectStore) -> None:
    other = Registry(store)
    add(other, "a")
    slow = Registry(InBetween(store, lambda: add(other, "b")))
    assert slow.promote(1, NOTE).version == 1
    assert events(other) == [("registered", 1), ("registered", 2), ("promoted", 1)]


def test_many_writers_at_once_leave_one_sound_history(tmp_path: Path) -> None:
    """Eight threads register different packages: all are there, numbered without a gap, chained."""
    gate = threading.Barrier(8)

    def write(name: str) -> int:
        registry = Registry.open("registry", tmp_path)
        gate.wait()
        return add(registry, name)

    with ThreadPoolExecutor(8) as threads:
        versions = list(threads.map(write, "abcdefgh"))
    registry = Registry.open("registry", tmp_path)
    assert sorted(versions) == list(range(1, 9))
    assert (findings(registry), registry.ledger().head) == ([], 8)


def test_the_oldest_packages_are_pruned_but_never_the_active_or_the_previous_one(registry: Registry) -> None:
    for name in "ab":
        registry.promote(add(registry, name, keep=3), NOTE)
    for name in "cdef":
        add(registry, name, keep=3)
    ledger = registry.ledger()
    assert (ledger.kept, ledger.active, ledger.previous) == ((1, 2, 6), 2, 1)
    with pytest.raises(RegistryError, match="version 3 was pruned"):
        registry.promote(3, NOTE)


def test_the_newest_package_is_kept_even_if_fewer_may_be_kept_than_are_needed(registry: Registry) -> None:
    for name in "ab":
        registry.promote(add(registry, name), NOTE)
    assert add(registry, "c", keep=1) == 3
    assert registry.ledger().kept == (1, 2, 3)


def test_blobs_of_pruned_packages_are_removed_when_no_registration_can_still_need_them(store: ObjectStore) -> None:
    """What a kept version names stays; the rest goes once it is older than any upload takes."""
    today = Registry(store)
    for name in "ab":
        add(today, name, keep=1)
    assert blobs(store) == 2
    tomorrow = Registry(store, clock=lambda: datetime.now(UTC) + timedelta(days=1))
    add(tomorrow, "c", keep=1)
    assert (blobs(store), tomorrow.ledger().kept, findings(tomorrow)) == (1, (3,), [])


def blobs(store: ObjectStore) -> int:
    return sum(len(chunk) for chunk in obstore.list(store, prefix="blobs"))


def test_a_pruned_package_can_be_registered_again_as_a_new_version(registry: Registry) -> None:
    for name in "abc":
        add(registry, name, keep=2)
    assert add(registry, "a") == 4


def entry_file(folder: Path, number: int) -> Path:
    return folder / "registry" / "history" / f"{number:06d}.json"


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "garbage"])
def test_a_changed_history_is_detected_and_refused(tmp_path: Path, change: str) -> None:
    """Nobody rewrites the past: not an entry, not its absence, not its order."""
    registry = make_system(tmp_path, 0.0, 1.0)
    registry.promote(1, NOTE)
    target = entry_file(tmp_path, 2)
    if change == "edit":
        target.write_bytes(target.read_bytes().replace(b"a test", b"a liar"))
    elif change == "remove":
        target.unlink()
    elif change == "swap":
        target.write_bytes(entry_file(tmp_path, 1).read_bytes())
    else:
        target.write_bytes(b"{")
    assert findings(registry) == ["tampered"]
    with pytest.raises(RegistryError, match="entry 2"):
        registry.promote(2, NOTE)


def test_a_changed_blob_is_detected_and_names_the_version_and_the_file(tmp_path: Path) -> None:
    registry = make_system(tmp_path, 0.0)
    sha256 = registry.ledger().versions[1].files["model.onnx"].sha256
    (tmp_path / "registry" / "blobs" / "sha256" / sha256).write_bytes(b"another model")
    (finding,) = verify(registry)[1]
    assert (finding.fault, finding.version, finding.file) == (Fault.BLOB_CHANGED, 1, "model.onnx")
    with pytest.raises(RegistryError, match="not what was stored"):
        registry.files(registry.ledger().versions[1])


def test_an_entry_with_fields_of_a_later_engine_is_read_and_its_hash_covers_them(store: ObjectStore) -> None:
    """A newer writer does not break an older reader, and its fields cannot be changed unseen either."""
    registry = Registry(store)
    add(registry, "a")
    (entry,) = registry.entries()
    raw = {**msgspec.to_builtins(entry), "ticket": "T-1"}
    obstore.put(store, "history/000001.json", msgspec.json.encode(raw))
    assert findings(registry) == ["tampered"]


def test_following_reads_only_what_has_come_since(registry: Registry) -> None:
    """A follower that is behind by some entries ends where a full read ends."""
    add(registry, "a")
    early = registry.ledger()
    registry.promote(1, NOTE)
    add(registry, "b")
    assert registry.follow(early) == registry.ledger()
    assert registry.follow(registry.ledger()).head == 3


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["register", "promote", "rollback"]), st.integers(1, 4)), max_size=14))
def test_after_any_course_of_events_the_laws_of_the_ledger_hold(course: list[tuple[str, int]]) -> None:
    """Active and previous are kept, differ, and may be served; the history verifies."""
    registry = Registry(MemoryStore())
    for step, (what, which) in enumerate(course):
        try:
            if what == "register":
                add(registry, f"p{step}", servable=which != 4, keep=2)
            elif what == "promote":
                registry.promote(which, NOTE)
            else:
                registry.rollback(None if which == 4 else which, NOTE)
        except (RegistryError, GateFailed):
            continue
    ledger = registry.ledger()
    assert findings(registry) == []
    assert {ledger.active, ledger.previous} - {None} <= set(ledger.kept)
    assert ledger.active is None or ledger.active != ledger.previous
    assert all(ledger.versions[version].evidence["servable"] for version in ledger.live)
    assert registry.follow(Ledger()) == ledger


def test_other_files_in_the_folder_of_the_history_are_left_alone(tmp_path: Path) -> None:
    """What a killed writer or a file manager left there is no entry, and does not stop anybody."""
    registry = make_system(tmp_path, 0.0)
    for name in (".DS_Store", "000002.json#1", "000001 copy.json", "notes.txt"):
        (tmp_path / "registry" / "history" / name).write_text("?")
    assert (registry.promote(1, NOTE).version, findings(registry)) == (1, [])


def test_a_registry_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file")
    with pytest.raises(RegistryError) as refused:
        add(Registry.open("registry", tmp_path), "a")
    assert refused.value.code == "registry_unusable"


def command(tmp_path: Path, run: Callable[..., dict[str, object]], **options: object) -> dict[str, object]:
    given = {"version": None, "to": None, "by": "ada", "why": "because", **options}
    return run(Workspace.open(tmp_path, Reporter("json")), Namespace(**given))


def test_the_commands_answer_with_version_and_previous(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0, 1.0)
    results = [
        command(tmp_path, promote, version=1),
        command(tmp_path, promote),
        command(tmp_path, rollback),
    ]
    assert results == [
        {"version": 1, "previous": None, "changed": True},
        {"version": 2, "previous": 1, "changed": True},
        {"version": 1, "previous": None, "changed": True},
    ]


def test_the_history_command_lists_every_entry_with_its_hashes(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    command(tmp_path, promote, version=1)
    told = command(tmp_path, history)
    entries = msgspec.convert(told["entries"], list[dict[str, object]])
    assert (told["active"], told["previous"]) == (1, None)
    assert [(entry["number"], entry["event"], entry["version"], entry["by"]) for entry in entries] == [
        (1, "registered", 1, "a test"),
        (2, "promoted", 1, "ada"),
    ]
    assert {"at", "why", "digest", "previous_hash", "hash", "evidence"} <= entries[0].keys()


def test_the_history_command_fails_on_a_damaged_registry(tmp_path: Path) -> None:
    register(make_system(tmp_path), 0.0)
    entry_file(tmp_path, 1).write_bytes(b"{}")
    with pytest.raises(MlsystemError) as refused:
        command(tmp_path, history)
    assert (refused.value.code, refused.value.exit_code) == ("tampered", 4)
