"""Regimes: their identifiers are no features, their rules are gates, and no value of theirs is found anywhere."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.client
import io
import json
import random
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mlsystem.boundary import Boundary
from mlsystem.data.command import validate
from mlsystem.data.dataset import load
from mlsystem.evaluation.command import evaluate
from mlsystem.evaluation.gates import governance_gates
from mlsystem.governance.mask import mask_of
from mlsystem.governance.regimes import retention_s
from mlsystem.output import Reporter
from mlsystem.packaging import package
from mlsystem.registry.command import promote
from mlsystem.reproduce import reproduce
from mlsystem.schema import Column, Schema, TaskSchema, read_schema
from mlsystem.serving.process import serving
from mlsystem.spec import Spec, examine
from mlsystem.stages import Workspace
from mlsystem.state import state_of
from mlsystem.train.command import train
from tests.blueprint import identifiers as made
from tests.blueprint.made_tables import churn, make_system

ROWS: Final = 320
LEAST: Final[dict[str, Any]] = {
    "format": 1,
    "name": "made",
    "task": {"kind": "binary", "target": "left"},
    "data": {"source": ["rows.csv"]},
}
HIPAA: Final = """entity = "patient_id"
[search]
budget = "1s"
[objectives]
rate_rps = 20
[serving]
port = 0
api_keys = "env:MADE_KEYS"
[governance]
regime = ["hipaa"]
"""
IDENTIFIERS: Final[dict[str, made.Maker]] = {
    "patient_id": lambda draw: f"PT-{draw.randrange(10**6, 10**7)}",
    "patient_name": made.name,
    "street_address": made.address,
    "zip": lambda draw: f"{draw.randrange(10_000, 99_999)}",
    "born": made.birthday,
    "admitted": lambda draw: made.day(draw).strftime("%Y-%m-%d"),
    "phone": made.phone,
    "fax": made.phone,
    "email": made.email,
    "ssn": made.ssn,
    "mrn": lambda draw: f"M{draw.randrange(10**7, 10**8)}",
    "health_plan_number": lambda draw: f"H{draw.randrange(10**8, 10**9)}",
    "account_number": lambda draw: f"A{draw.randrange(10**9, 10**10)}",
    "license_number": lambda draw: f"D{draw.randrange(10**8, 10**9)}",
    "license_plate": made.vin,
    "device_serial_number": made.mac,
    "homepage": made.url,
    "ip_address": made.ip,
    "fingerprint": lambda draw: f"{draw.getrandbits(64):016x}",
    "profile_photo": lambda draw: f"/photos/{draw.getrandbits(48):012x}.jpg",
}
"""The eighteen identifiers of the safe harbor, and one column for each."""


@functools.cache
def patients() -> dict[str, list[object]]:
    """A table with every identifier, three features, an age over 89 and a stray address in a category."""
    draw = random.Random(11)
    table: dict[str, list[object]] = {name: [make(draw) for _ in range(ROWS)] for name, make in IDENTIFIERS.items()}
    pressure = [draw.randint(90, 180) for _ in range(ROWS)]
    table["pressure"] = [*pressure]
    table["age"] = [draw.randint(20, 96) for _ in range(ROWS)]
    table["smoker"] = [draw.choice(["yes", "no"]) for _ in range(ROWS)]
    table["ward"] = [draw.choice(["north", "south", "east"]) for _ in range(ROWS)]
    for row in range(0, ROWS, 40):
        table["ward"][row] = f"ask stray.{row}@ward.example".removeprefix("ask ")
    table["left"] = ["Yes" if value + draw.gauss(0, 20) > 140 else "No" for value in pressure]
    return table


@dataclass(frozen=True)
class Delivered:
    """A system under HIPAA that was trained, served and asked."""

    root: Path
    result: dict[str, Any]
    answers: str
    log: str
    captured: bytes


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """Everything that the engine does with the table, through its commands and its server."""
    root = tmp_path_factory.mktemp("hospital")
    make_system(root, patients(), "left", more=HIPAA)
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        workspace = Workspace.open(root, Reporter("text"))
        results = [
            validate(workspace),
            train(workspace),
            evaluate(workspace, Namespace(latency_seconds=0.2)),
            package(workspace, Namespace(latency_seconds=0.2)),
            promote(workspace, Namespace(version=1, by="a test", why="to see it")),
        ]
    names = [name for name in patients() if name != "left"]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*(patients()[n] for n in names), strict=True)]
    answers: list[str] = []
    with serving(root) as listening:
        headers = {"Content-Type": "application/json", **listening.headers}
        for path, asked in (("/predict", rows[:40]), ("/explain", rows[:2])):
            answers.append(_post(listening.host, listening.port, path, {"rows": asked}, headers))
        _wait_for(workspace, 40)
    captured = b"".join(path.read_bytes() for path in sorted((root / "state").iterdir()))
    told = msgspec.json.encode(results).decode()
    return Delivered(root, results[2], "".join(answers), log.getvalue() + told, captured)


def _post(host: str, port: int, path: str, body: object, headers: Mapping[str, str]) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body).encode(), dict(headers))
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, f"{path}: {answer.status} {text}"
        return text
    finally:
        connection.close()


def _wait_for(workspace: Workspace, count: int) -> None:
    """Wait until the recorder has written so many captures."""
    state = state_of(workspace)
    deadline = time.monotonic() + 20
    while sum(1 for _ in state.captures(since=0, until=time.time() + 1)) < count:
        assert time.monotonic() < deadline, "the captures did not come"
        time.sleep(0.05)


def values_of_people() -> set[bytes]:
    """Identifiers of the table as bytes, of rows that were asked about and of others all over it.

    Short ones are left out: a postal code stands in some number by chance.
    """
    table = patients()
    picked = {*range(0, 40, 2), *range(0, ROWS, 7)}
    texts = {str(table[name][row]) for name in IDENTIFIERS for row in picked}
    strays = {str(value) for value in table["ward"] if "@" in str(value)}
    return {text.encode() for text in texts | strays if len(text) >= 9}


# ---- the whole way


def test_no_identifier_is_a_feature_and_the_gates_say_so(hospital: Delivered) -> None:
    """None of the eighteen; what is left are three measurements, and an age in which all over 89 are one."""
    schema = read_schema(hospital.root / "schema.json")
    gates = {gate["name"]: (gate["passed"], gate["value"]) for gate in hospital.result["gates"]}
    assert {column.name for column in schema.columns if column.role == "feature"} == {
        *("pressure", "age", "smoker", "ward")
    }
    assert (schema.column("age").reduced, schema.column("age").high) == ("capped", 90.0)
    assert {column.name for column in schema.columns if column.pii} == {*IDENTIFIERS, "age"}
    assert (gates["pii_handled"], gates["regime_hipaa"]) == ((True, 0.0), (True, 0.0))


def test_no_value_of_theirs_is_in_any_file_but_the_source(hospital: Delivered) -> None:
    """Reports, stages, packages, profile, contract, history, and the snapshot, which holds what the model needs."""
    source = hospital.root / "rows.csv"
    files = [path for path in hospital.root.rglob("*") if path.is_file() and path != source]
    wanted = values_of_people()
    found = {
        str(path.relative_to(hospital.root)): sorted(value.decode() for value in wanted if value in content)[:3]
        for path in files
        if any(value in (content := path.read_bytes()) for value in wanted)
    }
    (snapshot,) = (hospital.root / "data" / "snapshots").glob("*/*")
    stored = [dict(row) for row in csv.DictReader(io.StringIO(snapshot.read_text()))]
    assert {name for row in stored for name, text in row.items() if text} == {
        *("patient_id", "admitted", "pressure", "age", "smoker", "ward", "left")
    }
    assert (found, len(stored), len({row["patient_id"] for row in stored})) == ({}, ROWS, ROWS)
    assert max(float(row["age"]) for row in stored) == 90


def test_a_version_is_made_again_from_the_masked_rows(hospital: Delivered) -> None:
    """Byte for byte: nothing that was left out of the snapshot was needed."""
    found = reproduce(Workspace.open(hospital.root, Reporter("json")), Namespace(version=1))
    assert (found["identical"], found["contract"]) == (
        True,
        "not checked: it was decided from the rows as they came, and they are stored masked",
    )


def test_no_value_of_theirs_is_in_an_answer_a_log_or_a_capture(hospital: Delivered) -> None:
    """What comes out of the commands and the server, and what is kept of the requests."""
    told = hospital.answers.encode() + hospital.log.encode() + hospital.captured
    assert sorted(value.decode() for value in values_of_people() if value in told) == []
    assert b"pressure" in hospital.captured


# ---- rules


def schema(*columns: Column) -> Schema:
    """A contract of these columns."""
    task = TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes")
    return Schema(task=task, columns=(*columns, Column(name="left", type="category", role="target")))


def spec(**tables: Any) -> Spec:
    """A spec with these tables."""
    found, problems = examine({**LEAST, **tables})
    assert found is not None, problems
    return found


def broken(found: Spec, contract: Schema) -> dict[str, str]:
    """What the failed gates say."""
    return {gate.name: gate.text for gate in governance_gates(found, contract) if not gate.passed}


MAIL: Final = Column(name="mail", type="category", pii="email")


def test_a_personal_feature_needs_a_written_reason() -> None:
    """By a person, in the spec; then the gate passes and names it."""
    rule: dict[str, Any] = {"mail": {"role": "feature", "why": "the domain tells the plan"}}
    assert list(broken(spec(), schema(MAIL))) == ["pii_handled"]
    (gate,) = governance_gates(spec(columns=rule), schema(MAIL))
    assert (gate.passed, "by a person's written decision: 'mail'" in gate.text) == (True, True)


def test_hipaa_takes_no_reason() -> None:
    """An identifier that is a feature fails the gate, whoever wants it."""
    rule: dict[str, Any] = {"mail": {"role": "feature", "why": "we want it"}}
    found = spec(columns=rule, governance={"regime": ["hipaa"]}, serving={"api_keys": "env:KEYS"})
    assert list(broken(found, schema(MAIL))) == ["regime_hipaa"]


@pytest.mark.parametrize(
    ("tables", "gate", "words"),
    [
        ({"governance": {"regime": ["hipaa"]}}, "regime_hipaa", "set serving.api_keys"),
        ({"governance": {"regime": ["gdpr"], "mask": "none"}}, "regime_gdpr", "asking is switched off"),
        (
            {"governance": {"regime": ["gdpr"], "retention": "10d"}, "capture": {"retention": "20d"}},
            "regime_gdpr",
            "shorten capture.retention",
        ),
    ],
)
def test_a_rule_that_is_not_kept_fails_its_gate_and_says_what_to_set(
    tables: dict[str, Any], gate: str, words: str
) -> None:
    """Access, masking, retention."""
    found = broken(spec(**tables), schema())
    assert (list(found), words in found[gate]) == ([gate], True)


@pytest.mark.parametrize(("role", "failed"), [("feature", True), ("ignore", False)])
def test_pci_lets_no_card_number_be_used(role: Any, failed: bool) -> None:
    """One that is no feature is not in the copy of the source either."""
    found = spec(governance={"regime": ["pci"]})
    contract = schema(Column(name="pan", type="category", role=role, pii="card"))
    assert ("regime_pci" in broken(found, contract)) is failed


def test_the_shorter_retention_counts() -> None:
    """What may be kept and what is wanted, whichever ends first."""
    found = spec(governance={"retention": "5d"}, capture={"retention": "20d"})
    assert retention_s(found) == 5 * 86_400


# ---- what is stored


AGE: Final = Column(name="age", type="integer")
PLAN: Final = Column(name="plan", type="category", levels=("basic", "pro"))
WHO: Final = Column(name="who", type="category", role="entity")


def test_a_captured_row_holds_no_personal_value() -> None:
    """Columns of personal data are blank, and so are single values that are some; the rest is as it came."""
    keep = mask_of(schema(MAIL, AGE, PLAN), spec())
    row = {"mail": "a@b.example", "age": 93, "plan": "call +31 20 1234567".removeprefix("call "), "more": 1}
    assert keep(row) == {"mail": None, "age": 93, "plan": None}
    assert keep({"mail": None, "age": None, "plan": "pro"}) == {"mail": None, "age": None, "plan": "pro"}


def test_under_hipaa_ages_over_89_are_90() -> None:
    """Whatever the data had when the model learned."""
    keep = mask_of(schema(AGE), spec(governance={"regime": ["hipaa"]}))
    assert [keep({"age": age})["age"] for age in (45, "89", 90, "97", None)] == [45, "89", 90, 90, None]


def test_under_hipaa_dates_of_people_are_their_year_where_they_order_nothing(tmp_path: Path) -> None:
    """In the contract, for the model by text and by JSON alike, and in what is stored and captured."""
    draw = random.Random(2)
    columns = churn(200) | {
        name: [f"{draw.choice([2021, 2023])}-{draw.randint(1, 12):02d}-17" for _ in range(200)]
        for name in ("seen", "left on")
    }
    workspace = make_system(tmp_path, columns, "left", more='[governance]\nregime = ["hipaa"]\n')
    dataset = load(workspace, str(validate(workspace)["digest"]))
    contract = read_schema(tmp_path / "schema.json")
    boundary = Boundary.from_schema(contract)
    row = {name: values[0] for name, values in columns.items()}
    place = boundary.numbers.index("seen:year")
    years = {int(dataset.encoded.numbers[0, place]), int(boundary.rows([row]).numbers[0, place])}
    (stored,) = (tmp_path / "data" / "snapshots").glob("*/*")
    kept = next(csv.DictReader(io.StringIO(stored.read_text())))["seen"]
    year = str(row["seen"])[:4]
    assert (contract.column("seen").reduced, years, kept) == ("year", {int(year)}, f"{year}-01-01")
    assert mask_of(contract, workspace.spec)(row)["seen"] == kept


def test_a_regime_masks_whatever_the_keys_say() -> None:
    """Switching masking off is a failed gate, and has no effect either."""
    off: dict[str, Any] = {"mask": "none"}
    loose, strict = spec(governance=off), spec(governance={**off, "regime": ["gdpr"]})
    row = {"mail": "a@b.example"}
    assert [mask_of(schema(MAIL), found)(row)["mail"] for found in (loose, strict)] == ["a@b.example", None]


def test_example_rows_of_a_version_name_nobody() -> None:
    """Whoever is erased must not stay in what was registered; a capture keeps whom it is about."""
    contract, row = schema(WHO, PLAN), {"who": "C-1", "plan": "pro"}
    kept = [mask_of(contract, spec(), captured=captured)(row) for captured in (True, False)]
    assert kept == [{"who": "C-1", "plan": "pro"}, {"who": None, "plan": "pro"}]


def test_a_person_can_say_that_a_column_is_none(tmp_path: Path) -> None:
    """`pii = "none"` keeps what only looks like it; any other word makes a column one that was not recognised."""
    table: dict[str, list[object]] = {
        "code": [f"{100 + i}-55-{1000 + i}" for i in range(200)],
        "badge": [f"b{i % 50}" for i in range(200)],
        "size": [i % 7 for i in range(200)],
        "left": ["Yes" if i % 3 else "No" for i in range(200)],
    }
    rules = '[columns.code]\npii = "none"\ntype = "category"\nrole = "feature"\n[columns.badge]\npii = "staff number"\n'
    validate(make_system(tmp_path, table, "left", more=rules))
    found = {column.name: (column.role, column.pii) for column in read_schema(tmp_path / "schema.json").columns}
    assert (found["code"], found["badge"]) == (("feature", ""), ("ignore", "staff number"))


def test_a_contract_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """A contract without the field, as an earlier engine wrote it, holds no personal data."""
    before = msgspec.json.decode(msgspec.json.encode(schema(MAIL)))
    del before["columns"][0]["pii"]
    (tmp_path / "schema.json").write_bytes(msgspec.json.encode(before))
    assert read_schema(tmp_path / "schema.json").columns[0].pii == ""
