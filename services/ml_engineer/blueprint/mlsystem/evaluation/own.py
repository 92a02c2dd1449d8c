"""What the owner added: the cost of derived features and hooks, and the value of their business metric.

Measured on the rows that the server is asked and on the holdout's answers; nothing here decides a gate.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsystem.boundary import Encoded
from mlsystem.data.dataset import Dataset
from mlsystem.errors import DataError
from mlsystem.features.arrays import Floats, Ints
from mlsystem.hooked import boundary_of
from mlsystem.hooks import HOOKS_FILE, load_hooks
from mlsystem.spec import Spec
from mlsystem.train.record import MODEL, Record

_TIMED_ROWS = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """Outputs [M, K] by the name of who gives them, and the rows that they are for."""

    outputs: Mapping[str, Floats]
    rows: Ints


def own_parts(
    spec: Spec, record: Record, dataset: Dataset, hooks: bytes | None, answered: Answered
) -> dict[str, object]:
    """Return what derived features and hooks cost in milliseconds a row, and the business metric of each answer.

    Raises: DataError `hook_failed`.
    """
    told: dict[str, object] = {}
    if spec.derive:
        told["derive"] = {"features": list(spec.derive), "ms_per_row": record.compiled[MODEL].derive_ms}
    if hooks is not None:
        made = [column.name for column in load_hooks(hooks).columns]
        told["hooks"] = {"features": made, "ms_per_row": _hook_ms(dataset, hooks)}
        if load_hooks(hooks).business_metric is not None:
            told["business"] = {
                name: _business(dataset, hooks, output, answered.rows) for name, output in answered.outputs.items()
            }
    return told


def _hook_ms(dataset: Dataset, hooks: bytes) -> float:
    """Return the median time that the hooks take on one row, asked for alone as a request is."""
    boundary = boundary_of(dataset.schema, hooks)
    spent: list[float] = []
    for row in dataset.train[:_TIMED_ROWS]:
        one = slice(row, row + 1)
        copied = Encoded(dataset.encoded.numbers[one].copy(), dataset.encoded.strings[one].copy())
        began = time.perf_counter()
        boundary.complete(copied)
        spent.append((time.perf_counter() - began) * 1000)
    return float(np.median(spent))


def _business(dataset: Dataset, hooks: bytes, output: Floats, rows: Ints) -> float:
    metric = load_hooks(hooks).business_metric
    labels = dataset.schema.task.labels
    try:
        value = metric(_named(dataset.target[rows], labels), _decided(output, labels)) if metric else 0.0
        return float(value)  # pyright: ignore[reportArgumentType] - whatever it returns must be a number
    except Exception as error:  # a person's code may raise anything
        text = (
            f"{HOOKS_FILE}: business_metric failed with {type(error).__name__}: {error}; it takes two lists, what was"
        )
        raise DataError("hook_failed", f"{text} and what was predicted, and returns a number") from error


def _named(target: Any, labels: Sequence[str]) -> list[Any]:
    return [labels[index] for index in target.tolist()] if labels else target.tolist()


def _decided(output: Floats, labels: Sequence[str]) -> list[Any]:
    """Return the labels that are answered, as the server decides them, or the values."""
    if not labels:
        return output[:, 0].tolist()
    chosen = (output[:, 1] >= 0.5).astype(int) if len(labels) == 2 else output.argmax(axis=1)
    return [labels[index] for index in chosen.tolist()]
