"""The command `reproduce`: a version made again from its record, and compared with what was registered.

Owns the verdict: the same bytes, else the same predictions within 1e-6 with what differs between then and now, else
a failure. The run replays the recorded plan on the recorded rows, whatever the clock, the source and system.toml say
today. Leaves laying the version out to `versions`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from mlsystem.arithmetic import KERNEL, kernel_of
from mlsystem.compile.session import Rows, Session
from mlsystem.data.command import validate
from mlsystem.data.dataset import SPLIT_FILE, Dataset
from mlsystem.errors import MlsystemError
from mlsystem.hooks import HOOKS_FILE
from mlsystem.registry import Registry, registry_of
from mlsystem.serving.package import MODEL, SCHEMA
from mlsystem.stages import Workspace, stage_dir
from mlsystem.train.command import replay
from mlsystem.train.record import Record, these_versions, this_platform
from mlsystem.versions import Laid, Version, laid_out, read_version

TOLERANCE: Final = 1e-6
"""Largest difference of a prediction, in regression relative to the spread of the predictions."""

COMPARED_ROWS: Final = 10_000
_TRIED: Final = "MLSYSTEM_REPRODUCING"
"""Set in the process that was started with other kernels, so that it starts no further one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something about machine or libraries that is not as it was."""

    what: str
    recorded: object
    here: object


def reproduce(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `reproduce [VERSION]`: make a version again; not ok, exit 4, if its predictions are others.

    Raises: RegistryError if it is not on record, DataError if its rows are nowhere.
    """
    registry = registry_of(workspace)
    version = read_version(registry, options.version)
    told = _with_recorded_kernels(workspace, version)
    return told or _reproduced(workspace, registry, version)


def _with_recorded_kernels(workspace: Workspace, version: Version) -> dict[str, object] | None:
    """Reproduce in another process with the kernels of then; None if they are those of this one, or fail here.

    Kernels are chosen when numpy is loaded, so this process cannot change its own. A processor that lacks the
    instructions of the recorded ones kills the other process; then this one does what it can.
    """
    wanted, mine = kernel_of(version.record.platform), kernel_of(this_platform())
    if not wanted or wanted == mine or os.environ.get(_TRIED):
        return None
    workspace.reporter.progress("reproduce", 0.0, f"version {version.number} was made with the {wanted} kernels")
    command = [sys.executable, "-m", "mlsystem", "reproduce", str(version.number), "--json"]
    environment = {**os.environ, KERNEL: wanted, _TRIED: wanted}
    done = subprocess.run(command, cwd=workspace.root, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode not in {0, MlsystemError.exit_code}:
        return None
    found = msgspec.json.decode(done.stdout, type=dict[str, object])
    return None if "error" in found else found


def _reproduced(workspace: Workspace, registry: Registry, version: Version) -> dict[str, object]:
    record = version.record
    began = time.monotonic()
    with laid_out(version, registry, workspace) as laid, tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        out = Path(scratch)
        workspace.reporter.progress("reproduce", 0.1, f"version {version.number}: its rows are from the {laid.place}")
        dataset = laid.load()
        replay(laid.workspace, dataset, out, record.plan)
        made = (out / MODEL).read_bytes()
        largest = largest_difference(version.files[MODEL], made, dataset)
        contract = _contract(laid)
    found = list(_differences(record))
    identical = made == version.files[MODEL]
    return {
        "ok": largest <= TOLERANCE,
        "text": _verdict(version.number, largest, found, identical=identical),
        "version": version.number,
        "identical": identical,
        "largest_difference": largest,
        "model": {"recorded": _sha256(version.files[MODEL]), "made": _sha256(made)},
        "contract": contract,
        "rows": {"digest": version.snapshot.digest, "count": version.snapshot.rows, "from": laid.place},
        "plan": msgspec.to_builtins(record.plan.fitted),
        "differs": [msgspec.to_builtins(difference) for difference in found],
        "wall_s": {"recorded": record.wall_s, "here": round(time.monotonic() - began, 3)},
    }


def largest_difference(recorded: bytes, made: bytes, dataset: Dataset) -> float:
    """Return how far the answers of two models lie apart on up to 10,000 rows; infinite for others in kind."""
    if recorded == made:
        return 0.0
    picked = np.unique(np.linspace(0, dataset.table.rows - 1, COMPARED_ROWS).astype(np.intp))
    rows = Rows(dataset.encoded.numbers[picked], dataset.encoded.strings[picked])
    output = "value" if dataset.schema.task.kind == "regression" else "probabilities"
    before, after = (Session(model).run(rows, output)[0] for model in (recorded, made))
    if before.shape != after.shape:
        return float("inf")
    scale = float(before.std()) or 1.0 if output == "value" else 1.0
    return float(np.abs(before - after).max()) / scale


def _contract(laid: Laid) -> str:
    """Validate the rows again and tell whether the same is decided about them.

    What a query was found to do (`data.query`) cannot be looked at again without its tables, nor what was decided about
    personal data without them, so neither is checked.
    """
    if laid.version.spec.data.query:
        return "not checked: data.query is not run again"
    if laid.version.snapshot.masked:
        return "not checked: it was decided from the rows as they came, and they are stored masked"
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        root = Path(scratch)
        for name in ("data", HOOKS_FILE):
            if (laid.workspace.root / name).exists():
                (root / name).symlink_to(laid.workspace.root / name)
        again = Workspace(root, laid.workspace.spec, laid.workspace.reporter)
        digest = str(validate(again)["digest"])
        then, now = stage_dir(laid.workspace, "validate", laid.validated), stage_dir(again, "validate", digest)
        same = all((then / name).read_bytes() == (now / name).read_bytes() for name in (SCHEMA, SPLIT_FILE))
    return "identical" if same else "different: this engine types, filters or splits the rows in another way"


def _differences(record: Record) -> Iterator[Difference]:
    """Yield what a model's bytes may depend on and is not as it was."""
    now = {"platform": this_platform(), "versions": these_versions()}
    then: Mapping[str, Mapping[str, Any]] = {"platform": record.platform, "versions": record.versions}
    for table, values in now.items():
        for name in sorted({*values, *then[table]}):
            recorded, here = then[table].get(name), values.get(name)
            if recorded != here:
                yield Difference(f"{table}.{name}", recorded, here)


def _verdict(version: int, largest: float, found: list[Difference], *, identical: bool) -> str:
    if identical:
        return f"Version {version} was made again, byte for byte."
    names = ", ".join(difference.what for difference in found) or "nothing that is on record"
    if largest <= TOLERANCE:
        return f"Version {version} was made again with the same predictions (within {largest:.1g}); differs: {names}."
    return f"Version {version} could not be made again: predictions differ by up to {largest:.3g}; differs: {names}."


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
