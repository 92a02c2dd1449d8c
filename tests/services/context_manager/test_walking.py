"""Links never lead out, and only regular files are known."""

import os
from pathlib import Path

import pytest

from services.context_manager.walking import look, rooted, walk
from tests.services.context_manager.workspaces import write

NOWHERE = Path("/nowhere")


def test_links_that_leave_the_workspace_are_not_followed(tmp_path: Path, workspace: Path) -> None:
    """Neither a linked file nor a linked directory brings in what lies outside."""
    write(tmp_path, {"outside/secret.md": "# Secret\n"})
    (workspace / "file.md").symlink_to(tmp_path / "outside" / "secret.md")
    (workspace / "folder").symlink_to(tmp_path / "outside", target_is_directory=True)
    write(workspace, {"a.md": "a"})
    assert list(walk(workspace, without=NOWHERE)) == ["/a.md"]
    assert look(workspace, "/file.md", without=NOWHERE) is None
    assert look(workspace, "/folder/secret.md", without=NOWHERE) is None


def test_a_link_to_a_known_file_is_known(workspace: Path) -> None:
    """`data/latest.csv` is a name that people ask for; links to ignored or secret files are not followed."""
    write(workspace, {"data/2024.csv": "a,b\n1,2\n", ".gitignore": "hidden.md\n", "hidden.md": "x"})
    (workspace / "data" / "latest.csv").symlink_to("2024.csv")
    (workspace / "shown.md").symlink_to("hidden.md")
    assert sorted(walk(workspace, without=NOWHERE)) == ["/.gitignore", "/data/2024.csv", "/data/latest.csv"]


def test_circles_of_links_and_pipes_are_passed_over(workspace: Path) -> None:
    """Nothing waits for a pipe, nothing goes round for ever."""
    write(workspace, {"a.md": "a"})
    (workspace / "loop").symlink_to("loop")
    (workspace / "up").symlink_to("..", target_is_directory=True)
    (workspace / "gone").symlink_to("not-there")
    os.mkfifo(workspace / "pipe")
    assert list(walk(workspace, without=NOWHERE)) == ["/a.md"]


def test_a_name_that_is_not_utf8_is_passed_over(workspace: Path) -> None:
    """It could not be said in a message."""
    (workspace / os.fsdecode(b"caf\xe9.md")).write_text("# Coffee\n")
    write(workspace, {"tée.md": "# Tea\n"})
    assert list(walk(workspace, without=NOWHERE)) == ["/tée.md"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/a/b.py", "/a/b.py"),
        ("a/b.py", "/a/b.py"),
        ("./a//b.py", "/a/b.py"),
        ("../a", None),
        ("/a/../../b", None),
        ("", None),
        ("/", None),
        ("a\0b", None),
        ("caf\udce9", None),
    ],
)
def test_paths_are_rooted_at_the_workspace(given: str, path: str | None) -> None:
    """What leads out, names nothing or cannot be said is no path."""
    assert rooted(given) == path
