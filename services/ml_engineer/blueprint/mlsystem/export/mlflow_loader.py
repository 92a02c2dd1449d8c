"""What MLflow calls to load an exported model: rows of the source in, predictions out, by the engine's own code.

Runs inside MLflow, from the copy of the engine that lies in the model's `code` directory, so that a frame gets the
very answers of the server. Knows of MLflow one name, `_load_pyfunc`, and of pandas what a frame can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from mlsystem.serving.model import Model
from mlsystem.serving.package import Package

PROBABILITY: Final = "probability_"


class Predictor:
    """A version, loaded; `predict` is what MLflow's pyfunc flavour asks for."""

    def __init__(self, package: Package) -> None:
        self._model = Model(package, name="model")

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's signature
        """Return a frame with `prediction` and a probability a label, in the order and with the index of `frame`.

        Raises: Refusal, a ValueError in all but name, that names row, column and reason of what cannot be predicted.
        """
        known = frame.astype(object).where(frame.notna(), None)
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in known.to_dict("records")]
        answer = self._model.answer(rows, strict=False)
        told = [
            {"prediction": item.prediction, **{f"{PROBABILITY}{k}": p for k, p in (item.probabilities or {}).items()}}
            for item in answer.predictions
        ]
        return type(frame)(told, index=frame.index)


def _plain(value: Any) -> Any:
    """Return a cell as it would come in JSON."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _load_pyfunc(directory: str) -> Predictor:  # pyright: ignore[reportUnusedFunction] - MLflow calls it
    """Load the package in a directory."""
    return Predictor(Package.read(Path(directory)))
