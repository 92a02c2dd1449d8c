"""The command `status`: how a system stands: what is live, what waits, whether its server answers, what is wrong.

Reads the registry, asks the server on `serving.port` for its health, and repeats what monitoring said last. Looks at
everything and changes nothing; what cannot be read is told as trouble, not raised. Leaves repairing to `registry`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem import __version__
from mlsystem.errors import MlsystemError
from mlsystem.monitoring import LAST_VERDICT
from mlsystem.registry import registry_of
from mlsystem.registry.care import verify
from mlsystem.registry.ledger import reign_at
from mlsystem.serving.keys import CLIENT_VARIABLE, client_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlsystem.spec import Spec
    from mlsystem.stages import Workspace

_PATIENCE_S: Final = 2.0
"""A server that is well answers its health in milliseconds."""

_EVER: Final = datetime.max.replace(tzinfo=UTC)


def status(workspace: Workspace, _options: argparse.Namespace) -> dict[str, object]:
    """`status`: one object that tells how the system stands; `health` is ok, degraded, or down."""
    spec = workspace.spec
    registry, troubles = _registry(workspace)
    server = _server(spec)
    monitor = _monitor(workspace)
    if registry.get("live") is None and not troubles:
        troubles.append("no version is live: python -m mlsystem promote")
    troubles += [f"the server: {server['trouble']}"] if server.get("trouble") else []
    troubles += [f"alert: {alert['text']}" for alert in monitor.get("alerts", ())]
    down = registry.get("live") is None or bool(server.get("trouble"))
    return {
        "name": spec.name,
        "engine": __version__,
        "task": {"kind": spec.task.kind, "target": spec.task.target},
        **registry,
        "server": server,
        "monitor": monitor,
        "health": "down" if down else "degraded" if troubles else "ok",
        "troubles": troubles,
    }


def _registry(workspace: Workspace) -> tuple[dict[str, Any], list[str]]:
    """Return what is registered and live, and what is wrong with it."""
    try:
        registry = registry_of(workspace)
        ledger, findings = verify(registry)
        began = reign_at(registry.entries(), _EVER).began
    except MlsystemError as error:
        return {"live": None, "versions": []}, [f"the registry: {error.message}"]
    found = {
        "live": ledger.active,
        "since": began.at if began and ledger.active is not None else None,
        "previous": ledger.previous,
        "versions": list(ledger.kept),
        "waiting": [version for version in ledger.kept if version > (ledger.active or 0)],
    }
    return found, [f"the registry: {finding.message}" for finding in findings]


def _server(spec: Spec) -> dict[str, Any]:
    """Return what the server on this machine says of itself; one that does not run is no trouble."""
    url = f"http://127.0.0.1:{spec.serving.port}"
    try:
        name = _get(f"{url}/version").get("name")
        if name != spec.name:
            return {"url": url, "running": False, "note": f"{name or 'something else'} answers on this port"}
        return {"url": url, "running": True, "version": _get(f"{url}/readyz").get("version")}
    except urllib.error.HTTPError as error:
        closed = error.code in {401, 403}
        trouble = f"it wants an API key: set {CLIENT_VARIABLE}" if closed else f"it is not ready ({error.code})"
        return {"url": url, "running": True, "trouble": trouble}
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
            return {"url": url, "running": False}
        return {"url": url, "running": True, "trouble": str(error)}


def _get(url: str) -> Mapping[str, Any]:
    request = urllib.request.Request(url, headers=client_headers())  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
        return msgspec.json.decode(answer.read(), type=dict[str, Any])


def _monitor(workspace: Workspace) -> dict[str, Any]:
    """Return what monitoring said last, nothing where it never looked."""
    from mlsystem.state import state_of

    try:
        with contextlib.closing(state_of(workspace)) as state:
            kept = state.get(LAST_VERDICT)
            return msgspec.json.decode(kept, type=dict[str, Any]) if kept else {}
    except MlsystemError as error:
        return {"trouble": error.message}
