"""What may go live, decided from the ledger alone.

Owns the refusals of a promotion and of a rollback, each with what to do instead. Leaves the files to `registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mlsystem.errors import GateFailed, RegistryError
from mlsystem.registry.ledger import Entry, Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence


def same_active(seen: int | None, ledger: Ledger) -> None:
    """Refuse, with RegistryError `conflict`, where another version went live since somebody looked."""
    if ledger.active != seen:
        raise RegistryError(
            "conflict", f"version {ledger.active} went live meanwhile; look at `history`, then decide again"
        )


def servable(ledger: Ledger, version: int | None) -> Entry:
    """Return the version, the newest that may be served if None.

    Raises: GateFailed if its gates do not allow it; RegistryError if there is none.
    """
    if version is None:
        found = next((v for v in reversed(ledger.kept) if ledger.versions[v].evidence.get("servable")), None)
        if found is None:
            raise RegistryError("nothing_to_promote", "no version may be served; run `package` first")
        version = found
    package = ledger.package_of(version)
    if not package.evidence.get("servable"):
        raise GateFailed("not_servable", told_unfit(package))
    return package


def told_unfit(package: Entry) -> str:
    """Return in words why a version may not be served."""
    failed = cast("Sequence[str]", package.evidence.get("failed_gates") or ())
    return f"version {package.version} failed gates that serving needs: {', '.join(failed) or 'see its metrics.json'}"


def promotion_evidence(package: Entry, active: int | None) -> dict[str, object]:
    """Return what a promotion rests on: which version it takes the place of, and how this one did."""
    return {"from": active, "outcome": package.evidence.get("outcome")}


def rollback_target(ledger: Ledger, to: int | None) -> int:
    """Return the version that a rollback leads to; RegistryError if there is none, or it was never live."""
    target = ledger.previous if to is None else to
    if target is None:
        raise RegistryError("nothing_to_roll_back_to", "no earlier version was live; promote another one instead")
    if target not in ledger.live:
        raise RegistryError("never_live", f"version {target} was never live; `promote` it instead")
    return target
