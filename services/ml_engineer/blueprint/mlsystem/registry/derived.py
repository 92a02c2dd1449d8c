"""Files beside the history that are made from it: for people who look, and for tools that want one name.

`aliases.json` says which version is the champion and which one a rollback returns to, `versions.json` lists the
versions. The history is the truth: nothing here is read to decide, and whatever is missing or wrong is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlsystem.output import readable

if TYPE_CHECKING:
    from mlsystem.registry.ledger import Entry, Ledger

ALIASES = "aliases.json"
VERSIONS = "versions.json"


def derived(ledger: Ledger) -> dict[str, bytes]:
    """Return the files by their path; the same ledger gives the same bytes."""
    return {ALIASES: readable(_aliases(ledger)), VERSIONS: readable(_versions(ledger))}


def _aliases(ledger: Ledger) -> dict[str, object]:
    names = {"champion": ledger.active, "previous": ledger.previous}
    aliases = {
        name: {"version": version, "digest": ledger.versions[version].digest}
        for name, version in names.items()
        if version is not None
    }
    return {"format": 1, "head": ledger.head, "hash": ledger.head_hash, "aliases": aliases}


def _versions(ledger: Ledger) -> dict[str, object]:
    return {"format": 1, "head": ledger.head, "versions": [_version(ledger, ledger.versions[v]) for v in ledger.kept]}


def _version(ledger: Ledger, entry: Entry) -> dict[str, object]:
    return {
        "version": entry.version,
        "digest": entry.digest,
        "registered": entry.at,
        "by": entry.by,
        "outcome": entry.evidence.get("outcome"),
        "servable": bool(entry.evidence.get("servable")),
        "live": entry.version == ledger.active,
        "model_sha256": entry.files["model.onnx"].sha256 if "model.onnx" in entry.files else None,
    }
