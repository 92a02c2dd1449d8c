"""`python -m tests.chaos.fuzz --messages 10000 --seed N`: what if somebody publishes anything, anywhere?

Real services as processes on a real nats-server get generated messages on every subject of the contracts and on
made-up ones. Each message must be processed, answered, a dead letter, refused by the server, or explained by the
fold; no service may die, go deaf or grow. Prints a table, then one JSON object; exit code 1 unless all of it holds.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from contracts import subjects
from contracts.briefing import Briefing, ContextRequest, Query
from contracts.envelope import read_event
from contracts.events import Failed, TaskSubmitted
from contracts.report import ActivityReport
from contracts.subjects import CONTEXT_MANAGER, GATEWAY, ML_ENGINEER, SERVICES, SUMMARIZER
from contracts.system import SystemEvent
from contracts.task import fold
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable
from services._runtime.health import trouble
from services._runtime.provision import durables, provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.chaos.accounts import VERDICTS, Books
from tests.chaos.hostile import Hostile, Made
from tests.chaos.raw import RawPublisher
from tests.processes import Services
from tests.server import NatsServer

_AT_A_TIME: Final = 48
_ANSWER_S: Final = 20.0
_GROWTH: Final = 1.6
"""Resident memory at the end may be so many times that after the first quarter."""
_PAGE: Final = 4096


@dataclass(slots=True)
class Fuzz:
    """One run in `directory`."""

    directory: Path
    seed: int
    messages: int
    calm_s: float = 120.0
    """Longest wait, after the last message, for the services to have dealt with everything."""
    server: NatsServer = field(init=False)
    services: Services = field(init=False)
    books: Books = field(default_factory=Books)

    @property
    def home(self) -> Path:
        """Where the memories lie."""
        return self.directory / "home"

    @property
    def workspace(self) -> Path:
        """A small one, which says something."""
        return self.directory / "shop"

    async def run(self) -> dict[str, Any]:
        """Everything, from the start of the mesh to its end; the numbers."""
        self.workspace.mkdir(parents=True)
        (self.workspace / "README.md").write_text("# Shop\nWe sell things. Latency budget: 50 ms.\n", encoding="utf-8")
        telemetry.configure_logs("error", sys.stderr)
        with ExitStack() as stack:
            self.server = NatsServer(self.directory / "nats")
            self.server.start()
            stack.callback(self.server.stop)
            self.services = Services(
                self.server.url,
                self.directory / "services",
                MLMESH_HOME=str(self.home),
                MLMESH_WORKSPACE=str(self.workspace),
                MLMESH_WORKSPACE_ROOTS=str(self.directory),
            )
            self.services.start()
            stack.callback(self.services.stop)
            settings = Settings.read(nats_url=self.server.url, bus_patience_s=10)
            bus = await Bus.connect(settings, "fuzz")
            try:
                await provision(bus)
                return await self._measured(bus)
            finally:
                await bus.close()

    async def _measured(self, bus: Bus) -> dict[str, Any]:
        await _all_ready(bus)
        pids = {name: self.services.pid(name) for name in SERVICES}
        begun = time.monotonic()
        hostile = Hostile(Random(self.seed), str(self.workspace), max(10, self.messages // 50))
        made = list(hostile.messages(self.messages))
        quarter = len(made) // 4
        await self._send(made[:quarter])
        first = {name: _rss(pid) for name, pid in pids.items()}
        await self._send(made[quarter:])
        left = await self._calm(bus)
        self.books.give_up(left)
        died = [name for name, pid in pids.items() if self.services.pid(name) != pid]
        deaf = [name for name in SERVICES if name not in died and not await self._hears(bus, name)]
        growth = {name: round(_rss(pid) / first[name], 2) for name, pid in pids.items() if name not in died}
        return {
            "messages": self.messages,
            **{verdict: self.books.count(verdict) for verdict in VERDICTS},
            "services_died": died,
            "deaf": deaf,
            "rss_growth": growth,
            "rss_mb": {name: round(_rss(pid) / 2**20) for name, pid in pids.items() if name not in died},
            "seed": self.seed,
            "wall_s": round(time.monotonic() - begun, 1),
        }

    async def _send(self, made: Iterable[Made]) -> None:
        together = RawPublisher(self.server.url)
        await together.open()
        room = asyncio.Semaphore(_AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            for one in made:
                await room.acquire()
                task = group.create_task(self._alone(one) if one.is_alone else self._one(together, one))
                task.add_done_callback(lambda _: room.release())
        await together.close()

    async def _one(self, connection: RawPublisher, made: Made) -> None:
        within_s = 1.0 if "batch" in made.kind else _ANSWER_S
        answer = await connection.publish(made.subject, made.headers, made.body, within_s=within_s)
        self.books.enter(made, answer)

    async def _alone(self, made: Made) -> None:
        """What may end its connection gets one of its own."""
        connection = RawPublisher(self.server.url)
        await connection.open()
        await self._one(connection, made)
        await connection.close()

    async def _calm(self, bus: Bus) -> dict[tuple[str, int], str]:
        """Waits until everything has a verdict; what has none in the end."""
        until = time.monotonic() + self.calm_s
        left: dict[tuple[str, int], str] = {}
        while time.monotonic() < until and all(self.services.pid(name) for name in SERVICES):
            behind = await _behind(bus)
            if behind == 0 and not (left := await self.books.close(bus, self.home)):
                return {}
            await asyncio.sleep(0.5)
        return left or dict.fromkeys(self.books.stored, "its reader is behind")

    async def _hears(self, bus: Bus, name: str) -> bool:
        """Whether the service says that it is well, and does its ordinary work."""
        try:
            if await trouble(bus, name):
                return False
            async with asyncio.timeout(30):
                return await getattr(self, f"_try_{name.replace('-', '_')}")(bus)
        except (BusUnavailable, TimeoutError):
            return False

    async def _try_context_manager(self, bus: Bus) -> bool:
        """It answers, and remembers a report."""
        asked = ContextRequest(
            requesting_agent="fuzz", request_type="get_task_briefing", payload=Query(query="latency budget")
        )
        publisher = _publisher(bus)
        about = About(workspace=str(self.workspace))
        briefing = Briefing.from_bytes(
            (await publisher.request(subjects.context_request(asked.request_type), asked, about, timeout_s=20)).data
        )
        report = ActivityReport(reporting_agent="fuzz", summary="all is well")
        subject = subjects.report("fuzz")
        sent = await publisher.store(subject, report, about, kind="mlmesh.report", template=subject)
        place = (sent.ack.stream, sent.ack.seq)
        books = Books(stored={place: Made(channel="", subject=b"", headers=b"", body=b"", kind="")})
        while await books.close(bus, self.home):  # noqa: ASYNC110 - a database tells only who asks
            await asyncio.sleep(0.1)
        return briefing.status == "success" and books.verdicts[0][1] == "processed"

    async def _try_gateway(self, bus: Bus) -> bool:
        """It ends a submission that cannot be read, and judges what systems say."""
        await bus.publish(subjects.task_event("after-g", "submitted", ML_ENGINEER), b"{", {"Nats-Msg-Id": "after-g"})
        event = SystemEvent(system="churn", event="trained")
        subject = subjects.system_event("churn", "trained")
        await _publisher(bus).store(subject, event, About(), kind="mlmesh.system", template=subject)
        while await _behind(bus):  # noqa: ASYNC110 - the server tells only who asks
            await asyncio.sleep(0.1)
        return "failed" in await _ended(bus, "after-g")

    async def _try_ml_engineer(self, bus: Bus) -> bool:
        return await self._small_task(bus, "after-e", "failed")

    async def _try_summarizer(self, bus: Bus) -> bool:
        return await self._small_task(bus, "after-s", "summarised")

    async def _small_task(self, bus: Bus, task: str, wanted: str) -> bool:
        """A task that cannot succeed, reported and summarised all the same."""
        body = TaskSubmitted(request="Predict churn", workspace=str(self.directory / "nowhere"))
        await _publisher(bus).event("submitted", ML_ENGINEER, body, About(task=task))
        return wanted in await _ended(bus, task)


def _publisher(bus: Bus) -> Publisher:
    return Publisher(bus, telemetry.start("fuzz", bus.settings))


async def _ended(bus: Bus, task: str) -> list[str]:
    """The events of a task, once it has ended as failed."""
    while True:
        history = [read_event(stored) for stored in await bus.history(task)]
        if isinstance(fold(task, history).final, Failed):
            return [event.event for event in history]
        await asyncio.sleep(0.05)


async def _all_ready(bus: Bus) -> None:
    async with asyncio.timeout(30):
        for name in (CONTEXT_MANAGER, ML_ENGINEER, SUMMARIZER, GATEWAY):
            while True:
                try:
                    if not await trouble(bus, name):
                        break
                except BusUnavailable:
                    pass
                await asyncio.sleep(0.05)


async def _behind(bus: Bus) -> int:
    """Messages that a durable has not dealt with."""
    told = [(stream, config["durable_name"]) for stream, config in durables(bus)]
    places = [place for place in told if place[1] != subjects.SYSTEMS_DURABLE]  # nobody reads it yet
    found = [await bus.api(f"CONSUMER.INFO.{stream}.{durable}", {}) for stream, durable in places]
    return sum(int(about["num_pending"]) + int(about["num_ack_pending"]) for about in found)


def _rss(pid: int) -> int:
    """Resident memory, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def passed(found: Mapping[str, Any]) -> bool:
    """Whether the run is as it should be."""
    told = sum(found[verdict] for verdict in VERDICTS)
    flat = all(growth <= _GROWTH for growth in found["rss_growth"].values())
    return told == found["messages"] and not (found["unaccounted"] or found["services_died"] or found["deaf"]) and flat


def table(books: Books) -> str:
    """Channel by verdict, in plain text; then what the server said, and what is unaccounted."""
    lines = [f"{'channel':24}" + "".join(f"{verdict:>20}" for verdict in VERDICTS)]
    for channel, counts in books.table().items():
        lines.append(f"{channel:24}" + "".join(f"{counts[verdict] or '':>20}" for verdict in VERDICTS))
    refused = Counter(
        re.sub(r": \d+$", "", why)[:100] for _, verdict, why in books.verdicts if verdict == "refused_at_publish"
    )
    lines += ["", "refused by the server:", *(f"  {count:6} {why}" for why, count in refused.most_common())]
    lost = [(made, why) for made, verdict, why in books.verdicts if verdict == "unaccounted"]
    lines += [f"UNACCOUNTED {made.channel} {made.kind} {made.subject!r:.80}: {why}" for made, why in lost[:50]]
    return "\n".join(lines)


async def fuzz(directory: Path, *, messages: int, seed: int, calm_s: float = 120) -> tuple[dict[str, Any], Books]:
    """One run; its numbers and its books."""
    run = Fuzz(directory, seed, messages, calm_s)
    return await run.run(), run.books


def main() -> int:
    """Runs once as told on the command line. A run that fails keeps its directory."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=main.__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kept = Path(tempfile.mkdtemp(prefix="mlmesh-fuzz-"))
    found, books = asyncio.run(fuzz(kept, messages=options.messages, seed=options.seed))
    sys.stdout.write(f"{table(books)}\n")
    if passed(found):
        _remove(kept)
    else:
        sys.stderr.write(f"logs and streams are kept in {kept}\n")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if passed(found) else 1


def _remove(directory: Path) -> None:
    import shutil

    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
