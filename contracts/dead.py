"""Dead letters: messages that nobody could process, kept with the reason until somebody settles them."""

from typing import Literal

from pydantic import Field

from contracts.message import Message


class DeadLetter(Message):
    """A refused message, whole, and why it was refused."""

    reason: str
    """What is wrong, and what to do."""
    stream: str
    """The stream that held it."""
    stream_seq: int
    """Its sequence there."""
    subject: str
    """Its subject."""
    durable: str
    """Who refused it."""
    deliveries: int = Field(default=1, ge=0)
    """How often it was tried."""
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    """Its headers."""
    body_base64: str = ""
    """Its body, base64, at most `MLMESH_DEAD_BODY_BYTES` of it."""
    body_bytes: int = Field(default=0, ge=0)
    """Size of the whole body; more than `body_base64` holds: it was cut."""


class LetterSettled(Message):
    """What became of a dead letter: the record that stays when the letter itself is removed."""

    how: Literal["redriven", "discarded"]
    """What a person did with it."""
    letter_id: str
    """Message id of the letter."""
    letter_seq: int
    """Sequence it had in DEAD."""
    reason: str
    """Why the message had been refused."""
    stream: str
    """The stream that held the message."""
    stream_seq: int
    """Its sequence there."""
    subject: str
    """Its subject."""
    redrive_id: str = ""
    """Message id under which it was published again."""
    task: str = ""
    """The task that goes on; a new one where the message's own was over."""


def letter_id(stream: str, seq: int) -> str:
    """Message id of the dead letter about a stored message: the same message is the same letter."""
    return f"dlq-{stream}-{seq}"


def settled_id(letter: str) -> str:
    """Message id of the record that a letter was settled."""
    return f"settled-{letter}"
