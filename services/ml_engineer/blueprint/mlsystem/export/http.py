"""Talking JSON to another platform's HTTP API, for exports that are sent instead of written.

Owns one request with its time limit, its credentials from the environment, and errors that say what to do. A URL may
hold a password, so errors name its host alone.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from mlsystem.errors import MlsystemError

_PATIENCE_S: Final = 60.0
_SHOWN: Final = 300


def is_url(place: str) -> bool:
    """Tell whether an export is to be sent instead of written to a directory."""
    return place.startswith(("http://", "https://"))


def send(method: str, url: str, body: bytes | object | None, headers: Mapping[str, str]) -> Any:
    """Send JSON, or bytes as they are, and return the JSON that comes back, None for an empty answer."""
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    request = urllib.request.Request(url, raw, {"Content-Type": kind, **headers}, method=method)  # noqa: S310 - see is_url
    where = f"{urlsplit(url).hostname}{urlsplit(url).path}"
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310 - see is_url
            content = answer.read()
    except urllib.error.HTTPError as error:
        told = error.read(_SHOWN).decode(errors="replace")
        raise MlsystemError(
            "export_refused", f"{where} answered {error.code}: {told}", details=[{"status": error.code}]
        ) from None
    except (OSError, ValueError) as error:
        raise MlsystemError("export_failed", f"{where} cannot be reached: {error}; check --to") from None
    return json.loads(content) if content.strip() else None
