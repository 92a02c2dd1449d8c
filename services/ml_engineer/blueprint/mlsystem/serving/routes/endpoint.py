"""What the endpoints beside /predict share: a place among the requests in flight, one answer, errors in one shape.

Owns the order of a request up to its body. Leaves the body and what is answered to the routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlsystem.serving.answers import Refusal
from mlsystem.serving.intake import Disconnected

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mlsystem.serving.service import Service

JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    body: bytes
    status: int = 200
    media: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def send(self, send: Send) -> None:
        """Send it."""
        head = [(b"content-type", self.media), (b"content-length", b"%d" % len(self.body)), *self.headers]
        await send({"type": "http.response.start", "status": self.status, "headers": head})
        await send({"type": "http.response.body", "body": self.body})


Answer = Callable[["Scope", "Receive"], Awaitable[Reply]]


class Endpoint:
    """An endpoint as a plain ASGI app: `answer` is awaited while the request has its place."""

    def __init__(
        self,
        service: Service,
        answer: Answer,
        *,
        told: Callable[[Refusal], bytes] = Refusal.body,
        count: Callable[[Refusal], None] | None = None,
    ) -> None:
        """`told` is the body of a refusal; `count` replaces its counting by the metrics alone."""
        self._service = service
        self._answer = answer
        self._told = told
        self._count = count or service.metrics.refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            reply = await self._placed(scope, receive)
        except Refusal as refusal:
            self._count(refusal)
            reply = Reply(self._told(refusal), refusal.status, headers=refusal.headers)
        except Disconnected:
            return
        await reply.send(send)

    async def _placed(self, scope: Scope, receive: Receive) -> Reply:
        self._service.in_flight.enter()
        try:
            await asyncio.sleep(0)  # whoever came in the same instant is counted before anybody is worked on
            return await self._answer(scope, receive)
        finally:
            self._service.in_flight.leave()
