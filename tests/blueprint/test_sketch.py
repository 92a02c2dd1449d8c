"""Sketches: counting traffic in a fixed size, adding up, storing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsystem.errors import DataError
from mlsystem.monitoring.profile import Feature, Profile
from mlsystem.monitoring.sketch import LATENCY_EDGES_S, Sketch, words_of
from tests.blueprint.monitored import profile, sketched, traffic

PROFILE = Profile(
    numbers=(Feature(name="age", column="age", kind="number", edges=(20.0, 40.0), counts=()),),
    strings=(
        Feature(name="plan", column="plan", kind="category", levels=("a", "b"), others=("c",), counts=()),
        Feature(
            name="note", column="note", kind="text", edges=(2.0,), vocabulary=tuple(words_of("good bad")), counts=()
        ),
    ),
    answers=(Feature(name="probability of yes", column="", kind="number", edges=(0.5,), counts=()),),
    labels=("no", "yes"),
    rows=0,
)


def test_every_value_is_counted_in_its_bin() -> None:
    """A value on an edge belongs below it; missing, rest and unseen have bins of their own."""
    sketch = Sketch.empty(PROFILE)
    ages = np.array([[20.0], [20.5], [99.0], [np.nan]])
    texts = np.array([["a", "good Bad"], ["c", "good worse still"], ["new", ""], ["", "ugly"]], dtype=object)
    sketch.update(ages, texts, np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.1, 0.9]]))
    counted = {f.name: sketch.counts[p].tolist() for f, p in zip(PROFILE.features, PROFILE.places, strict=True)}
    assert counted == {
        "age": [1, 1, 1, 1],
        "plan": [1, 0, 1, 1, 1],
        "note": [2, 1, 1],
        "probability of yes": [2, 2, 0],
    }
    assert (sketch.rows, sketch.sums.tolist(), sketch.words.tolist()) == (4, [[139.5, 20.0, 99.0]], [[0, 0], [6, 3]])
    assert [feature.bins for feature in PROFILE.features[:2]] == [
        ("up to 20", "20 to 40", "above 40", "missing"),
        ("a", "b", "rest", "unseen", "missing"),
    ]


def test_levels_beyond_a_long_list_are_the_rest() -> None:
    """Where the contract does not list all levels, one that it does not list need not be new."""
    feature = Feature(name="city", column="city", kind="category", levels=("x",), complete=False, counts=())
    value = Feature(name="predicted", column="predicted", kind="number", edges=(0.0,), counts=())
    sketch = Sketch.empty(Profile(numbers=(), strings=(feature,), answers=(value,), rows=0))
    sketch.update(np.empty((2, 0)), np.array([["x"], ["y"]], dtype=object), np.array([[-1.0], [3.0]]))
    assert sketch.counts.tolist() == [1, 1, 0, 0, 1, 1, 0]


def test_answers_of_many_labels_are_the_label_and_its_probability() -> None:
    """Multiclass answers are counted by label and by how sure the model was."""
    label = Feature(name="predicted label", column="", kind="category", levels=("a", "b", "c"), counts=())
    sure = Feature(name="sure", column="", kind="number", edges=(0.6,), counts=())
    sketch = Sketch.empty(Profile(numbers=(), strings=(), answers=(label, sure), labels=("a", "b", "c"), rows=0))
    sketch.update(np.empty((2, 0)), np.empty((2, 0), object), np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]]))
    assert sketch.counts.tolist() == [1, 0, 1, 0, 0, 0, 1, 1, 0]


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 300), max_size=4), seed=st.integers(0, 1000))
def test_parts_add_up_to_the_whole(cuts: list[int], seed: int) -> None:
    """However rows come and by however many workers, the sum of the sketches is the sketch of all rows."""
    known, seen = profile(), traffic(seed, 300, missing=0.1, plan="other")
    parts = Sketch.empty(known)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 300], strict=True):
        part = Sketch.empty(known)
        part.update(seen.numbers[start:end], seen.strings[start:end], seen.scores[start:end])
        part.observe(np.full(end - start, 0.003), refused=1)
        parts.merge(Sketch.from_bytes(part.to_bytes(), known))
    whole = sketched(known, seen)
    assert (parts.rows, parts.counts.tolist()) == (300, whole.counts.tolist())
    assert np.allclose(parts.sums, whole.sums, rtol=1e-12)
    assert (int(parts.latency.sum()), parts.refused) == (300, len(cuts) + 1)


def test_a_sketch_is_as_large_after_many_rows_as_after_few() -> None:
    """What is stored does not grow with the traffic."""
    known = profile()
    few, many = (len(sketched(known, traffic(1, rows)).to_bytes()) for rows in (10, 100_000))
    assert many - few < 16
    assert many < 2000


def test_a_sketch_of_other_bins_is_refused() -> None:
    """Counts of one version's bins mean nothing in another's."""
    stored = sketched(profile(seed=1), traffic(1)).to_bytes()
    with pytest.raises(DataError, match="belongs to another version"):
        Sketch.from_bytes(stored, profile(seed=2))


def test_damaged_bytes_are_told_apart() -> None:
    """A window that cannot be read is an error with a code, not a crash."""
    stored = sketched(profile(), traffic(1)).to_bytes()
    with pytest.raises(DataError, match="cannot be read") as refused:
        Sketch.from_bytes(stored[:-9], profile())
    assert refused.value.code == "bad_sketch"


def test_quantiles_of_answer_times_are_linear_within_a_bin() -> None:
    """As Prometheus has it, so that both tell the same."""
    sketch = Sketch.empty(profile())
    assert sketch.latency_ms(0.99) is None
    sketch.observe(np.array([0.0004] * 80 + [0.04] * 19 + [60.0]))
    told = [sketch.latency_ms(quantile) for quantile in (0.4, 0.8, 0.895, 0.99, 1.0)]
    assert told == pytest.approx([0.5, 1.0, 35.0, 50.0, 2000 * LATENCY_EDGES_S[-1]])
