"""Drift: effect sizes without noise, false alarms, what is caught, seasons, and the profile that all stands on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from mlsystem.compile.session import Rows
from mlsystem.data.dataset import load
from mlsystem.errors import DataError
from mlsystem.monitoring.drift import Drift, drifts, effect_of
from mlsystem.monitoring.profile import Profile, phases
from mlsystem.monitoring.reference import About, Scored, make_profile, profile_of
from mlsystem.schema import Column, Schema, TaskSchema
from mlsystem.spec import Monitoring
from tests.bench.drift import tables
from tests.bench.drift.trial import quiet, shifted
from tests.blueprint import small_system
from tests.blueprint.made_tables import make_system
from tests.blueprint.monitored import Traffic, profile, sketched, traffic

DAY = 86_400.0


def _of(known: Profile, seen: Traffic, name: str, at: float = 0.0) -> Drift:
    found = drifts(known, sketched(known, seen), Monitoring(), start=at, end=at + 3600)
    return next(drift for drift in found if drift.feature.name == name)


def test_psi_is_the_textbook_sum_over_bins() -> None:
    """Population stability index: the sum of (q - p) ln(q / p)."""
    before, now = np.array([500_000, 300_000, 200_000]), np.array([400_000, 300_000, 300_000])
    p, q = before / before.sum(), now / now.sum()
    assert effect_of(before, now) == pytest.approx(float(((q - p) * np.log(q / p)).sum()), abs=1e-4)


def test_noise_of_small_windows_is_taken_off() -> None:
    """Without drift the raw index of a small window is about (bins - 1)(1/n + 1/m); the effect is near none."""
    known = profile()
    found = [_of(known, traffic(seed, 500), "tenure") for seed in range(100, 160)]
    raw, left = np.mean([drift.psi for drift in found]), np.mean([drift.effect for drift in found])
    assert raw == pytest.approx(9 * (1 / 500 + 1 / 4000), rel=0.2)
    assert left < raw / 3


@pytest.fixture(scope="module")
def bundled() -> list[tables.Table]:
    return [table for table in tables.bundled() if table.name in {"diabetes", "wine"}]


def test_stationary_windows_of_real_tables_raise_no_alarm(bundled: list[tables.Table]) -> None:
    """The promise is one alarm in 1,000 windows; `python -m tests.bench.drift` plays 10,000 of nine tables."""
    assert sum(quiet(table, 40, np.random.default_rng(3), references=4).alarms for table in bundled) == 0


def test_a_shift_of_the_stated_size_is_caught_within_three_windows(bundled: list[tables.Table]) -> None:
    """PSI 0.25 in one feature, in windows of the fewest rows that are judged."""
    found = [shifted(table, 0.25, 10, np.random.default_rng(4)) for table in bundled]
    assert sum(one.caught for one in found) >= 19


def test_a_feature_that_hardly_matters_does_not_alert() -> None:
    """An effect counts by the importance of its column; it is told as a warning all the same."""
    known, seen = profile(), traffic(9, plan="gold")
    light, heavy = (
        _of(structs.replace(known, strings=(structs.replace(known.strings[0], importance=share),)), seen, "plan")
        for share in (0.005, 0.25)
    )
    assert (light.level, light.weight, light.effect > 3, light.unseen[1] > 0.4) == ("warn", 0.02, True, True)
    assert (heavy.level, heavy.weight, heavy.effect) == ("alert", 1.0, light.effect)


def test_what_training_itself_did_is_no_drift() -> None:
    """A feature that moved as far within training must move farther to be told at all."""
    known, seen = profile(), traffic(9, tenure=9.0)
    effect = _of(known, seen, "tenure").effect
    restless = structs.replace(known.numbers[0], usual=2 * effect)
    calm = structs.replace(known, numbers=(restless, *known.numbers[1:]))
    assert [_of(one, seen, "tenure").level for one in (known, calm)] == ["alert", "none"]


def test_dates_move_on_and_only_their_absence_is_drift() -> None:
    """Every window is later than training; that alone alerts nobody."""
    known, seen = profile(), traffic(9)
    later = Traffic(seen.numbers + np.array([0, 0, 900, 5, 3, 100]), seen.strings)
    gone = Traffic(np.where(np.arange(6) >= 2, np.nan, seen.numbers), seen.strings)
    assert [_of(known, one, "joined").effect > 1 for one in (later, gone)] == [False, True]


def _texts(*texts: str) -> np.ndarray[tuple[int, int], np.dtype[np.object_]]:
    return np.array([texts] * 150, dtype=object).reshape(-1, 1)


def test_a_text_drifts_by_its_length_and_by_words_that_training_did_not_have() -> None:
    """Words are known by checksums, so that the profile holds no text of anybody."""
    columns = (
        Column(name="note", type="text"),
        Column(name="plan", type="category"),
        Column(name="y", type="number", role="target"),
    )
    schema = Schema(task=TaskSchema(kind="regression", target="y"), columns=columns)
    known_texts = _texts("good day", "a bad day today", "", "Good")
    task = Scored(
        Rows(np.empty((600, 0)), np.hstack([known_texts, known_texts])), np.zeros((600, 1)), np.zeros(600, int)
    )
    made = profile_of(About(schema, importance={"note": 0.9, "plan": 0.1}), task, task)
    assert (made.strings[0].kind, len(made.strings[0].vocabulary), made.strings[0].unknown) == ("text", 5, 0.0)

    def level(*texts: str) -> tuple[str, float]:
        sketch = type(sketched(profile(), traffic(1))).empty(made)
        sketch.update(np.empty((600, 0)), np.hstack([_texts(*texts), known_texts]), np.zeros((600, 1)))
        drift = drifts(made, sketch, Monitoring(), start=0.0, end=1.0)[0]
        return drift.level, round(drift.unseen[1], 2)

    assert [
        level("good day", "a bad day today", "", "Good"),
        level("good day", "a bad day today", "good", "Good"),
        level("bon jour", "a bad day today", "", "bon"),
        level("good day " * 9, "a bad day today", "", "Good"),
    ] == [("none", 0.0), ("alert", 0.0), ("alert", 0.43), ("alert", 0.0)]


def _seasonal(season: str) -> Profile:
    """A profile of four years of a temperature that follows the year."""
    day = np.repeat(np.arange(4 * 365), 3)
    generator = np.random.default_rng(5)
    warmth = (10 - 15 * np.cos(2 * np.pi * day / 365.25) + generator.normal(0, 3, len(day)))[:, None]
    scores = np.column_stack([1 - warmth / 100, warmth / 100])
    at = np.asarray(day * DAY, np.float64)
    phase = phases(at, season) if season else np.zeros(len(day), np.int64)
    task = TaskSchema(kind="binary", target="y", labels=("no", "yes"), positive="yes")
    columns = (Column(name="warmth", type="number"), Column(name="y", type="category", role="target"))
    scored = Scored(Rows(warmth, np.empty((len(day), 0), object)), scores, phase)
    about = About(Schema(task=task, columns=columns), season=season, importance={"warmth": 1.0}, time=at)
    return profile_of(about, scored, scored)


def _winter(shift: float) -> Traffic:
    generator = np.random.default_rng(6)
    return Traffic(generator.normal(-4 + shift, 3, (600, 1)), np.empty((600, 0), object))


def test_a_season_compares_a_window_with_the_same_part_of_the_year() -> None:
    """A winter is no drift in January, and is in July; a warm January is drift."""
    known = _seasonal("365d")
    january, july = 4 * 365.25 * DAY + 15 * DAY, 4 * 365.25 * DAY + 196 * DAY
    asked = ((0.0, january), (0.0, july), (9.0, january))
    assert [_drifts(known, _winter(shift), at)[0].level for shift, at in asked] == ["none", "alert", "alert"]


def test_without_a_season_the_year_itself_says_how_far_a_feature_goes() -> None:
    """What a stretch of training was like, a window may be like too; hotter than ever is drift."""
    known = _seasonal("")
    levels = [_drifts(known, _winter(shift), 0.0)[0].level for shift in (1.0, 60.0)]
    assert (known.numbers[0].usual > 1.0, levels) == (True, ["none", "alert"])


def _drifts(known: Profile, seen: Traffic, at: float) -> tuple[Drift, ...]:
    warmth = seen.numbers[:, :1] / 100
    sketch = type(sketched(profile(), traffic(1))).empty(known)
    sketch.update(seen.numbers, seen.strings, np.column_stack([1 - warmth, warmth]))
    return drifts(known, sketch, Monitoring(), start=at, end=at + DAY)


def _small_table(rows: int = 1200) -> dict[str, list[object]]:
    seen = traffic(3, rows)
    generator = np.random.default_rng(4)
    left = np.where(generator.random(rows) < seen.scores[:, 1], "Yes", "No")
    return {
        "customer": [f"C-{i}" for i in range(rows)],
        "tenure": seen.numbers[:, 0].round(2).tolist(),
        "charges": seen.numbers[:, 1].round(2).tolist(),
        "plan": seen.strings[:, 0].tolist(),
        "joined": [f"20{10 + i % 9}-0{1 + i % 9}-1{i % 9}" for i in range(rows)],
        "left": left.tolist(),
    }


def test_the_profile_of_a_model_counts_training_rows_and_ranks_columns(tmp_path: Path) -> None:
    """Features are counted over training, answers over the holdout; importance is by the source's column."""
    from mlsystem.data.command import validate

    workspace = make_system(tmp_path / "small", _small_table(), "left")
    dataset = load(workspace, str(validate(workspace)["digest"]))
    made = make_profile(dataset, small_system.classifier(), dataset.holdout, metric="roc_auc", season="")
    counted = {f.name: sum(f.counts[0]) for f in made.features}
    train, held = len(dataset.train), len(dataset.holdout)
    names = ("tenure", "charges", "joined", "joined:month", "joined:weekday", "joined:dayofyear", "plan")
    assert counted == {**dict.fromkeys(names, train), f"probability of {made.labels[1]}": held}
    ranked = sorted({f.column: f.importance for f in made.numbers + made.strings}.items(), key=lambda one: -one[1])
    assert (ranked[0][0], ranked[0][1] > 0.5, sum(share for _, share in ranked)) == ("tenure", True, pytest.approx(1))
    assert made.strings[0].levels in (("monthly", "yearly"), ("yearly", "monthly"))
    with pytest.raises(DataError, match="needs dates"):
        make_profile(dataset, small_system.classifier(), dataset.holdout, metric="roc_auc", season="7d")
