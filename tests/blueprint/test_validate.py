"""`validate` and `load`: what was decided once is what everything after it sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsystem.boundary import Boundary
from mlsystem.data import Dataset, load, validate
from mlsystem.errors import DataError
from mlsystem.schema import read_schema
from mlsystem.stages import Workspace, stage_dir
from tests.blueprint.made_tables import Columns, churn, make_system


def bikes(rows: int = 300) -> dict[str, list[object]]:
    """Daily counts: a running number, the day, the weather, and two parts that add up to `cnt`."""
    draw = np.random.default_rng(2)
    casual, registered = draw.integers(0, 900, rows), draw.integers(20, 5000, rows)
    days = np.datetime64("2023-01-01") + np.arange(rows)
    return {
        "instant": list(range(1, rows + 1)),
        "day": [str(day) for day in days],
        "temp": draw.normal(size=rows).tolist(),
        "casual": casual.tolist(),
        "registered": registered.tolist(),
        "cnt": (casual + registered).tolist(),
    }


def result_of(workspace: Workspace) -> dict[str, Any]:
    return dict(validate(workspace))


def loaded(workspace: Workspace) -> Dataset:
    return load(workspace, result_of(workspace)["digest"])


def refused(folder: Path, columns: Columns, target: str, kind: str = "binary", more: str = "") -> DataError:
    with pytest.raises(DataError) as error:
        validate(make_system(folder, columns, target, kind, more))
    return error.value


def test_validate_tells_rows_findings_split_and_snapshot(tmp_path: Path) -> None:
    result = result_of(make_system(tmp_path, churn(600), "left"))
    digest = result["snapshot"]["digest"]
    assert {key: result[key] for key in ("rows", "columns", "schema", "snapshot")} == {
        "rows": 600,
        "columns": 6,
        "schema": "schema.json",
        "snapshot": {
            "digest": digest,
            "rows": 600,
            "path": f"data/snapshots/{digest}",
            "files": [{"name": "rows.csv", "sha256": digest, "bytes": (tmp_path / "rows.csv").stat().st_size}],
            "masked": False,
            "ordinal": False,
        },
    }
    assert (result["split"]["method"], result["split"]["train"], result["split"]["holdout"]) == ("random", 480, 120)


def test_the_contract_lies_in_the_system_and_in_the_stage(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(600), "left")
    folder = stage_dir(workspace, "validate", result_of(workspace)["digest"])
    assert (tmp_path / "schema.json").read_bytes() == (folder / "schema.json").read_bytes()


def test_the_contract_lists_levels_bounds_and_labels(tmp_path: Path) -> None:
    table = churn(600)
    validate(make_system(tmp_path, table, "left"))
    schema = read_schema(tmp_path / "schema.json")
    plan, charge, left = (schema.column(name) for name in ("plan", "charge", "left"))
    numbers = [value for value in table["charge"] if isinstance(value, float)]
    assert (set(plan.levels), plan.distinct, plan.levels[0]) == ({"basic", "plus", "pro"}, 3, most(table["plan"]))
    assert (charge.low, charge.high, charge.missing) == (min(numbers), max(numbers), round(1 / 600, 6))
    assert (left.levels, schema.task.labels, schema.task.positive) == (("No", "Yes"), ("No", "Yes"), "Yes")


def most(values: list[object]) -> object:
    return max(sorted(set(map(str, values))), key=values.count)


def test_the_same_bytes_and_spec_give_the_same_digest_and_are_not_read_again(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left")
    first = result_of(workspace)
    made = stage_dir(workspace, "validate", first["digest"]).stat().st_mtime_ns
    assert (result_of(workspace), stage_dir(workspace, "validate", first["digest"]).stat().st_mtime_ns) == (first, made)


def test_a_changed_byte_is_another_digest(tmp_path: Path) -> None:
    first = result_of(make_system(tmp_path, churn(seed=1), "left"))
    second = result_of(make_system(tmp_path, churn(seed=2), "left"))
    assert first["digest"] != second["digest"]


def test_a_deleted_contract_is_written_again(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left")
    validate(workspace)
    (tmp_path / "schema.json").unlink()
    validate(workspace)
    assert read_schema(tmp_path / "schema.json").task.target == "left"


def test_a_dataset_has_the_rows_that_have_a_target(tmp_path: Path) -> None:
    table = churn(300)
    table["left"] = [None if i % 10 == 0 else label for i, label in enumerate(table["left"])]
    dataset = loaded(make_system(tmp_path, table, "left"))
    kept = [label for label in table["left"] if label]
    assert (dataset.table.rows, dataset.encoded.numbers.shape, dataset.target.tolist()) == (
        270,
        (270, 2),
        [int(label == "Yes") for label in kept],
    )
    assert sorted([*dataset.train, *dataset.holdout]) == list(range(270))


def test_the_tensors_of_a_dataset_are_those_of_the_boundary(tmp_path: Path) -> None:
    dataset = loaded(make_system(tmp_path, churn(), "left"))
    rows = np.array([5, 0, 3])
    encoded = Boundary.from_schema(dataset.schema).rows(dataset.records(rows))
    assert np.array_equal(encoded.numbers, dataset.encoded.numbers[rows], equal_nan=True)
    assert (encoded.strings.tolist(), encoded.problems) == (dataset.encoded.strings[rows].tolist(), ())


def test_days_in_order_split_the_rows_by_time(tmp_path: Path) -> None:
    """The parts of the target and the running number are gone; the day's calendar is left."""
    workspace = make_system(tmp_path, bikes(), "cnt", "regression")
    split, dataset = result_of(workspace)["split"], loaded(workspace)
    assert (split["method"], split["holdout"], Boundary.from_schema(dataset.schema).numbers) == (
        "time",
        60,
        ("day:month", "day:weekday", "day:dayofyear", "temp"),
    )
    assert dataset.time is not None
    assert dataset.time[dataset.train].max() < dataset.time[dataset.holdout].min()


def test_days_that_many_rows_share_in_no_order_do_not_split_by_time(tmp_path: Path) -> None:
    days = [f"2024-01-{i % 28 + 1:02d}" for i in range(600)]
    assert result_of(make_system(tmp_path, churn(600) | {"since": days}, "left"))["split"]["method"] == "random"


def test_an_id_that_several_rows_share_splits_by_group(tmp_path: Path) -> None:
    table = churn(600) | {"patient_id": np.random.default_rng(1).integers(1000, 1150, 600).tolist()}
    workspace = make_system(tmp_path, table, "left")
    dataset = loaded(workspace)
    assert (dataset.method, dataset.schema.column("patient_id").role) == ("group", "entity")
    assert dataset.groups is not None
    assert set(dataset.groups[dataset.train]) & set(dataset.groups[dataset.holdout]) == set()


def test_the_spec_names_time_and_entity(tmp_path: Path) -> None:
    table = churn(600) | {
        "since": [f"2024-01-{i % 28 + 1:02d}" for i in range(600)],
        "house": [i % 90 for i in range(600)],
    }
    by_time = loaded(make_system(tmp_path / "a", table, "left", more='time = "since"\n[split]\ngap = "2d"\n'))
    by_group = loaded(make_system(tmp_path / "b", table, "left", more='entity = "house"\n'))
    assert (by_time.method, by_group.method) == ("time", "group")
    assert len(by_time.train) + len(by_time.holdout) < 600


def test_a_split_that_the_data_suggest_gives_way_where_it_leaves_a_class_out(tmp_path: Path) -> None:
    """All late rows are of one class; nobody asked for a split by time."""
    table = bikes() | {"late": ["a", "b"] * 100 + ["a"] * 100}
    assert result_of(make_system(tmp_path, table, "late"))["split"]["method"] == "random"


def test_a_weight_is_given_to_training_and_is_no_feature(tmp_path: Path) -> None:
    table = churn() | {"w": [float(i % 3) for i in range(200)]}
    dataset = loaded(make_system(tmp_path, table, "left", more='[columns.w]\nrole = "weight"\n'))
    assert dataset.weight is not None
    assert (dataset.weight[:4].tolist(), "w" in Boundary.from_schema(dataset.schema).required) == ([0, 1, 2, 0], False)


def test_every_look_at_the_holdout_leaves_a_line(tmp_path: Path) -> None:
    dataset = loaded(make_system(tmp_path, churn(), "left"))
    opened = [dataset.open_holdout("a test").opened, dataset.open_holdout("again").opened]
    lines = [json.loads(line) for line in (tmp_path / "work" / "holdout.jsonl").read_text().splitlines()]
    assert (opened, [(line["reason"], line["rows"], line["data"]) for line in lines]) == (
        [1, 2],
        [("a test", 40, dataset.digest), ("again", 40, dataset.digest)],
    )


def test_folds_lie_within_the_training_rows(tmp_path: Path) -> None:
    dataset = loaded(make_system(tmp_path, churn(), "left", more="[split]\nfolds = 3\n"))
    assert [set(fit) | set(valid) for fit, valid in dataset.folds()] == [set(dataset.train)] * 3


def test_a_dataset_is_loaded_from_its_snapshot_when_the_source_is_gone(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left")
    digest = result_of(workspace)["digest"]
    (tmp_path / "rows.csv").unlink()
    assert load(workspace, digest).table.rows == 200


def test_without_a_copy_a_changed_source_is_refused(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left", more='snapshot = "digest"\n')
    result = result_of(workspace)
    assert (result["snapshot"]["path"], load(workspace, result["digest"]).table.rows) == ("", 200)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="run `validate` again"):
        load(workspace, result["digest"])


def test_several_files_are_one_snapshot(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left")
    text = (tmp_path / "rows.csv").read_text().splitlines(keepends=True)
    (tmp_path / "part1.csv").write_text("".join(text[:101]))
    (tmp_path / "part2.csv").write_text("".join([text[0], *text[101:]]))
    path = tmp_path / "system.toml"
    path.write_text(path.read_text().replace("rows.csv", "part*.csv"))
    workspace = Workspace.open(tmp_path, workspace.reporter)
    result = result_of(workspace)
    names = sorted(file.name for file in (tmp_path / result["snapshot"]["path"]).iterdir())
    assert (names, loaded(workspace).table.rows) == (["0000-part1.csv", "0001-part2.csv"], 200)


def test_masked_columns_are_blank_in_the_rows_that_are_kept(tmp_path: Path) -> None:
    table = churn() | {"email": [f"user{i}@mail.example" for i in range(200)]}
    dataset = loaded(make_system(tmp_path, table, "left"))
    assert dataset.records(np.array([3]))[0]["email"] == ""


@pytest.mark.parametrize(
    ("target", "kind", "more", "code"),
    [
        ("lefd", "binary", "", "no_target"),
        ("country", "binary", "", "constant_target"),
        ("country", "regression", "", "wrong_kind"),
        ("plan", "binary", "", "wrong_kind"),
        ("left", "multiclass", "", "wrong_kind"),
        ("left", "regression", "", "wrong_kind"),
        ("customer", "multiclass", "", "wrong_kind"),
        ("left", "binary", '[columns.tenur]\nrole = "ignore"\n', "no_column"),
        ("left", "binary", 'time = "since"\n', "no_column"),
        ("left", "binary", 'time = "plan"\n', "no_order"),
        ("left", "binary", '[columns.plan]\nrole = "weight"\n', "bad_weight"),
    ],
)
def test_a_task_that_the_data_do_not_fit_is_refused(
    tmp_path: Path, target: str, kind: str, more: str, code: str
) -> None:
    assert refused(tmp_path, churn(), target, kind, more).code == code


def test_a_positive_label_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    workspace = make_system(tmp_path, churn(), "left")
    path = tmp_path / "system.toml"
    path.write_text(path.read_text().replace('target = "left"', 'target = "left"\npositive = "yes"'))
    with pytest.raises(DataError, match="it has 'No', 'Yes'"):
        validate(Workspace.open(tmp_path, workspace.reporter))


def test_a_number_target_with_one_value_is_constant(tmp_path: Path) -> None:
    assert refused(tmp_path, churn() | {"same": [3] * 200}, "same", "regression").code == "constant_target"


def test_too_few_rows_with_a_target_are_refused(tmp_path: Path) -> None:
    table = churn()
    table["left"] = [label if i < 19 else None for i, label in enumerate(table["left"])]
    error = refused(tmp_path, table, "left")
    assert (error.code, "only 19 rows" in error.message) == ("too_few_rows", True)


def test_a_table_with_nothing_to_predict_from_is_refused_with_why(tmp_path: Path) -> None:
    table = {name: churn()[name] for name in ("customer", "country", "left")}
    error = refused(tmp_path, table, "left")
    assert (error.code, "'country' has the same value" in error.message) == ("no_features", True)


def test_labels_that_are_numbers_are_read_by_their_value(tmp_path: Path) -> None:
    table = churn() | {"left": ["1.0" if label == "Yes" else "0" for label in churn()["left"]]}
    dataset = loaded(make_system(tmp_path, table, "left"))
    assert (dataset.schema.task.labels, dataset.schema.task.positive) == (("0", "1"), "1")


def test_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    table = churn() | {"grade": [str(i % 11) for i in range(200)]}
    dataset = loaded(make_system(tmp_path, table, "grade", "multiclass"))
    assert dataset.schema.task.labels == tuple(str(i) for i in range(11))
