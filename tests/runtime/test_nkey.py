"""nkeys: the text forms are those of every NATS tool, and nothing shows a seed."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from services._runtime.nkey import UserKey, new_seed

DOCUMENTED = (
    "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
)
"""A user's pair out of the documentation of NATS."""
RAW_AT = slice(1, 33)


def test_the_public_key_of_a_seed_is_the_documented_one() -> None:
    """The encoding is NATS's own."""
    seed, public = DOCUMENTED

    assert UserKey.from_seed(seed).public == public


def test_a_signature_is_checked_with_the_public_key() -> None:
    """Base64 of Ed25519 over the nonce."""
    key = UserKey.from_seed(new_seed())
    raw = base64.b32decode(key.public)[RAW_AT]

    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(key.sign("nonce")), b"nonce")


def test_seeds_are_never_the_same() -> None:
    """And each is a user's."""
    seeds = {new_seed() for _ in range(20)}

    assert (len(seeds), {seed[:2] for seed in seeds}) == (20, {"SU"})


@given(st.text(max_size=70))
def test_what_is_no_seed_is_refused_without_its_text(text: str) -> None:
    """Anything may stand in a file that somebody took for a key."""
    with pytest.raises(ValueError, match=r"^not the seed of a user's nkey$"):
        UserKey.from_seed(text)


@given(st.integers(2, 57), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_seed_with_a_wrong_letter_is_refused(place: int, letter: str) -> None:
    """The checksum tells."""
    seed = DOCUMENTED[0]
    changed = seed[:place] + letter + seed[place + 1 :]
    if changed != seed:
        with pytest.raises(ValueError, match="not the seed"):
            UserKey.from_seed(changed)


def test_a_key_that_is_printed_shows_its_public_half() -> None:
    """In a traceback or a log."""
    seed, public = DOCUMENTED

    assert repr(UserKey.from_seed(seed)) == f"UserKey(public={public!r})"
