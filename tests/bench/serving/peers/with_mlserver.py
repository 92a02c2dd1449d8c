# pyright: basic, reportMissingImports=false
"""MLServer: a runtime of its own over the Open Inference Protocol, without parallel workers, which cost it more."""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from mapped import Mapped
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Served(MLModel):
    """The model behind /v2/models/served/infer, its two tensors as they are."""

    async def load(self) -> bool:
        """Loads it."""
        self._model = Mapped(Path(os.environ["SERVED_PACKAGE"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Probabilities of the tensors."""
        numbers, strings = payload.inputs
        texts = np.array(StringCodec.decode_input(strings), object).reshape(strings.shape)
        scores = self._model.run(np.asarray(NumpyCodec.decode_input(numbers), np.float64), texts)
        output = NumpyCodec.encode_output("probabilities", np.array(scores))
        return InferenceResponse(model_name=self.name, outputs=[output])


def lay_out(folder: Path, port: int) -> None:
    """Writes what `mlserver start` reads."""
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps({**settings, "debug": False, "host": "127.0.0.1"}))
    (folder / "model-settings.json").write_text(
        json.dumps({"name": "served", "implementation": "with_mlserver.Served"})
    )


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]), int(sys.argv[2]))
