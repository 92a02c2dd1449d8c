"""The compose file, run: its commands and environment as local processes, with a task through them."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from contracts import subjects
from contracts.events import Completed
from services._runtime.bus import Bus
from services._runtime.settings import Settings
from tests import workspaces
from tests.compose import SERVICES, Here
from tests.following import FINAL, until

OURS = [name for name in SERVICES if name in subjects.SERVICES]
SHORT = {"MLMESH_LATENCY_S": "0.5", "MLMESH_PROOFS": "false", "MLMESH_TRAIN_BUDGET_S": "2"}
WITHIN_S = 120.0


class Collector(ThreadingHTTPServer):
    """Stands where Jaeger stands: takes whatever is posted and keeps the paths."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Taking)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Taking(BaseHTTPRequestHandler):
    server: Collector  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.paths.add(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A place for traces."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def here(tmp_path: Path, collector: Collector) -> Iterator[Here]:
    """The whole file, running and healthy."""
    place = Here(tmp_path, traces=collector.url, settings=SHORT)
    try:
        place.start_bus()
        for name in OURS:
            place.start(name)
        for name in OURS:
            place.until_healthy(name)
        yield place
    finally:
        place.stop()


@pytest.fixture
async def bus(here: Here) -> AsyncIterator[Bus]:
    """A client of that bus, with a person's key."""
    settings = Settings.read(nats_url=here.url, nkey_file=here.keys / "client" / "client.nk")
    found = await Bus.connect(settings, "test")
    yield found
    await found.close()


@pytest.mark.long
@pytest.mark.timeout(WITHIN_S + 60)
async def test_a_task_goes_through_the_services_of_the_compose_file(here: Here, bus: Bus, collector: Collector) -> None:
    """A bare event, a workspace as the containers see it, and the system stands in the workspace."""
    workspace = workspaces.churn(Path(here.translated("/workspaces/shop")))
    body = {"request": workspaces.REQUEST, "workspace": str(workspace), "accept_defaults": True}

    await bus.send(subjects.task_event("t1", "submitted", subjects.ML_ENGINEER), json.dumps(body).encode())
    final = await until(bus, "t1", FINAL, within_s=WITHIN_S)

    assert isinstance(final.body, Completed), final.body
    assert [path.name for path in (workspace / "ml").glob("*/system.toml")] == ["system.toml"]
    assert collector.paths == {"/v1/traces"}
    assert json.loads(here.told("monitor", "doctor"))["healthy"]
    assert json.loads(here.told("operator", "dead", "list"))["letters"] == []
    assert [line for line in here.log("nats").splitlines() if "iolation" in line] == []


def test_every_container_stops_when_it_is_told_to(here: Here) -> None:
    """`docker compose down` sends SIGTERM: each service comes to rest and says that all is well."""
    codes = here.stop()

    assert {name: codes[name] for name in OURS} == dict.fromkeys(OURS, 0)
