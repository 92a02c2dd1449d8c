"""Engine of one delivered machine-learning system.

Owns everything between a table and a served model: spec, data contract, training, one ONNX graph,
gates, registry, server. Stands alone: it knows nothing of who wrote the spec or who started it.
ONNX Runtime's telemetry is switched off here, before anything can import it.
"""

import os

__version__ = "0.2.0"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
