"""Sources that are no single CSV: JSON lines, several files, a query over files, a query of a database."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pytest

from mlsystem.data import load, validate
from mlsystem.data.canonical import FILE, as_text, write_rows
from mlsystem.data.query import open_views
from mlsystem.data.reader import read_rows
from mlsystem.errors import DataError, StageMissing
from mlsystem.output import Reporter
from mlsystem.spec import ReaderOptions, examine
from mlsystem.stages import Workspace
from mlsystem.train.command import train_stage
from tests.blueprint.made_tables import churn, engine, write_csv
from tests.postgres import fresh_database

VARIABLE = "SHOP_DATABASE"
QUERY = 'SELECT customer, tenure, charge, plan, gone AS "left" FROM clients ORDER BY customer'


def texts(folder: Path, *names: str) -> dict[str, list[str]]:
    with read_rows(names, folder, ReaderOptions()) as rows:
        return {name: rows.column(name).tolist() for name in rows.names}


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in objects))
    return path


def system(root: Path, source: list[str], query: str = "", more: str = "") -> Workspace:
    root.mkdir(parents=True, exist_ok=True)
    data = f"source = {json.dumps(source)}\nquery = {json.dumps(query)}\n{more}"
    task = '[task]\nkind = "binary"\ntarget = "left"\n'
    (root / "system.toml").write_text(f'format = 1\nname = "shop"\n{task}[data]\n{data}')
    return Workspace.open(root, Reporter("json"))


def snapshot_of(workspace: Workspace) -> dict[str, Any]:
    return dict(validate(workspace))["snapshot"]  # type: ignore[return-value]


# ---- files


def test_lines_of_json_are_read_as_text_whatever_keys_each_has(tmp_path: Path) -> None:
    """A key comes where it is first seen; numbers, truth and what is nested keep their JSON, null is missing."""
    first = {"a": 1, "b": " x ", "c": None}
    second = {"a": 2.5, "d e": {"q": [1, 2]}, "b": True}
    lines(tmp_path / "rows.jsonl", first, second, {"b": "Zoë, y", "a": 12345678901234567890})
    assert texts(tmp_path, "rows.jsonl") == {
        "a": ["1", "2.5", "12345678901234567890"],
        "b": ["x", "true", "Zoë, y"],
        "c": ["", "", ""],
        "d e": ["", '{"q":[1,2]}', ""],
    }


def test_a_list_of_json_objects_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"a": 1, "b": 2},\n {"b": 3, "a": 4}]')
    assert texts(tmp_path, "rows.json") == {"a": ["1", "4"], "b": ["2", "3"]}


@pytest.mark.parametrize(
    ("content", "says"),
    [('{"a":1,"b":2}\n{"a":\n{"a":3,"b":4}\n', "line 2"), ('{"a":1,"b":2}\n[1,2]\n', "one object a line")],
)
def test_a_line_that_is_no_object_is_refused_with_its_place(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(DataError, match=says):
        texts(tmp_path, "rows.jsonl")


def test_files_of_several_kinds_and_orders_of_columns_are_one_source(tmp_path: Path) -> None:
    (tmp_path / "p1.csv").write_text("x;y\n1;2\n")
    lines(tmp_path / "p2.jsonl", {"y": 4, "x": 3})
    duckdb.execute(f"COPY (SELECT 6 AS y, 5 AS x) TO '{tmp_path / 'p3.parquet'}' (FORMAT parquet)")
    assert texts(tmp_path, "p*") == {"x": ["1", "3", "5"], "y": ["2", "4", "6"]}


def test_lines_of_json_are_validated_and_loaded(tmp_path: Path) -> None:
    """Their contract can be read again, and names in it whose parts are left out are told."""
    table = churn(120)
    told = zip(table["plan"], table["tenure"], table["left"], strict=True)
    rows = [{"who": {"plan": plan}, "tags": [plan], "tenure": tenure, "left": left} for plan, tenure, left in told]
    lines(tmp_path / "rows.jsonl", *rows)
    workspace = system(tmp_path, ["rows.jsonl"])
    result = validate(workspace)
    findings: Any = result["findings"]
    assert [finding["columns"] for finding in findings if finding["action"] == "dropped"] == [["who"], ["tags"]]
    assert load(workspace, str(result["digest"])).schema.reader.format == "jsonl"


def test_a_column_that_one_file_lacks_is_named_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "p1.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / "p2.csv").write_text("x,w,z\n3,4,5\n")
    with pytest.raises(DataError, match=r"p2\.csv has no column 'y'; p1\.csv has no column 'w'") as refused:
        texts(tmp_path, "p*.csv")
    assert refused.value.details == ({"file": "p2.csv", "missing": ["y"], "additional": ["w"]},)


# ---- a query over files


def shop(root: Path) -> Path:
    """Write customers with their visits: two tables that only a query brings together."""
    root.mkdir(parents=True, exist_ok=True)
    table = churn(120)
    write_csv(root / "customers.csv", {name: table[name] for name in ("customer", "tenure", "plan", "left")}, ";")
    visits = [
        {"customer": name, "at": f"2024-01-{day:02d} 10:00:00", "spent": f"{index}.50"}
        for index, name in enumerate(table["customer"])
        for day in (1 + index % 5, 20)
    ]
    lines(root / "visits.jsonl", *visits)
    return root


JOINED = """
SELECT c.customer, c.tenure + 1 AS next, c.plan, sum(v.spent) AS spent, max(v.at) AS seen, c."left"
FROM customers c JOIN visits v USING (customer) GROUP BY ALL ORDER BY c.customer;
"""


def test_a_query_joins_files_by_their_stems_with_the_types_that_a_scan_finds(tmp_path: Path) -> None:
    """What it gives is the snapshot: canonical text, whose digest is the one of the model's rows."""
    workspace = system(shop(tmp_path), ["customers.csv", "visits.jsonl"], JOINED, "reader = { delimiter = ';' }\n")
    snapshot = snapshot_of(workspace)
    kept = tmp_path / snapshot["path"] / FILE
    table = churn(120)
    order = sorted(range(120), key=lambda i: str(table["customer"][i]))
    expected = ["customer,next,plan,spent,seen,left"] + [
        f"{table['customer'][i]},{int(str(table['tenure'][i])) + 1},{table['plan'][i]},{2 * i + 1}.0,"
        f"2024-01-20 10:00:00,{table['left'][i]}"
        for i in order
    ]
    assert kept.read_text().splitlines() == expected
    assert (snapshot["rows"], [file["name"] for file in snapshot["files"]]) == (120, [FILE])


def test_rows_of_a_query_are_loaded_without_the_files(tmp_path: Path) -> None:
    workspace = system(shop(tmp_path), ["customers.csv", "visits.jsonl"], JOINED)
    digest = str(validate(workspace)["digest"])
    for name in ("customers.csv", "visits.jsonl"):
        (tmp_path / name).unlink()
    assert load(workspace, digest).records(np.array([0]))[0]["spent"].endswith(".0")


def test_another_query_or_another_file_is_another_validation(tmp_path: Path) -> None:
    sources = ["customers.csv", "visits.jsonl"]
    digests = [validate(system(shop(tmp_path), sources, JOINED))["digest"]]
    digests += [validate(system(tmp_path, sources, JOINED.replace("+ 1", "+ 2")))["digest"]]
    with (tmp_path / "visits.jsonl").open("a") as file:
        file.write('{"customer": "nobody", "at": "2024-01-01 00:00:00", "spent": "1"}\n')
    digests += [validate(system(tmp_path, sources, JOINED))["digest"]]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM custmers", r"the tables are customers\(customer, tenure, plan, left\); visits\("),
        ("SELECT tenur FROM customers", "tenur"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("DROP TABLE customers", "one SELECT"),
        ("SELEC 1", "no SQL"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SELECT c.*, v.* FROM customers c JOIN visits v USING (customer)", "name them apart"),
    ],
)
def test_a_query_that_cannot_be_run_says_why_and_what_there_is(tmp_path: Path, query: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        validate(system(shop(tmp_path), ["customers.csv", "visits.jsonl"], query))


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="more than one file called 'a'"):
        validate(system(tmp_path, ["a.csv", "a.jsonl"], "SELECT * FROM a"))


def test_tables_have_the_types_of_their_values(tmp_path: Path) -> None:
    """Codes with leading zeros and words stay text, days that come first are told by the others."""
    text = 'zip,n,x,day,moment,yes\n01234,1,"1.000,5",31/01/2024,2024-01-31T10:00:00,Yes\n02345,,?,01/02/2024,,No\n'
    (tmp_path / "t.csv").write_text(text)
    with open_views([tmp_path / "t.csv"], ReaderOptions()) as views:
        found = {column.name: column.type for column in views.tables["t"]}
        rows = list(views.select("SELECT zip, n, x, day, moment, yes FROM t").rows)
    assert found == {
        "zip": "VARCHAR",
        "n": "BIGINT",
        "x": "DOUBLE",
        "day": "DATE",
        "moment": "TIMESTAMP",
        "yes": "VARCHAR",
    }
    assert rows == [
        ("01234", "1", "1000.5", "2024-01-31", "2024-01-31 10:00:00", "Yes"),
        ("02345", None, None, "2024-02-01", None, "No"),
    ]


def test_rows_can_be_hidden_from_a_query_and_come_back(tmp_path: Path) -> None:
    """What a check for joins into the future stands on."""
    (tmp_path / "t.csv").write_text("n,m\n1,1\n2,2\n3,3\n")
    with open_views([tmp_path / "t.csv"], ReaderOptions()) as views:
        sql = "SELECT count(*) AS n FROM t"
        with views.without("t", "n > 1"):
            inside = list(views.select(sql).rows)
        assert (inside, list(views.select(sql).rows)) == ([("1",)], [("3",)])


# ---- canonical text


def test_canonical_text_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Whatever the names and values look like: nothing about the file is guessed."""
    names = ("#1", "2", "a;b")
    rows = [("x;y", 'say "hi"', "line\nbreak"), ("", None, " "), ("01", "1.50", "# no comment")]
    write_rows(tmp_path / FILE, names, rows)
    expected = {"#1": ["x;y", "", "01"], "2": ['say "hi"', "", "1.50"], "a;b": ["line\nbreak", "", "# no comment"]}
    assert texts(tmp_path, FILE) == expected


def test_values_of_a_database_are_text_in_one_way() -> None:
    values = [None, True, 3, 0.1, float("nan"), "a\r\nb", {"b": 1, "a": None}]
    assert [as_text(value) for value in values] == ["", "true", "3", "0.1", "", "a\nb", '{"a": null, "b": 1}']
    with pytest.raises(DataError, match="leave it out"):
        as_text(b"\x00")


# ---- databases


def fill_sqlite(root: Path) -> str:
    root.mkdir(parents=True, exist_ok=True)
    table = churn(150)
    with sqlite3.connect(root / "shop.db") as connection:
        connection.execute("CREATE TABLE clients (customer TEXT, tenure INTEGER, charge REAL, plan TEXT, gone TEXT)")
        connection.executemany("INSERT INTO clients VALUES (?, ?, ?, ?, ?)", client_rows(table))
    connection.close()
    return "sqlite:///shop.db"


def client_rows(table: dict[str, list[object]]) -> list[tuple[object, ...]]:
    return list(zip(*(table[name] for name in ("customer", "tenure", "charge", "plan", "left")), strict=True))


def fill_postgres() -> str:
    url = fresh_database()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        columns = "customer text, tenure integer, charge double precision, plan text, gone text"
        cursor.execute(f"CREATE TABLE clients ({columns})".encode())
        cursor.executemany("INSERT INTO clients VALUES (%s, %s, %s, %s, %s)", client_rows(churn(150)))
    return url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_of_a_database_are_the_same_snapshot_whichever_it_is(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same as that of a file with these rows, read by a query."""
    url = fill_sqlite(tmp_path) if kind == "sqlite" else fill_postgres()
    monkeypatch.setenv(VARIABLE, url)
    from_database = snapshot_of(system(tmp_path, [f"env:{VARIABLE}"], QUERY))
    write_csv(tmp_path / "clients.csv", {**churn(150), "gone": churn(150)["left"]})
    from_file = snapshot_of(system(tmp_path, ["clients.csv"], QUERY))
    assert from_database == from_file
    assert from_database["rows"] == 150


def test_a_database_is_on_record_without_its_secrets(tmp_path: Path) -> None:
    """Neither output nor any file has the URL, its host or its password; the variable's name is what is told."""
    url = fill_postgres()
    system(tmp_path, [f"env:{VARIABLE}"], QUERY)
    ran = engine("validate", "--json", cwd=tmp_path, **{VARIABLE: url})
    (source,) = ran.result["source"]
    assert (ran.code, source["name"], source["database"]) == (
        0,
        f"env:{VARIABLE}",
        f"postgresql://***/{url.rsplit('/', 1)[1]}",
    )
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for secret in (url, "secret-of-the-test", "127.0.0.1"):
        assert secret.encode() not in written + ran.out.encode() + ran.err.encode()


def test_what_a_database_gave_is_what_all_later_stages_work_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that changes is seen by the next `validate`, and by nothing before it."""
    monkeypatch.setenv(VARIABLE, fill_sqlite(tmp_path))
    workspace = system(tmp_path, [f"env:{VARIABLE}"], QUERY)
    with pytest.raises(StageMissing, match="run `python -m mlsystem validate`"):
        train_stage(workspace)
    validate(workspace)
    before = train_stage(workspace).digest(workspace)
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("DELETE FROM clients WHERE tenure > 60")
    connection.close()
    unmoved = train_stage(workspace).digest(workspace)
    validate(workspace)
    assert (unmoved == before, train_stage(workspace).digest(workspace) == before) == (True, False)


def test_with_digest_nothing_is_kept_but_what_the_work_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, fill_sqlite(tmp_path))
    workspace = system(tmp_path, [f"env:{VARIABLE}"], QUERY, 'snapshot = "digest"\n')
    result = validate(workspace)
    kept = (tmp_path / "data" / "snapshots").exists()
    assert (kept, load(workspace, str(result["digest"])).table.rows) == (False, 150)


@pytest.mark.parametrize(
    ("url", "query", "code", "says"),
    [
        ("", "SELECT 1", "no_database_url", f"env:{VARIABLE}, which is not set"),
        ("mysql://root:pw@h/db", "SELECT 1", "unknown_database", "export Parquet"),
        ("sqlite:///none.db", "SELECT 1", "database_error", "there is no file none.db"),
        ("sqlite:///shop.db", "SELECT * FROM nobody", "database_error", "no such table: nobody"),
        ("sqlite:///shop.db", "DELETE FROM clients", "database_error", "readonly"),
        ("postgresql://me:topsecret@127.0.0.1:1/shop", "SELECT 1", "database_error", r"postgresql://\*\*\*/shop"),
    ],
)
def test_a_database_that_cannot_be_read_is_told_without_its_secrets(
    tmp_path: Path, url: str, query: str, code: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_sqlite(tmp_path)
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(DataError, match=says) as refused:
        validate(system(tmp_path, [f"env:{VARIABLE}"], query))
    assert (refused.value.code, "topsecret" in refused.value.message, "pw@" in refused.value.message) == (
        code,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"source": ["env:A", "b.csv"], "query": "SELECT 1"}, "data.source"),
        ({"source": ["env:A"]}, "data.query"),
    ],
)
def test_a_spec_that_names_half_a_database_is_refused(data: dict[str, object], key: str) -> None:
    content: dict[str, object] = {"format": 1, "name": "a", "task": {"kind": "binary", "target": "t"}, "data": data}
    assert [problem.key for problem in examine(content)[1]] == [key]
