"""A memory of a workspace in the test's own folder."""

from collections.abc import Generator
from pathlib import Path

import pytest

from services.context_manager.knowledge import KnowledgeBase


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty workspace."""
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def memory(tmp_path: Path, workspace: Path) -> Generator[KnowledgeBase]:
    """The memory of `workspace`."""
    found = KnowledgeBase(tmp_path / "context" / "knowledge.db", workspace)
    yield found
    found.close()
