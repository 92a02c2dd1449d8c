"""The memory keeps in line with the workspace, and keeps reports once."""

import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.report import ActivityReport
from services._runtime.errors import Transient
from services.context_manager.knowledge import Changes, KnowledgeBase
from tests.services.context_manager.workspaces import shop, stored_bytes, write

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)


def settle(memory: KnowledgeBase) -> None:
    """As if every known file had been written long before it was read."""
    with sqlite3.connect(memory.database) as connection:
        connection.execute("UPDATE files SET settled = 1")
    connection.close()


def report(summary: str, *files: str, agent: str = "ml-engineer") -> ActivityReport:
    return ActivityReport(reporting_agent=agent, summary=summary, files_modified=files)


def test_the_first_sync_reads_everything_and_the_next_one_nothing(memory: KnowledgeBase, workspace: Path) -> None:
    """Unchanged modification time, change time and size mean an unchanged file."""
    shop(workspace)
    assert memory.sync() == Changes(files=7, read=7, indexed=7, removed=0)
    settle(memory)
    assert memory.sync() == Changes(files=7, read=0, indexed=0, removed=0)


def test_a_file_written_a_moment_before_it_was_read_is_read_again(memory: KnowledgeBase, workspace: Path) -> None:
    """A second write in the same tick of the clock would not show in the times."""
    write(workspace, {"a.txt": "one"})
    memory.sync()
    assert memory.sync() == Changes(files=1, read=1, indexed=0, removed=0)


def test_an_edit_of_the_same_size_is_seen(memory: KnowledgeBase, workspace: Path) -> None:
    """Size alone decides nothing."""
    write(workspace, {"notes.md": "# Apple\n"})
    memory.sync()
    settle(memory)
    write(workspace, {"notes.md": "# Peach\n"})
    assert memory.sync() == Changes(files=1, read=1, indexed=1, removed=0)
    assert memory.purposes() == {"/notes.md": "Peach"}


def test_an_edit_whose_modification_time_was_put_back_is_seen(memory: KnowledgeBase, workspace: Path) -> None:
    """The change time cannot be put back."""
    write(workspace, {"notes.md": "# Apple\n"})
    file = workspace / "notes.md"
    before = file.stat()
    memory.sync()
    settle(memory)
    write(workspace, {"notes.md": "# Peach\n"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    memory.sync()
    assert memory.purposes() == {"/notes.md": "Peach"}


def test_a_touched_file_is_read_and_not_indexed(memory: KnowledgeBase, workspace: Path) -> None:
    """The digest decides what is new."""
    write(workspace, {"a.md": "# A\n"})
    memory.sync()
    settle(memory)
    os.utime(workspace / "a.md", ns=(1, 1))
    assert memory.sync() == Changes(files=1, read=1, indexed=0, removed=0)


def test_a_deleted_file_vanishes_with_its_words_and_facts(memory: KnowledgeBase, workspace: Path) -> None:
    """Nothing that is gone is told."""
    shop(workspace)
    memory.sync()
    assert memory.search(("fastapi",)) == ["/pyproject.toml"]
    (workspace / "pyproject.toml").unlink()
    assert memory.sync().removed == 1
    assert memory.search(("fastapi",)) == []
    assert [fact for fact in memory.facts() if fact.source.startswith("/pyproject.toml")] == []


def test_a_file_that_git_comes_to_ignore_vanishes(memory: KnowledgeBase, workspace: Path) -> None:
    """Rules hold from the next sync on."""
    write(workspace, {"draft.md": "# Draft\n"})
    memory.sync()
    write(workspace, {".gitignore": "draft.md\n"})
    memory.sync()
    assert list(memory.purposes()) == ["/.gitignore"]


def test_a_raised_limit_reads_what_was_too_large(tmp_path: Path, workspace: Path) -> None:
    """Files above the limit are known by name; the limit is a setting."""
    write(workspace, {"big.md": "# Big\n" + "words and more words\n" * 100})
    small = KnowledgeBase(tmp_path / "k.db", workspace, max_file_bytes=1_000)
    small.sync()
    assert small.purposes() == {"/big.md": "Markdown file, not read: too large"}
    settle(small)
    small.close()
    large = KnowledgeBase(tmp_path / "k.db", workspace, max_file_bytes=10_000)
    assert large.sync().indexed == 1
    assert large.purposes() == {"/big.md": "Big"}
    large.close()


@pytest.mark.parametrize("place", ["state/context/k.db", "k.db"])
def test_the_memory_leaves_itself_out(workspace: Path, place: str) -> None:
    """A database inside the workspace, in a directory of its own or at the root, is no file of the project."""
    write(workspace, {"a.md": "# A\n"})
    memory = KnowledgeBase(workspace / place, workspace)
    memory.sync()
    assert list(memory.purposes()) == ["/a.md"]
    memory.close()


def test_a_damaged_database_is_set_aside_and_begun_anew(tmp_path: Path, workspace: Path) -> None:
    """What it held can be read again, so nothing is repaired."""
    write(workspace, {"a.md": "# A\n"})
    file = tmp_path / "context" / "knowledge.db"
    file.parent.mkdir()
    file.write_bytes(b"no database at all" * 100)
    memory = KnowledgeBase(file, workspace)
    memory.sync()
    assert memory.purposes() == {"/a.md": "A"}
    assert (tmp_path / "context" / "knowledge.old.db").read_bytes() == b"no database at all" * 100
    memory.close()


def test_a_database_of_another_version_is_begun_anew(memory: KnowledgeBase, workspace: Path) -> None:
    """Tables change with their version; reports come again from the bus."""
    memory.record(report("done"), seq=7, at=AT)
    memory.close()
    with sqlite3.connect(memory.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    again = KnowledgeBase(memory.database, workspace)
    assert (again.last_seq, again.activity(5)) == (0, [])
    again.close()


def test_a_stopped_memory_ends_its_sync(memory: KnowledgeBase, workspace: Path) -> None:
    """The end of the process does not wait for a large workspace."""
    write(workspace, {"a.md": "# A\n"})
    memory.stop()
    with pytest.raises(Transient):
        memory.sync()


def test_two_processes_may_share_a_database(memory: KnowledgeBase, workspace: Path) -> None:
    """Replicas on one volume wait for each other's writes."""
    write(workspace, {f"f{n}.md": f"# Title {n}\n" for n in range(60)})
    failures = list[BaseException]()

    def sync() -> None:
        other = KnowledgeBase(memory.database, workspace)
        try:
            other.sync()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells it
            failures.append(error)
        finally:
            other.close()

    threads = [threading.Thread(target=sync) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.sync()
    assert failures == []
    assert len(memory.purposes()) == 60
    assert memory.search(("title",))[:1] != []


def test_a_report_counts_once(memory: KnowledgeBase) -> None:
    """The same sequence again changes nothing."""
    assert memory.record(report("first"), seq=4, at=AT)
    assert not memory.record(report("first"), seq=4, at=AT)
    assert [kept.summary for kept in memory.activity(10)] == ["first"]
    assert memory.last_seq == 4


def test_reports_are_kept_newest_first(memory: KnowledgeBase) -> None:
    """History is in the order of the bus, whatever the order of arrival."""
    memory.record(report("second"), seq=2, at=AT + timedelta(minutes=1))
    memory.record(report("first"), seq=1, at=AT)
    assert [kept.summary for kept in memory.activity(10)] == ["second", "first"]
    assert memory.last_seq == 2


def test_a_stream_made_anew_counts_from_one_again(memory: KnowledgeBase) -> None:
    """A report is known by its sequence and its time, so a new first report is not taken for the old one."""
    memory.record(report("old"), seq=1, at=AT)
    memory.record(report("older stream's last"), seq=90, at=AT + timedelta(hours=1))
    assert memory.record(report("new"), seq=1, at=AT + timedelta(days=1))
    assert [kept.summary for kept in memory.activity(10)] == ["new", "older stream's last", "old"]
    assert memory.last_seq == 1


def test_a_report_indexes_the_files_it_names_at_once(memory: KnowledgeBase, workspace: Path) -> None:
    """No sync is needed in between; deleted files are forgotten, ignored and outer ones never known."""
    write(workspace, {"old.md": "# Old\n", ".gitignore": "*.log\n"})
    memory.sync()
    (workspace / "old.md").unlink()
    write(workspace, {"ml/design.md": "# Design\n", "x.log": "line", "../outside.md": "# Outside\n"})
    names = ("/ml/design.md", "/old.md", "/x.log", "/../outside.md", "../outside.md", "/etc/../../outside.md", "")
    memory.record(report("delivered", *names), seq=1, at=AT)
    assert memory.purposes() == {"/.gitignore": "what git ignores", "/ml/design.md": "Design"}
    assert memory.activity(1)[0].files == ("/ml/design.md", "/old.md", "/x.log")


def test_a_report_of_a_workspace_that_is_gone_is_kept(tmp_path: Path) -> None:
    """History does not depend on the files."""
    memory = KnowledgeBase(tmp_path / "k.db", tmp_path / "gone")
    assert memory.record(report("was here", "/a.md"), seq=1, at=AT)
    assert memory.activity(1)[0].files == ("/a.md",)
    memory.close()


def test_facts_of_delivered_systems_are_left_out(memory: KnowledgeBase, workspace: Path) -> None:
    """What a delivered document repeats was assumed there, and would become certain by being read back."""
    said = "# Design\n\nThe p99 latency must stay under 5 ms.\n"
    write(workspace, {"ml/churn/system.toml": "name = 'churn'\n", "ml/churn/docs/design.md": said, "docs/slo.md": said})
    memory.sync()
    assert [(fact.value, fact.source) for fact in memory.facts() if fact.field == "latency"] == [
        ("5 ms p99", "/docs/slo.md:3")
    ]


def test_a_secret_in_a_report_is_not_kept(memory: KnowledgeBase) -> None:
    """Reports pass the same redaction as files."""
    token = "ghp_" + "a1B2" * 9
    memory.record(report(f"pushed with {token}"), seq=1, at=AT)
    assert token.encode() not in stored_bytes(memory)
