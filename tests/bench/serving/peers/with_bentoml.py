# pyright: basic, reportMissingImports=false
"""BentoML: a service with one API that takes a list of rows as JSON; one worker, `bentoml serve`."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml

sys.path.insert(0, str(Path(__file__).parent))

from mapped import Mapped


@bentoml.service(workers=1, traffic={"timeout": 30})
class Served:
    """The model behind /predict."""

    def __init__(self) -> None:
        self._model = Mapped(Path(os.environ["SERVED_PACKAGE"]))

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One prediction a row."""
        return self._model.rows(rows)
