"""Takes a request in: from ASGI messages to rows, under limits.

Owns content type, size, time of arrival and JSON. Plain JSON is decoded by msgspec; what it refuses is read again
by the standard library, which lets NaN, Infinity and numbers of any length through, so that the boundary can name
the cell they stand in instead of a byte offset. Leaves the values to `boundary`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from mlsystem.boundary import Problem
from mlsystem.serving.answers import Refusal, unprocessable

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from mlsystem.serving.limits import Limits

Rows = list[dict[str, Any]]

_DRAIN_FACTOR = 8
"""A body that is too large is read and thrown away up to this many times the limit: a client that is cut off while
it still sends never sees the answer."""

_MAX_DIGITS = 400
"""Longest integer literal that is converted: the largest float has 309 digits, and conversion is quadratic."""

REASONS: Final = b'"reasons"'
"""What the body of a request has in it that asks for reasons."""

_decoder = msgspec.json.Decoder()


class Disconnected(Exception):  # noqa: N818 - nothing went wrong on this side
    """The client is gone; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """Return the body.

    Raises: Refusal 415, 413, 408; Disconnected.
    """
    require_plain_json(cast("Sequence[tuple[bytes, bytes]]", scope["headers"]))
    return await receive_body(receive, limits)


async def receive_body(receive: Receive, limits: Limits) -> bytes:
    """Return the body, whatever is in it.

    Raises: Refusal 413, 408; Disconnected.
    """
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _read(receive, limits)
    except TimeoutError:
        raise limits.slow_body() from None


def parse_rows(body: bytes, limits: Limits) -> Rows:
    """Return the rows of `{"rows": [{...}, ...]}`.

    Raises: Refusal 400 for what is no JSON, 413 for too many rows, 422 for another shape.
    """
    content = decode(body)
    found = cast("dict[str, object]", content).get("rows") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise unprocessable("invalid_shape", 'send a JSON object {"rows": [{"column": value, ...}, ...]}')
    rows = cast("list[object]", found)
    if not rows:
        raise unprocessable("no_rows", "`rows` is empty; send at least one row")
    if len(rows) > limits.max_rows:
        raise limits.too_many_rows(len(rows))
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            problem = Problem(index, "", "a row must be an object of column and value", repr(row)[:60])
            raise unprocessable("invalid_rows", f"row {index}: {problem.reason}", [problem])
    return cast("Rows", rows)


def reasons_wanted(body: bytes) -> int:
    """Return how many reasons each prediction is to have, 0 for none; Refusal 400, 422 for what is no such number."""
    content = decode(body)
    wanted = cast("dict[str, object]", content).get("reasons") if isinstance(content, dict) else None
    if wanted is None:
        return 0
    if isinstance(wanted, float) and wanted.is_integer():  # 3.0 is 3, as JSON Schema has it
        wanted = int(wanted)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise unprocessable("invalid_shape", "`reasons` is how many of them a prediction has: a whole number from 1 on")
    return wanted


def require_plain_json(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse another content type, and compression; no content type at all is taken as JSON."""
    for name, value in headers:
        if name == b"content-type":
            media = value.split(b";", 1)[0].strip().lower()
            if media != b"application/json" and not media.endswith(b"+json"):
                raise _unsupported(f"send Content-Type: application/json, not {_shown(media)}")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise _unsupported(f"send the body as it is, not with Content-Encoding: {_shown(value)}")


def _unsupported(message: str) -> Refusal:
    return Refusal(415, "unsupported_media_type", message)


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))


async def _read(receive: Receive, limits: Limits) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= limits.max_body:
            chunks.append(chunk)
        if not message.get("more_body") or size > _DRAIN_FACTOR * limits.max_body:
            break
    if size > limits.max_body:
        raise limits.body_too_large()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decode(body: bytes) -> object:
    """Return the JSON of a body, NaN and Infinity included; Refusal 400 if it is none."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _decode_leniently(body)
    except RecursionError:
        raise Refusal(400, "malformed_json", "the JSON is nested too deeply") from None


def _decode_leniently(body: bytes) -> object:
    try:
        return json.loads(body.decode(), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise Refusal(400, "not_utf8", f"the body is not UTF-8: byte {error.start} cannot be read") from None
    except json.JSONDecodeError as error:
        raise Refusal(400, "malformed_json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Refusal(400, "malformed_json", "the JSON is nested too deeply") from None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)
