"""Journals of the current version, kept: what a later version must still be able to read and to carry on.

`python -m tests.contracts.journals --record` runs the real services on a small workspace (about a minute) and writes
`journals/<name>.jsonl`, a stored message a line, and `journals/expected.json`, the fold of each. Large bodies stand in
the line, not in the object store. Record anew when a version adds something to the messages, and keep the journals of
the version before: they are what is in people's streams.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from contracts import subjects
from contracts.envelope import Stored, TaskEvent, read_event
from contracts.events import Approved, CancelRequested, QuestionsAnswered, TaskSubmitted
from contracts.message import Message
from contracts.task import TaskState
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.journal import digest_of
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.following import FINAL, is_event, is_progress, state, until
from tests.processes import Services
from tests.server import NatsServer
from tests.workspaces import REQUEST, churn

JOURNALS: Final = Path(__file__).parent / "journals"
EXPECTED: Final = JOURNALS / "expected.json"
NAMES: Final = ("success", "failed", "canceled", "refused", "timed-out", "taken-over", "redriven")
_SETTINGS: Final = {
    "MLMESH_CLAIM_CHECK_BYTES": "4096",  # small, so that the journals hold what travelled through the object store
    "MLMESH_ANSWERS_EXPIRE_S": "6",
    "MLMESH_ACK_WAIT_S": "5",  # long enough that nobody alive is taken for dead on a busy machine
}
_WITHIN_S: Final = 120


def journal(name: str) -> list[Stored]:
    """The stored messages of a journal, as `Bus.history` gives them."""
    lines = (JOURNALS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_stored(json.loads(line)) for line in lines]


def _stored(line: dict[str, Any]) -> Stored:
    return Stored(
        stream=subjects.TASKS,
        seq=line["seq"],
        subject=line["subject"],
        time=datetime.fromisoformat(line["time"]),
        headers=line["headers"],
        data=line["body"].encode(),
    )


def facts(task: TaskState) -> dict[str, Any]:
    """What a fold says, in words that stay when the fold gets other fields."""
    return {
        "status": task.status,
        "agent": task.agent,
        "workspace": task.workspace,
        "trace_id": task.trace_id,
        "sequences": [task.first_seq, task.closed_seq, task.last_seq],
        "submitted_at": _time(task.submitted_at),
        "ended_at": _time(task.ended_at),
        "waiting": task.waiting,
        "claim": task.claim.seq if task.claim else None,
        "pending": list(task.pending),
        "answers": dict(task.answers),
        "asked": [question.id for question in task.asked.questions] if task.asked else [],
        "briefing": _digest(task.briefing),
        "design": task.design.digest if task.design else None,
        "approved": task.approval.approve if task.approval else None,
        "steps": {name: [step.attempt, step.input_digest, step.outcome] for name, step in task.steps.items()},
        "results": {name: digest_of(step.result) for name, step in task.steps.items()},
        "delivered": _digest(task.delivered),
        "report": _digest(task.report),
        "summary": _digest(task.summary),
        "timeouts": sorted(task.timeouts),
        "redriven": sorted(task.redriven),
        "cancel": task.cancel.reason if task.cancel else None,
        "final": [task.final_event, task.final.outcome, task.final.reason] if task.final else None,
    }


def _digest(body: Message | None) -> str | None:
    """Of what was said: a field that a later version adds with a default is no other body."""
    return digest_of(body.model_dump(mode="json", exclude_defaults=True)) if body is not None else None


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


@dataclass(frozen=True)
class Recorder:
    """The mesh that is recorded."""

    directory: Path
    server: NatsServer
    services: Services
    bus: Bus

    async def record(self) -> dict[str, list[Stored]]:
        """Name -> journal. One after the other, as each needs the machine."""
        self.services.start()
        for scene in (self._succeed, self._fail, self._cancel, self._refuse, self._expire, self._take_over, self._ring):
            await scene()
        return {name: await self.bus.history(name) for name in NAMES}

    async def _succeed(self) -> None:
        await self._submit("success", self._shop("success"), accept_defaults=True)
        await self._end("success")

    async def _fail(self) -> None:
        await self._submit("failed", self.directory / "nowhere")
        await self._end("failed")

    async def _cancel(self) -> None:
        """Two answers, one after the other, and an end in the middle of the training."""
        await self._submit("canceled", self._shop("canceled"))
        await self._reach("canceled", "asked")
        asked = (await state(self.bus, "canceled")).open_questions
        given = {question.id: question.default or "none" for question in asked}
        first, *others = given
        await self._say("canceled", "answered", QuestionsAnswered.model_validate({"answers": {first: given[first]}}))
        await self._reach("canceled", "released")
        rest = {name: given[name] for name in others}
        await self._say("canceled", "answered", QuestionsAnswered.model_validate({"answers": rest}))
        await until(self.bus, "canceled", is_progress("train"), within_s=_WITHIN_S)
        await self._say("canceled", "cancel-requested", CancelRequested(reason="enough"))
        await self._end("canceled")
        await self._say("canceled", "answered", QuestionsAnswered.model_validate({"answers": given}))

    async def _refuse(self) -> None:
        await self._submit("refused", self._shop("refused"), accept_defaults=True, approval="design")
        await self._reach("refused", "designed")
        await self._say("refused", "approved", Approved(approve=False, comment="another target"))
        await self._end("refused")

    async def _expire(self) -> None:
        await self._submit("timed-out", self._shop("timed-out"))
        await self._end("timed-out")

    async def _take_over(self) -> None:
        await self._submit("taken-over", self._shop("taken-over"), accept_defaults=True)
        await until(self.bus, "taken-over", is_progress("train"), within_s=_WITHIN_S)
        self.services.kill(subjects.ML_ENGINEER)
        self.services.start(subjects.ML_ENGINEER)
        await self._end("taken-over")

    async def _ring(self) -> None:
        """The doorbell is lost while nobody is there to hear it; the gateway's first round finds the task."""
        self.services.terminate(subjects.ML_ENGINEER)
        self.services.terminate(subjects.GATEWAY)
        await self._submit("redriven", self.directory / "nowhere")
        await self.bus.api(f"STREAM.PURGE.{subjects.WORK}", {})
        self.services.start(subjects.GATEWAY)
        await self._reach("redriven", "redriven")
        self.services.start(subjects.ML_ENGINEER)
        await self._end("redriven")

    async def _submit(self, task: str, workspace: Path, **given: Any) -> None:
        await self._say(task, "submitted", TaskSubmitted(request=REQUEST, workspace=str(workspace), **given))

    async def _say(self, task: str, event: str, body: Message) -> None:
        publisher = Publisher(self.bus, telemetry.start("test", self.bus.settings))
        await publisher.event(event, subjects.ML_ENGINEER, body, About(task=task))

    async def _reach(self, task: str, event: str) -> None:
        await until(self.bus, task, is_event(event), within_s=_WITHIN_S)

    async def _end(self, task: str) -> None:
        await until(self.bus, task, FINAL, within_s=_WITHIN_S)

    def _shop(self, name: str) -> Path:
        return churn(self.directory / name, rows=300)


@asynccontextmanager
async def recorder() -> AsyncGenerator[Recorder]:
    """The real services in a directory of their own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = NatsServer(directory / "nats")
        server.start()
        services = Services(server.url, directory, **_SETTINGS)
        bus = await Bus.connect(Settings.read(nats_url=server.url), "client")
        try:
            await provision(bus)
            yield Recorder(directory, server, services, bus)
        finally:
            services.stop()
            await bus.close()
            server.stop()


def written(found: dict[str, list[Stored]], directory: Path) -> None:
    """Stores journals and their folds; where and on which machine it was is left out."""
    JOURNALS.mkdir(exist_ok=True)
    for name, history in found.items():
        lines = "".join(f"{_anywhere(_line(stored), directory)}\n" for stored in history)
        (JOURNALS / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    folds = {name: facts(folded(journal(name))) for name in NAMES}
    EXPECTED.write_text(f"{json.dumps(folds, indent=1)}\n", encoding="utf-8")


def folded(history: Iterable[Stored]) -> TaskState:
    """The fold by the code of the day."""
    from contracts.task import fold

    events: list[TaskEvent] = [read_event(stored) for stored in history]
    return fold(events[0].metadata.task, events)


def _line(stored: Stored) -> str:
    whole = {
        "seq": stored.seq,
        "subject": stored.subject,
        "time": stored.time.isoformat(),
        "headers": dict(stored.headers),
        "body": stored.data.decode(),
    }
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def _anywhere(line: str, directory: Path) -> str:
    return line.replace(str(directory), "/shops").replace(socket.gethostname(), "host")


async def _record() -> None:
    async with recorder() as found:
        written(await found.record(), found.directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Golden journals.")
    parser.add_argument("--record", action="store_true", required=True)
    parser.parse_args()
    telemetry.configure_logs(os.environ.get("MLMESH_LOG_LEVEL", "warning"))
    asyncio.run(_record())
    sys.stdout.write("".join(f"{name}: {(JOURNALS / f'{name}.jsonl').stat().st_size} bytes\n" for name in NAMES))
