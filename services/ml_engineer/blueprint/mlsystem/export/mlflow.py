"""`export mlflow`: a version as an MLflow model, written without MLflow.

Owns the directory: MLmodel with the flavours python_function (rows of the source, answered by a copy of the engine)
and onnx (the graph alone), signature, input example, requirements, metrics. Leaves putting it into a tracking server
to `mlflow_store`. MLmodel is JSON, which is YAML too.
"""

from __future__ import annotations

import importlib.resources
import json
import math
import os
import platform
import re
import shutil
from argparse import Namespace
from collections.abc import Mapping
from importlib.metadata import version as installed
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import msgspec

from mlsystem.errors import SpecError
from mlsystem.export.http import is_url
from mlsystem.export.mlflow_loader import PROBABILITY
from mlsystem.export.mlflow_store import log_model
from mlsystem.hooks import HOOKS_FILE
from mlsystem.registry import registry_of
from mlsystem.schema import Column
from mlsystem.serving.model import Model
from mlsystem.serving.package import MANIFEST, METRICS, MODEL, REFERENCE, SCHEMA, Package
from mlsystem.stages import Workspace, publish, scratch_beside
from mlsystem.versions import Version, read_version

METRICS_FILE: Final = "metrics.json"
_LOADER: Final = "mlsystem.export.mlflow_loader"
_DATA: Final = "data"
_SERVED: Final = (MODEL, SCHEMA, REFERENCE, MANIFEST, HOOKS_FILE)
_LIBRARIES: Final = ("msgspec", "numpy", "onnxruntime")
_FORMAT: Final = "3.0.0"
"""Version of MLflow whose model format this is."""
_PLACE: Final = Path("work") / "export" / "mlflow"
_SERVER: Final = "MLFLOW_TRACKING_URI"
_EXAMPLES: Final = 5
_NUMERIC: Final = frozenset({"number", "integer"})
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")


def export_mlflow(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Write a version as an MLflow model, or log it to a tracking server if `to` is an http(s) URL.

    A directory is replaced whole. Raises: SpecError for a store that only MLflow itself can write to.
    """
    version = read_version(registry_of(workspace), options.version)
    if is_url(options.to):
        with scratch_beside(workspace.root / _PLACE) as scratch:
            write_model(version, scratch)
            return {"version": version.number, **log_model(options.to, version, scratch, metrics_of(version))}
    if "://" in options.to:
        store = f"{options.to.partition('://')[0]}://..."  # the rest may hold a password
        text = f"--to {store} is a store whose tables are MLflow's own: they change with its releases, and it is not "
        text += (
            "installed here; start `mlflow server --backend-store-uri` with it and give the server's http:// URL, or "
        )
        raise SpecError("usage", text + "give a directory")
    place = Path(options.to) if options.to else _PLACE / str(version.number)
    final = workspace.root / place
    _replace(version, final)
    return {"version": version.number, "path": str(final), "metrics": metrics_of(version)}


def export_packaged(workspace: Workspace, number: int) -> dict[str, object]:
    """Export a version that was just packaged, once: to the server that MLFLOW_TRACKING_URI names, else a directory."""
    url = os.environ.get(_SERVER, "")
    done = workspace.root / _PLACE / f"{number}.json"
    if done.is_file():
        return msgspec.json.decode(done.read_bytes(), type=dict[str, object])
    told = export_mlflow(workspace, Namespace(version=number, to=url if is_url(url) else ""))
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_bytes(msgspec.json.encode(told))
    return told


def metrics_of(version: Version) -> dict[str, float]:
    """Return the numbers of the evaluation by their names."""
    rows = msgspec.json.decode(version.files[METRICS], type=dict[str, Any])["metrics"]
    return {name: float(row["value"]) for name, row in rows.items() if row["value"] is not None}


def write_model(version: Version, folder: Path) -> None:
    """Write the model into an empty directory."""
    data = folder / _DATA
    data.mkdir()
    for name in _SERVED:
        if name in version.files:
            (data / name).write_bytes(version.files[name])
    _copy(importlib.resources.files("mlsystem"), folder / "code" / "mlsystem")
    model = Model(Package(version.number, version.entry.digest, version.files), name=version.spec.name)
    for name, content in _described(version, model).items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _replace(version: Version, final: Path) -> None:
    if final.exists() and not (final / "MLmodel").is_file():
        raise SpecError("usage", f"{final} is there and is no MLflow model; give another directory with --to")
    with scratch_beside(final) as scratch:
        write_model(version, scratch)
        if final.exists():
            shutil.rmtree(final)
        publish(scratch, final)


def _described(version: Version, model: Model) -> Mapping[str, object]:
    """Return the files that describe the model, by name."""
    requirements = [f"{name}=={installed(name)}" for name in _LIBRARIES]
    python = platform.python_version()
    pip = ["mlflow", *requirements]
    return {
        "MLmodel": _mlmodel(version, model, python),
        "requirements.txt": "\n".join(pip) + "\n",
        "python_env.yaml": {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]},
        "conda.yaml": {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": pip}],
        },
        "input_example.json": _example(model),
        METRICS_FILE: metrics_of(version),
    }


def _mlmodel(version: Version, model: Model, python: str) -> dict[str, object]:
    return {
        "artifact_path": "model",
        "flavors": {
            "python_function": {
                "loader_module": _LOADER,
                "code": "code",
                "data": _DATA,
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": python,
            },
            "onnx": {
                "data": f"{_DATA}/{MODEL}",
                "onnx_version": version.record.versions.get("onnx", ""),
                "providers": ["CPUExecutionProvider"],
                "code": "code",
                "save_as_external_data": False,
            },
        },
        "mlflow_version": _FORMAT,
        "model_uuid": version.entry.digest[:32],
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        },
        "signature": {
            "inputs": json.dumps([_input(model.schema.column(name)) for name in model.boundary.required]),
            "outputs": json.dumps(_outputs(model)),
            "params": None,
        },
        "utc_time_created": version.entry.at.replace("T", " ").removesuffix("Z"),
        "metadata": {
            "system": version.spec.name,
            "version": version.number,
            "digest": version.entry.digest,
            "snapshot": version.snapshot.digest,
        },
    }


def _input(column: Column) -> dict[str, object]:
    """Return a column of the source as MLflow types it.

    MLflow takes no whole number for a double and the other way round, and pandas makes doubles of whole numbers as
    soon as one is missing: such columns, and categories that look like numbers, are `any`.
    """
    kind = "string"
    if column.type == "number":
        kind = "double"
    elif column.type == "integer":
        kind = "any" if column.nullable else "long"
    elif column.type == "category" and column.levels and all(_NUMBER.fullmatch(level) for level in column.levels):
        kind = "any"
    return {"type": kind, "name": column.name, "required": True}


def _outputs(model: Model) -> list[dict[str, object]]:
    labels = model.schema.task.labels
    first: dict[str, object] = {"type": "string" if labels else "double", "name": "prediction", "required": True}
    return [first, *({"type": "double", "name": f"{PROBABILITY}{label}", "required": True} for label in labels)]


def _example(model: Model) -> dict[str, object]:
    """Return some rows that came with the package, numbers as numbers."""
    rows = model.examples[:_EXAMPLES]
    encoded = model.boundary.rows(rows)
    columns = [model.schema.column(name) for name in model.boundary.required]
    cells: list[list[object]] = [[row.get(column.name) or None for column in columns] for row in rows]
    for place, column in enumerate(columns):
        if column.type in _NUMERIC:
            values = encoded.numbers[:, model.boundary.places[column.name][0].start].tolist()
            whole = column.type == "integer" and not column.nullable
            for row, value in zip(cells, values, strict=True):
                row[place] = None if math.isnan(value) else int(value) if whole else value
    return {"columns": [column.name for column in columns], "data": cells}


def _copy(source: Traversable, target: Path) -> None:
    """Copy the engine's Python, from a directory or from within a wheel."""
    target.mkdir(parents=True)
    for item in source.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            _copy(item, target / item.name)
        elif item.name.endswith(".py"):
            (target / item.name).write_bytes(item.read_bytes())
