"""A process is killed at every boundary of worker and journal, and the end is that of an undisturbed run.

Same events but for ids, times and the claims of takeovers, same effects, same files, same dead letters. The matrix is
data (crash_points.py); all of it runs at once against one server, each task with durables and a victim of its own.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from contracts import subjects
from contracts.dead import DeadLetter
from contracts.envelope import MSG_ID, TaskEvent, read_event
from contracts.events import CancelRequested, QuestionsAnswered, TaskSubmitted
from contracts.message import Message
from contracts.task import FINAL_EVENTS
from services._runtime import telemetry
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.settings import Settings
from tests.conftest import fast_settings
from tests.fakes.crashing import QUESTIONS, STEPS, Crash, Order, durable, work
from tests.following import eventually, history
from tests.laws import violations
from tests.runtime.crash_points import KINDS, POINTS, ROLES, Kind, Point, Role
from tests.server import NatsServer

ACK_WAIT_S: Final = 3.0
"""Long enough that nobody alive is taken for dead on a loaded machine, short since each kill waits it out."""
AT_A_TIME: Final = 32
WITHIN_S: Final = 100
"""A task takes seconds, and a minute where ten others are at work on each processor."""
LOOK_S: Final = 0.1
"""Between two looks at the server's consumers, for each of many tasks."""
WITHOUT: Final = {"started_at", "ended_at", "totals"}
"""What differs from run to run."""

ZOMBIES: Final = tuple(
    point
    for point in POINTS
    if point.role == "ml-engineer"
    and point.kind == "go"
    and (not point.place.startswith("after") or "effect" in point.place)
)
"""Where a process is also frozen until another has gone on. What is the same to a process as `stored` is left out."""


@dataclass(frozen=True)
class End:
    """What a run leaves behind, without what differs from run to run."""

    deaths: list[str]
    """What ended each process that was to die: -9."""
    events: list[tuple[str, dict[str, Any]]]
    """(event, body), without claims."""
    claims: int
    executions: dict[str, int]
    """Step -> how often its effect was executed."""
    files: dict[str, str]
    letters: list[tuple[str, str]]
    """(reason, subject) of dead letters."""
    broken: list[str]
    """Laws of a task's life that do not hold."""
    left: int
    """Messages that nobody has settled."""


@dataclass
class Matrix:
    """A server, the roles that live, and what is heard of every task."""

    bus: Bus
    directory: Path
    settings: Settings
    keepers: "subprocess.Popen[str]"
    roles: dict[str, Bus]
    heard: dict[str, "asyncio.Queue[TaskEvent]"] = field(default_factory=dict[str, "asyncio.Queue[TaskEvent]"])
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """What has happened to each task so far."""

    async def run(self, task: str, kind: Kind, victim: Role, *places: str, freeze: bool = False) -> End:
        """One task from submission to the end, with one role killed at each of these places, one after the other.

        `freeze`: it stands still there while another goes on, and then wakes up.
        """
        self.heard[task], self.names[task] = asyncio.Queue(), []
        for role in ROLES:
            await self._durable(role, task)
        order = Order(victim, task, places, str(self.directory), self.settings.model_dump(mode="json"), freeze)
        self._tell(asdict(order))
        stop = asyncio.Event()
        async with AsyncExitStack() as stack:
            for role in set(ROLES) - {victim}:
                living = Order(role, task, (), order.directory, {})
                running = asyncio.create_task(work(living, self.roles[role], Crash(), stop))
                stack.push_async_callback(_ended, running)
            stack.callback(stop.set)
            await self._begin(task, kind)
            with suppress(TimeoutError):  # what is missing then is in the end that is compared
                await asyncio.gather(self._converse(task, kind), *([self._thaw(order)] if freeze else []))
                await self._settle(task, len(places))
            self._tell({"stop": task})
        return await self._end(task, kind)

    async def _begin(self, task: str, kind: Kind) -> None:
        if kind == "unreadable":
            subject = subjects.task_event(task, "submitted", subjects.ML_ENGINEER)
            await self.bus.publish(subject, b"{nope", {MSG_ID: task})
        else:
            await self._say(task, "submitted", TaskSubmitted(request=kind))

    async def _converse(self, task: str, kind: Kind) -> None:
        """What people say, at the same places of each run."""
        async with asyncio.timeout(WITHIN_S):
            while (event := (await self.heard[task].get()).event) not in FINAL_EVENTS:
                if event in {"asked", "released"}:
                    answer = {QUESTIONS[event == "released"]: "yes"}
                    await self._say(task, "answered", QuestionsAnswered.model_validate({"answers": answer}))
                if event == "progressed" and kind == "cancel":
                    await eventually(lambda: _exists(self.directory / f"{task}.{STEPS[0]}"))
                    await self._say(task, "cancel-requested", CancelRequested(reason="enough"))

    async def _say(self, task: str, event: str, body: Message) -> None:
        publisher = Publisher(self.bus, telemetry.start("test", self.settings))
        await publisher.event(event, subjects.ML_ENGINEER, body, About(task=task))

    async def _thaw(self, order: Order) -> None:
        """Wakes the frozen process once another has claimed the task since, or ended it; returns when it was up."""
        await eventually(lambda: _exists(order.file("deaths")), within_s=WITHIN_S)
        before = [event.event for event in await history(self.bus, order.task)].count("working")

        async def gone_on() -> bool:
            names = self.names[order.task]
            return names.count("working") > before or any(name in FINAL_EVENTS for name in names)

        await eventually(gone_on, within_s=WITHIN_S)
        order.file("thaw").touch()
        await eventually(lambda: _exists(order.file("woken")), within_s=WITHIN_S)

    async def _settle(self, task: str, deaths: int) -> None:
        """Returns when the victim has died where it should, and nothing of the task is left to do."""
        told = self.directory / f"{task}.deaths"
        async with asyncio.timeout(WITHIN_S):
            while True:
                died = len(told.read_text().split()) if told.exists() else 0
                if died == deaths and not await self._left(task):
                    return
                await asyncio.sleep(LOOK_S)  # the server tells only who asks

    async def _left(self, task: str) -> int:
        """Messages that a role has not heard or not settled."""
        left = 0
        for role in ROLES:
            about = await self.bus.api(f"CONSUMER.INFO.{_stream(role)}.{durable(role, task)}", {})
            left += about["num_pending"] + about["num_ack_pending"]
        return left

    async def _durable(self, role: Role, task: str) -> None:
        name = durable(role, task)
        config = {
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * 1e9),
            "deliver_policy": "all",
            "filter_subject": subjects.task_history(task)
            if _stream(role) == "TASKS"
            else subjects.work_item(role, task),
        }
        call = f"CONSUMER.DURABLE.CREATE.{_stream(role)}.{name}"
        await self.bus.api(call, {"stream_name": _stream(role), "config": config})

    async def _end(self, task: str, kind: Kind) -> End:
        told = await history(self.bus, task)
        dead = await self.bus.read(subjects.DEAD, subjects.ALL_DEAD, 1)
        letters = [DeadLetter.from_bytes(stored.data) for stored in dead]
        made = {path.name.removeprefix(f"{task}."): path.read_text() for path in self.directory.glob(f"{task}.*")}
        executions = made.pop("executions", "").splitlines()
        for name in ("thaw", "woken"):
            made.pop(name, "")
        return End(
            deaths=made.pop("deaths", "").split(),
            events=_plain(told),
            claims=sum(event.event == "working" for event in told),
            executions=dict(Counter(line.split()[0].removeprefix(f"{task}/") for line in executions)),
            files=made,
            letters=[(one.reason, one.subject.replace(task, "T")) for one in letters if f".{task}." in one.subject],
            broken=[] if kind == "unreadable" else violations(told, self.directory),
            left=await self._left(task),
        )

    def _tell(self, what: dict[str, Any]) -> None:
        assert self.keepers.stdin is not None
        self.keepers.stdin.write(f"{json.dumps(what)}\n")
        self.keepers.stdin.flush()


def _stream(role: Role) -> str:
    return subjects.TASKS if role == subjects.GATEWAY else subjects.WORK


def _plain(told: Sequence[TaskEvent]) -> list[tuple[str, dict[str, Any]]]:
    """Events without claims, and without what differs from run to run; an id is the name of its event."""
    ids = {event.metadata.id: event.event for event in told}

    def body(event: TaskEvent) -> dict[str, Any]:
        if event.body is None:
            return {"problem": event.problem}
        found = event.body.model_dump(mode="json", exclude=WITHOUT)
        for claim in found.get("claims", ()):
            claim["refs"] = [ids.get(ref, ref) for ref in claim["refs"]]
        return found

    return [(event.event, body(event)) for event in told if event.event != "working"]


async def _exists(path: Path) -> bool:
    return path.exists()


async def _ended(running: "asyncio.Task[None]") -> None:
    await asyncio.wait_for(running, 30)


@asynccontextmanager
async def matrix(directory: Path) -> AsyncGenerator[Matrix]:
    """A server with the mesh's streams, without the durables that would hear of every task."""
    server = NatsServer(directory / "nats")
    server.start()
    settings = fast_settings(server.url, directory, ack_wait_s=ACK_WAIT_S)
    async with AsyncExitStack() as stack:
        stack.callback(server.stop)
        buses: dict[str, Bus] = {}
        for name in ("test", *ROLES):
            buses[name] = await Bus.connect(settings, name)
            stack.push_async_callback(buses[name].close)
        await provision(buses["test"])
        for role in ROLES:
            await buses["test"].api(f"CONSUMER.DELETE.{_stream(role)}.{role}", {})
        keepers = stack.enter_context(_keepers(directory))
        stack.callback(keepers.kill)
        found = Matrix(buses["test"], directory / "work", settings, keepers, buses)
        found.directory.mkdir()
        listening = asyncio.create_task(_listen(found))
        stack.callback(listening.cancel)
        yield found


def _keepers(directory: Path) -> "subprocess.Popen[str]":
    with (directory / "keepers.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.crashing"], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
        )


async def _listen(found: Matrix) -> None:
    async for stored in OrderedConsumer(found.bus, subjects.TASKS, subjects.ALL_TASKS).run(asyncio.Event()):
        event = read_event(stored)
        found.names[event.metadata.task].append(event.event)
        found.heard[event.metadata.task].put_nowait(event)


Ends = dict[str, End]

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """How every run ended: one of each kind without a kill, and one for each point."""
    directory = tmp_path_factory.mktemp("crash-points")

    async def all_of_them() -> Ends:
        room = asyncio.Semaphore(AT_A_TIME)
        async with matrix(directory) as found:

            async def one(task: str, kind: Kind, victim: Role, *places: str, freeze: bool = False) -> tuple[str, End]:
                async with room:
                    return task, await found.run(task, kind, victim, *places, freeze=freeze)

            calm = [one(kind, kind, "ml-engineer") for kind in KINDS]
            struck = [one(f"p{n}", point.kind, point.role, point.place) for n, point in enumerate(POINTS)]
            frozen = [
                one(f"z{n}", point.kind, point.role, point.place, freeze=True)
                for n, point in enumerate(POINTS)
                if point in ZOMBIES
            ]
            return dict(await asyncio.gather(*calm, *struck, *frozen))

    return asyncio.run(all_of_them())


def test_the_undisturbed_run_is_a_whole_life(ends: Ends) -> None:
    """What the others are compared with: questions, two steps, files, a summary, an end, nothing twice."""
    names = "submitted briefed asked answered released answered designed progressed step step delivered reported"
    assert [event for event, _ in ends["go"].events] == [*names.split(), "summarised", "completed"]
    once = dict.fromkeys(STEPS, 1)
    assert (ends["go"].claims, ends["go"].executions, ends["go"].files) == (
        4,
        once,
        {name: f"made by {name}\n" for name in STEPS},
    )
    assert [ends[kind].events[-1][0] for kind in KINDS] == ["completed", "failed", "canceled", "failed"]
    assert [len(ends[kind].letters) for kind in KINDS] == [0, 0, 0, 1]


def undisturbed_but_for(calm: End, deaths: str, claims: int, effect: str) -> End:
    """The end that is owed when one process came to harm."""
    executions = Counter(calm.executions) + Counter({effect: 1} if effect else {})
    return replace(calm, deaths=[deaths], claims=calm.claims + claims, executions=dict(executions))


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.role} {point.where}".replace(" ", "-"))
def test_a_process_that_is_killed_there_changes_nothing(ends: Ends, point: Point) -> None:
    """Same events, effects, files and dead letters as undisturbed; what is done again is what the matrix says."""
    expected = undisturbed_but_for(ends[point.kind], "-9", point.claims, point.effect)
    assert ends[f"p{POINTS.index(point)}"] == expected


@pytest.mark.parametrize("point", ZOMBIES, ids=lambda point: point.place.replace(" ", "-"))
def test_a_process_that_wakes_up_after_another_took_over_changes_nothing(ends: Ends, point: Point) -> None:
    """Frozen there for longer than the acknowledgement wait: it is fenced, writes nothing and begins no step.

    The step that it was in the middle of is executed by both, under the same key. What the server gave it while it was
    frozen, it may take up when it wakes, by rule 3: one claim more, and the step that this one cuts off.
    """
    moment, what, *name = point.place.split()
    in_flight = name[0] if what == "effect" or (moment, what) == ("before", "step") else ""
    expected, end = undisturbed_but_for(ends["go"], "frozen", point.claims, in_flight), ends[f"z{POINTS.index(point)}"]
    taken_up = end.claims - expected.claims
    again = sum(end.executions.values()) - sum(expected.executions.values())
    assert replace(end, claims=expected.claims, executions=expected.executions) == expected
    assert taken_up in {0, 1}
    assert 0 <= again <= taken_up


def test_the_matrix_has_every_append_of_the_undisturbed_run(ends: Ends) -> None:
    """An event that the agent begins to write is not forgotten here."""
    spoken = {event for event, _ in ends["go"].events} - {"submitted", "answered"}
    tried = {point.place.split()[1] for point in POINTS if point.place.startswith(("before", "stored"))}
    assert spoken - tried == set()
