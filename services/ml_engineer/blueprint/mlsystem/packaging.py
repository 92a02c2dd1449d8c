"""The command `package`: what was trained and evaluated becomes a version in the registry.

Owns the files of a package and its digest. The digest covers what decides an answer (model.onnx, schema.json, and
the spec keys that change behaviour) and nothing that was only measured, so that the same model is the same version
however often it is made. Leaves letting it answer to `promote`.
"""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import numpy as np

from mlsystem import __version__
from mlsystem.data.command import validate_stage
from mlsystem.data.dataset import load
from mlsystem.data.origin import Input
from mlsystem.data.snapshot import record_of
from mlsystem.evaluation.command import evaluate
from mlsystem.export.lineage import LINEAGE, Facts, StageRun, events
from mlsystem.export.mlflow import export_packaged
from mlsystem.governance.mask import mask_of
from mlsystem.hooks import HOOKS_FILE, read_hooks
from mlsystem.monitoring.profile import PROFILE
from mlsystem.output import readable
from mlsystem.registry import Note, registry_of, whoami
from mlsystem.schema import Schema
from mlsystem.serving.examples import Row, example_rows, made_row
from mlsystem.serving.model import Model
from mlsystem.serving.package import MANIFEST, METRICS, MODEL, REFERENCE, SCHEMA, UNREGISTERED, Package
from mlsystem.spec import SPEC_FILE, Spec
from mlsystem.stages import Run, Stage, Workspace, read_result, read_run, run_stage, stage_dir
from mlsystem.train.command import train_stage
from mlsystem.train.record import RECORD, Record, read_record
from mlsystem.versions import archive

BEHAVIOUR: Final = ("format", "name", "task", "decision")
"""Spec keys that change what the same model answers."""

REFERENCE_ROWS: Final = 64

_LATENCY_S = 10.0


def package(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `package`: register the trained model; a package that is there already makes no new version.

    Evaluates first if that was not done. Raises: StageMissing if nothing was trained for this spec and data.
    """
    read_result(workspace, "train", train_stage(workspace).digest(workspace))
    evaluated = evaluate(workspace, Namespace(**{"latency_seconds": _LATENCY_S, **vars(options)}))
    spec = _sha256((workspace.root / SPEC_FILE).read_bytes())  # all of it goes into the package
    stage = Stage("package", inputs=(str(evaluated["digest"]), spec))
    made = run_stage(workspace, stage, lambda out: _assemble(workspace, evaluated, out))
    folder = stage_dir(workspace, "package", str(made["digest"]))
    files = {name: (folder / name).read_bytes() for name in cast("Sequence[str]", made["files"])}
    digest, outcome = str(made["package"]), str(evaluated["outcome"])
    note = Note(whoami(), "packaged", _evidence(workspace, evaluated))
    registry = registry_of(workspace)
    data = archive(registry, workspace, validate_stage(workspace).digest(workspace))
    version, created = registry.register(files, digest, note, keep=workspace.spec.registry.keep, data=data)
    exported = {"mlflow": export_packaged(workspace, version)} if workspace.spec.export.mlflow else {}
    return {
        "digest": digest,
        "version": version,
        "created": created,
        "path": folder.relative_to(workspace.root).as_posix(),
        "files": _digests(files),
        "outcome": outcome,
        "servable": servable(outcome),
        "exported": exported,
        "example": example(workspace.spec, Package(version, digest, files)),
    }


def example(spec: Spec, made: Package) -> dict[str, object]:
    """Return a row to try, of middle values and frequent levels; none under a regime, since levels can be telling.

    Dates are those of the newest row that came with the package: the contract knows no middle of them.
    """
    if spec.governance.regime:
        return {}
    schema = made.schema()
    newest, fed = example_rows(schema, made.reference())[-1], made_row(schema)
    dates = {column.name for column in schema.columns if column.type in {"date", "datetime"}}
    row = mask_of(schema, spec, captured=False)({**fed, **{name: newest.get(name) for name in fed if name in dates}})
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}


def servable(outcome: str) -> bool:
    """Tell whether a model of this outcome may be promoted: partial means that it works and misses a wish."""
    return outcome != "failed"


def package_digest(model: bytes, schema: bytes, behaviour: Mapping[str, object]) -> str:
    """Return the SHA-256 of what decides an answer."""
    parts = {MODEL: _sha256(model), SCHEMA: _sha256(schema), SPEC_FILE: behaviour}
    return _sha256(msgspec.json.encode(parts, order="sorted"))


def _assemble(workspace: Workspace, evaluated: Mapping[str, object], out: Path) -> dict[str, object]:
    """Write the files of the package and return their names and the package's digest."""
    began = datetime.now(UTC)
    trained = stage_dir(workspace, "train", train_stage(workspace).digest(workspace))
    validated = validate_stage(workspace).digest(workspace)
    rows = _reference(workspace, validated)
    model = (trained / MODEL).read_bytes()
    schema = (stage_dir(workspace, "validate", validated) / SCHEMA).read_bytes()
    hooks = read_hooks(workspace.root)
    behaviour: dict[str, object] = {key: workspace.spec.value(key) for key in BEHAVIOUR}
    behaviour |= {} if hooks is None else {HOOKS_FILE: _sha256(hooks)}
    digest = package_digest(model, schema, behaviour)
    files = {
        MODEL: model,
        SCHEMA: schema,
        SPEC_FILE: (workspace.root / SPEC_FILE).read_bytes(),
        REFERENCE: readable(rows),
        PROFILE: (stage_dir(workspace, "evaluate", str(evaluated["digest"])) / PROFILE).read_bytes(),
        RECORD: (trained / RECORD).read_bytes(),
        **({} if hooks is None else {HOOKS_FILE: hooks}),
    }
    answers = _answers(Package(UNREGISTERED, digest, files), workspace.spec.name)
    files[METRICS] = readable({**evaluated, "reference_predictions": answers})
    made = StageRun("package", digest, Run(began, datetime.now(UTC)))
    files[LINEAGE] = readable(_lineage(workspace, files, str(evaluated["digest"]), made))
    manifest = _manifest(workspace, read_record(trained), evaluated, digest)
    files[MANIFEST] = readable({**manifest, "files": _digests(files)})
    for name, data in files.items():
        (out / name).write_bytes(data)
    return {"package": digest, "files": sorted(files)}


def _lineage(workspace: Workspace, files: Mapping[str, bytes], evaluated: str, made: StageRun) -> list[dict[str, Any]]:
    """Return the runs that led to this package, with what each read and made."""
    validated, trained = (stage(workspace).digest(workspace) for stage in (validate_stage, train_stage))
    stages = {"validate": validated, "train": trained, "evaluate": evaluated}
    read = read_result(workspace, "validate", validated)
    facts = Facts(
        system=workspace.spec.name,
        schema=msgspec.json.decode(files[SCHEMA], type=Schema),
        query=workspace.spec.data.query,
        sources=msgspec.convert(read["source"], tuple[Input, ...]),
        snapshot=record_of(read),
        model=_sha256(files[MODEL]),
        package=made.digest,
        runs=[*(StageRun(name, digest, read_run(workspace, name, digest)) for name, digest in stages.items()), made],
    )
    return events(facts)


def _reference(workspace: Workspace, validated: str) -> list[Row]:
    """Return training rows evenly spread over the source, with every column; personal data is blank."""
    dataset = load(workspace, validated)
    picked = np.unique(np.linspace(0, len(dataset.train) - 1, REFERENCE_ROWS).astype(np.intp))
    mask = mask_of(dataset.schema, workspace.spec, captured=False)
    masked = [mask(row) for row in dataset.records(dataset.train[picked])]
    return [{name: "" if value is None else value for name, value in row.items()} for row in masked]


def _answers(made: Package, name: str) -> list[dict[str, Any]]:
    """Return what the model answers for the reference rows here, to compare with what it answers elsewhere."""
    model = Model(made, name=name)
    answer = model.answer(example_rows(model.schema, made.reference()), strict=False)
    return [{"prediction": told.prediction, "probabilities": told.probabilities} for told in answer.predictions]


def _manifest(workspace: Workspace, record: Record, evaluated: Mapping[str, object], digest: str) -> dict[str, object]:
    """Return where the package comes from: the bytes it saw, the stages, seed, platform and versions."""
    train = train_stage(workspace).digest(workspace)
    validated = validate_stage(workspace).digest(workspace)
    read, outcome = read_result(workspace, "validate", validated), str(evaluated["outcome"])
    return {
        "format": 1,
        "name": workspace.spec.name,
        "digest": digest,
        "engine": __version__,
        "outcome": outcome,
        "servable": servable(outcome),
        "snapshot": read["snapshot"],
        "source": read["source"],
        "stages": {"validate": validated, "train": train, "evaluate": evaluated["digest"]},
        "seed": record.seed,
        "platform": record.platform,
        "versions": record.versions,
    }


def _evidence(workspace: Workspace, evaluated: Mapping[str, object]) -> dict[str, object]:
    """Return what the entry in the history keeps: the verdict, and the figures that it rests on."""
    outcome = str(evaluated["outcome"])
    failed = [gate["name"] for gate in cast("list[dict[str, Any]]", evaluated["gates"]) if not gate["passed"]]
    return {
        "outcome": outcome,
        "servable": servable(outcome),
        "failed_gates": failed,
        "metrics": evaluated["metrics"],
        "evaluate": evaluated["digest"],
        "train": train_stage(workspace).digest(workspace),
    }


def _digests(files: Mapping[str, bytes]) -> dict[str, dict[str, object]]:
    return {name: {"sha256": _sha256(data), "bytes": len(data)} for name, data in sorted(files.items())}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
