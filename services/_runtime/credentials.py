"""Who this process is on the bus: nkey seeds and TLS, read from files that the settings name.

A seed file holds the seed alone and is named after its role, `gateway.nk`: the role names the inbox that answers come
on. Owns making seeds and the server's authorization block. Left out: what a role may do (contracts/permissions.py).
Nothing here puts a seed into a message or a log.

Source: NATS ADR-14 and the server's documentation of `authorization`.
"""

import json
import os
import secrets
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from contracts.permissions import ROLES, permissions
from services._runtime.errors import Misconfigured
from services._runtime.nkey import UserKey, new_seed
from services._runtime.settings import Settings

_SUFFIX: Final = ".nk"
_ANSWER: Final = '{ max: 1, expires: "2m" }'
"""How long a request may be answered, once: a briefing takes 30 s at most, and some may wait in line before it."""


def role_of(settings: Settings, default: str) -> str:
    """The role that the key file is named after; `default` without one, or where it has another name."""
    named = settings.nkey_file.stem if settings.nkey_file is not None else ""
    return named if named in ROLES else default


def anonymous(settings: Settings) -> Settings:
    """The settings for a server that asks nobody who they are, such as the embedded one."""
    return settings.model_copy(update={"nkey_file": None, "tls_ca": None, "tls_cert": None, "tls_key": None})


def key_of(settings: Settings) -> UserKey | None:
    """The key that this process signs in with; None: it has none. Raises Misconfigured for a file that holds none."""
    return None if settings.nkey_file is None else _read(settings.nkey_file)


def refusal(error: Exception) -> str:
    """Why the server will not have this process, or this process the server, and what to do; empty: it may pass."""
    text = str(error).lower()
    if "authorization violation" in text or "authentication" in text:
        return (
            "the bus refuses this process: set MLMESH_NKEY_FILE to the seed file of its role, as `mlmesh provision"
            " --keys` made it, and have the server read the configuration that it wrote"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the bus's certificate is not trusted ({error.verify_message}): set MLMESH_TLS_CA to the certificate that"
            " it was signed by, and use a name in NATS_URL that it was made for"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"no TLS with the bus ({error.reason or 'refused'}): does it ask for a certificate? set MLMESH_TLS_CERT and"
            " MLMESH_TLS_KEY"
        )
    return "" if "offers no tls" not in text else f"{error}: enable it there, or unset MLMESH_TLS_CA"


def make_seeds(directory: Path, roles: Iterable[str] = ROLES) -> dict[str, tuple[Path, str, bool]]:
    """A seed file for each role that has none, readable by its owner alone; role -> (file, public key, made now).

    Raises Misconfigured for a file that holds something else. OSError where nothing can be written.
    """
    found: dict[str, tuple[Path, str, bool]] = {}
    for role in roles:
        file = directory / role / f"{role}{_SUFFIX}"
        made = not file.exists()
        if made:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_once(file, new_seed())
        found[role] = (file, _read(file).public, made)
    return found


def authorization(keys: Mapping[str, str]) -> str:
    """The server's `authorization` block for these roles and public keys. Whoever has no key is refused."""
    users = "\n".join(_user(role, public) for role, public in keys.items())
    return (
        "# Who may do what on the mesh's bus: one user a role. Made by `mlmesh provision --keys`; do not edit.\n"
        f"authorization {{\n  timeout: 5\n  users = [\n{users}\n  ]\n}}\n"
    )


def write_whole(file: Path, text: str) -> bool:
    """Writes a file that holds no secret, whole or not at all; False when it says that already."""
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
    return True


def _user(role: str, public: str) -> str:
    may = permissions(role)
    parts = [f"publish: {{ allow: {json.dumps(may.publish)}"]
    parts[0] += f", deny: {json.dumps(may.never)} }}" if may.never else " }"
    parts.append(f"subscribe: {{ allow: {json.dumps(may.subscribe)} }}")
    if may.responds:
        parts.append(f"allow_responses: {_ANSWER}")
    inside = "\n".join(f"        {part}" for part in parts)
    return f"    # {role}\n    {{ nkey: {public}, permissions: {{\n{inside}\n    }} }}"


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """How the bus is spoken to over TLS; None: as the server says. Raises Misconfigured for a file that is no use."""
    if settings.tls_ca is None and settings.tls_cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
        if settings.tls_cert is not None:
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"MLMESH_TLS_CA, MLMESH_TLS_CERT or MLMESH_TLS_KEY cannot be used: {error}: name PEM files that this"
            " process may read"
        ) from error
    return context


def _read(file: Path) -> UserKey:
    """The key in a seed file. Raises Misconfigured, without a word of what the file holds."""
    try:
        return UserKey.from_seed(file.read_text(encoding="ascii").strip())
    except OSError as error:
        raise Misconfigured(
            f"the key file {file} cannot be read ({error.strerror}): make it with `mlmesh provision --keys`, and let"
            " this process read it"
        ) from error
    except ValueError:
        raise Misconfigured(
            f"{file} holds no seed of a user's nkey: make another with `mlmesh provision --keys`"
        ) from None  # the cause could show what the file holds


def _write_once(file: Path, text: str) -> None:
    """A new file with mode 0600 from its first byte on."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
