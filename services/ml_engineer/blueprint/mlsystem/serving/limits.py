"""What one server takes on: sizes, time, and requests at once.

Owns the limits of `[serving]` as numbers and the count of requests in flight. Every refusal names the key that
it comes from: 413 and 408 for what one request is, 429 where callers have too many of a costly kind under way and
others are answered, 503 where the server is full or late and nobody is. Only the last counts against availability.
How often a caller may come is for a gateway to say. Leaves reading the request to `intake`.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlsystem.serving.answers import Limit, Refusal
from mlsystem.spec import seconds, size_bytes

if TYPE_CHECKING:
    import asyncio

    from mlsystem.spec import Serving


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server: rows, bytes, seconds, requests."""

    max_rows: int
    max_body: int
    timeout_s: float
    concurrency: int
    strict: bool

    @classmethod
    def of(cls, serving: Serving) -> Limits:
        """Read the limits from a checked spec."""
        return cls(
            max_rows=serving.max_rows,
            max_body=size_bytes(serving.max_body),
            timeout_s=seconds(serving.timeout),
            concurrency=serving.concurrency,
            strict=serving.strict,
        )

    def body_too_large(self) -> Refusal:
        """413: the body is over `serving.max_body`."""
        message = f"the body is larger than {self.max_body} bytes; send fewer rows at a time"
        return Refusal(413, "body_too_large", message, limit=Limit("serving.max_body", self.max_body))

    def too_many_rows(self, rows: int) -> Refusal:
        """413: more rows than `serving.max_rows`."""
        message = f"{rows} rows are more than {self.max_rows} in one request; split them"
        return Refusal(413, "too_many_rows", message, limit=Limit("serving.max_rows", self.max_rows))

    def slow_body(self) -> Refusal:
        """408: the body did not come within `serving.timeout`."""
        message = f"the body did not arrive within {self.timeout_s} s"
        return Refusal(408, "slow_body", message, limit=Limit("serving.timeout", self.timeout_s))

    def timed_out(self) -> Refusal:
        """503: no answer within `serving.timeout`."""
        message = f"there was no answer within {self.timeout_s} s; send fewer rows, or try again"
        return Refusal(503, "timeout", message, limit=Limit("serving.timeout", self.timeout_s))

    def overloaded(self) -> Refusal:
        """503: `serving.concurrency` requests are in flight already."""
        message = f"{self.concurrency} requests are being answered already; try again"
        return Refusal(503, "overloaded", message, limit=Limit("serving.concurrency", self.concurrency))


class InFlight:
    """Counts the requests that hold memory or a thread, in a slot that others may read; belongs to one event loop."""

    def __init__(self, limits: Limits, values: MutableSequence[float] | memoryview[float], slot: int) -> None:
        self._limits = limits
        self._values = values
        self._slot = slot
        self._turn = 0

    @property
    def count(self) -> int:
        """Requests in flight."""
        return int(self._values[self._slot])

    def enter(self) -> None:
        """Take a place; Refusal if all are taken."""
        if self._values[self._slot] >= self._limits.concurrency:
            raise self._limits.overloaded()
        self._values[self._slot] += 1

    def enter_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take a place until the loop's turn ends: whoever comes in one turn was there at once, if answered one by one.

        Raises: Refusal if all are taken.
        """
        self.enter()
        if not self._turn:
            loop.call_soon(self._end_turn)
        self._turn += 1

    def leave_turn(self) -> None:
        """Give such a place back before the turn ends, to take another one."""
        self._turn -= 1
        self.leave()

    def _end_turn(self) -> None:
        self._values[self._slot] -= self._turn
        self._turn = 0

    def keep(self) -> None:
        """Take a place for what goes on after its request has ended, beyond the limit if need be."""
        self._values[self._slot] += 1

    def leave(self) -> None:
        """Give the place back."""
        self._values[self._slot] -= 1
