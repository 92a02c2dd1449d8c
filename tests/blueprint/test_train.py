"""Training: what is chosen, that it is the same every time, that the holdout stays unseen and the budget holds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import mlsystem
from mlsystem.compile.members import Trees
from mlsystem.compile.session import Rows, Session
from mlsystem.data.dataset import Dataset
from mlsystem.errors import DataError
from mlsystem.evaluation.metrics import gain
from mlsystem.features.arrays import Floats
from mlsystem.output import Reporter
from mlsystem.spec import Data, Search, Spec, Task
from mlsystem.train.baselines import fit_baselines
from mlsystem.train.calibrate import SLOPES, fit_calibration
from mlsystem.train.candidate import Candidate
from mlsystem.train.clock import Clock
from mlsystem.train.command import Run, as_problem, fit
from mlsystem.train.ensemble import choose
from mlsystem.train.problem import Fold, Problem
from mlsystem.train.record import LINEAR, MODEL, Record, read_record
from mlsystem.train.search import Outcome, Settings, search
from tests.blueprint.made_rows import BUNDLED, Bundled, bundled, churn, demand, made, records, write_system

SILENT = Reporter("json")


def trained(dataset: Dataset, out: Path, **options: Any) -> tuple[dict[str, Any], Record]:
    out.mkdir(exist_ok=True)
    spec = Spec(
        format=1,
        name="made",
        task=Task(kind=dataset.schema.task.kind, target="target"),
        data=Data(source=("rows.csv",)),
        search=msgspec.structs.replace(Search(), **options),
    )
    return fit(dataset, spec, out, Run(Clock.start(60), SILENT)), read_record(out)


def churned(rows: int = 700, seed: int = 0) -> Dataset:
    numbers, strings, target = churn(rows, seed)
    return made("binary", numbers, strings, target)


def searched(dataset: Dataset, budget_s: float = 60.0, **settings: Any) -> Outcome:
    return search(as_problem(dataset, "auto", 7), Settings(**settings), Clock.start(budget_s), SILENT)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_kind_of_task_is_learnt_far_better_than_trivially(name: Bundled, tmp_path: Path) -> None:
    """Out of fold, beside the baselines of the same record."""
    _, record = trained(bundled(name), tmp_path)
    worth = {
        "breast_cancer": ("roc_auc", 0.45),
        "iris": ("log_loss", 0.8),
        "wine": ("log_loss", 0.9),
        "diabetes": ("mae", 15.0),
    }
    metric, least = worth[name]
    assert record.metric == metric
    assert all(gain(metric, record.score, baseline.score) > least for baseline in record.baselines)
    assert all(compiled.row_ms < 1.0 for compiled in record.compiled.values())


def test_the_result_names_what_was_tried_and_what_it_became(tmp_path: Path) -> None:
    result, record = trained(churned(), tmp_path)
    names = {"linear", "lightgbm_small", "lightgbm", "lightgbm_random"}
    assert set(result) == {"candidates", "ensemble", "calibration", "metric", "trials", "wall_s"}
    assert {candidate["name"] for candidate in result["candidates"]} == names
    assert all(set(c) == {"name", "family", "score", "metric", "wall_s"} for c in result["candidates"])
    scores = [candidate["score"] for candidate in result["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert set(result["ensemble"]) <= names
    assert sum(result["ensemble"].values()) == pytest.approx(1.0)
    assert (result["metric"], result["trials"], record.seed, record.rows) == ("roc_auc", 4, 7, 560)
    assert {path.name for path in tmp_path.iterdir()} == {MODEL, LINEAR, "native.json", "train.json"}
    assert {"numpy", "lightgbm", "python", "mlsystem"} <= set(record.versions)
    assert record.platform["machine"]


def test_the_same_rows_and_seed_give_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    for threads in (1, 2):
        trained(churned(300), tmp_path / str(threads), threads=threads, families=("lightgbm",))
    assert (tmp_path / "1" / MODEL).read_bytes() == (tmp_path / "2" / MODEL).read_bytes()


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    for seed in (1, 2):
        trained(churned(300), tmp_path / str(seed), seed=seed, families=("lightgbm",))
    assert (tmp_path / "1" / MODEL).read_bytes() != (tmp_path / "2" / MODEL).read_bytes()


def test_the_holdout_does_not_reach_the_model(tmp_path: Path) -> None:
    """Other targets and other values in the held-out rows change not one byte."""
    numbers, strings, target = churn(300)
    whole = made("binary", numbers, strings, target)
    spoiled_target, spoiled_numbers = target.copy(), whole.encoded.numbers.copy()
    spoiled_target[whole.holdout] = 1 - spoiled_target[whole.holdout]
    spoiled_numbers[whole.holdout] = 1e6
    spoiled = replace(whole, target=spoiled_target, encoded=replace(whole.encoded, numbers=spoiled_numbers))
    for name, dataset in (("whole", whole), ("spoiled", spoiled)):
        trained(dataset, tmp_path / name)
    assert (tmp_path / "whole" / MODEL).read_bytes() == (tmp_path / "spoiled" / MODEL).read_bytes()


def test_rows_without_weight_do_not_reach_the_members() -> None:
    """A third of the rows has the opposite label and no weight: they neither teach nor judge."""
    numbers, strings, target = churn(900)
    wrong = np.arange(900) % 3 == 0
    turned = np.where(wrong, 1 - target, target)
    weighed = searched(made("binary", numbers, strings, turned, weight=(~wrong).astype(float))).score
    assert weighed > searched(made("binary", numbers, strings, turned)).score + 0.1


def test_families_that_are_not_wanted_are_not_shipped() -> None:
    """Linear is fitted all the same: every model is compared with it."""
    trees = searched(churned(), families=("lightgbm",))
    linear = searched(churned(), families=("linear",))
    assert "linear" not in {item.name for item in trees.model.members}
    assert [item.name for item in trees.linear.members] == ["linear"]
    assert [candidate.name for candidate in linear.candidates] == ["linear"]


def test_a_tie_ships_the_simpler_model_where_that_is_preferred() -> None:
    """The truth is linear; on a curved one trees are shipped even so."""
    generator = np.random.default_rng(2)
    columns = generator.normal(size=(400, 3))
    numbers = {name: columns[:, place] for place, name in enumerate("abc")}
    straight = made("regression", numbers, {}, columns @ [1.0, 2.0, -1.0] + generator.normal(size=400))
    curved = made("regression", numbers, {}, 3 * np.abs(columns[:, 0] * columns[:, 1]))
    shipped = [{item.name for item in searched(d, prefer="simple").model.members} for d in (straight, curved)]
    assert shipped[0] == {"linear"}
    assert shipped[1] - {"linear"}


def test_what_does_not_fit_into_the_budget_is_skipped_and_named() -> None:
    """A clock on which every look costs a second: linear fits, nothing else does."""
    ticks = itertools.count()
    clock = Clock(4.0, 0.0, now=lambda: float(next(ticks)))
    outcome = search(as_problem(churned(), "auto", 7), Settings(), clock, SILENT)
    assert [candidate.name for candidate in outcome.candidates] == ["linear"]
    assert {skipped.name for skipped in outcome.skipped} == {"lightgbm_small", "lightgbm", "lightgbm_random"}
    assert all("budget" in skipped.reason for skipped in outcome.skipped)


def test_a_fit_that_takes_too_long_is_cut_and_says_so() -> None:
    """Each look at the clock costs half a second: rounds end long before early stopping would."""
    ticks = itertools.count()
    clock = Clock(200.0, 0.0, now=lambda: next(ticks) / 2)
    outcome = search(as_problem(churned(), "auto", 7), Settings(families=("lightgbm",)), clock, SILENT)
    cut = [candidate.notes["cut"] for candidate in outcome.candidates if candidate.family == "lightgbm"]
    assert True in cut


def test_a_budget_is_not_filled_up() -> None:
    clock = Clock.start(600.0)
    search(as_problem(churned(), "auto", 7), Settings(), clock, SILENT)
    assert clock.spent < 60.0


def test_folds_that_cover_all_rows_are_a_bag_and_folds_in_time_are_refitted() -> None:
    """Folds along time see too little of the data to be a bag."""
    numbers, target, time = demand(400)
    in_time = searched(made("regression", numbers, {}, target, by=("time", time)))
    at_random = searched(bundled("breast_cancer"))
    found = [outcome.candidates[1].notes["boosters"] for outcome in (at_random, in_time)]
    assert found == [5, 1]


def test_a_bag_that_would_be_too_large_is_refitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlsystem.train.trees.MOST_STEPS", 10)
    outcome = searched(churned(), families=("lightgbm",))
    assert {candidate.notes["boosters"] for candidate in outcome.candidates[1:]} == {1}


def test_a_few_huge_values_do_not_pull_the_model_away_from_most_rows() -> None:
    """Judged by the absolute error, it has to be learnt too: the mean of a long tail is worse than the median."""
    draw = np.random.default_rng(0)
    cause, noise = draw.normal(size=400), draw.normal(size=400)
    found = searched(
        made("regression", {"cause": cause, "other": noise}, {}, np.exp(2 * cause + draw.normal(size=400)))
    )
    median = next(baseline.score for baseline in found.baselines if baseline.name == "median")
    assert "lightgbm_median" in {member.name for member in found.model.members}
    assert found.score < 0.9 * median


def test_the_last_value_is_a_baseline_that_is_told_and_not_gated() -> None:
    numbers, target, time = demand(300)
    shuffled = np.random.default_rng(0).permutation(300)
    columns = {name: values[shuffled] for name, values in numbers.items()}
    dataset = made("regression", columns, {}, target[shuffled], by=("time", time[shuffled]))
    found = {b.name: (b.values[0], b.gated) for b in fit_baselines(as_problem(dataset, "auto", 7))}
    train = target[:240]
    assert found == {
        "mean": (pytest.approx(train.mean()), True),
        "median": (pytest.approx(np.sort(train)[119]), True),
        "last": (train[-1], False),
    }


def test_a_class_too_rare_for_every_fold_is_still_answered(tmp_path: Path) -> None:
    """Three rows of a third class, none of them in some fits."""
    generator = np.random.default_rng(3)
    target = np.r_[np.zeros(100), np.ones(97), [2, 2, 2]].astype(np.int64)
    numbers = {"a": target + generator.normal(0, 0.3, 200)}
    groups = np.array([f"g{place % 10}" for place in range(197)] + ["rare"] * 3, object)
    trained(made("multiclass", numbers, {}, target, by=("group", groups)), tmp_path)
    asked = Rows(np.array([[0.0], [1.0]]), np.zeros((2, 0), object))
    (probabilities,) = Session((tmp_path / MODEL).read_bytes()).run(asked, "probabilities")
    assert probabilities.shape == (2, 3)
    assert probabilities.argmax(axis=1).tolist() == [0, 1]


def test_a_fold_with_one_class_alone_does_not_stop_the_search() -> None:
    """In time, the first positive may come late."""
    generator = np.random.default_rng(4)
    time = np.arange(600.0)
    value = generator.normal(size=600)
    target = ((value > 0) & (time > 150)).astype(np.int64)
    outcome = searched(made("binary", {"value": value}, {}, target, by=("time", time)))
    assert outcome.score > 0.9


def test_levels_of_noise_do_not_mislead_the_model() -> None:
    """Two hundred levels that say nothing beside one number that says something."""
    generator = np.random.default_rng(5)
    number = generator.normal(size=2500)
    target = (generator.random(2500) < 1 / (1 + np.exp(-2 * number))).astype(np.int64)
    noise = np.array([f"level {place}" for place in generator.integers(200, size=2500)], object)
    dataset = made("binary", {"number": number}, {"noise": noise}, target)
    alone = made("binary", {"number": number}, {}, target)
    scores = [searched(d, families=("lightgbm",)).score for d in (dataset, alone)]
    assert scores[0] > scores[1] - 0.02


def test_rows_without_a_feature_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column is left to learn from"):
        trained(made("binary", {}, {}, np.arange(100) % 2), tmp_path)


def binary_problem(probabilities: Floats, seed: int = 0) -> Problem:
    generator = np.random.default_rng(seed)
    rows = len(probabilities)
    target = (generator.random(rows) < probabilities).astype(np.int64)
    parts = np.arange(rows) % 5
    folds = [Fold(np.flatnonzero(parts != part), np.flatnonzero(parts == part)) for part in range(5)]
    nothing = Rows(np.zeros((rows, 1)), np.zeros((rows, 0), object))
    return Problem(
        kind="binary", classes=2, metric="auto", rows=nothing, target=target, weight=np.ones(rows), folds=folds
    )


TRUTH = 1 / (1 + np.exp(-np.random.default_rng(9).normal(0, 2, 3000)))


@pytest.mark.parametrize("exaggeration", [0.5, 3.0])
def test_probabilities_that_exaggerate_are_straightened(exaggeration: float) -> None:
    odds = np.log(TRUTH / (1 - TRUTH)) * exaggeration
    output = (1 / (1 + np.exp(-odds)))[:, None]
    calibration, losses = fit_calibration(binary_problem(TRUTH), output, np.arange(3000))
    assert calibration.method == "platt"
    assert calibration.slope == pytest.approx(1 / exaggeration, rel=0.1)
    assert losses["with"] < losses["without"]
    assert np.abs(calibration.apply(output)[:, 0] - TRUTH).max() < 0.05


def test_probabilities_that_are_right_are_left_alone() -> None:
    calibration, losses = fit_calibration(binary_problem(TRUTH), TRUTH[:, None], np.arange(3000))
    assert calibration.method == "none"
    assert losses["with"] > losses["without"] * (1 - 1e-3)


def test_a_calibration_is_never_steeper_than_allowed() -> None:
    """Outputs that say nearly nothing about labels that they separate perfectly."""
    problem = binary_problem(np.r_[np.zeros(500), np.ones(500)])
    output = np.r_[np.full(500, 0.49), np.full(500, 0.51)][:, None]
    calibration, _ = fit_calibration(problem, output, np.arange(1000))
    assert calibration.slope == pytest.approx(SLOPES[1])


def candidate(name: str, oof: Floats) -> Candidate:
    return Candidate(name, "lightgbm", Trees((), 1), oof[:, None], 0.0, 0.0)


def test_an_ensemble_takes_members_that_err_differently_and_no_others() -> None:
    generator = np.random.default_rng(10)
    odds = np.log(TRUTH / (1 - TRUTH))
    one, two = (1 / (1 + np.exp(-odds - generator.normal(0, 1.5, 3000))) for _ in range(2))
    noise = generator.random(3000)
    found = choose(binary_problem(TRUTH), [candidate("one", one), candidate("two", two), candidate("noise", noise)])
    assert set(found) == {"one", "two"}
    assert found["one"] == pytest.approx(0.5, abs=0.15)
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_member_that_adds_nothing_leaves_the_best_alone() -> None:
    found = choose(binary_problem(TRUTH), [candidate("right", TRUTH), candidate("again", TRUTH * 0.999)])
    assert found == {"right": 1.0}


def test_a_terminated_training_ends_promptly_and_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM once the first member is fitted, while LightGBM works in other threads."""
    numbers, strings, target = churn(40_000)
    rows = records({**numbers, **strings, "left": np.where(target, "Yes", "No").astype(object)})
    spec = '[task]\nkind = "binary"\ntarget = "left"\n[data]\nsource = ["rows.csv"]\n'
    system = write_system(tmp_path / "system", rows, spec)
    environment = {**os.environ, "PYTHONPATH": str(Path(mlsystem.__file__).parents[1])}
    command = [sys.executable, "-m", "mlsystem"]
    subprocess.run([*command, "validate", "--json"], cwd=system, env=environment, check=True, capture_output=True)
    with subprocess.Popen([*command, "train", "--jsonl"], cwd=system, env=environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        events = (json.loads(line) for line in child.stdout)
        next(event for event in events if event["event"] == "progress" and event["message"].startswith("linear:"))
        child.send_signal(signal.SIGTERM)
        last = list(events)[-1]
        code = child.wait(timeout=20)
    assert (code, last["ok"], last["error"]["code"]) == (143, False, "terminated")
    assert list((system / "work" / "train").iterdir()) == []
