"""The command `compare A B`: what two versions have in common and what not.

Owns the comparison of their rows, contracts, specs, quality, size and latency. Quality is that of both compiled
models on one set of rows, the holdout of B, with intervals of the paired difference: figures that were measured on
different rows say nothing about each other. Rows that A was trained on are left out, and told. Leaves laying the
versions out to `versions`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from mlsystem.boundary import Boundary
from mlsystem.compile.session import Rows, Session
from mlsystem.data.dataset import HOLDOUT_LOG, Dataset
from mlsystem.errors import DataError, RegistryError
from mlsystem.evaluation.bootstrap import Resampling, intervals, paired_interval
from mlsystem.evaluation.metrics import SMALLER_IS_BETTER, metrics_of, scorer
from mlsystem.features.arrays import Floats, Ints
from mlsystem.hooked import boundary_of
from mlsystem.hooks import HOOKS_FILE
from mlsystem.monitoring.drift import drifts
from mlsystem.monitoring.profile import read_profile
from mlsystem.monitoring.sketch import Sketch
from mlsystem.registry import Registry, registry_of
from mlsystem.schema import Column, Schema
from mlsystem.serving.model import Model
from mlsystem.serving.package import METRICS, MODEL, PROFILE, Package
from mlsystem.spec import settings
from mlsystem.stages import Workspace
from mlsystem.train.command import weights_of
from mlsystem.versions import Laid, Version, laid_out, read_version

FEWEST_ROWS: Final = 30
"""Rows that neither model was trained on, below which all of the holdout is used and that is told."""

_ROUNDS: Final = 300
_SHOWN_SHIFTS: Final = 20
_SIGN: Final = "\x1f"

Found = dict[str, Any]


def compare(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `compare A B`: return data, spec, metrics, size and latency of two versions side by side.

    Raises: RegistryError for a version that is not there; what cannot be compared is told with its reason.
    """
    registry = registry_of(workspace)
    a, b = (read_version(registry, number) for number in (options.first, options.second))
    workspace.reporter.progress("compare", 0.1, f"versions {a.number} and {b.number}")
    measured = _on_rows(a, b, registry, workspace)
    found: Found = {
        "versions": {"a": _about(a), "b": _about(b)},
        "data": {**_data(a, b), **measured["data"]},
        "spec": _spec(a, b),
        "metrics": measured["metrics"],
        "recorded": _recorded(a, b),
        "size_mb": {name: len(version.files[MODEL]) / 1e6 for name, version in (("a", a), ("b", b))},
        "latency_ms": _latency(a, b),
    }
    return {"summary": _summary(found), **found}


# ---- what is on record


def _about(version: Version) -> Found:
    evidence = version.entry.evidence
    return {
        "version": version.number,
        "digest": version.entry.digest,
        "at": version.entry.at,
        "by": version.entry.by,
        "outcome": evidence.get("outcome"),
        "engine": version.manifest.get("engine"),
    }


def _data(a: Version, b: Version) -> Found:
    return {
        "a": {"digest": a.snapshot.digest, "rows": a.snapshot.rows},
        "b": {"digest": b.snapshot.digest, "rows": b.snapshot.rows},
        "same": a.snapshot.digest == b.snapshot.digest,
        "contract": _contract_changes(_schema(a), _schema(b)),
    }


def _schema(version: Version) -> Schema:
    return Package(version.number, version.entry.digest, version.files).schema()


def _contract_changes(a: Schema, b: Schema) -> list[Found]:
    """Return every column and label that is not as it was, each with a sentence."""
    before, after = ({column.name: column for column in schema.columns} for schema in (a, b))
    changes: list[Found] = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after:
            changes.append({"column": name, "change": "removed", "text": f"{name} is no longer there"})
        elif name not in before:
            changes.append({"column": name, "change": "added", "text": f"{name} is new, as {_plain(after[name])}"})
        elif _plain(before[name]) != _plain(after[name]):
            text = f"{name} was {_plain(before[name])}, now {_plain(after[name])}"
            changes.append({"column": name, "change": "changed", "text": text})
    if a.task != b.task:
        text = f"predicted: {_task(a)}, now {_task(b)}"
        changes.append({"column": b.task.target, "change": "task", "text": text})
    return changes


def _plain(column: Column) -> str:
    return f"{column.type} ({column.role})"


def _task(schema: Schema) -> str:
    task = schema.task
    return f"{task.target} as {task.kind} {'/'.join(task.labels[:10])}".strip()


def _spec(a: Version, b: Version) -> list[Found]:
    """Return every key of system.toml that differs, defaults filled in."""
    one, other = (
        {key: msgspec.to_builtins(value) for key, _, value, _ in settings(version.spec)} for version in (a, b)
    )
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    texts = {key: f"{key}: {_json(one.get(key))} -> {_json(other.get(key))}" for key in keys}
    return [{"key": key, "a": one.get(key), "b": other.get(key), "text": texts[key]} for key in keys]


def _json(value: object) -> str:
    return "not set" if value is None else msgspec.json.encode(value).decode()


def _recorded(a: Version, b: Version) -> Found:
    """Return what each version's own evaluation measured, each on its own holdout."""
    values = [msgspec.json.decode(version.files[METRICS], type=dict[str, Any])["metrics"] for version in (a, b)]
    names = [name for name in values[0] if name in values[1]]
    return {name: {"a": values[0][name]["value"], "b": values[1][name]["value"]} for name in names}


# ---- what is measured now


def _on_rows(a: Version, b: Version, registry: Registry, workspace: Workspace) -> Found:
    """Return what needs the rows of both versions; the reason instead, where they are not to be had."""
    try:
        with contextlib.ExitStack() as stack:
            laid = [stack.enter_context(laid_out(version, registry, workspace)) for version in (a, b)]
            return _measured(laid[0], laid[1], workspace)
    except (RegistryError, DataError) as error:
        reason = f"not measured: {error.message}"
        return {"data": {"shift": [], "why_no_shift": reason}, "metrics": {"rows": 0, "text": reason}}


def _measured(a: Laid, b: Laid, workspace: Workspace) -> Found:
    data_a, data_b = a.load(), dataclasses.replace(b.load(), log=workspace.root / "work" / HOLDOUT_LOG)
    lacking = [name for name in Boundary.from_schema(data_a.schema).required if name not in data_b.table.columns]
    if lacking:
        reason = f"not measured: the rows of version {b.version.number} lack {', '.join(lacking)}"
        return {"data": {"shift": [], "why_no_shift": reason}, "metrics": {"rows": 0, "text": reason}}
    encoded = boundary_of(data_a.schema, a.version.files.get(HOOKS_FILE)).table(data_b.table)
    seen_by_a = Rows(encoded.numbers, encoded.strings)
    return {
        "data": {"shift": _shift(a.version, seen_by_a.pick(data_b.train))},
        "metrics": _quality(a.version, b.version, data_a, data_b, seen_by_a),
    }


def _shift(a: Version, rows: Rows) -> list[Found]:
    """Return how far the training rows of B are from those of A, feature by feature, the farthest first."""
    if PROFILE not in a.files:
        return []
    profile = read_profile(a.files[PROFILE])
    session = Session(a.files[MODEL])
    sketch = Sketch.empty(profile)
    sketch.update(rows.numbers, rows.strings, session.run(rows, _output(_schema(a)))[0])
    found = drifts(profile, sketch, a.spec.monitoring, start=0.0, end=0.0)
    moved = sorted((drift for drift in found if drift.effect > 0), key=lambda drift: -drift.effect)
    return [
        {
            "feature": drift.feature.name,
            "psi": round(drift.psi, 4),
            "effect": round(drift.effect, 4),
            "level": drift.level,
            "text": f"{drift.feature.name}: PSI {drift.psi:.3f} ({drift.level})",
        }
        for drift in moved[:_SHOWN_SHIFTS]
    ]


def _output(schema: Schema) -> str:
    return "value" if schema.task.kind == "regression" else "probabilities"


def _quality(a: Version, b: Version, data_a: Dataset, data_b: Dataset, rows: Rows) -> Found:
    """Score both models on the held-out rows of B; `rows` are all rows of B as A sees them."""
    task_a, task_b = data_a.schema.task, data_b.schema.task
    if (task_a.kind, task_a.target, set(task_a.labels)) != (task_b.kind, task_b.target, set(task_b.labels)):
        return {"rows": 0, "text": f"not measured: {_task(data_a.schema)} and {_task(data_b.schema)} are other tasks"}
    holdout = data_b.open_holdout(f"compare {a.number} {b.number}").rows
    seen = _seen(data_a, data_b, holdout)
    fresh = holdout[~seen]
    used = fresh if len(fresh) >= FEWEST_ROWS else holdout
    order = [task_a.labels.index(label) for label in task_b.labels] or [0]
    answers = {
        "a": Session(a.files[MODEL]).run(rows.pick(used), _output(data_a.schema))[0][:, order],
        "b": Session(b.files[MODEL]).run(_rows_of(data_b, used), _output(data_b.schema))[0],
    }
    return {
        "rows": len(used),
        "holdout_of": b.number,
        "seen_by_a": int(seen.sum()),
        "text": _seen_text(a.number, b.number, int(seen.sum()), len(holdout), left_out=used is fresh),
        "values": _paired(answers, data_b, used),
    }


def _rows_of(dataset: Dataset, rows: Ints) -> Rows:
    return Rows(dataset.encoded.numbers[rows], dataset.encoded.strings[rows])


def _seen(a: Dataset, b: Dataset, holdout: Ints) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which held-out rows of B have an equal among the training rows of A, in the columns that both have."""
    names = [name for name in b.table.columns if name in a.table.columns]
    known = set(_keys(a, names, a.train))
    return np.array([key in known for key in _keys(b, names, holdout)], dtype=bool)


def _keys(dataset: Dataset, names: Sequence[str], rows: Ints) -> list[str]:
    columns = [dataset.table.columns[name][rows].tolist() for name in names]
    return [_SIGN.join(values) for values in zip(*columns, strict=True)]


def _seen_text(a: int, b: int, seen: int, rows: int, *, left_out: bool) -> str:
    if not seen:
        return f"measured on the {rows:,} held-out rows of version {b}, none of which version {a} was trained on"
    what = f"version {a} was trained on {seen:,} of the {rows:,} held-out rows of version {b}"
    if left_out:
        return f"{what}; they are left out"
    return f"{what}; too few are left without them, so its figures flatter it"


def _paired(answers: Mapping[str, Floats], dataset: Dataset, rows: Ints) -> Found:
    """Return every metric of both models, with the interval of B minus A over the same resamples."""
    kind, target = dataset.schema.task.kind, dataset.target[rows]
    resampling = _resampling(dataset, rows)
    table: Found = {}
    for name in metrics_of(kind):
        one, other = (scorer(name, kind, target, answers[which]) for which in ("a", "b"))
        values = one(resampling.weight), other(resampling.weight)
        low, high = paired_interval(other, one, resampling)
        spans = intervals([one, other], resampling)
        better = _better(name, low, high)
        table[name] = {
            "a": values[0],
            "b": values[1],
            "difference": values[1] - values[0],
            "low": low,
            "high": high,
            "a_interval": list(spans[0]),
            "b_interval": list(spans[1]),
            "better": better,
        }
    return table


def _resampling(dataset: Dataset, rows: Ints) -> Resampling:
    by_group = dataset.method == "group" and dataset.groups is not None
    return Resampling(
        weight=weights_of(dataset, rows),
        time=None if by_group or dataset.time is None else np.nan_to_num(dataset.time[rows], nan=-np.inf),
        groups=dataset.groups[rows] if by_group and dataset.groups is not None else None,
        seed=dataset.seed,
    )


def _better(metric: str, low: float, high: float) -> str:
    """Return which of the two is better beyond doubt, or `neither`."""
    if not (low > 0 or high < 0):
        return "neither"
    return "b" if (high < 0) == (metric in SMALLER_IS_BETTER) else "a"


def _latency(a: Version, b: Version) -> Found:
    """Return the time of one row through contract and model, measured now, the two taking turns."""
    asks = [_asking(version) for version in (a, b)]
    times = np.empty((_ROUNDS, 2))
    for turn in range(_ROUNDS):
        for place, ask in enumerate(asks) if turn % 2 else reversed(list(enumerate(asks))):
            began = time.perf_counter()
            ask()
            times[turn, place] = (time.perf_counter() - began) * 1000
    middle, late = np.median(times, axis=0), np.quantile(times, 0.99, axis=0)
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    return {
        "a": {"p50": float(middle[0]), "p99": float(late[0])},
        "b": {"p50": float(middle[1]), "p99": float(late[1])},
        "ratio": ratio,
        "rounds": _ROUNDS,
    }


def _asking(version: Version) -> Callable[[], object]:
    model = Model(Package(version.number, version.entry.digest, version.files), name=version.spec.name)
    row = [model.example]
    return lambda: model.answer(row, strict=False)


def _summary(found: Found) -> list[str]:
    """Return what a person wants to know first, in sentences."""
    data, metrics, size, latency = found["data"], found["metrics"], found["size_mb"], found["latency_ms"]
    rows = f"{data['a']['rows']:,} and {data['b']['rows']:,} rows"
    told = [f"Data: the same {data['a']['rows']:,} rows." if data["same"] else f"Data: {rows}, not the same."]
    if data["contract"]:
        told.append(f"Contract: {'; '.join(change['text'] for change in data['contract'][:10])}.")
    moved = [item["feature"] for item in data["shift"] if item["level"] != "none"]
    if moved:
        told.append(f"Distribution: moved in {', '.join(moved[:5])}.")
    keys = [item["text"] for item in found["spec"]]
    told.append(f"Spec: {'; '.join(keys[:10])}." if keys else "Spec: the same.")
    told.append(f"Quality: {metrics['text']}.")
    for name, row in metrics.get("values", {}).items():
        verdict = {"a": "A is better", "b": "B is better", "neither": "no difference beyond chance"}[row["better"]]
        span = f"B - A = {row['difference']:+.4g} [{row['low']:+.4g}, {row['high']:+.4g}]"
        told.append(f"{name}: A {row['a']:.4g}, B {row['b']:.4g}; {span}: {verdict}.")
    told.append(f"Size: {size['a']:.3f} and {size['b']:.3f} MB.")
    both = f"{latency['a']['p50']:.3f} and {latency['b']['p50']:.3f} ms"
    told.append(f"Latency of a row: {both}, B takes {latency['ratio']:.2f} times as long.")
    return told
