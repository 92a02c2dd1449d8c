"""Files as they come: encodings, line ends, bytes that are no text, sizes, notebooks."""

import json
import os
from pathlib import Path

import pytest

from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.reading import read
from tests.services.context_manager.workspaces import ask, write


@pytest.mark.parametrize(
    "body",
    [
        "# Größe\n\nDie p99 latency must stay under 20 ms.\n".encode(),
        "# Größe\r\n\r\nDie p99 latency must stay under 20 ms.\r\n".encode(),
        b"\xef\xbb\xbf" + "# Größe\n\nDie p99 latency must stay under 20 ms.\n".encode(),
        "# Größe\r\rDie p99 latency must stay under 20 ms.\r".encode("latin-1"),
        "# Größe\n\nDie p99 latency must stay under 20 ms.\n".encode("utf-16"),
    ],
)
def test_encodings_and_line_ends_make_no_difference(memory: KnowledgeBase, workspace: Path, body: bytes) -> None:
    """Title, line numbers and facts are the same."""
    write(workspace, {"docs/slo.md": body})
    memory.sync()
    assert memory.purposes() == {"/docs/slo.md": "Größe"}
    assert [(f.value, f.source) for f in memory.facts() if f.field == "latency"] == [("20 ms p99", "/docs/slo.md:3")]


def test_bytes_that_are_no_text_are_known_by_name(memory: KnowledgeBase, workspace: Path) -> None:
    """A model file can be found, its bytes are nobody's words."""
    write(workspace, {"model.onnx": b"\x08\x07\x00churn", "README.md": "# Shop\n"})
    found = ask(memory, "where is model.onnx?", "get_file_location")
    assert found.briefing.relevant_paths == ("/model.onnx",)
    assert memory.search(("churn",)) == []


def test_rows_of_records_are_not_read(memory: KnowledgeBase, workspace: Path) -> None:
    """JSON lines hold persons, not words about the project."""
    write(workspace, {"events.jsonl": '{"email": "ada@example.org"}\n'})
    memory.sync()
    assert memory.purposes() == {"/events.jsonl": "JSON lines file"}
    assert memory.search(("ada",)) == []


def test_what_tools_wrote_is_known_by_name(memory: KnowledgeBase, workspace: Path) -> None:
    """A lock file holds every word of every package."""
    write(workspace, {"package-lock.json": '{"name": "churn"}', "app.min.js": "function churn(){}"})
    memory.sync()
    assert memory.search(("churn",)) == []


def test_of_notebooks_the_sources_are_read(memory: KnowledgeBase, workspace: Path) -> None:
    """Outputs hold rows of data."""
    cells = [
        {"cell_type": "markdown", "source": ["# Churn study\n", "What drives it?"]},
        {"cell_type": "code", "source": "train_model(customers)", "outputs": [{"text": "ada@example.org"}]},
        "not a cell",
    ]
    write(workspace, {"study.ipynb": json.dumps({"cells": cells}), "broken.ipynb": "{"})
    memory.sync()
    assert memory.search(("customers",)) == ["/study.ipynb"]
    assert memory.search(("example",)) == []


def test_a_file_that_is_gone_raises(tmp_path: Path) -> None:
    """The caller decides what an unreadable file means."""
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone.md", "/gone.md", max_bytes=100)


def test_a_file_that_became_a_link_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    """Between the walk and the reading somebody may swap it."""
    (tmp_path / "link.md").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.md")
    for name in ("link.md", "pipe.md"):
        with pytest.raises(OSError, match=name):
            read(tmp_path / name, f"/{name}", max_bytes=100)
