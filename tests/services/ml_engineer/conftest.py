"""Settings for whole engagements on the test's own loop."""

from pathlib import Path

import pytest

from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.server import NatsServer


@pytest.fixture
def settings(server: NatsServer, tmp_path: Path) -> Settings:
    """Nobody dies here, and nobody who is slow on a busy machine is taken for dead: that would claim a task again."""
    return fast_settings(server.url, tmp_path, ack_wait_s=5.0)
