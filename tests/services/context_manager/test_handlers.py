"""The service's verbs: one thread a workspace, reports once, failures that say what to do."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.briefing import Briefing
from contracts.report import ActivityReport
from services._runtime.errors import Transient
from services.context_manager.handlers import ContextManager, directory_name
from tests.services.context_manager.workspaces import request, shop, write

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)


def report(summary: str = "Wrote the design.", *files: str) -> ActivityReport:
    return ActivityReport(reporting_agent="ml-engineer", summary=summary, files_modified=files)


async def test_a_question_is_answered_of_the_workspace_as_it_is_now(tmp_path: Path, workspace: Path) -> None:
    """Each answer sees the edit before it."""
    manager = ContextManager(tmp_path / "context")
    write(workspace, {"README.md": "# Apples\n"})
    first = await manager.answer(request("README.md", "get_file_location"), workspace)
    write(workspace, {"README.md": "# Pears!\n"})
    second = await manager.answer(request("README.md", "get_file_location"), workspace)
    assert [found.briefing.file_purposes for found in (first, second)] == [
        {"/README.md": "Apples"},
        {"/README.md": "Pears!"},
    ]
    await manager.close()


async def test_of_questions_in_a_queue_each_sees_the_edits_before_it(tmp_path: Path, workspace: Path) -> None:
    """Those that wait for the same memory share a sync, which began after the last of them was asked."""
    manager = ContextManager(tmp_path / "context")
    asked: list[asyncio.Task[Briefing]] = []
    for name in ("Apples", "Pears!", "Plums!"):
        write(workspace, {"README.md": f"# {name}\n"})
        for _ in range(4):
            asked.append(asyncio.create_task(manager.answer(request("README.md", "get_file_location"), workspace)))
            await asyncio.sleep(0.002)
    told = [found.briefing.file_purposes["/README.md"] for found in await asyncio.gather(*asked)]
    order = ("Apples", "Pears!", "Plums!")
    assert [number // 4 for number, purpose in enumerate(told) if order.index(purpose) < number // 4] == []
    assert told[8:] == ["Plums!"] * 4
    await manager.close()


async def test_a_report_is_in_the_next_briefing(tmp_path: Path, workspace: Path) -> None:
    """And its files are, though nothing else asked for a sync."""
    manager = ContextManager(tmp_path / "context")
    write(workspace, {"ml/design.md": "# Design\n"})
    await manager.record(report("Wrote the design.", "/ml/design.md"), workspace=workspace, seq=3, at=AT)
    await manager.record(report("Wrote the design.", "/ml/design.md"), workspace=workspace, seq=3, at=AT)
    found = await manager.answer(request("design"), workspace)
    assert [activity.summary for activity in found.briefing.related_activity] == ["Wrote the design."]
    assert found.briefing.relevant_paths == ("/ml/design.md",)
    await manager.close()


async def test_the_position_is_what_every_memory_has_seen(tmp_path: Path) -> None:
    """The bus is read on from there after a restart; a memory that has seen nothing asks for everything."""
    manager = ContextManager(tmp_path / "context")
    assert manager.position() == 0
    for name, seq in (("a", 5), ("b", 9)):
        (tmp_path / name).mkdir()
        await manager.record(report(), workspace=tmp_path / name, seq=seq, at=AT)
    assert (manager.last_seq(tmp_path / "a"), manager.last_seq(tmp_path / "b"), manager.position()) == (5, 9, 5)
    (tmp_path / "c").mkdir()
    await manager.answer(request("anything"), tmp_path / "c")
    assert (manager.last_seq(tmp_path / "c"), manager.position()) == (0, 0)
    await manager.close()
    assert ContextManager(tmp_path / "context").last_seq(tmp_path / "b") == 9


async def test_workspaces_of_one_name_have_memories_of_their_own(tmp_path: Path) -> None:
    """A memory is found by the whole path; a link to a workspace means the workspace."""
    manager = ContextManager(tmp_path / "context")
    for place in ("x", "y"):
        write(tmp_path / place / "shop", {"README.md": f"# Shop {place}\n"})
    (tmp_path / "link").symlink_to(tmp_path / "x" / "shop", target_is_directory=True)
    found = [
        (await manager.answer(request("README.md", "get_file_location"), tmp_path / place)).briefing.file_purposes[
            "/README.md"
        ]
        for place in ("x/shop", "y/shop", "link")
    ]
    assert found == ["Shop x", "Shop y", "Shop x"]
    assert directory_name((tmp_path / "x" / "shop").resolve()) != directory_name((tmp_path / "y" / "shop").resolve())
    await manager.close()


async def test_a_workspace_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """It says which, and leaves nothing behind."""
    manager = ContextManager(tmp_path / "context")
    found = await manager.answer(request("anything"), tmp_path / "nowhere")
    assert (found.status, found.briefing.summary) == (
        "error",
        f"There is no workspace at {tmp_path / 'nowhere'}: name an existing directory.",
    )
    assert not (tmp_path / "context").exists()


async def test_a_memory_that_cannot_be_written_is_a_transient_failure(tmp_path: Path, workspace: Path) -> None:
    """A full disk or a missing permission may pass; the text says where to look."""
    write(tmp_path, {"context": "a file where the directory should be"})
    manager = ContextManager(tmp_path / "context")
    with pytest.raises(Transient, match="check free space and permissions there"):
        await manager.answer(request("anything"), workspace)
    with pytest.raises(Transient):
        await manager.record(report(), workspace=workspace, seq=1, at=AT)


async def test_a_memory_damaged_under_way_is_begun_anew(tmp_path: Path, workspace: Path) -> None:
    """The question is answered all the same, from the files; the reports come again after the next start."""
    manager = ContextManager(tmp_path / "context")
    shop(workspace)
    await manager.record(report(), workspace=workspace, seq=4, at=AT)
    await manager.answer(request("churn"), workspace)
    await manager.close()
    (file,) = (tmp_path / "context").glob("*/knowledge.db")
    body = file.read_bytes()
    file.write_bytes(body[:4096] + b"\xa5" * (len(body) - 4096))
    found = await manager.answer(request("orders.py", "get_file_location"), workspace)
    assert (found.status, found.briefing.relevant_paths) == ("success", ("/src/orders.py",))
    assert (manager.last_seq(workspace), manager.position()) == (0, 0)
    await manager.close()


async def test_many_questions_and_reports_at_once_are_each_served(tmp_path: Path) -> None:
    """One workspace is used by one thread at a time, several workspaces by several."""
    manager = ContextManager(tmp_path / "context")
    workspaces = [shop(tmp_path / name) for name in ("a", "b")]
    answers = [manager.answer(request("churn model"), workspace) for workspace in workspaces for _ in range(10)]
    reports = [
        manager.record(report(f"step {n}"), workspace=workspace, seq=n, at=AT)
        for workspace in workspaces
        for n in range(1, 11)
    ]
    found = (await asyncio.gather(*answers, *reports))[: len(answers)]
    assert {answer.status for answer in found if answer is not None} == {"success"}
    assert [manager.last_seq(workspace) for workspace in workspaces] == [10, 10]
    await manager.close()


async def test_a_cancelled_question_leaves_the_memory_usable(tmp_path: Path, workspace: Path) -> None:
    """Its thread goes on and the next question waits for it."""
    manager = ContextManager(tmp_path / "context")
    write(workspace, {f"f{n}.md": f"# Title {n}\n" for n in range(150)})
    asked = asyncio.create_task(manager.answer(request("title"), workspace))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    found = await manager.answer(request("f7.md", "get_file_location"), workspace)
    assert found.briefing.relevant_paths == ("/f7.md",)
    await manager.close()


async def test_the_view_of_the_family_is_exported(tmp_path: Path, workspace: Path) -> None:
    """Directories and files with purposes, the last activity of each agent in the family's spelling."""
    manager = ContextManager(tmp_path / "context")
    write(workspace, {"README.md": "# Shop\n", "src/a.py": '"""Takes orders."""\n'})
    await manager.answer(request("orders"), workspace)
    await manager.record(report("First."), workspace=workspace, seq=1, at=AT)
    await manager.record(report("Second.", "/src/a.py"), workspace=workspace, seq=2, at=AT)
    await manager.close()
    (directory,) = (tmp_path / "context").iterdir()
    assert directory.name == directory_name(workspace)
    assert json.loads((directory / "context-manager.json").read_text()) == {
        "version": 1,
        "workspace": "workspace",
        "directories": {
            "/": "Shop. 1 Markdown and 1 Python files: README.md, src/",
            "/src": "1 Python file: a.py",
        },
        "files": {"/README.md": "Shop", "/src/a.py": "Takes orders"},
        "agents": [
            {
                "agent_name": "ml-engineer",
                "status": "success",
                "lastActionSummary": "Second.",
                "filesModified": ["/src/a.py"],
                "timestamp": "2025-03-01T12:00:00+00:00",
            }
        ],
    }
    assert sorted(file.name for file in directory.iterdir() if not file.name.startswith("knowledge.db")) == [
        "context-manager.json"
    ]


async def test_a_closed_service_can_be_asked_again(tmp_path: Path, workspace: Path) -> None:
    """Closing ends what runs; a later question opens the memory anew."""
    manager = ContextManager(tmp_path / "context")
    shop(workspace)
    await manager.answer(request("churn"), workspace)
    await manager.close()
    assert (await manager.answer(request("churn"), workspace)).status == "success"
    await manager.close()


def test_the_service_starts_light() -> None:
    """What reads Parquet is loaded when there is Parquet to read."""
    heavy = {"pyarrow", "numpy", "duckdb", "pandas", "anthropic"}
    code = f"import sys, services.context_manager.handlers; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
