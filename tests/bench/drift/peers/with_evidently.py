# pyright: basic, reportMissingImports=false
"""Runs in evidently's environment: the seconds that its drift report takes, `python with_evidently.py FILE ROUNDS`.

The file holds what `speed` wrote: reference and window as numbers and strings. Prints one JSON object.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")


def main(file: str, rounds: int) -> None:
    """Prints the seconds of the preset with PSI, best of the rounds, and how many columns it found to have drifted."""
    with np.load(file) as arrays:
        frames = [_frame(arrays[f"{side}_numbers"], arrays[f"{side}_strings"]) for side in ("before", "now")]
    numbers = [name for name in frames[0] if name.startswith("n")]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in frames[0] if name not in numbers]
    )
    before, now = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames)
    took, drifted = [], 0.0
    for _ in range(rounds):
        start = time.perf_counter()
        told = Report([DataDriftPreset(method="psi", threshold=0.25)]).run(now, before).dict()
        took.append(time.perf_counter() - start)
        drifted = told["metrics"][0]["value"]["count"]
    sys.stdout.write(json.dumps({"seconds": min(took), "drifted": drifted}) + "\n")


def _frame(numbers: np.ndarray, strings: np.ndarray) -> pd.DataFrame:
    columns = {f"n{i}": numbers[:, i] for i in range(numbers.shape[1])}
    return pd.DataFrame(columns | {f"c{i}": strings[:, i].astype(object) for i in range(strings.shape[1])})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
