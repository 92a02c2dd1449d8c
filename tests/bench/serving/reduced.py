# pyright: basic
"""The delivered server with parts taken out, to see what they cost: `reduced ROOT PORT PART...`.

Parts are taken out from outside, so that the server has no switches for it. `capture` and `sketches` end what the
recorder does, `recorder` the thread as well; `metrics` counts nothing, `validation` looks at no value. `short` is
the other way round: every request goes through ASGI, with its task, its time limit and its routes.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mlsystem.boundary import Boundary, Encoded
from mlsystem.output import Reporter
from mlsystem.registry import registry_of
from mlsystem.serving.listening import listen
from mlsystem.serving.live import Active
from mlsystem.serving.metrics import Metrics
from mlsystem.serving.protocol import Protocol
from mlsystem.serving.recorder import Recorder
from mlsystem.serving.server import assemble, run
from mlsystem.stages import Workspace
from mlsystem.state import state_of

PARTS: Final = ("capture", "sketches", "recorder", "metrics", "validation", "short")


def main(root: Path, port: int, parts: frozenset[str]) -> None:
    """Serves until it is ended."""
    workspace = Workspace.open(root, Reporter("json"))
    spec = workspace.spec
    if "capture" in parts:
        spec = msgspec.structs.replace(spec, capture=msgspec.structs.replace(spec.capture, sample=0.0))
    if "sketches" in parts:
        Recorder._sketch = lambda *_: None  # type: ignore[method-assign]
    if "metrics" in parts:
        Metrics.answered = lambda *_: None  # type: ignore[method-assign]
        Metrics.predicted = lambda *_: None  # type: ignore[method-assign]
    if "validation" in parts:
        Boundary.rows = _trusting  # type: ignore[method-assign]
    if "short" in parts:
        Protocol._is_short = lambda _self: False  # type: ignore[method-assign]
    state = None if "recorder" in parts else state_of(workspace)
    source = Active(registry_of(workspace))
    with listen("127.0.0.1", port) as sock:
        run(assemble(spec, source, workspace.reporter, state=state), sock, lambda: None)


def _trusting(boundary: Boundary, rows: Sequence[Mapping[str, Any]], *, strict: bool = False) -> Encoded:  # noqa: ARG001
    """The floor's way into the tensors."""
    numbers = [[row[name] for name in boundary.numbers] for row in rows]
    strings = [[row[name] or "" for name in boundary.strings] for row in rows]
    return Encoded(np.array(numbers, np.float64), np.array(strings, object))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), frozenset(sys.argv[3:]) & frozenset(PARTS))
