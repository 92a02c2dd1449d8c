"""Which bus a command works on, and what it starts for itself.

The rules: `NATS_URL`, or a home that a live mesh holds, makes the command a client that starts nothing. Otherwise a
command starts what it needs in the home, for as long as it runs: the whole mesh, the bus alone, or nothing, which
is an error that says what to do. A command that holds the home with the bus alone tells nobody where it is: others
wait for their turn.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeVar

from contracts import subjects
from services._runtime import service, telemetry
from services._runtime.bus import Bus, check_level
from services._runtime.credentials import anonymous
from services._runtime.errors import BusUnavailable, Misconfigured
from services._runtime.home import Home, home_of
from services._runtime.publisher import Publisher
from services._runtime.settings import Settings
from services.gateway.mesh import Mesh

_TURN_S: Final = 15.0
"""How long a command waits for another one that holds the home."""
_ASK_S: Final = 4.0
"""How long a bus may take to say what it is."""
_LOOK_S: Final = 0.25
"""How often a client looks whether its bus is still there."""

T = TypeVar("T")
Need = Literal["mesh", "resume", "bus", "live"]
"""What a command starts where nothing runs: the mesh, the mesh where one has worked before, the bus alone where one
has worked before, nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command was called: its settings, its workspace and the home that goes with it."""

    settings: Settings
    workspace: Path
    load: Callable[[str], service.Start] = field(default=service.load)

    @property
    def home(self) -> Home:
        """The home of the embedded mesh here."""
        return home_of(self.settings, self.workspace)

    def rooted(self, *roots: str) -> Settings:
        """The settings, with the workspace and `roots` as the allowed roots where none are configured."""
        allowed = ":".join(dict.fromkeys((str(self.workspace), *roots)))
        return self.settings.model_copy(
            update={
                "workspace_roots": self.settings.workspace_roots or allowed,
                "workspace": self.settings.workspace or str(self.workspace),
            }
        )


@dataclass(frozen=True, slots=True)
class Attached:
    """How a command came to its bus."""

    mode: Literal["client", "bus", "mesh"]
    """`mesh` and `bus`: started by this command, and gone with it."""
    url: str
    started_s: float = 0.0
    """How long the mesh took to be ready."""


class MeshGone(BusUnavailable):
    """The mesh that this command was a client of has ended: the home is free to go on from."""


@dataclass(frozen=True, slots=True)
class Desk:
    """A command's connection to a mesh."""

    bus: Bus
    publisher: Publisher
    place: Place
    how: "Attached"

    @property
    def works(self) -> bool:
        """True when services are there to carry tasks on."""
        return self.how.mode != "bus"

    async def lost(self) -> NoReturn:
        """Runs for as long as the bus of others is there.

        Raises: MeshGone when the mesh of this home ended; BusUnavailable when a bus was away for too long.
        """
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.how.mode != "client" or self.bus.client.is_connected:
                seen = loop.time()
            elif not self.place.settings.nats_url and self.place.home.living_bus() != self.how.url:
                raise MeshGone(f"the mesh in {self.place.home.path} ended")
            elif loop.time() - seen > self.bus.settings.bus_patience_s:
                raise BusUnavailable(f"the bus at {self.how.url} was away for {loop.time() - seen:.0f} s")


def place_of(workspace: str = "", **given: object) -> Place:
    """The place of a command that was given `--workspace`; default: the current directory. Raises Misconfigured."""
    return Place(Settings.read(**given), Path(os.path.abspath(workspace or ".")))  # noqa: PTH100 - keeps links as told


async def at_desk(place: Place, need: Need, work: Callable[[Desk], Awaitable[T]]) -> T:
    """The result of `work` at the bus that the rules give.

    Raises: what `work` raises; BusUnavailable without a bus; Misconfigured for a server that is too old, no
    nats-server, no room in the home.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + _TURN_S
    while True:
        url = place.settings.nats_url or place.home.living_bus()
        if url:
            return await _as_client(place, url, work)
        _worth_starting(place, need)
        async with AsyncExitStack() as stack:
            if _held(place.home, stack, last_try=loop.time() > until):
                return await as_owner(place, work, whole=need != "bus")
        await asyncio.sleep(0.05)


def _worth_starting(place: Place, need: Need) -> None:
    """Raises BusUnavailable where a command has nothing to work on."""
    if need == "live":
        raise BusUnavailable(
            f"no mesh runs in {place.home.path}: start one with `mlmesh up`, use `mlmesh run`, or set NATS_URL"
        )
    if need != "mesh" and not (place.home.path / "jetstream").is_dir():
        raise BusUnavailable(
            f"no mesh has worked in {place.home.path} yet: go to its workspace, give --workspace, or set NATS_URL"
        )


def _held(home: Home, stack: AsyncExitStack, *, last_try: bool) -> bool:
    """Takes the home for as long as the stack lasts; False when another command has it just now."""
    try:
        stack.enter_context(home.hold())
    except Misconfigured as error:
        if last_try or not isinstance(error.__cause__, BlockingIOError):
            raise
        return False
    return True


async def as_owner(place: Place, work: Callable[[Desk], Awaitable[T]], *, whole: bool = True, port: int = 0) -> T:
    """The result of `work` in a home that this process holds; `whole`: with the services, not the bus alone."""
    settings = anonymous(place.rooted(*_remembered(place)) if whole else place.settings)
    mesh = Mesh(place.home, settings, subjects.SERVICES if whole else (), port, place.load)

    async def at_work(bus: Bus) -> T:
        if whole:
            place.home.tell(mesh.url)
        return await _with_desk(bus, place, Attached("mesh" if whole else "bus", mesh.url, mesh.started_s), work)

    place.home.logs.parent.mkdir(exist_ok=True)
    with place.home.logs.open("a", encoding="utf-8", buffering=1) as lines:
        telemetry.configure_logs(place.settings.log_level, lines)
        try:
            return await mesh.run(at_work)
        finally:
            telemetry.configure_logs("error", sys.stderr)


def _remembered(place: Place) -> list[str]:
    """Workspaces of the meshes that have lived in this home, this one included.

    A home of its own (MLMESH_HOME) may hold a task whose workspace is not where `answer` is called: that task must
    not fail because of it.
    """
    told = place.home.path / "roots"
    known = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    if str(place.workspace) not in known:
        known.append(str(place.workspace))
        told.write_text("".join(f"{root}\n" for root in known), encoding="utf-8")
    return known


async def _as_client(place: Place, url: str, work: Callable[[Desk], Awaitable[T]]) -> T:
    telemetry.configure_logs("error", sys.stderr)
    settings = place.settings if place.settings.nats_url else anonymous(place.settings)  # a home's bus asks for no key
    bus = await Bus.connect(_hurried(settings), "client", url=url)
    try:
        await check_mesh(bus)
        bus.settings = settings
        return await _with_desk(bus, place, Attached("client", url), work)
    finally:
        await bus.close()


async def _with_desk(bus: Bus, place: Place, how: "Attached", work: Callable[[Desk], Awaitable[T]]) -> T:
    traces = telemetry.start("client", place.settings)
    try:
        return await work(Desk(bus, Publisher(bus, traces), place, how))
    finally:
        await asyncio.to_thread(traces.close)


async def check_mesh(bus: Bus) -> None:
    """Raises Misconfigured for a server that is too old or without JetStream, or one that no mesh has worked on."""
    await check_level(bus)
    names: Any = (await bus.api("STREAM.NAMES", {})).get("streams") or []
    missing = [name for name in subjects.STREAMS if name not in names]
    if missing:
        raise Misconfigured(
            f"the bus at {bus.address} lacks the streams {', '.join(missing)}: start the services there, or run"
            " `mlmesh provision` where services have keys"
        )


def _hurried(settings: Settings) -> Settings:
    """Settings for the first questions: a person waits for the answer."""
    return settings.model_copy(
        update={
            "connect_timeout_s": min(settings.connect_timeout_s, _ASK_S),
            "bus_patience_s": min(settings.bus_patience_s, _ASK_S),
            "publish_timeout_s": min(settings.publish_timeout_s, _ASK_S),
        }
    )
