"""Evaluation: the real commands on small systems, and every decision of the gates."""

from __future__ import annotations

import contextlib
import io
import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsystem.__main__ import main
from mlsystem.compile.parity import Parity
from mlsystem.errors import StageMissing
from mlsystem.evaluation import gates
from mlsystem.evaluation.bootstrap import Resampling
from mlsystem.evaluation.command import evaluate
from mlsystem.evaluation.gates import Gain, Gate
from mlsystem.output import Reporter
from mlsystem.stages import Workspace
from tests.blueprint.made_rows import churn, demand, records, write_system

BINARY = '[task]\nkind = "binary"\ntarget = "left"\n[data]\nsource = ["rows.csv"]\n'
IN_TIME = '[task]\nkind = "regression"\ntarget = "sold"\n[data]\nsource = ["rows.csv"]\ntime = "day"\n'
GATES = {"parity", "beats_trivial", "contract", "latency_ms_p99", "model_mb", "pii_handled"}
QUALITY = {"roc_auc", "average_precision", "log_loss", "brier", "ece", "accuracy", "f1_macro"}
SERVED = {"latency_ms_p50", "latency_ms_p99", "rows_per_s"}


def command(system: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command of the engine as its process would, and return its exit code and its JSON."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*words, "--dir", str(system), "--json"])
    return code, json.loads(out.getvalue())


def evaluated(system: Path) -> tuple[int, dict[str, Any]]:
    for words in (("validate",), ("train",)):
        code, result = command(system, *words)
        assert code == 0, result
    return command(system, "evaluate", "--latency-seconds", "0.6")


def churn_system(folder: Path, spec: str = "", *, shuffled: bool = False) -> Path:
    numbers, strings, target = churn(800)
    target = np.random.default_rng(1).permutation(target) if shuffled else target
    rows = records({**numbers, **strings, "left": np.where(target, "Yes", "No").astype(object)})
    return write_system(folder, rows, BINARY + spec)


def demand_system(folder: Path) -> Path:
    numbers, target, time = demand(500)
    days = np.array([str(np.datetime64(int(moment), "s"))[:10] for moment in time], object)
    return write_system(folder, records({**numbers, "day": days, "sold": target}), IN_TIME)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any]]:
    """A system that passes, its exit code and its result."""
    system = churn_system(tmp_path_factory.mktemp("good"), "[objectives]\nlatency_ms_p99 = 2000\n")
    return system, *evaluated(system)


def test_a_good_model_passes_every_gate(good: tuple[Path, int, dict[str, Any]]) -> None:
    _, code, result = good
    assert (code, result["ok"], result["outcome"]) == (0, True, "success")
    assert {gate["name"] for gate in result["gates"]} == GATES | {"ece"}
    assert all(gate["passed"] and gate["text"] for gate in result["gates"])


def test_the_result_has_the_shape_that_the_engineer_reads(good: tuple[Path, int, dict[str, Any]]) -> None:
    _, _, result = good
    assert set(result) - {"ok"} == {
        "digest",
        "metrics",
        "gates",
        "outcome",
        "best_baseline",
        "tie_with_linear",
        "latency",
        "memory_mb",
        "model_mb",
        "holdout",
        "own",
    }
    assert set(result["metrics"]) == QUALITY | SERVED
    assert all(set(row) == {"value", "low", "high", "baseline", "linear"} for row in result["metrics"].values())
    assert all(row["low"] <= row["value"] <= row["high"] for name, row in result["metrics"].items() if name in QUALITY)
    assert set(result["latency"]) == {"p50_ms", "p99_ms", "rate_rps", "seconds", "capacity_rps"}
    assert result["metrics"]["latency_ms_p99"]["value"] == result["latency"]["p99_ms"] > 0
    assert 20 < result["memory_mb"] < 500
    assert result["holdout"] == {"rows": 160, "opened": 1}


def test_the_model_is_measured_beside_trivial_and_linear_answers(good: tuple[Path, int, dict[str, Any]]) -> None:
    _, _, result = good
    auc = result["metrics"]["roc_auc"]
    assert (result["best_baseline"], auc["baseline"]) == ("prior", 0.5)
    assert 0.6 < auc["low"] < auc["linear"] < 1.0


def test_a_finished_evaluation_does_not_open_the_holdout_again(good: tuple[Path, int, dict[str, Any]]) -> None:
    system, _, result = good
    assert command(system, "evaluate", "--latency-seconds", "0.6") == (0, result)
    assert len((system / "work" / "holdout.jsonl").read_text().splitlines()) == 1


def test_an_evaluation_before_training_names_the_command_to_run(tmp_path: Path) -> None:
    workspace = Workspace.open(churn_system(tmp_path), Reporter("json"))
    with pytest.raises(StageMissing, match="mlsystem train"):
        evaluate(workspace, Namespace())


def test_a_model_of_noise_fails_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """The targets are shuffled: nothing can be better than the share of each class."""
    code, result = evaluated(churn_system(tmp_path, shuffled=True))
    failed = {gate["name"] for gate in result["gates"] if not gate["passed"]}
    assert (code, result["outcome"]) == (3, "failed")
    assert "beats_trivial" in failed


def test_a_wish_that_is_not_met_makes_a_partial_outcome(tmp_path: Path) -> None:
    """A server within a microsecond, and a floor no model reaches; what was asked of the model itself holds."""
    spec = "[objectives]\nlatency_ms_p99 = 0.001\n[gates]\nfloors = { roc_auc = 0.999, log_loss = 5.0 }\n"
    code, result = evaluated(churn_system(tmp_path, spec))
    decided = {gate["name"]: gate["passed"] for gate in result["gates"]}
    assert (code, result["outcome"]) == (3, "partial")
    assert {name for name, passed in decided.items() if not passed} == {"latency_ms_p99", "floor_roc_auc"}
    assert decided["floor_log_loss"] is True


def test_a_regression_in_time_is_gated_on_mean_and_median_and_tells_the_last_value(tmp_path: Path) -> None:
    code, result = evaluated(demand_system(tmp_path))
    trivial = next(gate for gate in result["gates"] if gate["name"] == "beats_trivial")
    assert (code, result["outcome"]) == (0, "success")
    assert {gate["name"] for gate in result["gates"]} == GATES
    assert set(result["metrics"]) == {"mae", "rmse", "r2"} | SERVED
    assert result["best_baseline"] in {"mean", "median"}
    assert "Against the last value of training" in trivial["text"]
    assert trivial["value"] > 0


def gate(name: str, *, passed: bool) -> Gate:
    return Gate(name, 1.0, 1.0, passed, "")


@pytest.mark.parametrize(
    ("failed", "outcome"),
    [
        ((), "success"),
        (("ece",), "partial"),
        (("latency_ms_p99", "model_mb", "floor_mae"), "partial"),
        (("parity",), "failed"),
        (("beats_trivial", "ece"), "failed"),
        (("contract",), "failed"),
    ],
    ids=str,
)
def test_the_outcome_follows_from_the_failed_gates(failed: tuple[str, ...], outcome: str) -> None:
    names = ("parity", "beats_trivial", "contract", "ece", "latency_ms_p99", "model_mb", "floor_mae")
    assert gates.outcome([gate(name, passed=name not in failed) for name in names]) == outcome


@pytest.mark.parametrize(("limit", "passed"), [(1e-5, False), (1e-3, True), (0.0, True)])
def test_parity_is_decided_by_the_largest_difference_and_reported_where_switched_off(
    limit: float, passed: bool
) -> None:
    assert gates.parity_gate(Parity(100, 1e-4, 0), limit).passed is passed


@pytest.mark.parametrize(
    ("low", "required", "passed"), [(0.01, True, True), (-0.01, True, False), (-0.01, False, True)]
)
def test_a_gain_must_be_above_zero_beyond_doubt(low: float, required: bool, passed: bool) -> None:
    assert gates.trivial_gate(Gain("mae", "mean", 0.1, low, 0.2), [], required=required).passed is passed


def calibrated(rows: int, off: float, seed: int = 0, *, times: int = 1) -> Gate:
    """The gate on probabilities that are `off` too high; every row is told `times` times."""
    generator = np.random.default_rng(seed)
    truth = np.repeat(generator.uniform(0.1, 0.7, rows), times)
    target = (np.repeat(generator.random(rows), times) < truth).astype(np.int64)
    told = truth + off
    groups = np.repeat(np.arange(rows), times).astype(object)
    resampling = Resampling(np.ones(rows * times), groups=groups, seed=1)
    return gates.calibration_gate(target, np.column_stack([1 - told, told]), resampling, 0.05)


def test_a_calibration_error_beyond_chance_fails() -> None:
    assert (calibrated(4000, 0.0).passed, calibrated(4000, 0.1).passed) == (True, False)


def test_a_few_rows_do_not_condemn_a_calibrated_model() -> None:
    """Forty rows show an error over the limit even when every probability is right; a gross one still fails."""
    found = [calibrated(40, 0.0, seed) for seed in range(40)]
    assert sum(one.value is not None and one.value > 0.05 for one in found) > 20
    assert sum(one.passed for one in found) >= 34
    assert not calibrated(40, 0.3).passed


def test_rows_that_turn_out_alike_are_worth_one() -> None:
    """Forty rows told ten times are no four hundred: they err together, by chance as much as forty do."""
    assert sum(calibrated(40, 0.0, seed, times=10).passed for seed in range(20)) >= 17


LATENCY: Mapping[str, float] = {"p99_ms": 8.0, "rate_rps": 50.0, "requests": 100, "errors": 0}


@pytest.mark.parametrize(("objective", "passed"), [(20.0, True), (5.0, False), (0.0, True)])
def test_latency_is_decided_by_the_objective(objective: float, passed: bool) -> None:
    assert gates.latency_gate(LATENCY, objective).passed is passed


def test_a_server_that_does_not_answer_breaks_the_contract_and_the_objective() -> None:
    assert not gates.contract_gate(None, "it did not start").passed
    assert not gates.contract_gate({**LATENCY, "errors": 1}, "").passed
    assert gates.contract_gate(LATENCY, "").passed
    assert not gates.latency_gate(None, 20.0).passed


def test_a_floor_is_a_least_value_or_for_losses_a_largest_one() -> None:
    values = {"roc_auc": 0.8, "log_loss": 0.5}
    decided = gates.floor_gates(values, {"roc_auc": 0.7, "log_loss": 0.4, "mae": 3.0})
    assert {one.name: one.passed for one in decided} == {
        "floor_roc_auc": True,
        "floor_log_loss": False,
        "floor_mae": False,
    }


def test_the_model_file_may_be_too_large() -> None:
    assert (gates.size_gate(19.9, 20.0).passed, gates.size_gate(20.1, 20.0).passed) == (True, False)
