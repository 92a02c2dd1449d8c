"""A short fuzz as part of the suite, and that its books notice what is lost."""

from pathlib import Path

import pytest

from contracts import subjects
from contracts.envelope import MSG_ID
from services._runtime.bus import Bus
from tests.chaos.accounts import Books
from tests.chaos.fuzz import fuzz, passed, table
from tests.chaos.hostile import Made
from tests.chaos.raw import Answer


async def test_anything_may_be_published_anywhere(tmp_path: Path) -> None:
    """Each message has a verdict, and the services live, hear and work afterwards."""
    found, books = await fuzz(tmp_path, messages=300, seed=11, calm_s=40)
    assert passed(found), f"{table(books)}\n{found}"


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("mesh.task.t1.submitted.ml-engineer", b"{"),
        ("mesh.task.t1.exploded.ml-engineer", b"{}"),
        ("mesh.report.agent", b'{"reporting_agent":"a","summary":"s"}'),
    ],
)
async def test_what_nobody_dealt_with_is_noticed(bus: Bus, tmp_path: Path, subject: str, body: bytes) -> None:
    """No service runs here: nothing was refused and nothing was done."""
    ack = await bus.publish(subject, body, {MSG_ID: "m1"})
    made = Made(channel="x", subject=subject.encode(), headers=b"", body=body, kind="valid")
    books = Books(stored={(ack.stream, ack.seq): made})
    books.give_up(await books.close(bus, tmp_path))
    assert [verdict for _, verdict, _ in books.verdicts] == ["unaccounted"]


async def test_a_forged_letter_is_no_proof(bus: Bus, tmp_path: Path) -> None:
    """What the run itself published where dead letters are accounts for nothing else."""
    ack = await bus.publish("mesh.task.t1.exploded.ml-engineer", b"{}", {MSG_ID: "m1"})
    letter = b'{"reason":"x","stream":"TASKS","stream_seq":1,"subject":"x","durable":"x"}'
    forged = await bus.publish("mesh.dead.gateway", letter, {MSG_ID: "dlq-TASKS-1"})
    made = Made(channel="x", subject=b"", headers=b"", body=b"", kind="valid")
    books = Books(stored={(ack.stream, ack.seq): made, (forged.stream, forged.seq): made})
    assert list(await books.close(bus, tmp_path)) == [(subjects.TASKS, ack.seq)]


def test_silence_is_noticed() -> None:
    """Neither stored nor answered nor refused."""
    made = Made(channel="x", subject=b"", headers=b"", body=b"", kind="valid")
    books = Books()
    for answer in (None, Answer(body=b"hello"), Answer(body=b'{"response_to":7}')):
        books.enter(made, answer)
    assert [verdict for _, verdict, _ in books.verdicts] == ["unaccounted"] * 3
