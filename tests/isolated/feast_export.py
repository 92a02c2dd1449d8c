"""`export feast` against a real Feast: `python -m tests.isolated feast_export`.

Feast and all that it drags along lie in an environment of their own. There the repository that the engine wrote
without it is applied, materialised, and asked for every entity's newest row, which must be the row of the data.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.blueprint.made_tables import engine, write_csv
from tests.environments import Environment, environment
from tests.isolated.saying import say

_HERE: Final = Path(__file__).parent
_ENTITIES: Final = 25
_SPEC: Final = """format = 1
name = "shop-orders"
[task]
kind = "binary"
target = "returned"
[data]
source = ["orders.csv"]
time = "placed"
entity = "Customer No"
[derive]
growth = "amount / max(visits, 1)"
[search]
budget = "5s"
families = ["linear"]
[gates]
beats_trivial = false
"""
_ASK: Final = """
import json, sys
from datetime import datetime, timezone
from feast import FeatureStore
import pandas as pd

given = json.loads(sys.stdin.read())
store = FeatureStore(".")
service = store.get_feature_service("shop_orders")
rows = [{given["entity"]: key} for key in given["keys"]]
online = store.get_online_features(features=service, entity_rows=rows).to_dict()
frame = pd.DataFrame({given["entity"]: given["keys"], "event_timestamp": pd.to_datetime(given["moments"], utc=True)})
history = store.get_historical_features(entity_df=frame, features=service).to_df()
history = json.loads(history.drop(columns=["event_timestamp"]).to_json(orient="records"))
print(json.dumps({"online": online, "history": history}))
"""


def run(_arguments: Sequence[str]) -> int:
    """Export, apply, materialise and ask; return 0 if Feast gives the rows of the data."""
    guest = environment(_HERE / "peers" / "feast.txt")
    say(f"feast {guest.versions['feast']}, {guest.size_mb:.0f} MB")
    with tempfile.TemporaryDirectory(prefix="feast-export-") as scratch:
        root = Path(scratch)
        newest = _make_system(root)
        told = _engine(root, "export", "feast")
        place = Path(str(told["path"]))
        say(f"{told['rows']} rows, {len(told['features'])} features, entity {told['entity']!r}")
        for words in (("apply",), ("materialize", "2000-01-01T00:00:00", "2100-01-01T00:00:00")):
            _feast(guest, place, *words)
            say(f"feast {words[0]}")
        answers = _ask(guest, place, str(told["entity"]), newest)
        failures = _compared(newest, answers, list(told["features"]))
    for failure in failures:
        say(f"FAILED {failure}")
    say(f"{len(newest)} entities, online and at a time: ok" if not failures else f"{len(failures)} failures")
    return int(bool(failures))


def _make_system(root: Path) -> dict[str, dict[str, Any]]:
    """Train on orders with gaps and odd names, package and promote; return the newest row of every customer."""
    chance, count = np.random.default_rng(2), 400
    amount = chance.lognormal(3, 1, count).round(2)
    columns: dict[str, list[Any]] = {
        "Customer No": [f"C{number}" for number in chance.integers(0, _ENTITIES, count)],
        "placed": [f"{np.datetime64('2024-01-01T00:00:00') + 7919 * place}" for place in range(count)],
        "amount": [None if place % 9 == 0 else float(value) for place, value in enumerate(amount)],
        "visits": [
            None if place % 11 == 0 else int(value) for place, value in enumerate(chance.integers(0, 30, count))
        ],
        "Pay By": [("card", "cash", None)[place % 3] for place in range(count)],
        "joined": [f"20{10 + place % 9}-0{1 + place % 9}-11" for place in range(count)],
        "returned": np.where(chance.random(count) < 0.3, "yes", "no").tolist(),
    }
    write_csv(root / "orders.csv", columns)
    (root / "system.toml").write_text(_SPEC)
    for words in (("validate",), ("train",), ("evaluate", "--latency-seconds", "0.5"), ("package",), ("promote",)):
        _engine(root, *words)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {str(row["Customer No"]): row for row in rows}


def _engine(root: Path, *words: str) -> dict[str, Any]:
    done = engine(*words, "--json", cwd=root)
    if done.code != 0:
        raise SystemExit(f"mlsystem {' '.join(words)} failed: {done.out}{done.err}")
    return done.result


def _feast(guest: Environment, place: Path, *words: str) -> None:
    command = [str(guest.python.with_name("feast")), *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, env=_silent())
    if done.returncode != 0:
        raise SystemExit(f"feast {words[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _ask(guest: Environment, place: Path, entity: str, newest: dict[str, dict[str, Any]]) -> dict[str, Any]:
    given = {"entity": entity, "keys": list(newest), "moments": [row["placed"] for row in newest.values()]}
    command = [str(guest.python), "-W", "ignore", "-c", _ASK]
    done = subprocess.run(
        command, cwd=place, input=json.dumps(given), capture_output=True, text=True, check=False, env=_silent()
    )
    if done.returncode != 0:
        raise SystemExit(f"Feast did not answer: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _silent() -> dict[str, str]:
    """Return an environment in which Feast tells nobody that it runs, and writes nothing at home."""
    return {"FEAST_USAGE": "False", "PATH": "/usr/bin:/bin", "HOME": tempfile.gettempdir(), "TZ": "UTC"}


def _compared(newest: dict[str, dict[str, Any]], answers: dict[str, Any], features: list[str]) -> list[str]:
    """Return what differs from the data, online and in a join at the time of the row itself."""
    failures: list[str] = []
    history = {row["Customer No"]: row for row in answers["history"]}
    for place, (customer, row) in enumerate(newest.items()):
        expected = {name: row[name] for name in features}
        online = {name: answers["online"][name][place] for name in features}
        at_the_time = {name: history[customer][name] for name in features}
        failures += [f"{customer} online: {online} is not {expected}"] * (online != expected)
        failures += [f"{customer} at the time: {at_the_time} is not {expected}"] * (at_the_time != expected)
    return failures
