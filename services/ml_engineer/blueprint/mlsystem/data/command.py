"""The commands `profile` and `validate`, and the stage behind the second.

Owns what they return and write. `profile` looks at files that nothing is known about yet; `validate` decides on a
source for a spec and leaves `work/validate/<digest>/` with result.json, schema.json and the split.
"""

from __future__ import annotations

import hashlib
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from mlsystem.data import joins, origin, snapshot, stored
from mlsystem.data.contract import Contract, make_contract
from mlsystem.data.database import is_database
from mlsystem.data.dataset import SIDES, SPLIT_FILE
from mlsystem.data.findings import Finding
from mlsystem.data.origin import Origin
from mlsystem.data.profile import profile_source
from mlsystem.data.reader import Rows, read_files, told
from mlsystem.data.snapshot import Snapshot
from mlsystem.errors import DataError
from mlsystem.governance.pseudonym import secret_of
from mlsystem.governance.regimes import orders_alone, stores_masked
from mlsystem.hooks import read_hooks
from mlsystem.output import Reporter
from mlsystem.registry import registry_of
from mlsystem.schema import Schema, encode_schema
from mlsystem.stages import Stage, Workspace, read_result, run_stage, stage_dir

_KEYS = (
    "task.kind",
    "task.target",
    "task.positive",
    "data.query",
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
    "derive",
    "governance.regime",
    "governance.mask",
)
"""What the outcome of `validate` depends on, besides the bytes of the source and of hooks.py."""


def profile(root: Path, options: Namespace, reporter: Reporter) -> dict[str, object]:
    """Command `profile`: return what the files hold and what could be predicted; DataError if they are of no use."""
    with told():
        found = profile_source(options.data, root, options.target, reporter)
    if getattr(options, "model", None) is None:
        return found
    from mlsystem.compile.own import takes

    names = [str(column["name"]) for column in cast("list[dict[str, object]]", found["columns"])]
    return {**found, "model": {"takes": takes(options.model.read_bytes(), options.model.name, names)}}


def validate(workspace: Workspace, _options: Namespace | None = None) -> dict[str, object]:
    """Command `validate`: return the stage's result, running it if need be, and write schema.json to the system."""
    origin.refresh(workspace.spec.data, workspace.root)
    stage = validate_stage(workspace)
    _require_stored(workspace, stage)
    result = run_stage(workspace, stage, lambda out: _validate(workspace, stage.inputs, out))
    folder = stage_dir(workspace, "validate", str(result["digest"]))
    _replace(workspace.root / "schema.json", (folder / "schema.json").read_bytes())
    return result


def validate_stage(workspace: Workspace) -> Stage:
    """Return the stage for the source as it is now: its digest changes with the bytes and with what the spec says."""
    hooks = read_hooks(workspace.root)
    own = () if hooks is None else (hashlib.sha256(hooks).hexdigest(),)
    return Stage("validate", _KEYS, (origin.fingerprint(workspace.spec.data, workspace.root), *own))


def _require_stored(workspace: Workspace, stage: Stage) -> None:
    """Undo a finished stage whose masked rows are gone: unlike others they cannot be read at the source again."""
    folder = stage_dir(workspace, "validate", stage.digest(workspace))
    if folder.is_dir():
        kept = snapshot.record_of(read_result(workspace, "validate", folder.name))
        if kept.masked and not (workspace.root / kept.path).is_dir():
            shutil.rmtree(folder)


def _validate(workspace: Workspace, inputs: tuple[str, ...], out: Path) -> dict[str, object]:
    spec, reporter = workspace.spec, workspace.reporter
    reporter.progress("validate", 0.0, f"reading {', '.join(spec.data.source)}")
    late = list(joins.unchecked(spec)) if is_database(spec.data.source) else list[Finding]()
    found = origin.resolve(spec.data, workspace.root, lambda views: late.extend(joins.late(views, spec)))
    with told(), read_files(found.paths, spec.data.reader, threads=spec.search.threads) as rows:
        if rows.digest != found.digest or origin.fingerprint(spec.data, workspace.root) != inputs[0]:
            raise DataError(
                "source_changed", "the source changed while it was read; run again when nobody writes to it"
            )
        raw = rows.count
        reporter.progress("validate", 0.3, f"{raw:,} rows, {len(rows.names)} columns; looking at every value")
        contract = make_contract(rows, spec, read_hooks(workspace.root), late)
        reporter.progress("validate", 0.9, f"{len(contract.findings)} findings")
        kept = _keep(workspace, found, rows, contract.schema, raw)
        np.save(out / SPLIT_FILE, _sides(contract, rows.count), allow_pickle=False)
        (out / "schema.json").write_bytes(encode_schema(contract.schema))
        return {
            **_result(contract, rows),
            "snapshot": msgspec.to_builtins(kept),
            "source": msgspec.to_builtins(origin.inputs_of(spec.data, workspace.root)),
        }


def _keep(workspace: Workspace, found: Origin, rows: Rows, schema: Schema, raw: int) -> Snapshot:
    """Store the rows if they are to be stored, masked under a regime; `raw` is how many the source has."""
    spec, root = workspace.spec, workspace.root
    if not stores_masked(spec):
        kept = spec.data.snapshot == "copy"
        if kept:
            snapshot.keep(found, root)
        return snapshot.describe(found, raw, kept=kept)
    with stored.masked(rows, schema, spec, lambda: secret_of(registry_of(workspace))) as masked:
        snapshot.keep(masked, root)
        described = snapshot.describe(masked, rows.count, kept=True)
    stored.forget(found, root)
    return msgspec.structs.replace(described, masked=True, ordinal=orders_alone(schema, spec))


def _sides(contract: Contract, rows: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    sides = np.full(rows, SIDES["neither"], dtype=np.uint8)
    sides[contract.split.train] = SIDES["train"]
    sides[contract.split.holdout] = SIDES["holdout"]
    return sides


def _result(contract: Contract, rows: Rows) -> dict[str, object]:
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
    }


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, so that nobody reads half of it."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_bytes(content)
    scratch.replace(path)
