"""The commands `promote`, `rollback`, `history` and `registry`, each `fn(workspace, options) -> dict`.

Owns what the command line says about the registry, and to whom. Leaves deciding to `registry`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec

from mlsystem.errors import RegistryError, SpecError
from mlsystem.output import timestamp
from mlsystem.registry.care import repair, verify
from mlsystem.registry.ledger import Entry, Event, Note, Reign, reign_at
from mlsystem.registry.registry import Registry
from mlsystem.registry.rules import told_unfit
from mlsystem.registry.who import whoami

if TYPE_CHECKING:
    import argparse

    from mlsystem.stages import Workspace


def registry_of(workspace: Workspace) -> Registry:
    """Return the registry of a system."""
    return Registry.open(workspace.spec.registry.url, workspace.root)


def promote(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`promote [VERSION] [--by WHO] [--why TEXT]`: make a version the active one.

    Without a number it is the newest that may be served; newer ones are told, each with the gates that it failed.
    """
    registry = registry_of(workspace)
    moved = registry.promote(options.version, _note(options))
    if options.version is not None:
        return moved.as_result()
    ledger = registry.ledger()
    newer = [told_unfit(ledger.versions[number]) for number in ledger.kept if number > moved.version]
    return {**moved.as_result(), **({"passed_over": newer} if newer else {})}


def rollback(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`rollback [--to V] [--by WHO] [--why TEXT]`: return to a version that was live before."""
    return registry_of(workspace).rollback(options.to, _note(options)).as_result()


def history(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`history [--at TIME]`: every entry of the checked history, or which version was live at a time.

    A time is RFC 3339, or without a zone as `2026-11-23T12:00`, which is this machine's time; the answer names it.
    Raises: RegistryError if the history is damaged, SpecError for a time that cannot be read or is still to come.
    """
    registry = registry_of(workspace)
    if getattr(options, "at", None):
        return _live_at(registry, options.at)
    ledger, findings = verify(registry)
    broken = [finding for finding in findings if not finding.fault.value.startswith("derived")]
    if broken:
        raise RegistryError("tampered", broken[0].message, details=[finding.as_json() for finding in broken])
    entries = [_told(entry) for entry in registry.entries()]
    return {"active": ledger.active, "previous": ledger.previous, "entries": entries}


def registry(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`registry verify`: look whether everything is as it was stored; `registry repair`: mend what can be mended.

    The result is not ok, and the exit code 4, while something is wrong.
    """
    found = registry_of(workspace)
    done, findings = repair(found, workspace.root) if options.action == "repair" else ([], verify(found)[1])
    repaired = {"repaired": done} if options.action == "repair" else {}
    numbers = found.numbers()
    told = {"entries": len(numbers), "findings": [finding.as_json() for finding in findings]}
    return {"ok": not findings, **repaired, **told}


def _live_at(registry: Registry, text: str) -> dict[str, object]:
    moment = _moment(text)
    reign = reign_at(registry.entries(), moment)
    local = moment.astimezone()
    answer: dict[str, object] = {
        "at": timestamp(moment),
        "local": local.isoformat(timespec="seconds"),
        "timezone": local.tzname(),
        "version": reign.version,
    }
    if reign.began is not None and reign.version is not None:
        answer |= {
            "digest": reign.began.digest,
            "since": reign.began.at,
            "until": reign.ended.at if reign.ended else None,
            "event": reign.began.event.value,
            "by": reign.began.by,
            "why": reign.began.why,
            "entry": reign.began.number,
        }
    return {**answer, "text": _sentence(local, reign)}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        raise SpecError(
            "bad_time", f"--at {text!r} is no time; write 2026-11-23T12:00 (this machine's) or 2026-11-23T12:00Z (UTC)"
        ) from error
    if moment > datetime.now(UTC):
        raise SpecError("bad_time", f"--at {text!r} is still to come; `history` tells what is live now")
    return moment


def _sentence(local: datetime, reign: Reign) -> str:
    when = f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    if reign.version is None or reign.began is None:
        first = f"; the first one went live at {_local(reign.ended.at)}" if reign.ended else ""
        return f"at {when} no version was live{first}"
    until = f"until {_local(reign.ended.at)}" if reign.ended else "and still is"
    why = f" ({reign.began.why})" if reign.began.why else ""
    how = f"{reign.began.event.value} by {reign.began.by} at {_local(reign.began.at)}{why}"
    return f"at {when} version {reign.version} was live, {how}, {until}"


def _local(at: str) -> str:
    local = datetime.fromisoformat(at).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"


def _note(options: argparse.Namespace) -> Note:
    return Note(by=options.by or whoami(), why=options.why or "")


def _told(entry: Entry) -> dict[str, object]:
    """Return an entry without its list of files, and with a sentence for people."""
    told = cast("dict[str, object]", msgspec.to_builtins(entry))
    rows = "rows of a person left the data of " if entry.event is Event.ERASED else ""
    sentence = f"{entry.at} {rows}version {entry.version}{'' if rows else f' {entry.event.value}'} by {entry.by}"
    text = f"{sentence}: {entry.why}" if entry.why else sentence
    return {**{name: value for name, value in told.items() if name not in ("files", "data")}, "text": text}
