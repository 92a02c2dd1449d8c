"""What a running system remembers beside its models: predictions, outcomes, sketches, online rows, small facts.

One port (`port`), the same tables (`sql`) in a SQLite file for one host or in PostgreSQL for many. Owns which of the
two a URL means. Serving goes on without its state; nothing in it is needed to answer or to roll back.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlsystem.errors import SpecError
from mlsystem.state.port import Captured, Claim, Erased, Joined, OnlineRow, Outcome, Recorded, State, Window
from mlsystem.state.sql import SqlState

if TYPE_CHECKING:
    from mlsystem.stages import Workspace

__all__ = [
    "Captured",
    "Claim",
    "Erased",
    "Joined",
    "OnlineRow",
    "Outcome",
    "Recorded",
    "State",
    "Window",
    "open_state",
    "replica_name",
    "state_of",
]

_log = logging.getLogger(__name__)


def open_state(url: str, root: Path, *, system: str = "system", tell: Callable[[str], None] = _log.warning) -> State:
    """Return the state at `url`: `sqlite:FILE` relative to `root`, `postgresql://...`, or `env:VAR` with either.

    Nothing is read or made before it is used. `system` keeps systems apart that share a database. `tell` hears that
    a lost or damaged file was made anew. Raises: SpecError for any other URL, or a variable that is not set.
    """
    place = _resolved(url)
    if place.startswith("sqlite:"):
        from mlsystem.state.sqlite import SqliteFile

        return SqlState(SqliteFile(root / place.removeprefix("sqlite:"), tell))
    if re.match(r"postgres(ql)?://", place):
        from mlsystem.state.postgres import PostgresSchema

        return SqlState(PostgresSchema(place, system))
    shown = url if url.startswith("env:") else place.partition(":")[0] + ":..."
    raise SpecError("bad_state_url", f"serving.state = {shown!r} is neither sqlite:FILE nor a postgresql:// URL")


def state_of(workspace: Workspace) -> State:
    """Return the state of a system, as `serving.state` says; under a regime it keeps entities under pseudonyms."""
    reporter, spec = workspace.reporter, workspace.spec
    state = open_state(
        spec.serving.state, workspace.root, system=spec.name, tell=lambda text: reporter.progress("state", None, text)
    )
    if spec.serving.online:
        from mlsystem.online.redis import with_redis

        state = with_redis(state, _resolved(spec.serving.online, "serving.online"), spec.name)
    if not spec.governance.regime:
        return state
    from mlsystem.governance.pseudonym import pseudonymous, secret_of
    from mlsystem.registry import registry_of

    return pseudonymous(state, lambda: secret_of(registry_of(workspace)))


def replica_name() -> str:
    """Return the name under which this host claims a state: all servers of a host are one replica."""
    return socket.gethostname()


def _resolved(url: str, key: str = "serving.state") -> str:
    if not url.startswith("env:"):
        return url
    name = url.removeprefix("env:")
    if not os.environ.get(name):
        raise SpecError("no_state_url", f"{key} = {url!r}, but {name} is not set: put the database's URL there")
    return os.environ[name]
