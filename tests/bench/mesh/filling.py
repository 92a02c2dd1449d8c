"""Fills a bus with the past: journals of finished tasks as the mesh itself wrote one, under other ids.

What is stored is what a mesh of that age would hold: every event with its headers, reports in REPORTS and in the
context-manager's memory, durables that have taken in everything, and nothing left in WORK. Messages are written as
the protocol's own lines, faster than any client.
"""

import asyncio
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ulid import ULID

from contracts import subjects
from contracts.envelope import EXPECTED_SEQUENCE, MSG_ID, Metadata, Stored, encode
from contracts.events import Progressed, Question, QuestionsAnswered, QuestionsAsked, TaskSubmitted, TimedOut, Working
from contracts.message import Message
from services._runtime.bus import EXPECTED_SUBJECT, Bus

_AT_ONCE: Final = 4000
"""Messages between two answers of the server: it drops what waits behind ten thousand."""
_CATCH_UP_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Line:
    """A message as it is published."""

    subject: str
    headers: dict[str, str]
    body: bytes

    def wire(self, reply: str = "") -> bytes:
        """Its protocol lines."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        block = f"NATS/1.0\r\n{head}\r\n".encode()
        to = f"{self.subject} {reply}" if reply else self.subject
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (
            to.encode(), len(block), len(block) + len(self.body), block, self.body,
        )  # fmt: skip


class Pipe:
    """A bare connection that publishes many messages and knows that they are stored."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._heard = self._socket.makefile("rb")
        self._socket.sendall(b'CONNECT {"verbose":false,"headers":true,"lang":"bench"}\r\nSUB bench.stored 1\r\n')

    def store(self, lines: Iterable[Line]) -> int:
        """Publishes them; how many. Raises RuntimeError when the server refuses one that is asked about."""
        count, batch = 0, list[Line]()
        for line in lines:
            batch.append(line)
            count += 1
            if len(batch) == _AT_ONCE:
                self._send(batch)
                batch = []
        if batch:
            self._send(batch)
        return count

    def close(self) -> None:
        """Ends it."""
        self._heard.close()
        self._socket.close()

    def _send(self, batch: Sequence[Line]) -> None:
        self._socket.sendall(b"".join([*(line.wire() for line in batch[:-1]), batch[-1].wire("bench.stored")]))
        while True:
            said = self._heard.readline()
            if said.startswith(b"PING"):
                self._socket.sendall(b"PONG\r\n")
            elif said.startswith(b"MSG bench.stored"):
                answer = self._heard.readline()
                if b"error" in answer:
                    raise RuntimeError(f"not stored: {answer.decode()}")
                return
            elif said.startswith(b"-ERR") or not said:
                raise RuntimeError(f"the server ends the filling: {said.decode()}")


def finished(template: Sequence[Stored], count: int) -> Iterator[Line]:
    """`count` tasks as `template`, a real one's journal, with the summary's timer that fires after the end."""
    task = subjects.task_in(template[0].subject)
    lines = [*(_line(stored) for stored in template), _timeout(template[-1], task)]
    for _ in range(count):
        own = str(ULID())
        for number, line in enumerate(lines):
            headers = {name: value.replace(task, own) for name, value in line.headers.items()}
            headers[MSG_ID] = f"{own}/fill/{number}"
            yield Line(line.subject.replace(task, own), headers, line.body.replace(task.encode(), own.encode()))


def waiting(task: str, *, events: int, workspace: str) -> Iterator[Line]:
    """A task of so many events that waits for an answer: progress, most of it."""
    question = Question(id="nfr.latency", slot="nfr", field="latency", text="How fast?", why="The gate.")
    progress = [Progressed(step="train", fraction=n / events, message=f"trial {n}") for n in range(events - 3)]
    bodies: list[tuple[str, Message]] = [
        ("submitted", TaskSubmitted(request="Predict fraud; the target is fraud.", workspace=workspace)),
        ("working", Working(executor="before", event_seq=1, work_seq=1)),
        *(("progressed", body) for body in progress),
        ("asked", QuestionsAsked(known=(), questions=(question,))),
    ]
    for number, (event, body) in enumerate(bodies):
        metadata = _metadata(task, f"{task}/fill/{number}", event, body, workspace)
        yield Line(subjects.task_event(task, event, subjects.ML_ENGINEER), encode(metadata), body.to_bytes())


def answer() -> QuestionsAnswered:
    """What a task of `waiting` waits for."""
    return QuestionsAnswered.model_validate({"answers": {"nfr.latency": "20 ms"}})


def remember(memories: Path, reports: int, newest: int) -> None:
    """Gives the context-manager's memory so many reports, the last of them with the sequence `newest`.

    Each as the last one that is there. The memory must not be in use. Raises RuntimeError where there is none.
    """
    files_found = list(memories.glob("**/knowledge.db"))
    if not files_found:
        raise RuntimeError(f"no memory of the context-manager below {memories}")
    for file in files_found:
        with closing(sqlite3.connect(file)) as connection, connection:
            agent, status, summary, files = connection.execute(
                "SELECT agent, status, summary, files FROM activity ORDER BY at DESC LIMIT 1"
            ).fetchone()
            now = datetime.now(UTC)
            rows = (
                (newest - age, (now - timedelta(seconds=age)).isoformat(), agent, status, summary, files)
                for age in range(reports)
            )
            connection.executemany(
                "INSERT OR IGNORE INTO activity (seq, at, agent, status, summary, files) VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )


async def taken_in(bus: Bus, *, stored: int) -> int:
    """As if every message of TASKS had been processed: WORK is empty, the gateway is at the end.

    Returns the last sequence of REPORTS. Raises RuntimeError when fewer than `stored` messages are there: some were
    dropped.
    """
    about = await bus.api(f"STREAM.INFO.{subjects.TASKS}", {})
    if about["state"]["messages"] < stored:
        raise RuntimeError(f"{stored} messages were sent, {about['state']['messages']} are stored")
    async with asyncio.timeout(_CATCH_UP_S):
        for stream in (subjects.WORK, subjects.REPORTS):
            while await _behind(bus, stream):  # noqa: ASYNC110 - it is the server
                await asyncio.sleep(0.2)
    await bus.api(f"STREAM.PURGE.{subjects.WORK}", {})
    await bus.api(f"CONSUMER.RESET.{subjects.TASKS}.{subjects.GATEWAY}", {"seq": about["state"]["last_seq"] + 1})
    return int((await bus.api(f"STREAM.INFO.{subjects.REPORTS}", {}))["state"]["last_seq"])


async def _behind(bus: Bus, stream: str) -> bool:
    """Whether a stream still copies; its own count has to stand still too."""
    before = await bus.api(f"STREAM.INFO.{stream}", {})
    await asyncio.sleep(0.3)
    after = await bus.api(f"STREAM.INFO.{stream}", {})
    sources: list[dict[str, Any]] = after.get("sources") or []
    return any(source.get("lag") for source in sources) or before["state"]["last_seq"] != after["state"]["last_seq"]


def _line(stored: Stored) -> Line:
    of_its_own = {EXPECTED_SEQUENCE, EXPECTED_SUBJECT}
    headers = {name: value for name, value in stored.headers.items() if name not in of_its_own}
    return Line(stored.subject, headers, stored.data)


def _timeout(last: Stored, task: str) -> Line:
    body = TimedOut(timer="summary")
    metadata = _metadata(task, f"{task}/timer", "timeout", body, last.headers.get("mesh-workspace", ""))
    return Line(subjects.task_event(task, "timeout", subjects.ML_ENGINEER), encode(metadata), body.to_bytes())


def _metadata(task: str, message_id: str, event: str, body: Message, workspace: str) -> Metadata:
    metadata = Metadata(
        id=message_id,
        type=f"mlmesh.task.{event}",
        source="urn:mlmesh:ml-engineer",
        time=datetime.now(UTC),
        schema=body.data_schema(),
        task=task,
    )
    return replace(metadata, workspace=workspace)
