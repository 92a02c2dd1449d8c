"""Encoders: what they learn, that ONNX and numpy agree on them, and that target means never see their own row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem.compile.features import SEPARATOR, feature_model
from mlsystem.compile.session import Rows, Session
from mlsystem.features.arrays import Floats, Texts
from mlsystem.features.encoders import MANY_LEVELS, Features, Targets, fit_curve, fit_features
from mlsystem.features.native import dense_matrix, tree_matrix
from mlsystem.features.out_of_fold import PARTS, means_for_fit, parts_of
from tests.blueprint.made_rows import churn

NORMAL = np.random.default_rng(0).normal(size=4000)


def fitted(rows: int = 600) -> tuple[Features, Rows]:
    numbers, strings, target = churn(rows)
    boundary = Rows(np.column_stack(list(numbers.values())), np.column_stack(list(strings.values())))
    return fit_features(boundary.numbers, boundary.strings, binary_targets(target)), boundary


def binary_targets(target: np.ndarray) -> Targets:
    return Targets(target[:, None].astype(np.float64), np.ones(len(target)))


FEATURES, BOUNDARY = fitted()
SESSION = Session(feature_model(FEATURES, "tree", "dense"))


def assert_graph_equals_native(numbers: Floats, strings: Texts) -> None:
    tree, dense = SESSION.run(Rows(numbers, strings), "tree", "dense")
    np.testing.assert_array_equal(tree, tree_matrix(FEATURES, numbers, strings).astype(np.float64))
    np.testing.assert_allclose(dense, dense_matrix(FEATURES, numbers, strings), rtol=0, atol=1e-12)


def test_the_graph_and_numpy_encode_the_same_rows_alike() -> None:
    """Tree columns bit by bit, dense columns to the last digits."""
    assert_graph_equals_native(BOUNDARY.numbers, BOUNDARY.strings)


@settings(max_examples=150)
@given(
    numbers=st.lists(st.tuples(*[st.floats(allow_subnormal=True)] * 2), min_size=1, max_size=5),
    strings=st.lists(
        st.tuples(*[st.one_of(st.text(max_size=8), st.sampled_from(["", "monthly", "city 3"]))] * 2),
        min_size=5,
        max_size=5,
    ),
)
def test_the_graph_and_numpy_agree_on_any_row(
    numbers: list[tuple[float, float]], strings: list[tuple[str, str]]
) -> None:
    """Infinities, missing values, denormals, any text."""
    assert_graph_equals_native(np.array(numbers), np.array(strings[: len(numbers)], object))


def test_a_level_belongs_to_its_column_alone() -> None:
    """The same text in another column, or a text that looks like a prefixed key, is unseen there."""
    level = FEATURES.levels[1].names[0]
    odd = np.array([[level, f"0{SEPARATOR}monthly"], [f"1{SEPARATOR}{level}", "monthly"]], object)
    (tree,) = SESSION.run(Rows(np.zeros((2, 2)), odd), "tree")
    assert tree[:, 2:4].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_rare_levels_are_encoded_like_unseen_ones() -> None:
    column = np.array(["often"] * 300 + ["also"] * 200 + ["once"], object)[:, None]
    features = fit_features(np.zeros((501, 0)), column, binary_targets(np.arange(501) % 2))
    assert features.levels[0].names == ("often", "also")
    asked = np.array([["often"], ["also"], ["once"], ["never"], [""]], object)
    assert tree_matrix(features, np.zeros((5, 0)), asked)[:, 0].tolist() == [2.0, 1.0, 0.0, 0.0, 0.0]


def test_columns_with_many_levels_alone_get_target_means() -> None:
    assert FEATURES.encoded == (1,)
    assert len(FEATURES.levels[0].names) <= MANY_LEVELS < len(FEATURES.levels[1].names)


def test_an_unseen_level_has_the_mean_of_the_target() -> None:
    unseen = np.array([["monthly", "nowhere"]], object)
    assert tree_matrix(FEATURES, np.zeros((1, 2)), unseen)[0, 4] == np.float32(FEATURES.prior[0])


def test_a_number_gets_the_normal_score_of_its_rank() -> None:
    """A skewed number becomes the normal one that it was made of."""
    features = fit_features(np.exp(2 * NORMAL)[:, None], np.zeros((4000, 0), object), binary_targets(NORMAL > 0))
    scores = dense_matrix(features, np.exp(2 * NORMAL)[:, None], np.zeros((4000, 0), object))[:, 0]
    inner = np.abs(NORMAL) < 2
    assert np.abs(scores - NORMAL)[inner].max() < 0.25


@pytest.mark.parametrize("rows", [100, 4000])
def test_scores_never_leave_their_range(rows: int) -> None:
    """However far a number lies outside of what was seen, its score stays at the end of the curve."""
    curve = fit_curve(NORMAL[:rows])
    features = Features((curve,), (), (0.5,))
    far = np.array([[-np.inf], [-1e300], [1e300], [np.inf]])
    scores = dense_matrix(features, far, np.zeros((4, 0), object))[:, 0]
    assert scores.tolist() == [curve.scores[0], curve.scores[0], curve.scores[-1], curve.scores[-1]]
    assert np.abs(scores).max() <= 5.0


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [3.0, 3.0], [np.inf, -np.inf]], ids=str)
def test_a_number_without_variety_says_nothing(values: list[float]) -> None:
    curve = fit_curve(np.array(values))
    assert set(curve.scores) == {0.0}


def test_missing_numbers_score_like_the_median_and_raise_a_flag() -> None:
    values = np.array([[1.0], [2.0], [4.0], [np.nan]])
    features = fit_features(values, np.zeros((4, 0), object), binary_targets(np.array([0, 1, 0, 1])))
    dense = dense_matrix(features, values, np.zeros((4, 0), object))
    assert dense[3].tolist() == [dense[1, 0], 1.0]
    assert dense[:3, 1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("groups", "time"), [(None, None), ("groups", None), (None, "time")])
def test_a_target_mean_does_not_know_its_own_row(groups: str | None, time: str | None) -> None:
    """Whatever the targets of a part are, the means given to that part stay the same, to the bit."""
    generator = np.random.default_rng(5)
    codes, values = generator.integers(4, size=(200, 1)), generator.random((200, 1))
    parts = parts_of(
        200,
        groups=generator.integers(30, size=200).astype(str).astype(object) if groups else None,
        time=generator.permutation(200).astype(float) if time else None,
        seed=1,
    )
    for part in range(PARTS):
        changed = values.copy()
        changed[parts == part] = 1e3
        before, after = (
            means_for_fit(codes, (3,), Targets(v, np.ones(200)), parts)[parts == part] for v in (values, changed)
        )
        np.testing.assert_array_equal(before, after)


def test_rows_of_a_group_are_in_one_part() -> None:
    groups = np.random.default_rng(6).integers(20, size=300).astype(str).astype(object)
    parts = parts_of(300, groups=groups, time=None, seed=3)
    assert all(len(set(parts[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    assert len(set(parts.tolist())) == PARTS


def test_parts_in_time_are_stretches() -> None:
    time = np.random.default_rng(7).permutation(100).astype(float)
    assert np.all(np.diff(parts_of(100, groups=None, time=time, seed=0)[np.argsort(time)]) >= 0)


def test_a_column_of_noise_looks_useful_in_sample_and_useless_out_of_fold() -> None:
    """300 levels of pure noise: means of a row's own target correlate with it, honest ones do not."""
    generator = np.random.default_rng(8)
    target = generator.integers(2, size=3000)
    column = generator.integers(300, size=3000).astype(str).astype(object)[:, None]
    targets = binary_targets(target)
    features = fit_features(np.zeros((3000, 0)), column, targets)
    in_sample = tree_matrix(features, np.zeros((3000, 0)), column)[:, 1]
    places = {name: place + 1 for place, name in enumerate(features.levels[0].names)}
    codes = np.array([[places.get(text, 0)] for text in column[:, 0]])
    honest = means_for_fit(codes, (len(places),), targets, parts_of(3000, groups=None, time=None, seed=0))[:, 0]
    assert np.corrcoef(in_sample, target)[0, 1] > 0.25
    assert np.corrcoef(honest, target)[0, 1] < 0.05
