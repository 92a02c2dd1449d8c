"""Tasks that wait for a person cost nothing, and all of them go on after everything was restarted."""

from pathlib import Path

import pytest

from contracts import subjects
from tests.chaos.waiting import Found, Trial

pytestmark = pytest.mark.timeout(120)

TASKS = 50
NOISE_MB = 8.0
"""What a process takes or gives back for reasons of its own."""


async def test_waiting_tasks_cost_no_process_and_no_memory_and_survive_a_restart_of_everything(tmp_path: Path) -> None:
    """Asked, forgotten, restarted with the server, answered, completed: once each. `tests.chaos.waiting` has 1,000."""
    found = await Trial(tmp_path, Found(TASKS), print, idle_s=0.5).run()
    assert (found.completed, found.doubled, found.woken, found.processes_more) == (TASKS, 0, 0, 0)
    for name in subjects.SERVICES:
        assert found.memory_restarted[name] - found.memory_before[name] < NOISE_MB
