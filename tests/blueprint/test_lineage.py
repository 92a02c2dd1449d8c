"""Lineage: the OpenLineage events of a package, from the source to the registered version."""

from __future__ import annotations

import http.server
import threading
import uuid
from argparse import Namespace
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from mlsystem.data.origin import Input
from mlsystem.data.snapshot import Kept, Snapshot
from mlsystem.errors import MlsystemError
from mlsystem.export.command import export
from mlsystem.export.lineage import Facts, StageRun, events
from mlsystem.registry import registry_of
from mlsystem.stages import Run
from mlsystem.versions import read_version
from tests.blueprint.made_versions import opened, two_versions
from tests.blueprint.small_system import SCHEMA

pytestmark = pytest.mark.long

STAGES = ("validate", "train", "evaluate", "package")
START = datetime(2026, 1, 1, tzinfo=UTC)
FILE = Input("rows.csv", "a" * 64, 10)
DATABASE = Input("env:SHOP", "b" * 64, database="postgresql://***/shop")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions(tmp_path_factory.mktemp("lineage"))


def facts(*sources: Input, query: str = "") -> Facts:
    runs = [StageRun(name, f"{name}-digest", Run(START, START + timedelta(seconds=5))) for name in STAGES]
    snapshot = Snapshot("s" * 64, 40, "", (Kept("rows.csv", "s" * 64, 10),))
    return Facts("small", SCHEMA, query, sources, snapshot, "m" * 64, "p" * 64, runs)


def completed(made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["job"]["name"]: event for event in made if event["eventType"] == "COMPLETE"}


def facets_in(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every facet at any depth."""
    if isinstance(node, dict):
        for key, value in cast("dict[str, Any]", node).items():
            if key in {"facets", "outputFacets"}:
                yield from value.values()
            yield from facets_in(value)
    elif isinstance(node, list):
        for item in cast("list[Any]", node):
            yield from facets_in(item)


def test_every_stage_is_one_run_with_a_start_and_an_end() -> None:
    """Both events of a run have one id, a UUID, and everything that an event must have."""
    made = events(facts(FILE))
    assert [(event["job"]["name"], event["eventType"]) for event in made] == [
        (name, kind) for name in STAGES for kind in ("START", "COMPLETE")
    ]
    ids = [event["run"]["runId"] for event in made]
    assert ids[::2] == ids[1::2]
    assert len({uuid.UUID(text) for text in ids}) == 4
    for event in made:
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert event["schemaURL"].endswith("OpenLineage.json#/$defs/RunEvent")


def test_every_facet_names_its_producer_and_its_schema() -> None:
    found = list(facets_in(events(facts(FILE, DATABASE, query="SELECT 1"))))
    assert len(found) > 30
    for facet in found:
        assert facet["_producer"].startswith("urn:mlsystem:engine:")
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")


def test_stages_read_what_the_stages_before_them_made() -> None:
    stages = completed(events(facts(FILE)))
    reads = {name: [item["name"] for item in stages[name]["inputs"]] for name in STAGES}
    makes = {name: [item["name"] for item in stages[name]["outputs"]] for name in STAGES}
    assert reads == {
        "validate": ["rows.csv"],
        "train": ["snapshot"],
        "evaluate": ["snapshot", "model"],
        "package": ["model", "metrics"],
    }
    assert makes == {"validate": ["snapshot"], "train": ["model"], "evaluate": ["metrics"], "package": ["package"]}


def test_columns_of_files_are_taken_over_and_answers_come_from_features() -> None:
    stages = completed(events(facts(FILE)))
    (snapshot,), (model,) = stages["validate"]["outputs"], stages["train"]["outputs"]
    tenure = snapshot["facets"]["columnLineage"]["fields"]["tenure"]["inputFields"]
    assert [(item["namespace"], item["name"], item["field"], item["transformations"]) for item in tenure] == [
        ("file", "rows.csv", "tenure", [{"type": "DIRECT", "subtype": "IDENTITY"}])
    ]
    answers = model["facets"]["columnLineage"]["fields"]
    assert list(answers) == ["prediction", "probability of No", "probability of Yes"]
    assert [(item["field"], item["transformations"][0]["type"]) for item in answers["prediction"]["inputFields"]] == [
        ("tenure", "DIRECT"),
        ("charges", "DIRECT"),
        ("plan", "DIRECT"),
        ("joined", "DIRECT"),
        ("left", "INDIRECT"),
    ]


def test_what_a_query_does_to_columns_is_not_guessed_and_a_database_stays_a_secret() -> None:
    stage = completed(events(facts(DATABASE, query="SELECT * FROM clients")))["validate"]
    (source,), (snapshot,) = stage["inputs"], stage["outputs"]
    assert (source["namespace"], source["name"], source["facets"]["dataSource"]["uri"]) == (
        "env:SHOP",
        "shop",
        "postgresql://***/shop",
    )
    assert ("columnLineage" in snapshot["facets"], "schema" in source["facets"]) == (False, False)
    assert stage["job"]["facets"]["sql"]["query"] == "SELECT * FROM clients"


def test_a_package_has_the_lineage_of_its_own_run(system: Path) -> None:
    version = read_version(registry_of(opened(system)), 1)
    stages = completed(msgspec.json.decode(version.files["lineage.json"], type=list[dict[str, Any]]))
    datasets = {name: stages[name]["outputs"][0]["facets"]["version"]["datasetVersion"] for name in STAGES}
    times = [stages[name]["eventTime"] for name in STAGES]
    assert (datasets["validate"], datasets["package"], times) == (
        version.snapshot.digest,
        version.entry.digest,
        sorted(times),
    )


def test_lineage_is_exported_as_a_document(system: Path) -> None:
    """Of the live version, if none is named."""
    told = export(opened(system), Namespace(form="lineage", version=None, to=""))
    written = (system / "docs" / "lineage.json").read_bytes()
    assert (told["version"], told["events"]) == (1, 8)
    assert written == read_version(registry_of(opened(system)), 1).files["lineage.json"]


@pytest.fixture
def catalogue() -> Generator[tuple[str, list[Any]]]:
    """A server that keeps what is posted to it, and refuses what goes to /full."""
    received: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(msgspec.json.decode(body))
            self.send_response(507 if self.path == "/full" else 201)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_are_sent_to_a_catalogue_one_by_one(system: Path, catalogue: tuple[str, list[Any]]) -> None:
    url, received = catalogue
    export(opened(system), Namespace(form="lineage", version=1, to=f"{url}/api/v1/lineage"))
    assert received == msgspec.json.decode(read_version(registry_of(opened(system)), 1).files["lineage.json"])
    with pytest.raises(MlsystemError, match=r"127\.0\.0\.1/full answered 507"):
        export(opened(system), Namespace(form="lineage", version=1, to=f"{url}/full"))
