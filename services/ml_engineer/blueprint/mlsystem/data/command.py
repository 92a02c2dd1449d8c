"""The commands `profile` and `validate`, and the stage behind the second.

Owns what they return and write. `profile` looks at files that nothing is known about yet; `validate` decides on a
source for a spec and leaves `work/validate/<digest>/` with result.json, schema.json and the split.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from mlsystem.data import snapshot
from mlsystem.data.contract import Contract, make_contract
from mlsystem.data.dataset import SIDES, SPLIT_FILE
from mlsystem.data.profile import profile_source
from mlsystem.data.reader import Rows, read_rows, told
from mlsystem.data.source import digest_of, find_files
from mlsystem.errors import DataError
from mlsystem.output import Reporter
from mlsystem.schema import encode_schema
from mlsystem.stages import Stage, Workspace, run_stage, stage_dir

_KEYS = (
    "task.kind",
    "task.target",
    "task.positive",
    "data.reader",
    "data.time",
    "data.label_time",
    "data.entity",
    "data.snapshot",
    "columns",
    "split.method",
    "split.holdout",
    "split.gap",
    "search.seed",
)
"""What the outcome of `validate` depends on, besides the bytes of the source."""


def profile(root: Path, options: Namespace, reporter: Reporter) -> dict[str, object]:
    """Command `profile`: return what the files hold and what could be predicted; DataError if they are of no use."""
    with told():
        return profile_source(options.data, root, options.target, reporter)


def validate(workspace: Workspace, _options: Namespace | None = None) -> dict[str, object]:
    """Command `validate`: return the stage's result, running it if need be, and write schema.json to the system."""
    stage = validate_stage(workspace)
    result = run_stage(workspace, stage, lambda out: _validate(workspace, stage.inputs, out))
    folder = stage_dir(workspace, "validate", str(result["digest"]))
    _replace(workspace.root / "schema.json", (folder / "schema.json").read_bytes())
    return result


def validate_stage(workspace: Workspace) -> Stage:
    """Return the stage for the source as it is now: its digest changes with the bytes and with what the spec says."""
    digest = digest_of(find_files(workspace.spec.data.source, workspace.root))
    return Stage("validate", _KEYS, (digest,))


def _validate(workspace: Workspace, inputs: tuple[str, ...], out: Path) -> dict[str, object]:
    spec, reporter = workspace.spec, workspace.reporter
    reporter.progress("validate", 0.0, f"reading {', '.join(spec.data.source)}")
    with told(), read_rows(spec.data.source, workspace.root, spec.data.reader, threads=spec.search.threads) as rows:
        if (rows.digest,) != inputs:
            raise DataError(
                "source_changed", "the source changed while it was read; run again when nobody writes to it"
            )
        raw = rows.count
        reporter.progress("validate", 0.3, f"{raw:,} rows, {len(rows.names)} columns; looking at every value")
        contract = make_contract(rows, spec)
        reporter.progress("validate", 0.9, f"{len(contract.findings)} findings")
        kept = snapshot.keep(rows.files, rows.digest, workspace.root) if spec.data.snapshot == "copy" else None
        np.save(out / SPLIT_FILE, _sides(contract, rows.count), allow_pickle=False)
        (out / "schema.json").write_bytes(encode_schema(contract.schema))
        return _result(contract, rows, raw, str(kept.relative_to(workspace.root)) if kept else "")


def _sides(contract: Contract, rows: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    sides = np.full(rows, SIDES["neither"], dtype=np.uint8)
    sides[contract.split.train] = SIDES["train"]
    sides[contract.split.holdout] = SIDES["holdout"]
    return sides


def _result(contract: Contract, rows: Rows, raw: int, path: str) -> dict[str, object]:
    parted = contract.split
    return {
        "rows": rows.count,
        "columns": len(rows.names),
        "schema": "schema.json",
        "findings": [finding.as_json() for finding in contract.findings],
        "split": {
            "method": parted.method,
            "train": len(parted.train),
            "holdout": len(parted.holdout),
            "why": parted.why,
        },
        "snapshot": {"digest": rows.digest, "rows": raw, "path": path},
    }


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_bytes(content)
    scratch.replace(path)
