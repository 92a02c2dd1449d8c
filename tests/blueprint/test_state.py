"""The state: one contract, kept by a SQLite file and by PostgreSQL, and what each does when it is hurt."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
import pytest

from mlsystem.errors import SpecError, StateError
from mlsystem.output import Reporter
from mlsystem.stages import Workspace
from mlsystem.state import (
    Captured,
    Claim,
    Erased,
    Joined,
    OnlineRow,
    Outcome,
    Recorded,
    State,
    Window,
    open_state,
    state_of,
)
from mlsystem.state.postgres import PostgresSchema
from mlsystem.state.sql import SqlState
from mlsystem.state.sqlite import SqliteFile
from tests.blueprint.made_tables import own_environment
from tests.blueprint.small_system import spec_text
from tests.postgres import discard, fresh_database, new_cluster

FOREVER = 1e12


@dataclass(frozen=True)
class Place:
    """Where a state is; opened as often as a test likes."""

    url: str
    root: Path

    def open(self, system: str = "churn") -> State:
        return open_state(self.url, self.root, system=system)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place("sqlite:state/serving.db" if request.param == "sqlite" else fresh_database(), tmp_path)


@pytest.fixture
def state(place: Place) -> Generator[State]:
    found = place.open()
    yield found
    found.close()


def captured(name: str, at: float, entity: str = "", version: int = 1) -> Captured:
    return Captured(name, at, version, entity, "Yes", (0.25, 0.75), {"tenure": 3, "plan": "monthly", "note": None})


def everything(state: State) -> list[Joined]:
    return list(state.captures(since=0, until=FOREVER))


def test_what_was_captured_is_read_back_whole_and_in_the_order_of_time(state: State) -> None:
    """A value, labels, no features, odd characters: what goes in comes out."""
    rows = [
        captured("b", 20.5),
        captured("a", 10.25, "C-1"),
        Captured("c", 30.0, 2, "\N{SNOWMAN} 'quoted'", 1.5e300, (1.5e300,), None),
        Captured("d", 31.0, 2, "", "No", (1.0, 0.0), {"text": 'a\0b "x" \N{GREEK SMALL LETTER ALPHA}', "n": [1, 2.5]}),
    ]
    state.capture(rows)
    assert everything(state) == [Joined(rows[index], None, None) for index in (1, 0, 2, 3)]


def test_captures_are_chosen_by_time_and_version(state: State) -> None:
    """The beginning of a span belongs to it, its end does not."""
    state.capture([captured("a", 10), captured("b", 20, version=2), captured("c", 30)])
    spans = [
        state.captures(since=10, until=30),
        state.captures(since=10.5, until=30.5),
        state.captures(since=0, until=FOREVER, version=1),
    ]
    assert [[joined.captured.id for joined in span] for span in spans] == [["a", "b"], ["b", "c"], ["a", "c"]]


def test_captures_of_any_number_are_read_page_by_page(state: State) -> None:
    """Rows of one moment are neither lost nor doubled at the end of a page."""
    state.capture([captured(f"{i:05}", float(i // 700)) for i in range(2500)])
    assert [joined.captured.id for joined in everything(state)] == [f"{i:05}" for i in range(2500)]


def test_a_capture_that_comes_twice_is_kept_once(state: State) -> None:
    state.capture([captured("a", 10, "first")])
    state.capture([captured("a", 11, "second"), captured("b", 12)])
    assert [(j.captured.id, j.captured.entity) for j in everything(state)] == [("a", "first"), ("b", "")]


def test_outcomes_join_late_by_id_and_the_first_one_stays(state: State) -> None:
    """Accepted, unknown, duplicate: each outcome is one of the three."""
    state.capture([captured("a", 10), captured("b", 20)])
    told = [Outcome("Yes", 90, id="a"), Outcome("No", 91, id="a"), Outcome("No", 92, id="nobody")]
    assert state.record(told) == Recorded(accepted=1, unknown=1, duplicate=1)
    assert state.record([Outcome("No", 95, id="a"), Outcome(2.5, 96, id="b")]) == Recorded(1, 0, 1)
    assert [(j.actual, j.outcome_at) for j in everything(state)] == [("Yes", 90.0), (2.5, 96.0)]


def test_outcomes_join_by_entity_and_time_to_the_newest_prediction_before(state: State) -> None:
    """A prediction that was made after the time is not meant; without a time the newest is."""
    state.capture([captured("a", 10, "C-1"), captured("b", 20, "C-1"), captured("c", 15, "C-2"), captured("d", 30)])
    told = [
        Outcome("Yes", 90, entity="C-1", time=19.9),
        Outcome("No", 90, entity="C-1"),
        Outcome("No", 90, entity="C-2", time=14.9),
        Outcome("No", 90, entity="C-3", time=50),
        Outcome("No", 90),
    ]
    assert state.record(told) == Recorded(accepted=2, unknown=3, duplicate=0)
    assert {j.captured.id: j.actual for j in everything(state)} == {"a": "Yes", "b": "No", "c": None, "d": None}


def test_many_outcomes_at_once_are_joined(state: State) -> None:
    state.capture([captured(str(i), i) for i in range(1200)])
    assert state.record([Outcome("No", 1, id=str(i)) for i in range(1100, 1300)]) == Recorded(100, 100, 0)


def test_a_sketch_replaces_the_one_of_the_same_window_version_and_worker(state: State) -> None:
    first, other = Window(3600, 1, "w1", b"\0old"), Window(3600, 1, "w2", b"other")
    later, newer = Window(7200, 2, "w1", b"later"), Window(3600, 1, "w1", b"\0new")
    state.save_windows([first, later, other])
    state.save_windows([newer])
    assert state.windows(since=0, until=FOREVER) == [newer, other, later]
    assert state.windows(since=3600, until=7200) == [newer, other]


def test_online_rows_come_in_the_order_asked_and_never_go_back_in_time(state: State) -> None:
    rows = [OnlineRow("C-1", {"n": 1}, 10), OnlineRow("C-2", {"n": 2}, 10)]
    assert state.put_rows("features", rows) == 2
    assert state.put_rows("features", [OnlineRow("C-1", {"n": 0}, 9), OnlineRow("C-2", {"n": 3}, 11)]) == 1
    newest = OnlineRow("C-2", {"n": 3}, 11)
    assert state.rows("features", ["C-2", "C-9", "C-1", "C-2"]) == [newest, None, rows[0], newest]
    assert state.rows("another", ["C-1"]) == [None]


def test_a_fact_is_the_last_that_was_put(state: State) -> None:
    state.put("watermark", b"\x001")
    state.put("watermark", b"\x002")
    assert (state.get("watermark"), state.get("nothing")) == (b"\x002", None)


def test_erasing_an_entity_removes_it_everywhere_and_nobody_else(state: State) -> None:
    state.capture([captured("a", 10, "C-1"), captured("b", 20, "C-1"), captured("c", 30, "C-2")])
    state.record([Outcome("Yes", 90, id="a"), Outcome("No", 90, id="c")])
    state.put_rows("features", [OnlineRow("C-1", {}, 1), OnlineRow("C-2", {}, 1)])
    state.put_rows("more", [OnlineRow("C-1", {}, 1)])
    assert state.erase("C-1") == Erased(captures=2, outcomes=1, rows=2)
    assert [(j.captured.id, j.actual) for j in everything(state)] == [("c", "No")]
    assert state.rows("features", ["C-1", "C-2"]) == [None, OnlineRow("C-2", {}, 1)]
    assert state.erase("C-1") == Erased(0, 0, 0)


def test_what_is_older_than_the_retention_goes_with_its_outcome_and_sketch(state: State) -> None:
    state.capture([captured("a", 10), captured("b", 20)])
    state.record([Outcome("Yes", 90, id="a")])
    state.save_windows([Window(0, 1, "w", b""), Window(20, 1, "w", b"")])
    assert state.expire(20) == 1
    assert [j.captured.id for j in everything(state)] == ["b"]
    assert [window.start for window in state.windows(since=0, until=FOREVER)] == [20]
    state.capture([captured("a", 30)])
    assert everything(state)[1] == Joined(captured("a", 30), None, None)


def test_what_was_kept_is_there_after_reopening_and_for_others(place: Place) -> None:
    first, second = place.open(), place.open()
    first.capture([captured("a", 10)])
    assert len(everything(second)) == 1
    first.close()
    second.close()
    third = place.open()
    assert len(everything(third)) == 1
    third.close()


def test_threads_and_connections_may_write_at_once(place: Place) -> None:
    """Four writers over two connections: everything is there, once."""
    states = [place.open(), place.open()]
    gate = threading.Barrier(4)

    def write(worker: int) -> None:
        gate.wait()
        for i in range(20):
            states[worker % 2].capture([captured(f"{worker}-{i}", i), captured(f"shared-{i}", i)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(everything(states[0])) == 4 * 20 + 20
    for state in states:
        state.close()


def test_a_claim_is_renewed_ends_with_its_lease_or_its_release(tmp_path: Path) -> None:
    now = 1000.0
    state = SqlState(SqliteFile(tmp_path / "s.db", print), clock=lambda: now)
    state.claim("host-a", 30)
    now += 20
    state.claim("host-a", 30)
    assert state.claims() == [Claim("host-a", 1050.0)]
    with pytest.raises(StateError, match=r"replica host-a serves .* PostgreSQL URL") as refused:
        state.claim("host-b", 30)
    assert refused.value.code == "replica_refused"
    now += 31
    state.claim("host-b", 30)
    state.release("host-b")
    state.claim("host-a", 30)
    assert [claim.replica for claim in state.claims()] == ["host-a"]
    state.close()


def test_any_number_of_replicas_may_claim_postgres() -> None:
    state = open_state(fresh_database(), Path())
    state.claim("host-a", 30)
    state.claim("host-b", 30)
    assert [claim.replica for claim in state.claims()] == ["host-a", "host-b"]
    state.close()


def test_systems_that_share_a_database_do_not_see_each_other() -> None:
    place = Place(fresh_database(), Path())
    churn, stock = place.open("churn-nl"), place.open("stock")
    churn.capture([captured("a", 10)])
    assert (len(everything(churn)), everything(stock)) == (1, [])
    churn.close()
    stock.close()


def test_an_older_engine_does_not_touch_the_tables_of_a_newer_one(place: Place) -> None:
    state = place.open()
    state.put("state/format", b"2")
    state.close()
    with pytest.raises(StateError, match="upgrade this one") as refused:
        everything(place.open())
    assert refused.value.code == "state_too_new"


# ---- SQLite: lost, damaged, full, busy


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"no database at all " * 300),
    "pages": lambda path: path.write_bytes(path.read_bytes()[:1024] + b"\xff" * (path.stat().st_size - 1024)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_set_aside_and_made_anew_and_both_is_told(tmp_path: Path, kind: str) -> None:
    path, told = tmp_path / "serving.db", list[str]()
    before = open_state("sqlite:serving.db", tmp_path)
    before.capture([captured(str(i), i) for i in range(50)])
    before.close()
    DAMAGE[kind](path)
    state = open_state("sqlite:serving.db", tmp_path, tell=told.append)
    state.capture([captured("new", 10)])
    assert [j.captured.id for j in everything(state)] == ["new"]
    (aside,) = tmp_path.glob("serving.db.damaged-*")
    assert told == [f"{path} is damaged; it is kept as {aside.name} and a new one is made"]
    state.close()


def test_processes_that_find_the_damage_together_end_on_one_new_file(tmp_path: Path) -> None:
    """Four workers of a host: whoever comes second does not set the new file aside."""
    (tmp_path / "serving.db").write_bytes(b"no database at all " * 300)
    gate = threading.Barrier(4)

    def write(worker: int) -> None:
        state = open_state("sqlite:serving.db", tmp_path, tell=lambda _text: None)
        gate.wait()
        state.capture([captured(str(worker), worker)])
        state.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len(everything(open_state("sqlite:serving.db", tmp_path))) == 4
    assert len(list(tmp_path.glob("serving.db.damaged-*"))) == 1


def test_writers_that_have_the_file_open_end_on_the_new_one_within_a_second_try(tmp_path: Path) -> None:
    """Whoever reads notices the damage; the others lose one write at most, and none goes to the file set aside."""

    def write(state: State, name: str) -> None:
        for _ in range(2):
            with contextlib.suppress(StateError):
                state.capture([captured(name, 10)])

    path = tmp_path / "serving.db"
    writers = [open_state("sqlite:serving.db", tmp_path, tell=lambda _text: None) for _ in range(3)]
    reader = open_state("sqlite:serving.db", tmp_path, tell=lambda _text: None)
    for attempt in range(5):
        for index, state in enumerate(writers):
            write(state, f"before-{attempt}-{index}")
        for file in (path, tmp_path / "serving.db-wal"):
            file.write_bytes(b"damaged" * (1 + file.stat().st_size // 7))
        everything(reader)
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(write, writers, [f"{attempt}-{index}" for index in range(3)]))
        assert {j.captured.id for j in everything(reader)} >= {f"{attempt}-{index}" for index in range(3)}
    for state in (*writers, reader):
        state.close()


def test_a_file_that_was_deleted_is_made_anew_by_whoever_has_it_open(tmp_path: Path) -> None:
    told = list[str]()
    state = open_state("sqlite:state/serving.db", tmp_path, tell=told.append)
    state.capture([captured("a", 10)])
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    (tmp_path / "state").rmdir()
    state.capture([captured("b", 20)])
    assert [j.captured.id for j in everything(open_state("sqlite:state/serving.db", tmp_path))] == ["b"]
    assert told == [f"{tmp_path}/state/serving.db is gone, with what was kept in it; a new one is made"]
    state.close()


FULL = """
import resource, sys
from pathlib import Path
from mlsystem.errors import StateError
from mlsystem.state import Captured, open_state
state = open_state("sqlite:serving.db", Path(sys.argv[1]))
rows = lambda n: [Captured(f"{n}-{i}", 1.0, 1, "", "Yes", (1.0,), {"text": "x" * 1000}) for i in range(200)]
state.capture(rows(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
try:
    for n in range(1, 20):
        state.capture(rows(n))
except StateError as error:
    print(error.code, error.message)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
state.capture(rows(99))
print(len(list(state.captures(since=0, until=9))) % 200)
"""


def test_a_full_disk_is_told_and_writing_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    """A batch is written whole or not at all; the process's limit on the size of a file stands for the disk."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], env=own_environment(), capture_output=True, text=True, check=True
    )
    told, rest = done.stdout.splitlines()
    assert told.startswith(f"state_full {tmp_path}/serving.db cannot grow")
    assert rest == "0"


def test_a_place_that_cannot_be_written_is_told_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"check `serving\.state`") as refused:
        open_state("sqlite:state/serving.db", tmp_path).put("a", b"")
    assert refused.value.code == "state_unusable"


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds what customers sent."""
    open_state("sqlite:serving.db", tmp_path).put("a", b"")
    assert (tmp_path / "serving.db").stat().st_mode & 0o777 == 0o600


def test_a_person_can_read_the_file_with_ordinary_tools(tmp_path: Path) -> None:
    open_state("sqlite:serving.db", tmp_path).capture([captured("a", 10, "C-1")])
    with sqlite3.connect(tmp_path / "serving.db") as connection:
        found = connection.execute("SELECT entity, prediction, features ->> 'plan' FROM captures").fetchall()
    connection.close()
    assert found == [("C-1", '"Yes"', "monthly")]


# ---- PostgreSQL: gone and back


def test_a_lost_connection_is_made_anew_and_a_lost_server_is_told_without_its_password() -> None:
    cluster = new_cluster()
    try:
        state = SqlState(PostgresSchema(cluster.url(), "churn"))
        state.capture([captured("a", 10)])
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        state.capture([captured("b", 20)])
        cluster.stop("immediate")
        with pytest.raises(StateError) as refused:
            state.capture([captured("c", 30)])
        cluster.start()
        state.capture([captured("c", 30)])
        assert [j.captured.id for j in everything(state)] == ["a", "b", "c"]
        state.close()
    finally:
        discard(cluster)
    assert refused.value.code == "state_unusable"
    assert "secret" not in refused.value.message


# ---- what the spec says


def workspace(root: Path, url: str) -> Workspace:
    (root / "system.toml").write_text(spec_text(state=url))
    return Workspace.open(root, Reporter("json"))


def test_the_spec_names_the_state_by_file_or_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_of(workspace(tmp_path, "sqlite:elsewhere/s.db")).put("a", b"1")
    assert (tmp_path / "elsewhere" / "s.db").is_file()
    monkeypatch.setenv("CHURN_STATE", fresh_database())
    state = state_of(workspace(tmp_path, "env:CHURN_STATE"))
    state.claim("host-a", 30)
    state.claim("host-b", 30)
    state.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"), ("mysql://me:secret@db/x", "neither sqlite:FILE nor")],
)
def test_a_state_that_cannot_be_meant_is_refused_without_showing_a_secret(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        open_state(url, tmp_path)
    assert "secret" not in refused.value.message


def test_the_records_travel_as_they_are() -> None:
    """Records can be handed from process to process."""
    row = captured("a", 10.0, "C-1")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=Captured) == row
