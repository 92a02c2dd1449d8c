"""The command `drill`: run every scenario on a copy, and write what was measured into the documents.

Owns the record `docs/drill.json` and `docs/drill.md`, which is made from it. Leaves the real registry and state alone.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from mlsystem import __version__
from mlsystem.drill.field import Field
from mlsystem.drill.ground import Ground
from mlsystem.drill.scenarios import SCENARIOS, Trial, tried
from mlsystem.errors import SpecError
from mlsystem.output import readable, timestamp
from mlsystem.registry import registry_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from mlsystem.stages import Workspace

RECORD: Final = Path("docs/drill.json")


def drill(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`drill [--only NAME...] [--out F]`: hurt a copy of the system and measure how it recovers.

    The result is not ok, and the exit code 4, if anything was not as it should be. Raises: RegistryError if no
    version is live, SpecError for an unknown scenario.
    """
    names = _chosen(options.only or ())
    active = registry_of(workspace).ledger().active
    trials: list[Trial] = []
    with Ground.prepared(workspace) as ground, Field.open(ground) as field:
        for index, name in enumerate(names):
            workspace.reporter.progress("drill", index / len(names), SCENARIOS[name].did)
            trials.append(tried(name, field))
            workspace.reporter.progress("drill", (index + 1) / len(names), trials[-1].text)
    record = record_of(active, trials)
    target = workspace.root / (options.out or RECORD)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(readable(record))
    target.with_suffix(".md").write_text(document(workspace.spec.name, record), encoding="utf-8")
    return {**record, "record": str(target)}


def _chosen(only: Sequence[str]) -> list[str]:
    unknown = [name for name in only if name not in SCENARIOS]
    if unknown:
        raise SpecError("usage", f"there is no drill {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return [name for name in SCENARIOS if not only or name in only]


def document(system: str, record: Mapping[str, object]) -> str:
    """Return the record as a page for people."""
    trials = msgspec.convert(record["scenarios"], list[Trial])
    lines = [
        f"# Drill of {system}",
        "",
        f"Done on {record['at']} with version {record['version']}, on a copy that was asked all the time.",
        "",
        "| what was done | what should come of it | did it | noticed after | well after | requests, failed |",
        "|---|---|---|---|---|---|",
        *[_row(trial) for trial in trials],
        "",
        "Failed requests of a server that was killed are those that were sent while there was none.",
        "",
    ]
    return "\n".join(lines)


def _row(trial: Trial) -> str:
    did = "yes" if trial.ok else f"**no**: {trial.text}".replace("|", "/")
    times = f"{_seconds(trial.detect_s)} | {_seconds(trial.recover_s)}"
    return f"| {trial.did} | {trial.expected} | {did} | {times} | {trial.requests}, {trial.failed} |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def record_of(active: int | None, trials: Sequence[Trial]) -> dict[str, object]:
    """Return the record of a drill on the version that is live."""
    return {
        "ok": all(trial.ok for trial in trials),
        "format": 1,
        "at": timestamp(datetime.now(UTC)),
        "engine": __version__,
        "version": active,
        "machine": {"system": platform.system(), "architecture": platform.machine(), "cpus": os.cpu_count()},
        "scenarios": [msgspec.to_builtins(trial) for trial in trials],
    }
