"""Dead letters: messages that nobody could process, kept with the reason."""

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
