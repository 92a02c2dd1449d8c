"""Writes data/wine.csv: the wine recognition data that scikit-learn brings along, 178 wines of three cultivars.

Real measurements (Forina et al., Institute of Pharmaceutical and Food Analysis, Genoa), nothing made up, nothing
left out; only the classes get names. Nothing is downloaded: the data lie inside the installed scikit-learn.
"""
# ruff: noqa: INP001 - a script in a workspace of its own

import argparse
import csv
import sys
from pathlib import Path
from typing import Any, cast

DEFAULT = Path(__file__).parent / "data" / "wine.csv"


def write(path: Path) -> Path:
    """Writes the table to `path`, whose directory is made, and returns it."""
    from sklearn.datasets import load_wine

    wine = cast("Any", load_wine())
    names = [name.replace("/", "_") for name in wine.feature_names]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "cultivar"])
        for measured, label in zip(wine.data, wine.target, strict=True):
            writer.writerow([*map(float, measured), f"cultivar {label + 1}"])
    return path


def main() -> None:
    """Writes the table to the path on the command line, by default data/wine.csv beside this file."""
    parser = argparse.ArgumentParser(description="Writes the table of the wine example.")
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT)
    sys.stdout.write(f"{write(parser.parse_args().path)}\n")


if __name__ == "__main__":
    main()
