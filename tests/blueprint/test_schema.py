"""schema.json: the same contract is the same bytes, and what is no contract is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsystem.errors import SpecError
from mlsystem.schema import Column, Schema, Table, TaskSchema, encode_schema, read_schema

SCHEMA = Schema(
    task=TaskSchema(kind="binary", target="left", labels=("No", "Yes"), positive="Yes"),
    columns=(
        Column(name="plan", type="category", levels=("basic", "pro"), distinct=2),
        Column(name="x", type="number"),
    ),
)


def test_a_contract_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(encode_schema(SCHEMA))
    assert (read_schema(path), encode_schema(read_schema(path))) == (SCHEMA, path.read_bytes())


@pytest.mark.parametrize("content", [b"{}", b"not json", b'{"format": 2, "task": {}, "columns": []}'])
def test_what_is_no_contract_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match="run `validate` again"):
        read_schema(path)


def test_a_column_is_found_by_its_name() -> None:
    assert (SCHEMA.column("x").type, [column.name for column in SCHEMA.columns]) == ("number", ["plan", "x"])
    with pytest.raises(KeyError):
        SCHEMA.column("y")


def test_rows_of_a_table_are_json_objects_with_every_column() -> None:
    table = Table({"a": np.array(["1", "2", "3"], dtype=object), "b": np.array(["x", "", "z"], dtype=object)}, 3)
    assert table.records(np.array([2, 1])) == [{"a": "3", "b": "z"}, {"a": "2", "b": ""}]
