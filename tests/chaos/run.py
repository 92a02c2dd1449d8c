"""One run: the fleet starts, people want things, faults come, then all is calm and the verdict is found.

A run that finds nothing leaves nothing. Otherwise its directory is kept: journal, schedule, logs, verdict.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nats.js.errors import NotFoundError

from contracts import subjects
from contracts.envelope import Stored
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.errors import MeshError
from services._runtime.provision import provision
from services._runtime.publisher import Publisher
from tests.chaos import fleet, judge
from tests.chaos.endpoint import Endpoint, listening
from tests.chaos.faults import Faults, Met
from tests.chaos.people import REQUESTS, Board, People, Request, Voice
from tests.chaos.schedule import PROCESSES, Fault, by_kind

_TELL_S: Final = 5.0
CALM_S: Final = 100.0
"""How long after the last fault everything may take to come to its end: the supervisor looks every 15 s."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to be."""

    plan: Sequence[Fault]
    seed: int
    nodes: int = 1
    tasks: int | None = None
    open_tasks: int = 30
    minutes: float | None = None
    calm_s: float = CALM_S
    broken: str = ""
    requests: Sequence[Request] = REQUESTS
    """The kinds of requests."""
    keep: bool = False
    """Whether the directory of a run that finds nothing stays, too."""
    directory: Path | None = None
    """Where the run takes place: it stays, whatever is found. None: a directory of its own."""


@dataclass(slots=True)
class Outcome:
    """A run that is over."""

    verdict: judge.Verdict
    told: dict[str, object]
    """The last line."""

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not any(self.verdict.findings().values())


async def run(options: Options, say: Callable[[str], None]) -> Outcome:
    """Carries it out. `say` gets a line for each thing that happens."""
    began = time.monotonic()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="mlmesh-chaos-"))
    with listening() as endpoint:
        async with fleet.running(directory, endpoint.url, nodes=options.nodes, broken=options.broken) as ships:
            evidence = await _happen(options, ships, endpoint, say)
    verdict = judge.judge(evidence)
    told = _last_line(options, evidence, verdict, time.monotonic() - began)
    outcome = Outcome(verdict, told)
    if outcome.good and not options.keep and options.directory is None:
        fleet.remove(directory)
    else:
        _keep(directory, options, evidence, verdict)
        say(f"journal, logs, schedule and verdict are in {directory}")
    return outcome


async def _happen(
    options: Options, ships: fleet.Fleet, endpoint: Endpoint, say: Callable[[str], None]
) -> judge.Evidence:
    bus = await Bus.connect(fleet.settings(ships), "observer")
    await _provisioned(bus)
    for name in PROCESSES:
        ships.start(name)
    board = Board(bus)
    voice = Voice(Publisher(bus, telemetry.start("observer", bus.settings)))
    people = People(ships.directory, options.seed, board, voice, options.requests, most=options.tasks)
    faults = Faults(ships, bus)
    stop = asyncio.Event()
    beside = [
        asyncio.create_task(board.follow(stop)),
        asyncio.create_task(ships.keep()),
        asyncio.create_task(people.feed(options.open_tasks)),
    ]
    try:
        await _until(lambda: any(state.final is not None for state in board.states.values()), 30)
        await _trouble(options, faults, people, say)
        say(f"calm after {len(faults.met)} faults: {board.open()} of {len(people.requests)} tasks are open")
        ships.heal()
        await faults.clear()
        await _calm(bus, people, options.calm_s, say)
        return await _evidence(bus, ships, endpoint, people, faults)
    finally:
        stop.set()
        for task in [*beside[1:], *people.attending]:
            task.cancel()
        await asyncio.gather(*beside, *people.attending, return_exceptions=True)
        await bus.close()


async def _provisioned(bus: Bus) -> None:
    """Of several servers, as soon as they have chosen a leader."""
    async with asyncio.timeout(30):
        while True:
            with suppress(MeshError):
                await provision(bus)
                return
            await asyncio.sleep(0.2)


async def _trouble(options: Options, faults: Faults, people: People, say: Callable[[str], None]) -> None:
    began = time.monotonic()

    def told(number: int, met: Met) -> None:
        tail = f" ({met.trouble})" if met.trouble else ""
        say(
            f"{time.monotonic() - began:6.1f} s  {number:4}/{len(options.plan)} {met.kind} {met.target}{tail};"
            f" {people.board.open()} of {len(people.requests)} tasks are open"
        )

    limit_s = options.minutes * 60 if options.minutes is not None else None
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await faults.run(options.plan, told)
    people.enough = True


async def _calm(bus: Bus, people: People, limit_s: float, say: Callable[[str], None]) -> None:
    """Everything is whole again; returns when all is done, or time is up."""
    began = told = time.monotonic()
    while time.monotonic() < began + limit_s:
        at_work = await _at_work(bus)
        if not (people.attending or people.board.open() or at_work):
            return
        if time.monotonic() > told + _TELL_S:
            told = time.monotonic()
            say(f"{told - began:6.1f} s of calm: {', '.join(people.board.standing()) or 'no task'} open; {at_work}")
        await asyncio.sleep(0.25)


async def _at_work(bus: Bus) -> str:
    """What is left to do for the mesh, in words."""
    try:
        left, unheard = await _doorbells(bus), await _unheard(bus)
        behind = "" if await bus.follows(subjects.REPORTS) else "REPORTS is behind TASKS"
    except (MeshError, NotFoundError) as error:
        return str(error)
    doorbells = f"{len(left)} doorbells in WORK" if left else ""
    return ", ".join(filter(None, (doorbells, f"{unheard} messages are not judged" if unheard else "", behind)))


async def _doorbells(bus: Bus) -> dict[str, int]:
    return await bus.subjects_of(subjects.WORK, "mesh.work.>")


async def _unheard(bus: Bus) -> int:
    """Messages of TASKS that the gateway has not judged: all of them, where its durable is gone."""
    try:
        told = await bus.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.GATEWAY}", {})
    except NotFoundError:
        return sum((await bus.subjects_of(subjects.TASKS, subjects.ALL_TASKS)).values())
    return int(told["num_pending"]) + int(told["num_ack_pending"])


async def _evidence(bus: Bus, ships: fleet.Fleet, endpoint: Endpoint, people: People, faults: Faults) -> judge.Evidence:
    lines = (line.split() for file in (ships.directory / "effects").iterdir() for line in file.read_text().splitlines())
    return judge.Evidence(
        requests=people.requests,
        said=people.voice.said,
        met=faults.met,
        tasks=await bus.read(subjects.TASKS, subjects.ALL_TASKS, 1),
        dead=await bus.read(subjects.DEAD, subjects.ALL_DEAD, 1),
        reports=await bus.read(subjects.REPORTS, subjects.ALL_REPORTS, 1),
        executions=[judge.Execution(key, int(claim), int(pid), float(at)) for key, claim, pid, at in lines],
        endpoint=endpoint,
        workspace=people.workspace,
        doorbells=await _doorbells(bus),
        unheard=await _unheard(bus),
    )


async def _until(reached: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not reached():  # noqa: ASYNC110 - many things can make it so
            await asyncio.sleep(0.05)


def _last_line(options: Options, evidence: judge.Evidence, verdict: judge.Verdict, wall_s: float) -> dict[str, object]:
    kills = [fault for fault in evidence.met if fault.kind.startswith("kill-")]
    return {
        "tasks": len(evidence.requests),
        "kills": len(kills),
        "faults": _counted(evidence.met),
        **{name: len(found) for name, found in verdict.findings().items()},
        "takeovers": judge.takeovers(evidence),
        "executions": len(evidence.executions),
        "messages": len(evidence.said),
        "messages_without_meaning": judge.late(evidence),
        "dead_letters": len(evidence.dead),
        "recovery_s": judge.percentiles([one.seconds for one in verdict.recoveries]),
        "seed": options.seed,
        "nodes": options.nodes,
        "wall_s": round(wall_s, 1),
    }


def _counted(met: Sequence[Met]) -> dict[str, int]:
    return by_kind([Fault(one.kind, 0) for one in met])


def _keep(directory: Path, options: Options, evidence: judge.Evidence, verdict: judge.Verdict) -> None:
    """What one needs to find out why."""
    slowest = sorted(verdict.recoveries, key=lambda one: -one.seconds)
    found = {"findings": verdict.findings(), "recoveries": [asdict(one) for one in slowest]}
    (directory / "verdict.json").write_text(json.dumps(found, indent=2))
    (directory / "schedule.jsonl").write_text("".join(f"{json.dumps(fault.told())}\n" for fault in options.plan))
    (directory / "faults.jsonl").write_text("".join(f"{json.dumps(asdict(met))}\n" for met in evidence.met))
    for name, messages in (("journal", evidence.tasks), ("dead", evidence.dead)):
        (directory / f"{name}.jsonl").write_text("".join(f"{_line(stored)}\n" for stored in messages))


def _line(stored: Stored) -> str:
    about = {"seq": stored.seq, "time": stored.time.isoformat(), "subject": stored.subject}
    return json.dumps({**about, "headers": dict(stored.headers), "body": stored.data.decode(errors="replace")})
