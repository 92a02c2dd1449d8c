"""Point-in-time joins: what a query takes from the future is found by taking the future away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsystem.data.command import validate
from mlsystem.data.joins import unchecked
from mlsystem.output import Reporter
from mlsystem.stages import Workspace
from tests.blueprint.made_tables import write_csv

SPEC = """format = 1
name = "made"
[task]
kind = "binary"
target = "returned"
[data]
source = ["orders.csv", "scores.csv"]
time = "{time}"
entity = "customer"
query = '''{query}'''
{more}
"""

ASOF = """SELECT o.customer, o.seen, o.amount, s.score, o.returned
FROM orders o ASOF LEFT JOIN scores s ON o.customer = s.customer AND o.seen >= s.seen"""

LATEST = """SELECT o.customer, o.seen, o.amount, s.score, o.returned FROM orders o
LEFT JOIN (SELECT customer, arg_max(score, seen) AS score FROM scores GROUP BY customer) s USING (customer)"""

HISTORY = """SELECT customer, seen, amount, returned,
  lag(amount) OVER w AS amount_before,
  avg(amount) OVER (w ROWS BETWEEN 5 PRECEDING AND 1 PRECEDING) AS mean_before
FROM orders WINDOW w AS (PARTITION BY customer ORDER BY seen, amount)"""

AHEAD = HISTORY.replace("lag(amount)", "lead(amount)")
COMES_BACK = """SELECT customer, seen, amount,
  CASE WHEN lead(seen) OVER w < seen + INTERVAL 5 DAY THEN 'yes' ELSE 'no' END AS returned
FROM orders WINDOW w AS (PARTITION BY customer ORDER BY seen)"""
OF_THE_DAY = """SELECT o.customer, o.seen, o.amount, o.returned, (SELECT arg_max(score, s.seen) FROM scores s
  WHERE s.customer = o.customer AND CAST(s.seen AS DATE) <= o.seen) AS score
FROM orders o"""
OVER_ALL = """SELECT customer, seen, amount, returned, amount / avg(amount) OVER () AS share
FROM orders"""
INNER = LATEST.replace("LEFT JOIN", "JOIN")


def tables(root: Path, *, days: bool = False) -> None:
    """Write 300 orders and the scores that customers got from time to time; with `days` of few, known by the day."""
    chance, people = np.random.default_rng(4), 2 if days else 40
    start = np.datetime64("2024-01-01T00:00:00")
    placed = np.sort(chance.integers(0, 200 * 86_400, 300))
    customers = chance.integers(0, people, 300)
    moments = [str(start + np.timedelta64(int(second), "s")) for second in placed]
    amounts = chance.lognormal(3, 1, 300).round(2).tolist()
    orders: dict[str, list[Any]] = {
        "customer": [f"C{number}" for number in customers],
        "seen": [moment[:10] for moment in moments] if days else moments,
        "amount": amounts,
        "returned": np.where(chance.random(300) < 0.3, "yes", "no").tolist(),
    }
    scored = chance.integers(0, 200 * 86_400, 450)
    scores: dict[str, list[Any]] = {
        "customer": [f"C{number}" for number in chance.integers(0, people, 450)],
        "seen": [str(start + np.timedelta64(int(second), "s")) for second in scored],
        "score": chance.normal(0, 1, 450).round(3).tolist(),
    }
    write_csv(root / "orders.csv", orders)
    write_csv(root / "scores.csv", scores)


def findings(root: Path, query: str, *, time: str = "seen", more: str = "") -> list[dict[str, Any]]:
    """Return what `validate` finds about late columns."""
    (root / "system.toml").write_text(SPEC.format(query=query, time=time, more=more))
    found: Any = validate(Workspace.open(root, Reporter("json")))["findings"]
    return [finding for finding in found if finding["kind"] in {"leak_late", "maybe_late"}]


@pytest.mark.parametrize("query", [ASOF, HISTORY], ids=["asof", "history"])
def test_what_was_known_at_the_time_passes(query: str, tmp_path: Path) -> None:
    """An ASOF join and window functions over earlier rows do not change when the future is taken away."""
    tables(tmp_path)
    assert findings(tmp_path, query) == []


@pytest.mark.parametrize(
    ("query", "column", "table"),
    [
        (LATEST, "score", "scores"),
        (INNER, "score", "scores"),
        (AHEAD, "amount_before", "orders"),
        (OVER_ALL, "share", "orders"),
    ],
    ids=["latest", "inner", "ahead", "over all"],
)
def test_a_join_with_the_future_is_found_and_its_column_left_out(
    query: str, column: str, table: str, tmp_path: Path
) -> None:
    """Nothing but the column that leaks is dropped; the finding says from where and what to do."""
    tables(tmp_path)
    (found,) = findings(tmp_path, query)
    assert (found["kind"], found["columns"], found["action"]) == ("leak_late", [column], "dropped")
    assert f"rows of {table} from after the row's own time ({table}.seen)" in found["text"]
    assert "ASOF JOIN" in found["text"]
    schema: Any = Workspace.open(tmp_path, Reporter("json")).root.joinpath("schema.json").read_text()
    assert '"role": "leak"' in schema


def test_a_person_may_keep_what_was_found(tmp_path: Path) -> None:
    tables(tmp_path)
    (found,) = findings(tmp_path, LATEST, more='[columns]\nscore = { role = "feature", why = "it never changes" }')
    assert (found["kind"], found["action"]) == ("leak_late", "kept")


def test_the_target_may_come_from_the_future(tmp_path: Path) -> None:
    """Whether a customer comes back is known later; that is what is predicted."""
    tables(tmp_path)
    assert findings(tmp_path, COMES_BACK) == []


def test_the_same_day_is_asked_about(tmp_path: Path) -> None:
    """Rows known by the day may use the day; that some of it came later in the day is told."""
    tables(tmp_path, days=True)
    (found,) = findings(tmp_path, OF_THE_DAY)
    assert (found["kind"], found["columns"], found["action"]) == ("maybe_late", ["score"], "asked")
    assert findings(tmp_path, ASOF) == []


def test_one_of_many_dates_is_asked_about(tmp_path: Path) -> None:
    """Which of two dates says when a row was known, only a person knows."""
    tables(tmp_path)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    dated = [lines[0].replace("seen", "made") + ",born", *(f"{line},1970-01-01" for line in lines[1:])]
    (tmp_path / "scores.csv").write_text("\n".join(dated) + "\n")
    (found,) = findings(tmp_path, LATEST.replace("score, seen", "score, made"))
    assert (found["kind"], found["columns"], found["action"]) == ("leak_late", ["score"], "asked")
    assert "if made is when such a row was known, join by it" in found["text"]


def test_without_a_time_it_is_told_that_nothing_is_checked(tmp_path: Path) -> None:
    tables(tmp_path)
    (found,) = findings(tmp_path, LATEST, time="")
    assert (found["kind"], found["action"]) == ("maybe_late", "asked")
    assert "Set data.time" in found["text"]


def test_a_query_that_a_database_runs_is_told_to_be_unchecked(tmp_path: Path) -> None:
    """Its tables are not here; a query that neither joins nor looks over rows has nothing to hide."""
    workspace = Workspace.open(_spec_of(tmp_path, LATEST), Reporter("json"))
    assert [finding.kind for finding in unchecked(workspace.spec)] == ["maybe_late"]
    plain = Workspace.open(_spec_of(tmp_path, "SELECT * FROM orders WHERE amount > 0"), Reporter("json"))
    assert unchecked(plain.spec) == ()


def _spec_of(root: Path, query: str) -> Path:
    (root / "system.toml").write_text(SPEC.format(query=query, time="seen", more=""))
    return root
