"""Runs in Ray's own environment: `with_ray.py SYSTEM ROWS OUT` predicts a folder of Parquet files with Ray Data.

Leaves the comparison to whoever started it; imports nothing of the project but the engine.
"""

import json
import sys
from pathlib import Path
from typing import Any, cast

import ray  # pyright: ignore[reportMissingImports]
from ray import data  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

from mlsystem.serving.arrow import ArrowPredictor


def main(system: str, rows: str, out: str) -> None:
    """Predict every row in two processes, and write the answers into `out` as JSON.

    Of four places two are the predictors', the others read: with two alone nobody would read.
    """
    untyped, datasets = cast("Any", ray), cast("Any", data)
    untyped.init(num_cpus=4, include_dashboard=False, configure_logging=False, log_to_driver=False)
    answers = datasets.read_parquet(rows).map_batches(
        ArrowPredictor,
        fn_constructor_args=(system,),
        batch_format="pyarrow",
        batch_size=1000,
        compute=datasets.ActorPoolStrategy(size=2),
    )
    found = [row for batch in answers.iter_batches(batch_format="pyarrow") for row in batch.to_pylist()]
    Path(out).write_text(json.dumps({"answers": found, "ray": untyped.__version__}))
    untyped.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
