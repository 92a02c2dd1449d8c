"""The train stage of a model that somebody else made: nothing is searched, the file is joined to the boundary.

Owns reading `search.model`, checking that what it answers is an answer of this task on the training rows, and the
comparison of the joined graph with the file itself. Trivial answers and the linear member are fitted all the same:
they are what the file is judged against. Whether it has seen these rows when it was made nobody can tell.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime as ort

from mlsystem.boundary import Boundary
from mlsystem.compile.own import Answer, Ours, answer_of, inputs_of, join, match, read_model
from mlsystem.compile.parity import Parity
from mlsystem.compile.session import Rows, Session
from mlsystem.data.dataset import Dataset
from mlsystem.errors import DataError
from mlsystem.features.arrays import Floats
from mlsystem.schema import Schema

NAME: Final = "own"
OWN: Final = "own.onnx"
FED: Final = "own.json"
_SLACK: Final = 1e-4
"""How far probabilities in float32 may sum to anything but one."""


class Joint(msgspec.Struct, frozen=True):
    """How the file is fed and read: for its comparison with the joined graph."""

    inputs: dict[str, tuple[str, ...]]
    """Input of the file -> boundary columns."""
    output: str
    labels: tuple[str, ...]
    """Labels in the file's own order, where it tells them."""
    sha256: str
    filled: dict[str, float] = {}
    """What stands for a missing number, where the file cannot take one: the median of the training rows."""


@dataclass(frozen=True, slots=True)
class Own:
    """A file that fits the task, joined to the boundary."""

    content: bytes
    joined: bytes
    joint: Joint


def read_own(root: Path, path: str) -> bytes:
    """Return the bytes of `search.model`; DataError if they are not there."""
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise DataError("no_such_file", f"search.model: {root / path} cannot be read: {error.strerror}") from error


def fit_own(content: bytes, name: str, dataset: Dataset) -> Own:
    """Join a file to the boundary of the data and try it on the training rows.

    Raises: DataError naming what does not fit: a column, a label, an output, an answer that is none.
    """
    model, boundary = read_model(content, name), Boundary.from_schema(dataset.schema)
    labels = dataset.schema.task.labels
    fed = match(inputs_of(model), boundary.numbers, boundary.strings)
    answer = answer_of(model, regression=not labels)
    _require_labels(answer, labels)
    ours = Ours(boundary.numbers, boundary.strings, labels)
    joined = join(model, fed, answer, ours)
    if not _answers_missing(joined, boundary, labels):
        fill = tuple(np.nan_to_num(np.nanmedian(dataset.encoded.numbers[dataset.train], axis=0)).tolist())
        ours = replace(ours, fill=fill)
        joined = join(model, fed, answer, ours)
    joint = Joint(
        inputs={item.input.name: item.columns for item in fed},
        output=answer.tensor,
        labels=answer.labels,
        sha256=hashlib.sha256(content).hexdigest(),
        filled=dict(zip(boundary.numbers, ours.fill, strict=False)),
    )
    own = Own(content, joined, joint)
    _require_answers(answered(own.joined, dataset), labels, name)
    return own


def _answers_missing(joined: bytes, boundary: Boundary, labels: tuple[str, ...]) -> bool:
    """Tell whether the file has an answer to a row of which nothing is known: many cannot take a missing number."""
    nothing = Rows(np.full((1, len(boundary.numbers)), np.nan), np.full((1, len(boundary.strings)), "", dtype=object))
    with _told():
        return bool(np.isfinite(Session(joined).run(nothing, "probabilities" if labels else "value")[0]).all())


@contextlib.contextmanager
def _told() -> Generator[None]:
    """Turn what ONNX Runtime says of a model into a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no root but Exception
        reason = str(error).strip().split("\n")[0]
        raise DataError("model_does_not_run", f"the model does not run on the data's rows: {reason}") from error


def answered(joined: bytes, dataset: Dataset) -> Floats:
    """Return what a joined graph answers to the training rows; DataError with ONNX Runtime's words if it cannot."""
    rows = Rows(dataset.encoded.numbers[dataset.train], dataset.encoded.strings[dataset.train])
    with _told():
        return Session(joined).run(rows, "probabilities" if dataset.schema.task.labels else "value")[0]


def compare_own(own: bytes, joint: Joint, joined: bytes, rows: Rows, schema: Schema) -> Parity:
    """Compare the joined graph with the file itself, fed by numpy, over rows of the data."""
    session, boundary = ort.InferenceSession(own, providers=["CPUExecutionProvider"]), Boundary.from_schema(schema)
    wanted: Mapping[str, Any] = {item.name: item for item in session.get_inputs()}
    feeds = {name: _tensor(wanted[name], columns, rows, boundary) for name, columns in joint.inputs.items()}
    theirs = _answers(session, joint, feeds, schema.task.labels)
    ours = Session(joined).run(rows, "raw")[0]
    told = np.isfinite(theirs).all(axis=1)  # where the file has no answer, ours is to values that were filled in
    ours, theirs = ours[told], theirs[told]
    differences = np.abs(ours - theirs)
    largest = float(differences.max(initial=0.0)) if np.isfinite(differences).all() else float("inf")
    flips = int(np.count_nonzero(ours.argmax(axis=1) != theirs.argmax(axis=1)))
    return Parity(len(ours), largest, flips)


def _answers(session: Any, joint: Joint, feeds: Mapping[str, Any], labels: tuple[str, ...]) -> Floats:
    """Return what the file itself answers [N, K], its labels in the order of the contract."""
    names = [item.name for item in session.get_outputs()]
    if joint.output not in names:  # only the maps that are made of it are given out
        answers = session.run(None, feeds)
        maps = next(answer for answer in answers if isinstance(answer, list) and isinstance(answer[0], dict))
        told = [{str(label): value for label, value in row.items()} for row in maps]
        return np.array([[row[label] for label in labels] for row in told])
    table = np.asarray(session.run([joint.output], feeds)[0], np.float64)
    table = table.reshape(len(table), -1)
    if labels and table.shape[1] == 1:
        return np.concatenate([1.0 - table, table], axis=1)
    return table[:, [joint.labels.index(label) for label in labels]] if joint.labels else table


def _tensor(wanted: Any, columns: tuple[str, ...], rows: Rows, boundary: Boundary) -> Any:
    if columns[0] in boundary.numbers:
        values = rows.numbers[:, [boundary.numbers.index(name) for name in columns]]
        kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(bool)": np.bool_}
        kinds |= {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
        values = values.astype(kinds[wanted.type])
    else:
        values = rows.strings[:, [boundary.strings.index(name) for name in columns]]
    return values if len(wanted.shape) == len(("rows", "columns")) else values[:, 0]


def _require_labels(answer: Answer, labels: tuple[str, ...]) -> None:
    if answer.labels and sorted(answer.labels) != sorted(labels):
        theirs, ours = ", ".join(answer.labels), ", ".join(labels)
        raise DataError("other_labels", f"the model tells {theirs} apart, and the target holds {ours}")


def _require_answers(found: Floats, labels: tuple[str, ...], name: str) -> None:
    if not np.isfinite(found).any(axis=0).all():
        raise DataError("no_answers", f"{name} answers no row of the data with a number")
    if not labels:
        return
    if found.shape[1] != len(labels):
        raise DataError("other_labels", f"{name} answers {found.shape[1]} numbers a row for {len(labels)} labels")
    known = found[np.isfinite(found).all(axis=1)]
    if (known < -_SLACK).any() or (known > 1 + _SLACK).any() or (np.abs(known.sum(axis=1) - 1) > _SLACK).any():
        raise DataError(
            "no_probabilities", f"{name} answers numbers that are no probabilities of the labels: export it with them"
        )
