"""Online rows: a caller names an entity, and what it does not send comes from the newest row of the data."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest

from mlsystem.compile.model import Model as NativeModel
from mlsystem.data.command import validate
from mlsystem.data.dataset import load
from mlsystem.errors import DataError, RegistryError, StateError
from mlsystem.export.feast import ROWS, repository_of, write_repository
from mlsystem.materialize import materialize
from mlsystem.online import TABLE
from mlsystem.online.fill import Filler, Needs
from mlsystem.online.redis import with_redis
from mlsystem.output import Reporter
from mlsystem.registry import Note, registry_of
from mlsystem.serving.model import Model
from mlsystem.serving.package import Package
from mlsystem.serving.process import Listening, serving
from mlsystem.spec import SPEC_FILE
from mlsystem.stages import Workspace, stage_dir
from mlsystem.state import OnlineRow, State, open_state, state_of
from mlsystem.train.command import train
from tests.blueprint.asking import Answer, ask, get, predict
from tests.blueprint.made_tables import write_csv
from tests.blueprint.small_system import NOTE
from tests.postgres import fresh_database
from tests.tools import tool

SPEC = """format = 1
name = "orders"
[task]
kind = "binary"
target = "returned"
[data]
source = ["orders.csv"]
time = "placed"
entity = "customer"
query = '''
SELECT customer, placed, plan, amount, returned, first_value(placed) OVER w AS joined,
  lag(amount) OVER w AS amount_before,
  avg(amount) OVER (w ROWS BETWEEN 5 PRECEDING AND 1 PRECEDING) AS mean_before
FROM orders WINDOW w AS (PARTITION BY customer ORDER BY placed, amount)'''
[derive]
growth = "amount / amount_before"
age = "days(joined, placed)"
[search]
budget = "10s"
families = ["linear"]
"""
DAY_S = 86_400.0
NEWEST = np.datetime64("2024-07-18")


def orders(rows: int = 500) -> dict[str, list[Any]]:
    """Return orders of forty customers in the year 2024, the last of them on NEWEST."""
    chance = np.random.default_rng(8)
    days = [*np.sort(chance.integers(0, 199, rows - 1)).tolist(), 199]
    amount = chance.lognormal(3, 1, rows).round(2)
    return {
        "customer": [f"C{number}" for number in chance.integers(0, 40, rows)],
        "placed": [str(np.datetime64("2024-01-01") + int(day)) for day in days],
        "plan": chance.choice(["basic", "plus"], rows).tolist(),
        "amount": amount.tolist(),
        "returned": np.where(chance.random(rows) < 0.2 + 0.4 * (amount > 25), "yes", "no").tolist(),
    }


@dataclass(frozen=True)
class Served:
    """A trained system with online rows, its model, and a server of it."""

    workspace: Workspace
    model: Model
    server: Listening
    told: Mapping[str, Any]

    def ask(self, *rows: Mapping[str, Any]) -> Answer:
        return predict(self.server.url, *rows)

    def offline(self) -> dict[str, dict[str, Any]]:
        """Return the newest row of every customer as the data have it."""
        dataset = load(self.workspace, str(validate(self.workspace)["digest"]))
        order = np.argsort(np.asarray(dataset.time), kind="stable")
        return {str(row["customer"]): dict(row) for row in dataset.records(order)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    root = tmp_path_factory.mktemp("orders")
    (root / SPEC_FILE).write_text(SPEC)
    write_csv(root / "orders.csv", orders())
    workspace = Workspace.open(root, Reporter("json"))
    validated = stage_dir(workspace, "validate", str(validate(workspace)["digest"]))
    trained = stage_dir(workspace, "train", str(train(workspace)["digest"]))
    with pytest.raises(RegistryError, match="no version is registered"):
        materialize(workspace)
    files = {
        "model.onnx": (trained / "model.onnx").read_bytes(),
        "schema.json": (validated / "schema.json").read_bytes(),
        SPEC_FILE: (root / SPEC_FILE).read_bytes(),
    }
    registry = registry_of(workspace)
    registry.register(files, "digest", Note("a test", "to see it", {"servable": True}))
    registry.promote(1, NOTE)
    told = materialize(workspace)
    model = Model(Package.stored(registry, 1), name="orders")
    with serving(root) as server:
        yield Served(workspace, model, server, told)


def test_materialising_tells_what_was_written(served: Served) -> None:
    seconds = float(np.datetime64(str(NEWEST), "s").astype(np.int64))
    kept = {
        name: served.told[name] for name in ("rows", "entities", "written", "watermark", "stale", "version", "ttl_s")
    }
    assert kept == {
        "rows": 500,
        "entities": len(served.offline()),
        "written": len(served.offline()),
        "watermark": seconds,
        "stale": True,
        "version": 1,
        "ttl_s": 7 * DAY_S,
    }
    assert served.told["columns"] == ["amount", "amount_before", "joined", "mean_before", "placed", "plan"]


def test_a_row_answered_online_is_the_row_scored_offline(served: Served) -> None:
    """For every customer, history and derived features included: naming it is as good as sending its newest row."""
    offline = served.offline()
    online = served.ask(*({"customer": customer} for customer in offline)).json["predictions"]
    scored = served.model.answer(list(offline.values()), strict=False).predictions
    assert [found["probabilities"] for found in online] == [found.probabilities for found in scored]


@pytest.mark.parametrize("media", ["text/csv", "application/jsonl"])
def test_the_rows_of_a_batch_are_completed_like_those_of_a_request(served: Served, media: str) -> None:
    """Whom they are about is enough; somebody unknown is told in their line."""
    offline = served.offline()
    names = [*offline, "nobody"]
    text = "customer\n" + "\n".join(names) if "csv" in media else "\n".join(json.dumps({"customer": n}) for n in names)
    told = ask(
        served.server.url, "POST", "/batch", text.encode(), {"Content-Type": media, "Accept": "application/jsonl"}
    )
    found = [json.loads(line) for line in told.body.splitlines()]
    scored = served.model.answer(list(offline.values()), strict=False).predictions
    assert [line.get("probabilities") for line in found] == [*(line.probabilities for line in scored), None]
    assert "unknown entity" in found[-1]["error"]


def test_the_age_of_an_account_is_reckoned_at_the_time_of_the_row(served: Served) -> None:
    """`days(joined, placed)` is a feature, the moment itself none: same age, other year, same answer."""
    age = next(item for item in native(served).features.derivation.features if item.name == "age")
    assert age.node.type == "number"
    row = next(iter(served.offline().values()))
    moved = {"joined": "2023-03-06", "placed": "2023-03-13"}, {"joined": "2017-03-06", "placed": "2017-03-13"}
    first, second = (served.model.answer([{**row, **days}], strict=False).predictions[0] for days in moved)
    older = served.model.answer([{**row, **moved[0], "joined": "2021-03-01"}], strict=False).predictions[0]
    assert first.probabilities == second.probabilities != older.probabilities


def native(served: Served) -> NativeModel:
    trained = stage_dir(served.workspace, "train", str(train(served.workspace)["digest"]))
    return msgspec.json.decode((trained / "native.json").read_bytes(), type=NativeModel)


def test_what_the_caller_sends_wins_and_null_stays_missing(served: Served) -> None:
    customer, row = next(iter(served.offline().items()))
    part = {"customer": customer, "amount": 999.0, "amount_before": None}
    (found,) = served.ask(part).json["predictions"]
    (whole,) = served.model.answer([{**row, **part}], strict=False).predictions
    assert found["probabilities"] == whole.probabilities
    assert found["probabilities"] != served.model.answer([row], strict=False).predictions[0].probabilities


def test_an_explanation_completes_rows_too(served: Served) -> None:
    """Reasons are about the values that the answer stands on, wherever they came from."""
    customer, row = next(iter(served.offline().items()))
    given = {name: row[name] or None for name in served.model.boundary.required}
    bodies = [json.dumps({"rows": [one]}).encode() for one in ({"customer": customer}, given)]
    asked = [ask(served.server.url, "POST", "/explain", body).json for body in bodies]
    assert [told["explanations"][0]["score"] for told in asked] == [asked[1]["explanations"][0]["score"]] * 2
    assert [warning["kind"] for warning in asked[0]["warnings"]] == ["stale_state"]


def test_stale_rows_are_answered_with_a_warning(served: Served) -> None:
    """The data end in 2024, and `monitoring.freshness` is a week: columns that were filled are named, rows counted."""
    first, second, *_ = served.offline()
    asked = served.ask({"customer": first, "amount": 10.0}, {"customer": second, "plan": "plus"}, {"customer": first})
    assert asked.json["warnings"] == [
        {
            "kind": "stale_state",
            "columns": ["amount_before", "joined", "mean_before", "placed", "plan", "amount"],
            "count": 3,
        }
    ]


def test_the_api_says_that_rows_may_be_partial(served: Served) -> None:
    row = get(served.server.url, "/openapi.json").json["components"]["schemas"]["Row"]
    assert row["anyOf"] == [{"required": list(served.model.boundary.required)}, {"required": ["customer"]}]


def test_whole_rows_are_not_looked_up(served: Served) -> None:
    """A row that has every column is taken as it is, whoever it is about."""
    row = next(iter(served.offline().values()))
    answer = served.ask({**row, "customer": "nobody"})
    assert (answer.status, "warnings" in answer.json) == (200, False)


def test_an_unknown_entity_is_refused_with_what_to_do(served: Served) -> None:
    known = next(iter(served.offline()))
    answer = served.ask({"customer": known}, {"customer": "nobody", "amount": 1})
    assert answer.status == 422
    assert answer.error["details"] == [
        {
            "row": 1,
            "column": "customer",
            "reason": "unknown entity: there is no online row for it; send all columns, or run `materialize`",
            "got": "nobody",
        }
    ]


def test_a_partial_row_about_nobody_lacks_its_columns(served: Served) -> None:
    answer = served.ask({"amount": 1.0, "plan": "plus"})
    assert (answer.status, {detail["column"] for detail in answer.error["details"]}) == (
        422,
        {"amount_before", "joined", "mean_before", "placed"},
    )


def test_newer_data_replace_online_rows(served: Served, tmp_path: Path) -> None:
    """Outcome known or not, for new customers too; the contract in git stays, and older data change nothing."""
    workspace = Workspace.open(Path(shutil.copytree(served.workspace.root, tmp_path / "copy")), Reporter("json"))
    columns = orders()
    day = str(NEWEST + 1)
    for customer, amount in (("C1", 5.0), ("new", 6.0)):
        for name, value in (("customer", customer), ("placed", day), ("plan", "plus"), ("amount", amount)):
            columns[name].append(value)
        columns["returned"].append("")
    write_csv(workspace.root / "orders.csv", columns)
    told = materialize(workspace)
    moment = float(np.datetime64(day, "s").astype(np.int64))
    assert (told["rows"], told["entities"], told["watermark"]) == (502, len(served.offline()) + 1, moment)
    assert (workspace.root / "schema.json").read_bytes() == (served.workspace.root / "schema.json").read_bytes()
    write_csv(workspace.root / "orders.csv", orders())
    materialize(workspace)
    state = state_of(workspace)
    (found,) = Filler(state, ttl_s=7 * DAY_S, clock=lambda: moment).fill([{"customer": "new"}], served.model.needs).rows
    state.close()
    row = {"placed": day, "plan": "plus", "amount": 6, "joined": day, "amount_before": None, "mean_before": None}
    assert found == {**row, "customer": "new"}


def test_a_system_without_entities_has_nothing_to_materialise(served: Served, tmp_path: Path) -> None:
    (tmp_path / SPEC_FILE).write_text(SPEC.replace('entity = "customer"\n', ""))
    write_csv(tmp_path / "orders.csv", orders())
    workspace = Workspace.open(tmp_path, Reporter("json"))
    files = dict(Package.stored(registry_of(served.workspace), 1).files)
    schema = msgspec.json.decode(files["schema.json"])
    for column in schema["columns"]:
        column["role"] = "id" if column["role"] == "entity" else column["role"]
    registry_of(workspace).register(files | {"schema.json": msgspec.json.encode(schema)}, "digest", NOTE)
    with pytest.raises(DataError, match=r"name the column in data\.entity"):
        materialize(workspace)


def test_a_feature_repository_has_the_rows_typed(served: Served, tmp_path: Path) -> None:
    """What Feast is given without Feast being there; that it takes it is the check `tests.isolated feast_export`."""
    dataset = load(served.workspace, str(validate(served.workspace)["digest"]))
    repository = repository_of(served.workspace.spec, 1, dataset.schema)
    write_repository(tmp_path, repository, dataset, made_at=0.0)
    described = duckdb.execute("DESCRIBE FROM read_parquet(?)", [str(tmp_path / ROWS)]).fetchall()
    assert {name: kind for name, kind, *_ in described} == {
        "customer": "VARCHAR",
        "event_timestamp": "TIMESTAMP",
        "placed": "VARCHAR",
        "joined": "VARCHAR",
        "plan": "VARCHAR",
        "amount": "DOUBLE",
        "amount_before": "DOUBLE",
        "mean_before": "DOUBLE",
    }
    counted = "SELECT count(*), count(amount_before), sum(amount), max(event_timestamp) FROM read_parquet(?)"
    rows, known, amount, newest = duckdb.execute(counted, [str(tmp_path / ROWS)]).fetchall()[0]
    assert (rows, known, str(newest)[:10]) == (500, 500 - len(served.offline()), str(NEWEST))
    assert amount == pytest.approx(sum(orders()["amount"]))
    compile((tmp_path / "definitions.py").read_text(), "definitions.py", "exec")


# The rule, over every store -------------------------------------------------------------------------------------

NEEDS = Needs("customer", frozenset({"a", "b"}))


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A Redis of the tests' own on a socket of its own."""
    place = tmp_path_factory.mktemp("redis") / "s"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(place),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(place.parent),
    ]
    server = subprocess.Popen([tool("redis-server"), *options], stdout=subprocess.PIPE)
    for line in server.stdout or ():
        if b"accept connections" in line:
            break
    yield f"unix://{place}?password=secret-of-the-test"
    server.terminate()
    server.communicate()


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[State]:
    store = open_state(fresh_database() if request.param == "postgresql" else "sqlite:state.db", tmp_path)
    if request.param == "redis":
        store = with_redis(store, request.getfixturevalue("redis_url"), tmp_path.name)
    yield store
    store.close()


def test_rows_are_completed_from_every_store(state: State) -> None:
    """One look-up for all partial rows of a request; entities are known by their canonical text."""
    state.put_rows(TABLE, [OnlineRow("7", {"a": 1.5, "b": "x"}, 100.0), OnlineRow("8", {"a": None, "b": "y"}, 90.0)])
    filler = Filler(state, ttl_s=5.0, clock=lambda: 100.0)
    rows = [{"customer": 7.0, "b": None}, {"customer": "8"}, {"a": 1, "b": 2}, {"customer": "9", "a": 1}, {"a": 1}]
    filled = filler.fill(rows, NEEDS)
    assert filled.rows == [
        {"a": 1.5, "b": None, "customer": 7.0},
        {"a": None, "b": "y", "customer": "8"},
        {"a": 1, "b": 2},
        {"customer": "9", "a": 1},
        {"a": 1},
    ]
    assert [(problem.row, problem.got) for problem in filled.problems] == [(3, "9")]
    assert [(w.kind, w.columns, w.count) for w in filled.warnings] == [("stale_state", ("a", "b"), 1)]


def test_an_older_row_does_not_replace_a_newer_one_and_an_entity_can_be_erased(state: State) -> None:
    new, old = OnlineRow("7", {"a": 1}, 100.5), OnlineRow("7", {"a": 2}, 100.25)
    assert (state.put_rows(TABLE, [new]), state.put_rows(TABLE, [old, OnlineRow("8", {}, 0.0)])) == (1, 1)
    assert state.rows(TABLE, ["8", "9", "7"]) == [OnlineRow("8", {}, 0.0), None, new]
    assert state.erase("7").rows == 1
    assert state.rows(TABLE, ["7"]) == [None]


def test_a_redis_that_is_gone_is_told_without_its_url(tmp_path: Path) -> None:
    """Callers of whole rows are answered all the same; a partial row is a 503, and the secret stays one."""
    store = with_redis(open_state("sqlite:state.db", tmp_path), f"unix://{tmp_path}/nobody?password=secret", "made")
    with pytest.raises(StateError) as caught:
        Filler(store, ttl_s=5.0).fill([{"customer": "7"}], NEEDS)
    store.close()
    assert (caught.value.code, "secret" in caught.value.message) == ("online_unavailable", False)


def test_before_anything_was_materialised_rows_stay_as_they_are(state: State) -> None:
    rows = [{"customer": "7"}]
    assert Filler(state, ttl_s=5.0).fill(rows, NEEDS).rows is rows


def test_whole_rows_cost_next_to_nothing() -> None:
    """The check on the way of every request compares names: no store, far below what a prediction takes."""
    needs = Needs("customer", frozenset(f"c{i}" for i in range(20)))
    row = dict.fromkeys([*needs.required, "customer"], 1.0)
    began = time.process_time()
    for _ in range(10_000):
        assert not needs.partial(row)
    assert (time.process_time() - began) / 10_000 < 20e-6


def test_online_rows_of_a_workspace_lie_in_its_state(served: Served) -> None:
    store = state_of(served.workspace)
    (found,) = store.rows(TABLE, ["C1"])
    store.close()
    assert found is not None
    assert set(found.values) == {"amount", "amount_before", "joined", "mean_before", "placed", "plan"}
