"""Services that are connected and hear nothing: they know it, the probe and the doctor say it, and they recover."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from contracts import subjects
from contracts.events import TaskSubmitted
from contracts.report import ActivityReport
from services._runtime.bus import Bus
from services._runtime.consumer import OrderedConsumer, deaf_after_s
from services._runtime.errors import BusUnavailable, NobodyAnswers
from services._runtime.executor import Executor
from services._runtime.health import PATIENCE_S, Replica, replicas
from services._runtime.provision import provision
from services._runtime.publisher import About, Publisher
from services._runtime.service import Runtime, Start, serve
from services._runtime.settings import Settings
from services.context_manager.__main__ import start as start_context_manager
from services.gateway.attach import Place
from services.gateway.commands.doctor import Check, check_mesh
from services.summarizer.__main__ import start as start_summarizer
from tests.conftest import fast_settings
from tests.fakes.wire import wire_to
from tests.following import eventually, is_event, until
from tests.server import NatsServer

HEARTBEAT_S = 0.2
DEAF_S = 2 * HEARTBEAT_S + 1
"""After so much silence a consumer calls itself deaf."""


@pytest.fixture
def settings(server: NatsServer, tmp_path: Path) -> Settings:
    """Settings that make deafness quick."""
    return fast_settings(server.url, tmp_path, heartbeat_s=HEARTBEAT_S)


@asynccontextmanager
async def serving(name: str, start: Start, settings: Settings, url: str) -> AsyncGenerator[Runtime]:
    """A service of this process while the block runs."""
    stop, given = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def started(runtime: Runtime) -> None:
        given.set_result(runtime)
        await start(runtime)

    running = asyncio.create_task(serve(name, started, settings, stop, url=url))
    try:
        runtime: Runtime = await asyncio.wait_for(given, 30)
        await eventually(partial(is_well, runtime))
        yield runtime
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def is_deaf(runtime: Runtime) -> str:
    """What the service says is wrong with it."""
    return runtime.trouble()


async def is_well(runtime: Runtime) -> bool:
    """True when the service says that it is ready."""
    return not runtime.trouble()


async def reported(publisher: Publisher, task: str) -> None:
    """A task that has reported: work for the summarizer."""
    await publisher.event("submitted", "ml-engineer", TaskSubmitted(request="predict"), About(task=task))
    body = ActivityReport(reporting_agent="ml-engineer", status="success", summary="done")
    await publisher.event("reported", "ml-engineer", body, About(task=task))


async def checked(settings: Settings, directory: Path, name: str) -> Check:
    """What `mlmesh doctor` says of a service."""
    return next(check for check in await check_mesh(Place(settings, directory)) if check.name == name)


async def test_a_deleted_durable_makes_its_service_not_ready_and_the_doctor_names_it(
    bus: Bus, settings: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    """The server refuses each pull at once: that is no word of the consumer's. Made anew, nothing is missed."""
    async with serving(subjects.SUMMARIZER, start_summarizer, settings, settings.nats_url) as runtime:
        await bus.api(f"CONSUMER.DELETE.{subjects.WORK}.{subjects.SUMMARIZER}", {})
        trouble = await eventually(partial(is_deaf, runtime), within_s=DEAF_S + 20)
        assert trouble.startswith("hears nothing from the bus: WORK/summarizer for ")
        assert runtime.bus.client.is_connected
        check = await checked(settings, tmp_path, subjects.SUMMARIZER)
        assert not check.ok
        assert "WORK/summarizer for " in check.found
        assert check.do.startswith("WORK/summarizer was deleted on the server: a gateway makes it anew")
        await reported(publisher, "t1")
        await provision(bus)
        await eventually(partial(is_well, runtime))
        await until(bus, "t1", is_event("summarised"))


async def test_a_half_open_connection_makes_its_service_not_ready(
    bus: Bus, server: NatsServer, settings: Settings, publisher: Publisher, tmp_path: Path
) -> None:
    """TCP is up and what the server says is swallowed. Nobody can ask the service then: the probe says so."""
    async with (
        wire_to(server.port) as wire,
        serving(subjects.SUMMARIZER, start_summarizer, settings, wire.url) as runtime,
    ):
        wire.silent = True
        await reported(publisher, "t1")
        assert await eventually(partial(is_deaf, runtime), within_s=DEAF_S + 20)
        assert runtime.bus.client.is_connected
        check = await checked(settings, tmp_path, subjects.SUMMARIZER)
        assert check.found.startswith("does not answer: it is frozen, too busy to answer, or its connection is dead")
        assert (check.ok, "; the bus last gave it work at 2" in check.found) == (False, True)
        assert check.do.startswith("end the process and start it again")
        wire.silent = False
        wire.cut()
        await eventually(partial(is_well, runtime))
        await until(bus, "t1", is_event("summarised"))


async def test_a_paused_server_makes_its_services_not_ready_until_it_runs_on(
    bus: Bus, server: NatsServer, settings: Settings
) -> None:
    """Consumers of the server's and requests alike; nothing has to be started again."""
    async with serving(subjects.CONTEXT_MANAGER, start_context_manager, settings, settings.nats_url) as runtime:
        server.pause()
        trouble = await eventually(partial(is_deaf, runtime), within_s=DEAF_S + 20)
        assert "REPORTS/mesh.report.>" in trouble
        assert "requests on mesh.context" in trouble
        server.resume()
        await eventually(partial(is_well, runtime))
        assert [replica.trouble for replica in await replicas(bus, subjects.CONTEXT_MANAGER)] == [""]


async def test_after_a_new_connection_every_task_that_is_held_is_looked_at(
    server: NatsServer, settings: Settings
) -> None:
    """A cancel may have been said in between, and its doorbell answered by another replica: it is not said again."""
    executor = Executor("tester")
    async with wire_to(server.port) as wire:
        bus = await Bus.connect(settings, "test", url=wire.url)
        await executor.listen(bus, subjects.ML_ENGINEER)
        hints = [executor.attend(task, f"{task}/claim/x") for task in ("t1", "t2")]
        wire.cut()
        await asyncio.wait_for(asyncio.gather(*(hint.wait() for hint in hints)), 30)
        await bus.close()


async def test_every_replica_speaks_for_itself(bus: Bus, settings: Settings) -> None:
    """One that is well must not answer for one that is not; a probe judges those of its own host."""

    async def starting(runtime: Runtime) -> None:
        await runtime.stop.wait()

    async def well(runtime: Runtime) -> None:
        runtime.ready.set()
        await runtime.stop.wait()

    stop = asyncio.Event()
    with pytest.raises(NobodyAnswers):
        await replicas(bus, subjects.GATEWAY)
    running = [asyncio.create_task(serve(subjects.GATEWAY, start, settings, stop)) for start in (starting, well)]

    async def both() -> list[Replica]:
        try:
            found = await replicas(bus, subjects.GATEWAY)
        except BusUnavailable:
            return []
        return found if {replica.trouble for replica in found} == {"", "starting"} else []

    found = await eventually(both)
    assert {(replica.host, replica.pid) for replica in found} == {(socket.gethostname(), os.getpid())}
    stop.set()
    await asyncio.gather(*running)


async def test_an_ordered_consumer_whose_stream_is_gone_is_deaf_until_it_is_back(bus: Bus) -> None:
    """Its consumer is made anew by itself; without the stream there is nothing to hear."""
    stop = asyncio.Event()
    reader = OrderedConsumer(bus, subjects.REPORTS, subjects.ALL_REPORTS)
    seen: list[bytes] = []

    async def read() -> None:
        async for stored in reader.run(stop):
            seen.append(stored.data)  # noqa: PERF401 - one by one is the point

    async def deaf(*, wanted: bool) -> bool:
        return reader.deaf is wanted

    reading = asyncio.create_task(read())
    await eventually(partial(deaf, wanted=False))
    await bus.api(f"STREAM.DELETE.{subjects.REPORTS}", {})
    await eventually(partial(deaf, wanted=True), within_s=DEAF_S + 20)
    await provision(bus)
    await eventually(partial(deaf, wanted=False))
    await bus.publish(subjects.report("a"), b"{}", {"Nats-Msg-Id": "r1"})

    async def heard() -> bool:
        return seen == [b"{}"]

    await eventually(heard)
    stop.set()
    await reading


async def test_with_the_default_settings_a_probe_fails_within_half_a_minute(bus: Bus, settings: Settings) -> None:
    """The silence that makes a service not ready, and the patience of whoever asks it."""
    usual = replace(bus, settings=settings.model_copy(update={"heartbeat_s": Settings().heartbeat_s}))
    assert deaf_after_s(usual) + PATIENCE_S <= 15
