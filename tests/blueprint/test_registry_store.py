"""The registry on each kind of store: one contract, kept by a directory, by memory and by a bucket of S3."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from mlsystem.errors import RegistryError, SpecError
from mlsystem.registry import Event, Ledger, Note, Objects, Registry
from mlsystem.registry.care import repair, verify
from mlsystem.registry.derived import ALIASES
from mlsystem.registry.registry import blob_path
from mlsystem.registry.store import open_store
from tests.blueprint.small_system import NOTE
from tests.s3 import fresh_bucket

Opening = Callable[[], Objects]


@pytest.fixture(params=["directory", "memory", "s3"])
def opening(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """Return how the same store is opened, as often as a test likes."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: Objects(store)
    url = str(tmp_path / "registry")
    if request.param == "s3":
        bucket = fresh_bucket()
        url = bucket.url
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
    return lambda: Objects(open_store(url, tmp_path))


@pytest.fixture
def objects(opening: Opening) -> Objects:
    return opening()


def add(registry: Registry, name: str, keep: int = 10) -> int:
    return registry.register({"model.onnx": name.encode()}, name, Note("a test", "", {"servable": True}), keep=keep)[0]


def test_an_object_is_created_once(objects: Objects) -> None:
    """The second writer is told and changes nothing; the same bytes again are the first writer asking twice."""
    assert [objects.create("a/b", b"1"), objects.create("a/b", b"2"), objects.create("a/b", b"1")] == [
        True,
        False,
        True,
    ]
    assert (objects.read("a/b"), objects.read("a/c")) == (b"1", None)


def test_of_many_creators_at_once_one_is_told_that_it_wrote(opening: Opening) -> None:
    gate = threading.Barrier(6)

    def write(worker: int) -> bool:
        objects = opening()
        gate.wait()
        return objects.create("history/000001.json", str(worker).encode() * 2000)

    with ThreadPoolExecutor(6) as threads:
        wrote = list(threads.map(write, range(6)))
    assert wrote.count(True) == 1
    assert opening().read("history/000001.json") == str(wrote.index(True)).encode() * 2000


def test_objects_are_listed_replaced_digested_and_deleted(objects: Objects) -> None:
    objects.replace("blobs/x", b"old")
    objects.replace("blobs/x", b"new")
    objects.replace("other/y", b"y")
    ((path, at),) = objects.paths("blobs")
    assert (path, abs(at - datetime.now(UTC)) < timedelta(minutes=5)) == ("blobs/x", True)
    assert objects.digest("blobs/x") == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"
    objects.delete(["blobs/x"])
    assert (objects.paths("blobs"), objects.digest("blobs/x"), objects.changed_at("blobs/x")) == ([], None, None)


def test_files_of_any_size_go_in_and_come_out_whole(objects: Objects, tmp_path: Path) -> None:
    """Large enough to be sent in parts; a second time it is not sent again."""
    registry, large, back = Registry(objects), tmp_path / "large", tmp_path / "back"
    large.write_bytes(bytes(range(256)) * 45_000)
    ref = registry.put_file(large)
    at = objects.changed_at(blob_path(ref.sha256))
    assert (registry.put_file(large), ref.bytes) == (ref, 256 * 45_000)
    assert objects.changed_at(blob_path(ref.sha256)) == at
    registry.fetch(ref.sha256, back)
    assert back.read_bytes() == large.read_bytes()


def test_a_file_that_is_not_what_was_stored_is_not_fetched(objects: Objects, tmp_path: Path) -> None:
    """Nothing is left where the file would have been, not even a part of it."""
    registry = Registry(objects)
    ref = registry.put_blob(b"right")
    objects.replace(blob_path(ref.sha256), b"wrong")
    for sha256, words in ((ref.sha256, "not what was stored"), ("0" * 64, "missing")):
        with pytest.raises(RegistryError, match=words):
            registry.fetch(sha256, tmp_path / "back")
    assert list(tmp_path.glob("*back*")) == []


def test_versions_go_live_and_back_and_what_they_were_made_from_stays_with_them(objects: Objects) -> None:
    """Data is kept as long as its version, and is not among the files that are served."""
    tomorrow = Registry(objects, clock=lambda: datetime.now(UTC) + timedelta(days=1))
    data = {"rows.csv": tomorrow.put_blob(b"rows")}
    note = Note("a test", "", {"servable": True})
    assert tomorrow.register({"model.onnx": b"a"}, "a", note, data=data) == (1, True)
    tomorrow.put_blob(b"of nobody")
    add(tomorrow, "b")
    moves = [tomorrow.promote(1, NOTE), tomorrow.promote(2, NOTE), tomorrow.rollback(None, NOTE)]
    assert [move.version for move in moves] == [1, 2, 1]
    ledger = tomorrow.ledger()
    assert (ledger.active, ledger.candidates, tomorrow.follow(Ledger())) == (1, (1,), ledger)
    assert tomorrow.files(ledger.versions[1]) == {"model.onnx": b"a"}
    assert tomorrow.blob(ledger.versions[1].data["rows.csv"].sha256) == b"rows"
    assert len(objects.paths("blobs")) == 3
    assert verify(tomorrow)[1] == []


def test_many_writers_at_once_leave_one_sound_history(opening: Opening) -> None:
    """Different packages: all are there, numbered without a gap, chained, and the derived files are the newest."""
    gate = threading.Barrier(4)

    def write(name: str) -> int:
        registry = Registry(opening())
        gate.wait()
        return add(registry, name)

    with ThreadPoolExecutor(4) as threads:
        versions = list(threads.map(write, "abcd"))
    ledger, findings = verify(Registry(opening()))
    assert (sorted(versions), ledger.head, findings) == ([1, 2, 3, 4], 4, [])


def test_deleted_and_wrong_aliases_are_found_and_made_anew_from_the_history(objects: Objects, tmp_path: Path) -> None:
    """The history is the truth: what people see beside it never decides, and comes back as it was."""
    registry = Registry(objects)
    for name in "ab":
        registry.promote(add(registry, name), NOTE)
    before = objects.read(ALIASES)
    objects.delete([ALIASES])
    objects.replace("versions.json", b'{"champion": 7}')
    assert [finding.fault.value for finding in verify(registry)[1]] == ["derived_missing", "derived_wrong"]
    done, left = repair(registry, tmp_path)
    assert (done, left) == (
        ["aliases.json was made anew from the history", "versions.json was made anew from the history"],
        [],
    )
    assert (objects.read(ALIASES), registry.ledger().active) == (before, 2)


def test_a_changed_entry_is_found_and_not_repaired(objects: Objects, tmp_path: Path) -> None:
    registry = Registry(objects)
    add(registry, "a")
    objects.replace("history/000001.json", (objects.read("history/000001.json") or b"").replace(b"a test", b"a liar"))
    done, (finding,) = repair(registry, tmp_path)
    assert (done, finding.fault.value, finding.number) == ([], "tampered", 1)


@pytest.mark.parametrize("left", [b"", b'{"number":2,"ev'])
def test_a_newest_entry_that_was_cut_off_is_set_aside_and_the_state_before_it_holds(
    tmp_path: Path, left: bytes
) -> None:
    """A loss of power while the put is under way: nobody was told that it took place."""
    registry = Registry.open("registry", tmp_path)
    add(registry, "a")
    (tmp_path / "registry" / "history" / "000002.json").write_bytes(left)
    (finding,) = verify(registry)[1]
    assert (finding.fault.value, finding.number) == ("torn_entry", 2)
    assert repair(registry, tmp_path) == (
        ["entry 2, which was cut off, was set aside as history/000002.json.torn"],
        [],
    )
    assert registry.promote(1, NOTE).version == 1


@pytest.mark.parametrize("url", ["ftp://somewhere/x", "s3://", "http://host/bucket"])
def test_a_url_that_is_no_store_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SpecError, match="give a directory or s3://bucket/prefix"):
        Registry.open(url, tmp_path)


def test_a_bucket_that_cannot_be_reached_is_told_without_its_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**fresh_bucket().environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RegistryError, match=r"check `registry\.url`") as refused:
        Registry.open("s3://bucket/registry", tmp_path).ledger()
    assert refused.value.code == "registry_unusable"
    assert "secret" not in refused.value.message


def test_promotions_are_events_of_the_history_alone(objects: Objects) -> None:
    """The derived files may all be gone: versions, the active one and the way back are known."""
    registry = Registry(objects)
    for name in "ab":
        registry.promote(add(registry, name), NOTE)
    objects.delete(["aliases.json", "versions.json"])
    assert [entry.event for entry in registry.entries()].count(Event.PROMOTED) == 2
    assert registry.rollback(None, NOTE).version == 1
