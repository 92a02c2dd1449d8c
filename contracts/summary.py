"""The last conversation of a task: what people are told, claim by claim."""

from typing import Literal

from contracts.message import Message, Value

Outcome = Literal["success", "partial", "failed", "canceled", "waiting"]
"""How a task stands for the person who asked; a task's state `completed` carries success or partial."""


class Claim(Value):
    """One statement and where it comes from."""

    text: str
    """The statement."""
    refs: tuple[str, ...]
    """Message ids of the task's journal, or `/`-rooted paths, that support it."""


class Summary(Message):
    """The human-readable end of a task."""

    text: str
    """Plain words for the person who asked."""
    claims: tuple[Claim, ...]
    """What the text says, with references."""
    outcome: Outcome
    """success, partial, failed or canceled."""
