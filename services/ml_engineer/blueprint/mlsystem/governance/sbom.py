"""The command `sbom`: what a system is made of, as a CycloneDX 1.6 document.

Owns the components (every package of both locks with the hashes that are accepted, the engine's wheel, the live model,
the data it learned from) and their licences. The same system gives the same bytes: there is no clock in it. Leaves
looking for known weaknesses to whoever feeds the document to a scanner.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from mlsystem import __version__
from mlsystem.errors import DataError
from mlsystem.governance.licences import Licence, licence_of
from mlsystem.output import readable
from mlsystem.registry import Ledger, registry_of
from mlsystem.serving.package import MANIFEST, MODEL
from mlsystem.spec import Spec
from mlsystem.stages import Workspace

FILE: Final = "docs/sbom.json"
_LOCKS: Final = ("serve", "train")
_PIN: Final = re.compile(r"^(?:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)|\./vendor/(?P<wheel>\S+\.whl))")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_TASKS: Final = {"binary": "binary classification", "multiclass": "classification", "regression": "regression"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of each file that the lock accepts for it."""
    vendored: str = ""
    """The wheel in `vendor/`, if it comes from there."""


def sbom(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `sbom [--out F]`: write the bill of materials of this system; DataError if a lock is missing."""
    serve, train = (read_lock(workspace.root / f"requirements/{name}.lock") for name in _LOCKS)
    licences = {pin.name: licence_of(pin.name) for pin in train.values() if not pin.vendored}
    document = bill(workspace, serve, train, licences)
    out = options.out or workspace.root / FILE
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(readable(document))
    known = {name: licence for name, licence in licences.items() if licence}
    return {
        "path": str(out.relative_to(workspace.root) if out.is_relative_to(workspace.root) else out),
        "components": len(document["components"]),
        "packages": {"serve": len(serve), "train": len(train)},
        "licences": {name: licence.shown for name, licence in sorted(known.items())},
        "copyleft": sorted(name for name, licence in known.items() if licence.copyleft),
        "unknown": sorted(name for name, licence in licences.items() if licence and licence.shown == "not said"),
        "not_installed": sorted(name for name, licence in licences.items() if licence is None),
        "data_licence": workspace.spec.data.licence,
    }


def read_lock(path: Path) -> dict[str, Pin]:
    """Return the packages of a lock by name, in its order; DataError if it is not there."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError("no_lock", f"{path} is missing; restore it from git") from None
    return {pin.name: pin for pin in _pins(lines)}


def bill(
    workspace: Workspace, serve: Mapping[str, Pin], train: Mapping[str, Pin], licences: Mapping[str, Licence | None]
) -> Json:
    """Return the document."""
    packages = [_package(pin, licences.get(pin.name), serving=pin.name in serve) for pin in train.values()]
    model, manifest = _live(workspace)
    data = _data(workspace.spec, manifest)
    components = [*packages, *model, *data]
    body: Json = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": _system(workspace.spec),
            "tools": {"components": [{"type": "application", "name": "mlsystem", "version": __version__}]},
        },
        "components": components,
        "dependencies": _dependencies(packages, model, data),
    }
    serial = uuid.UUID(bytes=hashlib.sha256(msgspec.json.encode(body, order="sorted")).digest()[:16], version=5)
    return {**body, "serialNumber": f"urn:uuid:{serial}"}


def _pins(lines: Sequence[str]) -> Iterator[Pin]:
    """Read `name==version` and `./vendor/x.whl` with the hashes on the lines after them."""
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    for line in logical:
        found = _PIN.match(line)
        if not found:
            continue
        hashes = tuple(_HASH.findall(line))
        if wheel := found["wheel"]:
            name, version = wheel.rsplit("/", 1)[-1].split("-")[:2]
            yield Pin(name, version, hashes, vendored=f"vendor/{wheel}")
        else:
            yield Pin(found["name"].lower(), found["version"], hashes)


def _package(pin: Pin, licence: Licence | None, *, serving: bool) -> Json:
    """Return a package; `scope` tells whether serving needs it."""
    properties = {"mlsystem:needed-for": "serving and training" if serving else "training"}
    if pin.vendored:
        properties["mlsystem:file"] = pin.vendored
        licence = Licence("MIT-0", "")
    if licence and licence.copyleft:
        properties["mlsystem:copyleft"] = "yes"
    told = _licences(licence)
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{pin.name}@{pin.version}",
        "name": pin.name,
        "version": pin.version,
        "scope": "required" if serving else "optional",
        "hashes": [{"alg": "SHA-256", "content": content} for content in pin.hashes],
        **({"licenses": told} if told else {}),
        "purl": f"pkg:pypi/{pin.name}@{pin.version}",
        "properties": _properties(properties),
    }


def _licences(licence: Licence | None) -> list[Json]:
    if licence is None or not (licence.expression or licence.name):
        return []
    return [{"expression": licence.expression} if licence.expression else {"license": {"name": licence.name}}]


def _system(spec: Spec) -> Json:
    owner = {"supplier": {"name": spec.owner}} if spec.owner else {}
    about = {"description": spec.goal} if spec.goal else {}
    return {"type": "application", "bom-ref": "system", "name": spec.name, **owner, **about}


def _live(workspace: Workspace) -> tuple[list[Json], Json]:
    """Return the live version, or the newest where none is live, and its manifest; nothing before the first one."""
    registry = registry_of(workspace)
    ledger = registry.ledger()
    version = _version(ledger)
    if version is None:
        return [], {}
    entry = ledger.package_of(version)
    files = registry.files(entry)
    manifest = msgspec.json.decode(files[MANIFEST], type=Json)
    task = workspace.spec.task
    component: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"model@{version}",
        "name": f"{workspace.spec.name} model",
        "version": str(version),
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(files[MODEL]).hexdigest()}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": _TASKS.get(task.kind, task.kind),
                "datasets": [{"ref": "data"}],
                "inputs": [{"format": "one row of the data contract (schema.json)"}],
                "outputs": [{"format": f"a prediction of {task.target}"}],
            }
        },
        "properties": _properties(
            {
                "mlsystem:live": "yes" if ledger.active == version else "no",
                "mlsystem:package": entry.digest,
                "mlsystem:outcome": str(entry.evidence.get("outcome", "")),
            }
        ),
    }
    return [component], manifest


def _version(ledger: Ledger) -> int | None:
    return ledger.active if ledger.active is not None else max(ledger.versions, default=None)


def _data(spec: Spec, manifest: Json) -> list[Json]:
    """Return what was learned from, once it is known by its digest."""
    snapshot = manifest.get("snapshot")
    if not snapshot:
        return []
    licence = spec.data.licence
    described: Json = {
        "type": "dataset",
        "name": ", ".join(source.rsplit("/", 1)[-1] for source in spec.data.source),
        **({"classification": ", ".join(spec.governance.regime)} if spec.governance.regime else {}),
    }
    return [
        {
            "type": "data",
            "bom-ref": "data",
            "name": f"{spec.name} data",
            "version": str(snapshot["digest"]),
            **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
            "data": [described],
            "properties": _properties({"mlsystem:rows": str(snapshot.get("rows", ""))}),
        }
    ]


def _dependencies(packages: Sequence[Json], model: Sequence[Json], data: Sequence[Json]) -> list[Json]:
    """Return what needs what: the system its packages and its model, the model the data."""
    needed = [component["bom-ref"] for component in (*packages, *model)]
    edges = [{"ref": "system", "dependsOn": needed}]
    return edges + [{"ref": found["bom-ref"], "dependsOn": [kept["bom-ref"] for kept in data]} for found in model]


def _properties(found: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in found.items() if value]
