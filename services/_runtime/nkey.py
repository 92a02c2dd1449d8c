"""nkeys: Ed25519 keys of users of a NATS server, in the text forms that every NATS tool reads.

Owns the encoding, the public key of a seed and the signature of a server's nonce. Left out: files and roles
(credentials.py). Nothing here shows a seed: an error says only that it is none.

Source: NATS's nkeys. Base32 without padding of prefix, 32 bytes and a CRC-16/XMODEM, little endian.
"""

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_USER: Final = 20 << 3
"""First byte of a user's public key: it begins with U."""
_SEED: Final = 18 << 3
"""First five bits of every seed; the kind of key follows in the next eight."""
_RAW: Final = 32
_CHECK: Final = 2


@dataclass(frozen=True, slots=True)
class UserKey:
    """A user's key pair."""

    public: str
    """`U...`: what the server's configuration names."""
    _private: "Ed25519PrivateKey" = field(repr=False)

    @classmethod
    def from_seed(cls, seed: str) -> "UserKey":
        """The pair of a seed, `SU...`. Raises ValueError for anything else, without a word of what it was."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(_decoded(seed))
        return cls(_encoded(bytes([_USER]) + private.public_key().public_bytes_raw()), private)

    def sign(self, nonce: str) -> bytes:
        """The signature of a server's nonce, as CONNECT carries it."""
        return base64.b64encode(self._private.sign(nonce.encode()))


def new_seed() -> str:
    """A user's seed that nobody else has."""
    return _encoded(_prefix() + secrets.token_bytes(_RAW))


def _prefix() -> bytes:
    return bytes([_SEED | _USER >> 5, (_USER & 31) << 3])


def _encoded(content: bytes) -> str:
    check = binascii.crc_hqx(content, 0).to_bytes(_CHECK, "little")
    return base64.b32encode(content + check).decode().rstrip("=")


def _decoded(seed: str) -> bytes:
    try:
        whole = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (binascii.Error, ValueError):
        whole = b""
    content = whole[:-_CHECK]
    if len(content) != len(_prefix()) + _RAW or not content.startswith(_prefix()) or _encoded(content) != seed:
        raise ValueError("not the seed of a user's nkey")
    return content[len(_prefix()) :]
