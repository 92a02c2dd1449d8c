"""API keys: who may ask a server what.

Owns the keys of `serving.api_keys`, the scope that each path needs, and the guard in front of the routes. The server
knows digests alone, so neither its memory nor its environment holds a key; keys are made long and random by the
command `key`, which is why a plain SHA-256 of them is enough. Leaves transport (TLS) to what stands before the server.

The variable named by `serving.api_keys = "env:VAR"` holds entries `name:scope+scope:sha256`, separated by blanks,
line ends or commas. Two entries of one name are how a key is changed without a gap.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast, get_args

from mlsystem.errors import SpecError
from mlsystem.serving.answers import Refusal, error_body, send_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from mlsystem.output import Reporter
    from mlsystem.spec import Serving

KeyScope = Literal["predict", "outcomes", "admin"]
"""What a key allows; `admin` allows everything. Outcomes have a scope of their own: wrong ones could undo a model."""

SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
CLIENT_VARIABLE: Final = "MLSYSTEM_API_KEY"
"""Where the commands that ask a server find their key."""

OPEN: Final = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs"})
"""Paths that need no key: probes have none, and the page of documents holds nothing of the system."""

_NEEDED: Final[dict[str, KeyScope]] = {"/outcomes": "outcomes", "/metrics": "admin"}
_ENV: Final = "env:"
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,60}):(?P<scopes>[a-z+]+):(?P<digest>[0-9a-fA-F]{64})")
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """One key that is known: whose it is, what it allows, and its SHA-256."""

    name: str
    scopes: frozenset[KeyScope]
    digest: bytes

    def allows(self, scope: KeyScope) -> bool:
        """Tell whether the key opens what needs `scope`."""
        return scope in self.scopes or "admin" in self.scopes

    def entry(self) -> str:
        """Return the key as it stands in the variable."""
        return f"{self.name}:{'+'.join(sorted(self.scopes))}:{self.digest.hex()}"


class Keys:
    """The keys of one server."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def of(cls, serving: Serving, environ: Mapping[str, str] = os.environ) -> Keys | None:
        """Return the keys of a checked spec, None if the server is open to all.

        Raises: SpecError if the variable is absent or does not hold keys; its content is in no message.
        """
        if not serving.api_keys:
            return None
        variable = variable_of(serving)
        text = environ.get(variable, "")
        entries = [entry for entry in re.split(r"[\s,]+", text) if entry]
        if not entries:
            message = f"serving.api_keys names the variable {variable}, which is not set or empty; make a key with "
            raise SpecError("no_api_keys", message + "`python -m mlsystem key NAME` and put its entry there")
        return cls(_parsed(entry, number, variable) for number, entry in enumerate(entries, start=1))

    def refusal(self, headers: Iterable[tuple[bytes, bytes]], scope: KeyScope) -> Refusal | None:
        """Return why a request with these headers may not do what needs `scope`: 401, 403; None if it may.

        Every known key is compared, each in constant time, so that the time tells nothing.
        """
        secret = _presented(headers)
        if not secret:
            return _refused(401, "no_api_key", "send a key: Authorization: Bearer KEY, or X-API-Key: KEY", "")
        digest = _digest(secret)
        found = [known for known in self._keys if hmac.compare_digest(known.digest, digest)]
        if not found:
            text = "this key is not known here; ask the system's owner for one"
            return _refused(401, "bad_api_key", text, ', error="invalid_token"')
        if not any(known.allows(scope) for known in found):
            text = f"this key does not have the scope {scope!r} that the path needs"
            return _refused(403, "scope_missing", text, f', error="insufficient_scope", scope="{scope}"')
        return None


def scope_of(path: str) -> KeyScope | None:
    """Return the scope that a path needs, None if it is open."""
    return None if path in OPEN else _NEEDED.get(path, "predict")


class Refused(Protocol):
    """Where refusals are counted."""

    def refused(self, refusal: Refusal) -> None:
        """Count one."""
        ...


class Guarded:
    """Lets requests through that bring a key for their path; the others are answered here."""

    def __init__(self, app: ASGIApp, keys: Keys, metrics: Refused) -> None:
        self._app = app
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        path = scope.get("path", "")
        needed = scope_of(path) if scope["type"] == "http" else None
        refusal = self._keys.refusal(scope["headers"], needed) if needed else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        self._metrics.refused(refusal)
        await send_json(send, error_body(refusal.error, path), status=refusal.status, headers=refusal.headers)


def key(_root: Path, options: argparse.Namespace, _reporter: Reporter) -> dict[str, object]:
    """Command `key NAME [--scopes predict+outcomes]`: make a key; it is shown this once and kept nowhere."""
    secret, made = fresh(options.name, options.scopes.split("+"))
    return {"name": made.name, "scopes": sorted(made.scopes), "key": secret, "entry": made.entry()}


def fresh(name: str, scopes: Sequence[str]) -> tuple[str, Key]:
    """Return a new key and what a server knows of it; SpecError if name or scopes are none."""
    secret = secrets.token_urlsafe(_KEY_BYTES)
    return secret, _parsed(f"{name}:{'+'.join(scopes)}:{_digest(secret).hex()}", 1, "the command line")


def variable_of(serving: Serving) -> str:
    """Return the variable that `serving.api_keys` names; SpecError if it names none."""
    variable = serving.api_keys.removeprefix(_ENV)
    if not serving.api_keys.startswith(_ENV) or not variable.strip():
        text = 'serving.api_keys must be "env:VAR", the name of a variable; keys do not belong into the file'
        raise SpecError("bad_value", text)
    return variable.strip()


def own_key(serving: Serving) -> tuple[str, dict[str, str]]:
    """Return a key that a server of one's own will know, and the environment that it is started with for it.

    For measuring and testing: the server is a child, and nobody else ever knows the key. Nothing if it needs none.
    """
    if not serving.api_keys:
        return "", {}
    secret, made = fresh("its-parent", ["admin"])
    return secret, {variable_of(serving): made.entry()}


def client_headers(secret: str | None = None) -> dict[str, str]:
    """Return the headers that carry a key, by default that of MLSYSTEM_API_KEY; none without a key."""
    secret = os.environ.get(CLIENT_VARIABLE, "") if secret is None else secret
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def _parsed(entry: str, number: int, where: str) -> Key:
    match = _ENTRY.fullmatch(entry)
    scopes = frozenset(match["scopes"].split("+")) if match else frozenset[str]()
    if match is None or not scopes <= set(SCOPES):
        text = f"key {number} of {where} is not `name:scope+scope:sha256`; scopes are {', '.join(SCOPES)}"
        raise SpecError("bad_api_key", text)
    return Key(match["name"], cast("frozenset[KeyScope]", scopes), bytes.fromhex(match["digest"]))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _presented(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the key that a request brings, empty if it brings none."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return secret.strip()
        elif name == b"x-api-key":
            return value.decode("latin-1").strip()
    return ""


def _refused(status: int, code: str, message: str, error: str) -> Refusal:
    """Return a refusal that says how to come in (RFC 6750)."""
    return Refusal(status, code, message, challenge=f'Bearer realm="predictions"{error}')
