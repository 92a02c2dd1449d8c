"""Splits: nobody learns from what is held out, nor from the future, nor from the same person."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsystem.data.split import Method, Order, Split, folds, split_rows
from mlsystem.errors import DataError

DAY_S = 86_400.0


def order(rows: int = 200, **changes: Any) -> Order:
    draw = np.random.default_rng(4)
    given_order: dict[str, Any] = {
        "target": (draw.random(rows) < 0.2).astype(np.intp),
        "classes": True,
        "time": draw.permutation(rows) * DAY_S,
        "groups": np.array([f"g{i}" for i in draw.integers(0, max(rows // 5, 2), rows)], dtype=object),
    }
    return Order(**given_order | changes)


def parted(given_order: Order, method: Method, **changes: Any) -> Split:
    settings: dict[str, Any] = {"holdout": 0.2, "gap_s": 0.0, "seed": 7}
    return split_rows(given_order, method, **settings | changes)


METHODS: tuple[Method, ...] = ("time", "group", "random")


@given(
    rows=st.integers(20, 300),
    method=st.sampled_from(METHODS),
    holdout=st.floats(0.05, 0.5),
    seed=st.integers(0, 9),
)
def test_every_row_is_on_one_side_and_the_same_seed_gives_the_same_sides(
    rows: int, method: Method, holdout: float, seed: int
) -> None:
    numbers = order(rows, target=np.arange(rows) % 17.0, classes=False)
    first, second = (parted(numbers, method, holdout=holdout, seed=seed) for _ in range(2))
    assert sorted([*first.train.tolist(), *first.holdout.tolist()]) == list(range(rows))
    assert (first.train.tolist(), first.holdout.tolist()) == (second.train.tolist(), second.holdout.tolist())


def test_a_split_by_time_holds_out_the_latest_rows() -> None:
    given_order = order()
    split = parted(given_order, "time")
    assert given_order.time is not None
    assert (len(split.holdout), given_order.time[split.train].max() < given_order.time[split.holdout].min()) == (
        40,
        True,
    )


def test_rows_of_one_moment_stay_on_one_side() -> None:
    time = np.repeat(np.arange(10) * DAY_S, 20)
    split = parted(order(time=time), "time", holdout=0.15)
    assert set(time[split.train]) & set(time[split.holdout]) == set()


def test_a_gap_leaves_out_what_comes_just_before_the_holdout() -> None:
    given_order = order()
    split = parted(given_order, "time", gap_s=10 * DAY_S)
    assert given_order.time is not None
    assert given_order.time[split.holdout].min() - given_order.time[split.train].max() > 10 * DAY_S
    assert (len(split.train), len(split.holdout)) == (150, 40)


def test_rows_of_unknown_time_are_never_held_out() -> None:
    time = np.arange(200) * DAY_S
    time[190:] = np.nan
    assert set(range(190, 200)) <= set(parted(order(time=time), "time").train.tolist())


def test_a_split_by_group_keeps_every_group_together() -> None:
    given_order = order()
    split = parted(given_order, "group")
    assert given_order.groups is not None
    assert set(given_order.groups[split.train]) & set(given_order.groups[split.holdout]) == set()
    assert 0.2 <= len(split.holdout) / 200 < 0.3


def test_a_split_by_group_leaves_a_group_to_learn_from() -> None:
    """Two entities, and either is too small alone for the share that is asked for."""
    groups = np.array(["a"] * 96 + ["b"] * 104, dtype=object)
    split = parted(order(groups=groups), "group", holdout=0.5, seed=3)
    assert {len(split.train), len(split.holdout)} == {96, 104}


def test_a_random_split_takes_the_same_share_of_every_class() -> None:
    given_order = order(1000)
    split = parted(given_order, "random")
    shares = [float(given_order.target[side].mean()) for side in (split.train, split.holdout)]
    assert abs(shares[0] - shares[1]) < 0.003


def test_a_random_split_takes_the_same_share_of_every_range_of_numbers() -> None:
    target = np.exp(np.random.default_rng(1).normal(size=1000))
    split = parted(order(1000, target=target, classes=False), "random")
    means = [float(np.log(target[side]).mean()) for side in (split.train, split.holdout)]
    assert abs(means[0] - means[1]) < 0.05


def test_a_class_of_one_row_is_learned_from_and_not_held_out() -> None:
    target = np.array([0, 1] * 99 + [0, 2], dtype=np.intp)
    assert 199 in parted(order(target=target), "random").train


def test_copies_of_a_row_are_on_one_side_and_in_one_fold() -> None:
    """A model that knows a row by heart would otherwise be measured on that very row."""
    copies = np.tile(np.arange(100), 3)
    given_order = order(300, target=np.tile(np.arange(100) % 2, 3), copies=copies)
    split = parted(given_order, "random")
    dealt = folds(given_order, split.train, "random", count=4, gap_s=0.0, seed=7)
    sides = [(split.train, split.holdout), *dealt]
    assert [set(copies[fit]) & set(copies[valid]) for fit, valid in sides] == [set()] * 5
    assert (len(split.holdout), sum(len(valid) for _, valid in dealt)) == (60, 240)


def test_a_gap_is_refused_where_nothing_is_split_by_time() -> None:
    """It would be without effect, and its owner would believe in it."""
    with pytest.raises(DataError) as refused:
        parted(order(), "random", gap_s=DAY_S)
    assert refused.value.message == (
        "split.gap needs an order in time, and the split is random: "
        "name the column of dates in data.time, or remove split.gap"
    )


def test_a_split_that_leaves_one_side_with_a_single_class_is_refused() -> None:
    """All of one class late in time: nothing could be measured."""
    target = np.array([0, 1] * 80 + [0] * 40, dtype=np.intp)
    with pytest.raises(DataError) as refused:
        parted(order(target=target, time=np.arange(200) * DAY_S), "time")
    assert (refused.value.code, "split.method = 'random'" in refused.value.message) == ("bad_split", True)


@pytest.mark.parametrize("method", ["time", "group"])
def test_a_split_without_its_column_is_refused(method: Method) -> None:
    with pytest.raises(DataError, match="needs a column to go by"):
        parted(order(time=None, groups=None), method)


def test_a_time_that_never_changes_gives_no_order() -> None:
    with pytest.raises(DataError, match="no two different moments"):
        parted(order(time=np.zeros(200)), "time")


@pytest.mark.parametrize("method", METHODS)
def test_folds_validate_on_training_rows_that_were_not_fitted_on(method: Method) -> None:
    given_order = order()
    train = parted(given_order, method).train
    made = folds(given_order, train, method, count=4, gap_s=0.0, seed=7)
    assert len(made) == 4
    for fit, valid in made:
        assert (set(fit) & set(valid), set(fit) | set(valid) <= set(train)) == (set(), True)


@pytest.mark.parametrize("method", ["group", "random"])
def test_every_training_row_is_validated_once(method: Method) -> None:
    given_order = order()
    train = parted(given_order, method).train
    made = folds(given_order, train, method, count=5, gap_s=0.0, seed=7)
    assert sorted(row for _, valid in made for row in valid.tolist()) == train.tolist()


def test_folds_of_a_time_split_are_windows_that_grow() -> None:
    given_order = order()
    train = parted(given_order, "time").train
    assert given_order.time is not None
    made = folds(given_order, train, "time", count=4, gap_s=3 * DAY_S, seed=7)
    sizes = [len(fit) for fit, _ in made]
    assert sizes == sorted(sizes)
    for fit, valid in made:
        assert given_order.time[valid].min() - given_order.time[fit].max() > 3 * DAY_S


def test_folds_of_a_group_split_keep_groups_together() -> None:
    given_order = order()
    assert given_order.groups is not None
    for fit, valid in folds(given_order, np.arange(200), "group", count=5, gap_s=0.0, seed=7):
        assert set(given_order.groups[fit]) & set(given_order.groups[valid]) == set()


def test_folds_of_a_random_split_have_the_classes_in_equal_shares() -> None:
    given_order = order(1000)
    made = folds(given_order, np.arange(1000), "random", count=5, gap_s=0.0, seed=7)
    assert np.ptp([given_order.target[valid].sum() for _, valid in made]) <= 1
