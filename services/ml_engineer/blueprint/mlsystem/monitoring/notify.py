"""Tells a webhook about alerts that are new or over.

Owns the message (its `text` is what chat systems show), what was told before (a small fact in the state, so that an
alert is told once), and three attempts. The URL is a secret: no message of ours holds it. A failure to tell is
reported and tried again the next time.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from mlsystem.errors import SpecError
from mlsystem.monitoring.findings import Finding
from mlsystem.state import State

TOLD: Final = "monitor/told"
"""Name of the fact that holds the alerts that the webhook knows of."""

_ATTEMPTS: Final = 3
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Change:
    """Alerts that are new, and the names of those that are over."""

    firing: tuple[Finding, ...]
    over: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.firing or self.over)


def name_of(finding: Finding) -> str:
    """Return by what an alert is known from one look to the next."""
    return f"{finding.kind}:{finding.feature}" if finding.feature else finding.kind


def change(state: State, alerts: Sequence[Finding]) -> Change:
    """Return what the webhook does not know yet."""
    told = msgspec.json.decode(state.get(TOLD) or b"[]", type=list[str])
    firing = {name_of(alert): alert for alert in alerts}
    fresh = tuple(alert for name, alert in firing.items() if name not in told)
    return Change(fresh, tuple(name for name in told if name not in firing))


def remember(state: State, alerts: Sequence[Finding]) -> None:
    """Note that the webhook knows of these alerts and no others."""
    state.put(TOLD, msgspec.json.encode(sorted({name_of(alert) for alert in alerts})))


def message(system: str, version: int, cause: str, news: Change) -> dict[str, object]:
    """Return the JSON that is posted."""
    told = [alert.text for alert in news.firing]
    over = [f"Over: {name}." for name in news.over]
    return {
        "system": system,
        "version": version,
        "text": " ".join([f"[{system}, version {version}]", *([cause] if told else []), *over]),
        "cause": cause,
        "firing": [msgspec.to_builtins(alert) for alert in news.firing],
        "over": list(news.over),
    }


def post(notify: str, content: object, *, wait: Callable[[float], None] = time.sleep) -> str:
    """Post JSON to the URL in the variable that `env:VAR` names; return why it failed, "" if it did not.

    Blocks for at most some 20 s. Raises: SpecError if the variable is not set or holds no http(s) URL.
    """
    variable = notify.removeprefix("env:")
    url = os.environ.get(variable, "")
    if not url.startswith(("http://", "https://")):
        raise SpecError("no_webhook", f"monitoring.notify = {notify!r}, but {variable} holds no http(s) URL: set it")
    why = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            wait(2.0**attempt / 2)
        why = _attempt(url, msgspec.json.encode(content))
        if not why:
            return ""
    return why


def _attempt(url: str, body: bytes) -> str:
    """Post once; return what went wrong in words that hold nothing of the URL."""
    headers = {"Content-Type": "application/json", "User-Agent": "mlsystem"}
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked above
        with urllib.request.urlopen(request, timeout=_PATIENCE_S):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"the webhook answered {error.code}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"the webhook does not answer ({type(error).__name__})"
