"""Two servers that share a registry in a bucket and a state in PostgreSQL, as behind a load balancer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from mlsystem.registry import Registry
from mlsystem.serving.process import Listening, serving
from mlsystem.spec import REGISTRY_VARIABLE, STATE_VARIABLE
from mlsystem.state import Outcome, Recorded, State, open_state
from tests.blueprint.asking import get, metric, predict
from tests.blueprint.small_system import NAME, NOTE, ROW, make_system, register
from tests.postgres import Cluster, discard, new_cluster
from tests.s3 import fresh_bucket

pytestmark = pytest.mark.long

PATIENCE_S = 30.0
DROPPED = 'mlsystem_captures_dropped_total{reason="state"}'


@pytest.fixture
def database() -> Generator[Cluster]:
    made = new_cluster()
    try:
        yield made
    finally:
        discard(made)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def captured(state: State) -> set[str]:
    return {joined.captured.id for joined in state.captures(since=0, until=1e12)}


def test_replicas_share_one_truth_and_go_on_answering_while_their_database_is_away(
    tmp_path: Path, database: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both follow one promotion and one rollback; an outcome joins whichever server predicted; nothing waits."""
    bucket = fresh_bucket()
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    make_system(tmp_path)
    registry = Registry.open(bucket.url, tmp_path)
    registry.promote(register(registry, 0.0), NOTE)
    register(registry, 1.0)
    places = {REGISTRY_VARIABLE: bucket.url, STATE_VARIABLE: database.url()}
    state = open_state(database.url(), tmp_path, system=NAME)
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(tmp_path, environment=places)) for _ in range(2)]
        ids = {asked(server) for server in servers}
        wait_until(lambda: captured(state) == ids)
        assert state.record([Outcome("Yes", 9.0, id=name) for name in sorted(ids)]) == Recorded(2, 0, 0)
        registry.promote(2, NOTE)
        wait_until(lambda: versions(servers) == [2, 2])
        database.stop("immediate")
        for server in servers:
            asked(server)
        wait_until(lambda: [health(server) for server in servers] == ["degraded", "degraded"])
        registry.rollback(None, NOTE)
        wait_until(lambda: versions(servers) == [1, 1])
        database.start()
        wait_until(lambda: [health(server) for server in servers] == ["ok", "ok"])
        after = {asked(server) for server in servers}
        wait_until(lambda: captured(state) >= ids | after)
        assert all(metric(server.url, DROPPED) >= 1 for server in servers)
    assert not (tmp_path / "state").exists()
    state.close()


def asked(server: Listening) -> str:
    return predict(server.url, ROW).json["predictions"][0]["id"]


def versions(servers: list[Listening]) -> list[int]:
    return [predict(server.url, ROW).json["model"]["version"] for server in servers]


def health(server: Listening) -> str:
    return get(server.url, "/healthz").json["status"]
