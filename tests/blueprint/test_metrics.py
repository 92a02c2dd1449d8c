"""Metrics against scikit-learn's, and what their intervals stand on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as scikit_learn

from mlsystem.evaluation.bootstrap import Resampling, intervals, paired_interval
from mlsystem.evaluation.metrics import (
    CLASSIFICATION,
    REGRESSION,
    SMALLER_IS_BETTER,
    Kind,
    gain,
    metrics_of,
    primary,
    score,
    scorer,
)
from mlsystem.features.arrays import Floats, Ints

ROWS = 400

reference: Any = scikit_learn


def classified(classes: int, seed: int = 0) -> tuple[Ints, Floats, Floats]:
    """Target, probabilities with many ties, weights."""
    generator = np.random.default_rng(seed)
    target = generator.integers(classes, size=ROWS)
    scores = np.round(generator.normal(size=(ROWS, classes)) + 1.5 * np.eye(classes)[target], 1)
    powers = np.exp(scores)
    return target, powers / powers.sum(axis=1, keepdims=True), generator.integers(1, 4, ROWS).astype(float)


def expected(metric: str, target: Ints, probabilities: Floats, weight: Floats) -> float:
    answer, one_hot = probabilities.argmax(axis=1), np.eye(probabilities.shape[1])[target]
    ranked: Any = (target, probabilities[:, 1]) if probabilities.shape[1] == 2 else (one_hot, probabilities)
    compute: dict[str, Any] = {
        "roc_auc": lambda: reference.roc_auc_score(*ranked, sample_weight=weight, average="macro"),
        "average_precision": lambda: reference.average_precision_score(*ranked, sample_weight=weight),
        "log_loss": lambda: reference.log_loss(target, probabilities, sample_weight=weight),
        "brier": lambda: reference.brier_score_loss(
            target, probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities, sample_weight=weight
        ),
        "accuracy": lambda: reference.accuracy_score(target, answer, sample_weight=weight),
        "f1_macro": lambda: reference.f1_score(target, answer, average="macro", sample_weight=weight),
    }
    return float(compute[metric]())


@pytest.mark.parametrize("metric", sorted(set(CLASSIFICATION) - {"ece"}))
@pytest.mark.parametrize("classes", [2, 4])
def test_a_metric_of_labels_equals_the_reference_with_weights_and_ties(metric: str, classes: int) -> None:
    target, probabilities, weight = classified(classes)
    kind: Kind = "binary" if classes == 2 else "multiclass"
    found = score(metric, kind, target, probabilities, weight)
    assert found == pytest.approx(expected(metric, target, probabilities, weight), abs=1e-12)


def test_metrics_of_numbers_equal_the_reference_with_weights() -> None:
    generator = np.random.default_rng(1)
    target, value = generator.normal(size=ROWS), generator.normal(size=(ROWS, 1))
    weight = generator.random(ROWS)
    assert {metric: score(metric, "regression", target, value, weight) for metric in REGRESSION} == pytest.approx(
        {
            "mae": reference.mean_absolute_error(target, value[:, 0], sample_weight=weight),
            "rmse": reference.root_mean_squared_error(target, value[:, 0], sample_weight=weight),
            "r2": reference.r2_score(target, value[:, 0], sample_weight=weight),
        }
    )


def test_calibration_error_is_the_mean_gap_of_bins_of_equally_many_rows() -> None:
    """Ten rows a bin, one bin a probability; the positives of each bin are off by a tenth."""
    share = np.repeat(np.arange(0.05, 1.0, 0.1), 10)
    target = np.tile(np.arange(10), 10) < np.repeat(np.arange(10), 10)
    answers = np.column_stack([1 - share, share])
    assert score("ece", "binary", target.astype(np.int64), answers, np.ones(100)) == pytest.approx(0.05)


def test_calibration_error_of_several_classes_is_about_the_predicted_one() -> None:
    target, answers = np.array([0, 1, 2, 2]), np.tile([0.2, 0.2, 0.6], (4, 1))
    assert score("ece", "multiclass", target, answers, np.ones(4)) == pytest.approx(0.1)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_a_ranking_of_rows_without_positives_is_undefined(metric: str) -> None:
    target, probabilities, _ = classified(2)
    assert np.isnan(score(metric, "binary", target, probabilities, (target == 0).astype(float)))


def test_every_kind_has_its_metrics_and_one_that_decides() -> None:
    assert {
        kind: (primary(kind, "auto"), len(metrics_of(kind))) for kind in ("binary", "multiclass", "regression")
    } == {
        "binary": ("roc_auc", 7),
        "multiclass": ("log_loss", 7),
        "regression": ("mae", 3),
    }
    assert primary("binary", "log_loss") == "log_loss"


@pytest.mark.parametrize("metric", [*CLASSIFICATION, *REGRESSION])
def test_a_gain_is_positive_for_what_is_better(metric: str) -> None:
    better, worse = (0.1, 0.3) if metric in SMALLER_IS_BETTER else (0.3, 0.1)
    assert gain(metric, better, worse) == pytest.approx(0.2)


def test_an_unknown_metric_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="accuracy"):
        scorer("accuracy", "regression", np.zeros(1), np.zeros((1, 1)))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Mean absolute error of 60 normal errors, 150 samples: 95 % within binomial noise."""
    truth, hits = np.sqrt(2 / np.pi), 0
    for seed in range(150):
        errors = np.random.default_rng(seed).normal(size=60)
        run = scorer("mae", "regression", np.zeros(60), errors[:, None])
        ((low, high),) = intervals([run], Resampling(np.ones(60), seed=seed))
        hits += low <= truth <= high
    assert 0.87 <= hits / 150 <= 0.99


def test_resamples_are_the_same_for_the_same_seed() -> None:
    one, again, other = (next(Resampling(np.ones(50), seed=seed).draws()).tolist() for seed in (1, 1, 2))
    assert (one == again, one == other) == (True, False)


def test_rows_in_time_are_drawn_in_stretches_of_neighbours() -> None:
    """Drawn rows are shuffled in the table; in the order of time a stretch of ten has one count."""
    time = np.random.default_rng(0).permutation(100).astype(float)
    for weight in Resampling(np.ones(100), time=time).draws():
        assert weight.sum() == 100
        steps = np.count_nonzero(np.diff(weight[np.argsort(time)]))
        assert steps <= 20


def test_rows_of_a_group_are_drawn_together() -> None:
    groups = np.repeat(np.array(["a", "b", "c", "d"], object), [1, 5, 2, 7])
    for weight in Resampling(np.ones(15), groups=groups).draws():
        assert all(len(set(weight[groups == group].tolist())) == 1 for group in "abcd")


def test_dependent_errors_in_time_have_a_wider_interval_than_independent_ones() -> None:
    """Errors that last for twenty rows hold fewer facts than rows."""
    errors = np.repeat(np.random.default_rng(3).normal(size=20), 20)
    run = scorer("mae", "regression", np.zeros(400), errors[:, None])
    resamplings = Resampling(np.ones(400), time=np.arange(400.0)), Resampling(np.ones(400))
    blocks, rows = (np.diff(intervals([run], resampling)[0])[0] for resampling in resamplings)
    assert blocks > 2 * rows


def test_a_paired_interval_sees_what_two_intervals_cannot() -> None:
    """Two models with nearly the same errors: their intervals overlap, their difference is certain."""
    errors = np.abs(np.random.default_rng(4).normal(size=200)) + 1.0
    target = np.zeros(200)
    better = scorer("mae", "regression", target, errors[:, None])
    worse = scorer("mae", "regression", target, errors[:, None] + 0.02)
    resampling = Resampling(np.ones(200))
    (_, high), (low, _) = intervals([better, worse], resampling)
    assert high > low
    assert paired_interval(worse, better, resampling) == pytest.approx((0.02, 0.02))


def test_resamples_in_which_a_metric_is_undefined_are_left_out() -> None:
    target = np.array([1, *[0] * 9])
    run = scorer("roc_auc", "binary", target, np.column_stack([1.0 - target, target]))
    assert intervals([run], Resampling(np.ones(10))) == [(1.0, 1.0)]
