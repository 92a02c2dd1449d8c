"""train.json: what a training run did and on what, for documents, evaluation and reproduction.

Owns the shape of the record and the names of the stage's files. Wall times are in here and nowhere in the model:
the same rows and seed give the same model.onnx, whenever and however fast they were fitted.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import threadpoolctl

from mlsystem import __version__
from mlsystem.compile.calibration import Calibration
from mlsystem.compile.model import Kind
from mlsystem.train.baselines import Baseline
from mlsystem.train.plan import Plan

STEP: Final = "train"
MODEL: Final = "model.onnx"
LINEAR: Final = "linear.onnx"
NATIVE: Final = "native.json"
RECORD: Final = "train.json"

_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "lightgbm", "onnx", "onnxruntime")


class Tried(msgspec.Struct, frozen=True):
    """A member that was fitted."""

    name: str
    family: str
    score: float
    metric: str
    wall_s: float
    notes: dict[str, Any]


class Left(msgspec.Struct, frozen=True):
    """A member that was not fitted, and why."""

    name: str
    family: str
    reason: str


class Compiled(msgspec.Struct, frozen=True):
    """A compiled file: its size, and the median time of one row in ONNX Runtime on the training machine."""

    mb: float
    row_ms: float
    derive_ms: float = 0.0
    """How much of it the features of `[derive]` take, run alone."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A training run."""

    format: int = 1
    kind: Kind
    labels: tuple[str, ...]
    metric: str
    rows: int
    seed: int
    threads: int
    budget_s: float
    wall_s: float
    baselines: tuple[Baseline, ...]
    candidates: tuple[Tried, ...]
    skipped: tuple[Left, ...]
    ensemble: dict[str, float]
    score: float
    """Deciding metric of the ensemble, out of fold."""
    calibration: Calibration
    calibration_log_loss: dict[str, float]
    """Out-of-fold log loss without and with calibration."""
    compiled: dict[str, Compiled] = {}
    plan: Plan = Plan({})
    """What the clock decided: with it, rows and seed the run can be made again."""
    platform: dict[str, Any]
    versions: dict[str, str]


def read_record(folder: Path) -> Record:
    """Read the record of a finished training."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)


def this_platform() -> dict[str, Any]:
    """Return what the bytes of a model may depend on besides rows, seed and versions."""
    kernels = [
        {key: library[key] for key in ("internal_api", "version", "architecture") if key in library}
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas"
    ]
    kernels.sort(key=lambda kernel: str(kernel["version"]))  # they come in the order in which they were loaded
    return {"machine": platform.machine(), "system": platform.system(), "blas": kernels}


def these_versions() -> dict[str, str]:
    """Return the versions of Python, the engine and the libraries that a model comes from."""
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "mlsystem": __version__, **libraries}
