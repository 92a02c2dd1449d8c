"""What the server says: the JSON of predictions and of refusals.

Owns the wire shapes and the exception that becomes an error answer. Leaves deciding to the routes. A refusal for
a limit names the key of system.toml that sets it, so that whoever is refused knows what could be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mlsystem.boundary import Problem, Warning_

if TYPE_CHECKING:
    from starlette.types import Send

MAX_DETAILS = 100
"""Problems that one answer lists; the message tells how many there are."""

_encoder = msgspec.json.Encoder()
_JSON = (b"content-type", b"application/json")


class ModelName(msgspec.Struct, frozen=True):
    """Which model answered."""

    name: str
    version: int


class Reason(msgspec.Struct, frozen=True):
    """What one column did: `effect` was added to the score by `value` standing there."""

    column: str
    value: Any
    effect: float


class Prediction(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer for one row. `version` stands here because one request may reach two versions."""

    id: str
    version: int
    prediction: str | float
    probabilities: dict[str, float] | None = None
    reasons: list[Reason] | None = None
    """The columns that moved the score most, the strongest first, if they were asked for."""


class Warned(msgspec.Struct, frozen=True):
    """Something that was answered all the same, counted in values."""

    kind: str
    columns: tuple[str, ...]
    count: int


class Predictions(msgspec.Struct, omit_defaults=True):
    """The answer of POST /predict."""

    model: ModelName
    predictions: list[Prediction]
    warnings: list[Warned] | None = None


class Limit(msgspec.Struct, frozen=True):
    """A limit that a request ran into, by its key in system.toml."""

    name: str
    value: float | str


class Detail(msgspec.Struct, frozen=True):
    """One value that is refused."""

    row: int
    column: str
    reason: str
    got: str


class Error(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Why there is no prediction."""

    code: str
    message: str
    limit: Limit | None = None
    details: list[Detail] = msgspec.field(default_factory=list[Detail])


class Refusal(Exception):  # noqa: N818 - the request is refused, the server is fine
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        limit: Limit | None = None,
        details: Iterable[Detail] = (),
        challenge: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.challenge = challenge
        self.error = Error(code=code, message=message, limit=limit, details=list(details))

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers beside the body: when it is worth to come again, what would let the caller in."""
        later = [(b"retry-after", b"1")] if self.status in {429, 503} else []
        return [*later, (b"www-authenticate", self.challenge.encode())] if self.challenge else later

    def body(self) -> bytes:
        """Return the JSON of the answer."""
        return _encoder.encode({"error": self.error})


def refused_values(problems: tuple[Problem, ...]) -> Refusal:
    """Return the 422 that names row, column, reason and what came, for at most MAX_DETAILS values."""
    first, more = problems[0], len(problems) - 1
    message = f"row {first.row}, column {first.column!r}: {first.reason}" + (f"; and {more} more" if more else "")
    return unprocessable("invalid_rows", message, problems[:MAX_DETAILS])


def unprocessable(code: str, message: str, problems: Iterable[Problem] = ()) -> Refusal:
    """Return a 422 with one detail a problem."""
    return Refusal(422, code, message, details=[Detail(p.row, p.column, p.reason, p.got) for p in problems])


def warned(warnings: tuple[Warning_, ...]) -> list[Warned] | None:
    """Return the warnings of an answer, None where there are none."""
    return [Warned(warning.kind, warning.columns, warning.count) for warning in warnings] or None


def encode(answer: msgspec.Struct | Mapping[str, Any]) -> bytes:
    """Return the JSON of an answer."""
    return _encoder.encode(answer)


def error_body(error: Error, path: str) -> bytes:
    """Return an error in the shape of the path's protocol: the Open Inference Protocol has a text alone."""
    return _encoder.encode({"error": error.message if path.startswith("/v2") else error})


async def send_json(send: Send, body: bytes, *, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole JSON answer."""
    head = [_JSON, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
