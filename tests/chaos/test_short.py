"""A short run of the real services under faults, and runs with a broken journal that must be noticed."""

import random
from pathlib import Path

import pytest

from tests.chaos import run
from tests.chaos.people import REQUESTS
from tests.chaos.schedule import ENGINEERS, Fault, Kind, by_kind, only

SEED = 7
KINDS: tuple[Kind, ...] = (
    "kill-service", "freeze-service", "kill-server", "cut", "terminate-service", "kill-service", "work-rung-again",
    "kill-all", "server-unheard", "kill-service", "durable-lost", "server-dies-while-frozen",
)  # fmt: skip
LAST = Fault("terminate-service", pause_s=0.5, target="gateway")
"""A new gateway looks after what is missing at once; an old one every 15 s, and a short run does not wait for it."""

pytestmark = pytest.mark.timeout(120)


def told(lines: list[str], outcome: run.Outcome) -> str:
    """The evidence of a run that did not end as it must."""
    found = (f"{name}: {text}" for name, texts in outcome.verdict.findings().items() for text in texts)
    return "\n".join([*lines, *found, str(outcome.told)])


async def test_nothing_is_lost_doubled_stuck_or_unaccounted_under_faults(tmp_path: Path) -> None:
    """Twelve faults of real services with tasks in flight: every task ends once, as its request must."""
    lines: list[str] = []
    kinds = random.Random(SEED).sample(KINDS, len(KINDS))
    plan = (*only(SEED, kinds, len(kinds), pace_s=0.5), LAST)
    options = run.Options(plan=plan, seed=SEED, open_tasks=10, directory=tmp_path / "run")
    outcome = await run.run(options, lines.append)
    assert outcome.good, told(lines, outcome)
    assert outcome.told["faults"] == by_kind(plan)


async def test_a_journal_that_records_no_steps_is_noticed(tmp_path: Path) -> None:
    """The harness can fail: with steps left unrecorded, effects are repeated, and it says so."""
    lines: list[str] = []
    options = run.Options(
        plan=only(SEED, ("kill-service",), 2, pace_s=0.5, targets=ENGINEERS),
        seed=SEED,
        requests=[request for request in REQUESTS if request.words == "go"],
        tasks=10,
        open_tasks=10,
        broken="no-record",
        directory=tmp_path / "run",
    )
    outcome = await run.run(options, lines.append)
    assert outcome.verdict.doubled != [], told(lines, outcome)
