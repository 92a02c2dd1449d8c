"""What a language model is asked for when it writes a summary, and the shape of its answer.

It sees the claims and nothing else: neither the journal nor the workspace. Whether its text may be shown is
decided by `checks`, not by the prompt.
"""

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel

from contracts.summary import Claim, Outcome
from services.summarizer.template import MAX_WORDS

SYSTEM: Final = f"""\
You tell the person who asked for a piece of work how it ended. Write plain, calm prose of at most {MAX_WORDS} words
in two to five short paragraphs, without headings, lists or praise.
Say only what the claims say. Copy every number, path, name and command exactly as it stands; put commands in
backticks. Begin with the outcome. Where something failed, is missing or was assumed, say so plainly. Never call
work that ended as partial or failed a success, and never tell something planned as done.
End with what to do next, where the claims name it."""


class Prose(BaseModel):
    """The model's answer."""

    text: str
    """The summary, paragraphs separated by an empty line."""


def prompt(outcome: Outcome, claims: Sequence[Claim]) -> str:
    """The outcome and the claims, numbered."""
    lines = "\n".join(f"{number}. {claim.text}" for number, claim in enumerate(claims, start=1))
    return f"The work ended as: {outcome}\n\nClaims:\n{lines}"
