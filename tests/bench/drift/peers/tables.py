# pyright: basic, reportMissingImports=false
"""Runs in the environment of the larger tables: writes each as arrays, `python tables.py DIRECTORY`."""

import sys
from pathlib import Path

import causaldata
import numpy as np
import statsmodels.api as sm

TABLES = {
    "randhie": (lambda: sm.datasets.randhie.load_pandas().data, "mdvis"),
    "fair": (lambda: sm.datasets.fair.load_pandas().data, "affairs"),
    "cps_mixtape": (lambda: causaldata.cps_mixtape.load_pandas().data, "re78"),
    "restaurant_inspections": (lambda: causaldata.restaurant_inspections.load_pandas().data, "inspection_score"),
}
"""Name -> the table, and the column to predict."""

CODES = {"fair": ["occupation", "occupation_husb", "educ"], "cps_mixtape": ["treat", "black", "hisp", "marr"]}
"""Columns of codes: categories, whatever they look like."""


def main(folder: Path) -> None:
    """Writes NAME.npz with numbers, strings and target."""
    for name, (load, target) in TABLES.items():
        frame = load().dropna(subset=[target])
        features = frame.drop(columns=[target])
        kept = CODES.get(name, [])
        numeric = [c for c in features if c not in kept and features[c].dtype.kind in "fiu"]
        other = [c for c in features if c not in numeric]
        numbers = features[numeric].to_numpy(np.float64)
        strings = features[other].astype(str).to_numpy(str) if other else np.empty((len(frame), 0), "U1")
        np.savez(folder / f"{name}.npz", numbers=numbers, strings=strings, target=frame[target].to_numpy(np.float64))
        sys.stdout.write(f"{name}: {len(frame)} rows, numbers {numeric}, categories {other}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
