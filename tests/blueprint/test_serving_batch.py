"""`predict --in --out`: every row of a file, in order, with the coercion of training."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow  # noqa: ICN001 - `pa` is the same without its missing types
import pyarrow.parquet
import pytest

from mlsystem.errors import DataError, RegistryError
from mlsystem.output import Reporter
from mlsystem.registry import Note, Registry
from mlsystem.schema import Reader, Schema
from mlsystem.serving import streams
from mlsystem.serving.arrow import ArrowPredictor
from mlsystem.serving.command import predict
from mlsystem.stages import Workspace
from tests.blueprint.small_system import (
    NOTE,
    ROW,
    SCHEMA,
    classifier,
    make_system,
    package_files,
    probability,
    regressor,
)

pa, pq = cast("Any", pyarrow), cast("Any", pyarrow.parquet)
HEADER = ["customer", "tenure", "charges", "plan", "joined"]


def live_system(root: Path, schema: Schema = SCHEMA, model: bytes | None = None) -> None:
    """Make a system whose one version is live."""
    registry: Registry = make_system(root)
    evidence = Note("a test", "", {"servable": True, "outcome": "success"})
    registry.register(package_files(model or classifier(), schema), "digest", evidence)
    registry.promote(1, NOTE)


def predict_file(
    root: Path, source: str, target: str, *, version: int | None = None, monitor: bool = False
) -> dict[str, object]:
    options = Namespace(input=root / source, output=root / target, version=version, monitor=monitor)
    return predict(Workspace.open(root, Reporter("json")), options)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], header: Sequence[str] = HEADER) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def row(number: int, **changes: object) -> dict[str, object]:
    return {**ROW, "customer": f"C-{number}", "tenure": number, **changes}


def test_every_row_of_a_csv_is_predicted_in_order_and_known_by_its_id(tmp_path: Path) -> None:
    live_system(tmp_path)
    rows = [row(number) for number in range(-20, 20)]
    write_csv(tmp_path / "in.csv", rows)
    told = predict_file(tmp_path, "in.csv", "out.csv")
    found = read_csv(tmp_path / "out.csv")
    assert list(found[0]) == ["id", "version", "prediction", "probability_No", "probability_Yes", "error"]
    assert [line["id"] for line in found] == [str(r["customer"]) for r in rows]
    assert [float(line["probability_Yes"]) for line in found] == pytest.approx([probability(r) for r in rows])
    assert [line["prediction"] for line in found] == ["Yes" if probability(r) >= 0.5 else "No" for r in rows]
    assert {key: told[key] for key in ("rows", "predicted", "refused", "version", "warnings")} == {
        "rows": 40,
        "predicted": 40,
        "refused": 0,
        "version": 1,
        "warnings": {},
    }


def test_a_file_of_several_chunks_is_the_same_as_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_system(tmp_path)
    write_csv(tmp_path / "in.csv", [row(number) for number in range(25)], HEADER)
    predict_file(tmp_path, "in.csv", "whole.csv")
    monkeypatch.setattr(streams, "BLOCK_ROWS", 7)
    told = predict_file(tmp_path, "in.csv", "parts.csv")
    assert (tmp_path / "parts.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert told["rows"] == 25


def test_json_lines_are_predicted_like_the_same_rows_over_http(tmp_path: Path) -> None:
    live_system(tmp_path)
    lines = [row(1), {}, row(3, plan="weekly"), row(4, tenure="many")]
    (tmp_path / "in.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    told = predict_file(tmp_path, "in.jsonl", "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in found] == ["C-1", "2", "C-3", "C-4"]
    assert found[0]["probabilities"]["Yes"] == pytest.approx(probability(lines[0]))
    assert found[1] == {"id": "2", "error": "tenure: missing column; send null if the value is not known"}
    assert found[3] == {"id": "C-4", "error": "tenure: not a number (got 'many')"}
    assert (told["predicted"], told["refused"], told["warnings"]) == (2, 2, {"unseen_category": 1})


def test_a_row_that_cannot_be_predicted_keeps_its_place_and_says_why(tmp_path: Path) -> None:
    live_system(tmp_path)
    write_csv(tmp_path / "in.csv", [row(1), row(2, charges="much"), row(3)])
    told = predict_file(tmp_path, "in.csv", "out.csv")
    found = read_csv(tmp_path / "out.csv")
    assert [line["prediction"] for line in found] == ["Yes", "", "Yes"]
    assert found[1]["error"] == "charges: not a number (got 'much')"
    assert told["first_refusal"] == "row C-2: charges: not a number (got 'much')"


def test_rows_are_known_by_their_number_where_there_is_no_id(tmp_path: Path) -> None:
    live_system(tmp_path)
    write_csv(tmp_path / "in.csv", [{k: v for k, v in row(n).items() if k != "customer"} for n in (1, 2)], HEADER[1:])
    predict_file(tmp_path, "in.csv", "out.csv")
    assert [line["id"] for line in read_csv(tmp_path / "out.csv")] == ["1", "2"]


def test_a_file_is_read_with_the_dialect_of_the_contract(tmp_path: Path) -> None:
    """Delimiter, decimal sign, encoding and quote come from the data that the model was made of."""
    reader = Reader(delimiter=";", decimal=",", encoding="latin-1", quote="'")
    columns = tuple(
        msgspec.structs.replace(column, decimal=",") if column.type == "number" else column for column in SCHEMA.columns
    )
    live_system(tmp_path, msgspec.structs.replace(SCHEMA, reader=reader, columns=columns))
    text = "customer;tenure;charges;plan;joined;Größe\n'C;1';10;50,5;monthly;2024-02-29;ß\n"
    (tmp_path / "in.csv").write_bytes(text.encode("latin-1"))
    told = predict_file(tmp_path, "in.csv", "out.csv")
    (line,) = read_csv(tmp_path / "out.csv")
    assert line["id"] == "C;1"
    assert float(line["probability_Yes"]) == pytest.approx(probability({**ROW, "charges": 50.5}))
    assert told["warnings"] == {}


def test_a_byte_order_mark_and_windows_line_ends_are_read_over(tmp_path: Path) -> None:
    live_system(tmp_path)
    text = "tenure,charges,plan,joined\r\n10,50,monthly,2024-02-29\r\n\r\n"
    (tmp_path / "in.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert predict_file(tmp_path, "in.csv", "out.csv")["predicted"] == 1


def test_a_regression_has_no_probabilities(tmp_path: Path) -> None:
    schema = msgspec.structs.replace(
        SCHEMA, task=msgspec.structs.replace(SCHEMA.task, kind="regression", labels=(), positive=None)
    )
    live_system(tmp_path, schema, regressor())
    write_csv(tmp_path / "in.csv", [ROW])
    predict_file(tmp_path, "in.csv", "out.csv")
    (line,) = read_csv(tmp_path / "out.csv")
    assert list(line) == ["id", "version", "prediction", "error"]
    assert float(line["prediction"]) == pytest.approx(1.5)


def test_another_version_than_the_active_one_can_be_asked(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0, 4.0).promote(1, NOTE)
    write_csv(tmp_path / "in.csv", [ROW])
    assert predict_file(tmp_path, "in.csv", "out.csv", version=2)["version"] == 2


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "empty_file", "needs a header"),
        (b"tenure,charges,plan,joined\n", "no_rows", "no rows"),
        (b"tenure,plan\n1,monthly\n", "missing_columns", "charges, joined"),
        (b"tenure,charges,plan,joined\n1,2,m\xff,\n", "bad_encoding", "byte"),
    ],
    ids=["empty", "header only", "columns missing", "encoding"],
)
def test_a_file_that_does_not_fit_is_refused_and_the_output_is_left_as_it_was(
    tmp_path: Path, content: bytes, code: str, words: str
) -> None:
    live_system(tmp_path)
    (tmp_path / "in.csv").write_bytes(content)
    (tmp_path / "out.csv").write_text("what was there")
    with pytest.raises(DataError, match=words) as refused:
        predict_file(tmp_path, "in.csv", "out.csv")
    assert refused.value.code == code
    assert (tmp_path / "out.csv").read_text() == "what was there"
    assert not list(tmp_path.glob(".out*"))


def test_a_row_that_cannot_be_read_keeps_its_place_and_says_why(tmp_path: Path) -> None:
    live_system(tmp_path)
    (tmp_path / "in.csv").write_text("tenure,charges,plan,joined\n1,2,monthly\n\n1,2,monthly,\n")
    predict_file(tmp_path, "in.csv", "out.csv")
    assert [(line["id"], line["error"]) for line in read_csv(tmp_path / "out.csv")] == [
        ("1", "3 fields where the header has 4; quote fields that hold the delimiter"),
        ("2", ""),
    ]
    (tmp_path / "in.jsonl").write_text(json.dumps(ROW) + "\n[1]\n")
    told = predict_file(tmp_path, "in.jsonl", "out.jsonl")
    (_, bad) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert (bad["id"], bad["error"][:17]) == ("2", "not a JSON object")
    assert (told["predicted"], told["refused"]) == (1, 1)


def test_a_file_that_is_not_there_and_a_folder_that_is_not_there_are_named(tmp_path: Path) -> None:
    live_system(tmp_path)
    with pytest.raises(DataError, match=r"there is no file .*in\.csv"):
        predict_file(tmp_path, "in.csv", "out.csv")
    write_csv(tmp_path / "in.csv", [ROW])
    with pytest.raises(DataError, match="there is no directory"):
        predict_file(tmp_path, "in.csv", "nowhere/out.csv")


def test_parquet_comes_to_the_same_answers_as_the_csv_of_the_same_rows(tmp_path: Path) -> None:
    """Types of their own, a category that is a dictionary, gaps: what matters is the text that training reads."""
    live_system(tmp_path)
    rows = [row(number, charges=number / 7, plan="monthly" if number % 2 else "yearly") for number in range(-10, 10)]
    rows[3] |= {"charges": None, "joined": None}
    write_csv(tmp_path / "in.csv", rows)
    columns = {name: [r[name] for r in rows] for name in HEADER}
    joined = pa.array([day and date.fromisoformat(str(day)) for day in columns["joined"]])
    plan = pa.array(columns["plan"]).dictionary_encode()
    extra = pa.array([[1]] * len(rows))
    table = pa.table({**columns, "joined": joined, "plan": plan, "a list": extra})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    told = predict_file(tmp_path, "in.parquet", "out.parquet")
    predict_file(tmp_path, "in.parquet", "parquet.csv")
    predict_file(tmp_path, "in.csv", "out.csv")
    assert (tmp_path / "parquet.csv").read_text() == (tmp_path / "out.csv").read_text()
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [line["probability_Yes"] for line in found] == pytest.approx([probability(r) for r in rows])
    assert (told["rows"], told["refused"], {line["error"] for line in found}) == (20, 0, {None})


def test_a_refused_row_of_parquet_has_a_reason_and_no_prediction(tmp_path: Path) -> None:
    live_system(tmp_path)
    columns = {"tenure": ["1", "many"], "charges": [1.5, 2.5], "plan": ["monthly"] * 2, "joined": ["2024-02-29"] * 2}
    pq.write_table(pa.table(columns), tmp_path / "in.pq")
    predict_file(tmp_path, "in.pq", "out.pq")
    assert pq.read_table(tmp_path / "out.pq").to_pylist()[1] == {
        "id": "2",
        "version": None,
        "prediction": None,
        "probability_No": None,
        "probability_Yes": None,
        "error": "tenure: not a number (got 'many')",
    }


def test_what_is_no_parquet_or_lacks_columns_is_refused(tmp_path: Path) -> None:
    live_system(tmp_path)
    (tmp_path / "in.parquet").write_text("no such thing")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        predict_file(tmp_path, "in.parquet", "out.csv")
    pq.write_table(pa.table({"tenure": [1]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="columns that the model needs are missing: charges, plan, joined"):
        predict_file(tmp_path, "in.parquet", "out.csv")


def test_a_predictor_takes_arrow_and_gives_arrow(tmp_path: Path) -> None:
    """The seam for Ray and Spark: a table or a record batch in, the same kind out, in the same order."""
    live_system(tmp_path)
    rows = [row(number) for number in range(30)]
    table = pa.Table.from_pylist(rows)
    predictor = ArrowPredictor(tmp_path)
    answers = predictor(table)
    assert answers.column("id").to_pylist() == [r["customer"] for r in rows]
    assert answers.column("probability_Yes").to_pylist() == pytest.approx([probability(r) for r in rows])
    assert predictor(table.to_batches()[0]).to_pylist() == answers.to_pylist()


def test_nothing_is_predicted_before_a_version_is_live(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0)
    write_csv(tmp_path / "in.csv", [ROW])
    with pytest.raises(RegistryError, match="no version is active"):
        predict_file(tmp_path, "in.csv", "out.csv")
