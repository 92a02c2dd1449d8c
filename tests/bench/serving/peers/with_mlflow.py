# pyright: basic, reportMissingImports=false
"""MLflow: a pyfunc model, `mlflow models serve` with one worker and its own environment."""

import sys
from pathlib import Path
from typing import Any

import mlflow
from mapped import Mapped


class Served(mlflow.pyfunc.PythonModel):
    """The model behind /invocations."""

    def load_context(self, context: Any) -> None:
        """Loads it."""
        self._model = Mapped(Path(context.artifacts["package"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:  # noqa: ARG002
        """One prediction a row of a data frame."""
        names = self._model.numbers, self._model.strings
        numbers, strings = (
            model_input[columns].to_numpy(kind) for columns, kind in zip(names, (float, object), strict=True)
        )
        return self._model.told(self._model.run(numbers, strings))


if __name__ == "__main__":
    here = Path(__file__).parent
    mlflow.pyfunc.save_model(
        sys.argv[1], python_model=Served(), artifacts={"package": sys.argv[2]}, code_paths=[str(here / "mapped.py")]
    )
