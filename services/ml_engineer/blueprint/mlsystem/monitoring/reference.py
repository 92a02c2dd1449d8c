"""Makes the profile of a model, once, when it is evaluated.

Owns choosing bins and counting the training rows into them; answers are counted on the held-out rows, since a model
is surer of rows that it was fitted on. With a season the answers come from all rows: a holdout in time lacks most
phases. Needs training's libraries; everything else of monitoring does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from msgspec import structs

from mlsystem.boundary import Boundary
from mlsystem.compile.session import Rows, Session
from mlsystem.data.dataset import Dataset
from mlsystem.errors import DataError
from mlsystem.features.arrays import Floats, Ints, Texts
from mlsystem.monitoring.drift import stretch_of
from mlsystem.monitoring.importance import importances
from mlsystem.monitoring.profile import MAX_LEVELS, REFERENCE_ROWS, Feature, Profile, phase_count, phases
from mlsystem.monitoring.sketch import Sketch, words_of
from mlsystem.schema import Column, Schema

BINS: Final = 10
"""Bins of equally many training rows: the thresholds for PSI that the field uses (0.1, 0.25) stand on ten."""

_VOCABULARY: Final = 5000
_MOST_BLOCKS: Final = 50
_EVERY_VALUE: Final = 20
"""Numbers with so few different values get a bin for each."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows and what the model says about them; `phase` of the season, below 0 where it is not known."""

    rows: Rows
    scores: Floats
    phase: Ints


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a model besides its rows."""

    schema: Schema
    metric: str = ""
    season: str = ""
    importance: Mapping[str, float] = field(default_factory=dict[str, float])
    """By column of the source."""
    time: Floats | None = None
    """When the training rows were known, seconds since 1970 UTC; None without dates."""


def make_profile(dataset: Dataset, model: bytes, holdout: Ints, *, metric: str, season: str) -> Profile:
    """Return the profile of a compiled model; DataError if a season is asked for and the rows have no dates."""
    times = _times(dataset, season)
    train, held = (_scored(dataset, model, rows, season) for rows in (dataset.train, holdout))
    told = held if not season else _scored(dataset, model, np.sort(np.r_[dataset.train, holdout]), season)
    columns = columns_of(Boundary.from_schema(dataset.schema), dataset.schema)
    shares = importances(dataset, model, holdout, metric, columns)
    time = None if times is None else times[dataset.train]
    return profile_of(About(dataset.schema, metric, season, shares, time), train, told)


def profile_of(about: About, train: Scored, told: Scored) -> Profile:
    """Return the profile of training rows, and of the answers to `told`."""
    schema, boundary = about.schema, Boundary.from_schema(about.schema)
    columns = columns_of(boundary, schema)
    dated = {column.name for column in schema.inputs if column.type in {"date", "datetime"}}
    numbers = [
        _number(name, train.rows.numbers[:, i], dated=columns[name] in dated) for i, name in enumerate(boundary.numbers)
    ]
    strings = [_string(schema.column(name), train.rows.strings[:, i]) for i, name in enumerate(boundary.strings)]
    known = None if about.time is None or np.isnan(about.time).all() else about.time
    blank = Profile(
        numbers=tuple(numbers),
        strings=tuple(strings),
        answers=tuple(_answers(schema, told.scores)),
        labels=schema.task.labels,
        rows=len(train.scores),
        season=about.season,
        metric=about.metric,
        newest=None if known is None else float(np.nanmax(known)),
    )
    usual = _usual(blank, train, known)
    return _counted(blank, train, told, [(columns.get(f.name, f.name), u) for f, u in usual], about.importance)


def columns_of(boundary: Boundary, schema: Schema) -> dict[str, str]:
    """Return the source's column of every tensor column: `when:month` is a part of `when`."""
    names = [column.name for column in schema.inputs]
    found = {name: name for name in boundary.strings}
    for part in boundary.numbers:
        found[part] = max((name for name in names if part == name or part.startswith(f"{name}:")), key=len)
    return found


def _times(dataset: Dataset, season: str) -> Floats | None:
    """Return the times of all rows, None if the rows have no dates."""
    if season and dataset.dates is None:
        text = "monitoring.season needs dates: name a column of dates in data.time, or remove it"
        raise DataError("no_dates", text + (" (of dates of people no more than the order is kept)" * dataset.ordinal))
    return dataset.dates


def _scored(dataset: Dataset, model: bytes, rows: Ints, season: str) -> Scored:
    picked = Rows(dataset.encoded.numbers[rows], dataset.encoded.strings[rows])
    output = "value" if dataset.schema.task.kind == "regression" else "probabilities"
    phase = np.zeros(len(rows), np.int64)
    if season and dataset.dates is not None:
        known = np.nan_to_num(dataset.dates[rows], nan=0.0)
        phase = np.where(np.isnan(dataset.dates[rows]), -1, phases(known, season))
    return Scored(picked, Session(model).run(picked, output)[0], phase)


def _number(name: str, values: Floats, *, dated: bool = False) -> Feature:
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) and not dated else None
    edges = () if dated else _edges(known)
    return Feature(name=name, column=name, kind="number", edges=edges, counts=(), mean=mean)


def _edges(known: Floats) -> tuple[float, ...]:
    """Return the edges of ten bins of equally many rows; between the values where there are few of them."""
    values = np.unique(known)
    if len(values) <= _EVERY_VALUE:
        return tuple(((values[1:] + values[:-1]) / 2).tolist())
    return tuple(np.unique(np.quantile(known, np.arange(1, BINS) / BINS)).tolist())


def _string(column: Column, values: Texts) -> Feature:
    """Describe a column of texts; of a category, no level is told but those that the contract tells."""
    name = column.name
    if column.type == "text":
        return _text(name, values)
    seen: Counter[str] = Counter(values.tolist())
    ranked = [level for level, _ in seen.most_common() if level]
    told: frozenset[str] = frozenset() if column.pii else frozenset(column.levels)
    known = [level for level in ranked if level in told]
    levels, others = tuple(known[:MAX_LEVELS]), tuple(known[MAX_LEVELS:])
    complete = len(known) == len(ranked)
    return Feature(name=name, column=name, kind="category", levels=levels, others=others, complete=complete, counts=())


def _text(name: str, values: Texts) -> Feature:
    words = [words_of(text) for text in values.tolist() if text]
    lengths = np.array([len(parts) for parts in words], np.float64)
    vocabulary = Counter(word for parts in words for word in parts).most_common(_VOCABULARY)
    known = tuple(sorted(word for word, _ in vocabulary))
    unknown = 1 - sum(count for _, count in vocabulary) / max(int(lengths.sum()), 1)
    return Feature(
        name=name, column=name, kind="text", edges=_edges(lengths), vocabulary=known, unknown=unknown, counts=()
    )


def _answers(schema: Schema, scores: Floats) -> list[Feature]:
    """Return what is counted of the answers."""
    task = schema.task
    if task.kind == "regression":
        return [_number(f"predicted {task.target}", scores[:, 0])]
    if len(task.labels) == 2:
        return [_number(f"probability of {task.positive or task.labels[1]}", scores[:, 1])]
    label = Feature(name="predicted label", column="", kind="category", levels=task.labels[:MAX_LEVELS], counts=())
    return [label, _number("probability of the predicted label", scores.max(axis=1))]


def _usual(blank: Profile, train: Scored, time: Floats | None) -> list[tuple[Feature, float]]:
    """Return how far stretches of training, in the order of time, were from all of it at most.

    0 without dates, and with a season: then every phase is compared with itself.
    """
    blocks = 0 if time is None or blank.season else min(len(time) // REFERENCE_ROWS, _MOST_BLOCKS)
    if time is None or blocks < 2:
        return [(feature, 0.0) for feature in blank.features]
    block = np.empty(len(time), np.int64)
    block[np.argsort(time, kind="stable")] = np.arange(len(time)) * blocks // len(time)
    parts = [_sketch(blank, replace(train, phase=block), i).counts for i in range(blocks)]
    whole = np.sum(parts, axis=0)
    return [
        (feature, max(stretch_of(whole[place], part[place]) for part in parts))
        for feature, place in zip(blank.features, blank.places, strict=True)
    ]


def _counted(
    blank: Profile, train: Scored, told: Scored, facts: list[tuple[str, float]], importance: Mapping[str, float]
) -> Profile:
    """Return the profile with the reference's counts, phase by phase, and what is known of each feature."""
    seen = [_sketch(blank, train, phase) for phase in range(phase_count(blank.season))]
    said = [_sketch(blank, told, phase) for phase in range(phase_count(blank.season))]

    def filled(i: int) -> Feature:
        sketches = said if i >= len(blank.features) - len(blank.answers) else seen
        column, usual = facts[i]
        return structs.replace(
            blank.features[i],
            counts=tuple(tuple(sketch.counts[blank.places[i]].tolist()) for sketch in sketches),
            column=column,
            importance=importance.get(column, 0.0),
            usual=usual,
        )

    features = [filled(i) for i in range(len(blank.features))]
    first, last = len(blank.numbers), len(features) - len(blank.answers)
    return structs.replace(
        blank, numbers=tuple(features[:first]), strings=tuple(features[first:last]), answers=tuple(features[last:])
    )


def _sketch(blank: Profile, scored: Scored, phase: int) -> Sketch:
    sketch, rows = Sketch.empty(blank), scored.phase == phase
    sketch.update(scored.rows.numbers[rows], scored.rows.strings[rows], scored.scores[rows])
    return sketch
