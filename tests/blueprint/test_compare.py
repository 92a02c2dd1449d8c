"""`compare`: two versions side by side, measured on the same rows."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlsystem.compare import compare
from mlsystem.errors import RegistryError
from mlsystem.registry import Note, registry_of
from mlsystem.serving.package import SCHEMA
from mlsystem.versions import read_version
from tests.blueprint.made_versions import opened, two_versions

NOTE = Note("a test", "", {"outcome": "success", "servable": True})


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="module")
def found(system: Path) -> dict[str, Any]:
    return compared(system, 1, 2)


def compared(root: Path, a: int, b: int) -> dict[str, Any]:
    return compare(opened(root), Namespace(first=a, second=b))


def test_the_rows_of_both_are_told_with_what_changed_in_the_contract(found: dict[str, Any]) -> None:
    data = found["data"]
    assert (data["a"]["rows"], data["b"]["rows"], data["same"]) == (240, 360, False)
    assert data["contract"] == [{"column": "country", "change": "removed", "text": "country is no longer there"}]


def test_the_spec_is_compared_key_by_key(found: dict[str, Any]) -> None:
    assert {item["key"]: (item["a"], item["b"]) for item in found["spec"]} == {
        "search.seed": (7, 8),
        "search.families": ((), ("linear",)),
    }


def test_quality_is_measured_on_rows_that_neither_was_trained_on(found: dict[str, Any]) -> None:
    """The other rows of the holdout are left out, and that is told; the look at the holdout is on record."""
    metrics = found["metrics"]
    assert (metrics["rows"] + metrics["seen_by_a"], metrics["holdout_of"], metrics["seen_by_a"] > 0) == (72, 2, True)
    assert "trained on" in metrics["text"]
    assert list(metrics["values"]) == [
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier",
        "ece",
        "accuracy",
        "f1_macro",
    ]


def test_differences_have_an_interval_and_a_verdict(found: dict[str, Any]) -> None:
    for name, row in found["metrics"]["values"].items():
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["low"] <= row["high"]
        sure = row["low"] > 0 or row["high"] < 0
        assert (row["better"] != "neither") == sure, name


def test_size_and_latency_are_of_both(found: dict[str, Any]) -> None:
    assert found["size_mb"]["a"] > found["size_mb"]["b"] > 0
    assert {name: sorted(found["latency_ms"][name]) for name in "ab"} == {"a": ["p50", "p99"], "b": ["p50", "p99"]}
    assert found["latency_ms"]["ratio"] > 0


def test_the_summary_says_it_in_sentences(found: dict[str, Any]) -> None:
    text = "\n".join(found["summary"])
    for piece in ("240 and 360 rows", "country is no longer there", "search.seed: 7 -> 8", "roc_auc: A ", "Size: "):
        assert piece in text


def test_a_look_at_the_holdout_is_counted_in_the_system(system: Path, found: dict[str, Any]) -> None:
    assert found["metrics"]["rows"] > 0
    lines = (system / "work" / "holdout.jsonl").read_text().splitlines()
    reasons = [msgspec.json.decode(line, type=dict[str, Any])["reason"] for line in lines]
    assert reasons[-1] == "compare 1 2"


def test_a_version_is_no_better_than_itself(system: Path) -> None:
    told = compared(system, 2, 2)
    values = told["metrics"]["values"]
    assert (told["data"]["same"], told["spec"], told["data"]["contract"], told["metrics"]["seen_by_a"]) == (
        True,
        [],
        [],
        0,
    )
    assert {(row["difference"], row["low"], row["high"], row["better"]) for row in values.values()} == {
        (0.0, 0.0, 0.0, "neither")
    }


def test_what_cannot_be_measured_is_told_with_its_reason(system: Path) -> None:
    """The rows of the one are nowhere, those of the other lack a column that the model needs."""
    registry = registry_of(opened(system))
    one, two = (read_version(registry, number) for number in (1, 2))
    validated = {name: ref for name, ref in two.entry.data.items() if name.startswith("validate/")}
    manifest = two.files["manifest.json"].replace(two.snapshot.digest.encode(), b"0" * 64)
    gone, _ = registry.register({**two.files, "manifest.json": manifest}, "no rows", NOTE, data=validated)
    schema = one.files[SCHEMA].replace(b'"plan"', b'"scheme"')
    renamed, _ = registry.register({**two.files, SCHEMA: schema}, "a column of another name", NOTE, data=two.entry.data)
    texts = [compared(system, a, b)["metrics"]["text"] for a, b in ((1, gone), (renamed, 2))]
    assert texts[0].startswith("not measured: the rows of version")
    assert texts[1] == "not measured: the rows of version 2 lack scheme"


def test_a_version_that_is_not_there_is_named(system: Path) -> None:
    with pytest.raises(RegistryError, match="there is no version 99"):
        compared(system, 1, 99)
