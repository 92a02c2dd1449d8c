"""An Arrow predictor under Ray Data: `python -m tests.isolated ray_batch [ROWS]`.

Ray lies in an environment of its own. There two processes load the active version of a system from its registry and
answer the rows of some Parquet files, batch by batch; here the same rows go through `predict --in`. Each row must have
the same answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow  # noqa: ICN001 - `pa` is the same without its missing types
import pyarrow.parquet

import mlsystem
from mlsystem.output import Reporter
from mlsystem.registry import Note
from mlsystem.serving.command import predict
from mlsystem.stages import Workspace
from tests.blueprint.small_system import make_system
from tests.environments import environment
from tests.isolated.saying import say

_PEERS: Final = Path(__file__).parent / "peers"
_ROWS: Final = 50_000
_FILES: Final = 5
_RAY_S: Final = 200
_PATIENCE: Final = "RAY_DATA_AUTOSCALING_COORDINATOR_REQUEST_GET_TIMEOUT_S"  # its 5 s are too few on a busy machine

pa, pq = cast("Any", pyarrow), cast("Any", pyarrow.parquet)


def run(arguments: Sequence[str]) -> int:
    """Run it; the optional argument is the number of rows."""
    rows = int(arguments[0]) if arguments else _ROWS
    found = environment(_PEERS / "ray-batch.txt")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_system(root / "system", 0.0).promote(1, Note("a check", ""))
        _write(root / "rows", rows)
        started = time.monotonic()
        here = _in_one_process(root)
        alone_s = time.monotonic() - started
        there, version, ray_s = _under_ray(found.python, root)
    same = here == there
    say(f"ray {version}: {rows} rows of {_FILES} files, {ray_s:.1f} s with its start; one process {alone_s:.1f} s")
    say("every row has the same answer" if same else f"{len(here)} and {len(there)} rows, and they differ")
    return 0 if same and len(here) == rows else 1


def _write(folder: Path, rows: int) -> None:
    """Write rows with gaps, codes and dates as Parquet files."""
    folder.mkdir()
    made = np.random.default_rng(0)
    tenure = made.integers(0, 72, rows).astype(object)
    tenure[made.random(rows) < 0.1] = None
    table = pa.table(
        {
            "customer": [f"C-{number}" for number in range(rows)],
            "tenure": pa.array(tenure.tolist(), pa.int64()),
            "charges": made.normal(65, 30, rows),
            "plan": pa.array(made.choice(["monthly", "yearly", "weekly"], rows)).dictionary_encode(),
            "joined": pa.array(made.integers(18_000, 19_800, rows).tolist(), pa.int32()).cast(pa.date32()),
        }
    )
    step = -(-rows // _FILES)
    for place in range(_FILES):
        pq.write_table(table.slice(place * step, step), folder / f"{place}.parquet")
    pq.write_table(table, folder.parent / "all.parquet")


def _in_one_process(root: Path) -> dict[str, Any]:
    options = Namespace(input=root / "all.parquet", output=root / "answers.parquet", version=None, monitor=False)
    predict(Workspace.open(root / "system", Reporter("json")), options)
    return _by_id(pq.read_table(root / "answers.parquet").to_pylist())


def _under_ray(python: Path, root: Path) -> tuple[dict[str, Any], str, float]:
    engine = str(Path(mlsystem.__file__).parent.parent)
    command = [
        str(python),
        str(_PEERS / "with_ray.py"),
        str(root / "system"),
        str(root / "rows"),
        str(root / "out.json"),
    ]
    environ = {
        **os.environ,
        "PYTHONPATH": engine,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(root),
        _PATIENCE: "60",
    }
    started = time.monotonic()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_RAY_S, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    told = json.loads((root / "out.json").read_text())
    return _by_id(told["answers"]), told["ray"], time.monotonic() - started


def _by_id(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {answer["id"]: answer for answer in answers}
