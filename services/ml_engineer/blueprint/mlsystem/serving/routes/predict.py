"""POST /predict: rows in, predictions out.

Owns the order of a request: a place, the body, the rows, the model. Small requests are answered on the event loop,
since a thread would cost more than they do; large ones leave it, decoding and encoding included, so that they do
not hold up the others. A request keeps the model that it started with.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.routing import Route

from mlsystem.serving.answers import Predictions, Refusal, encode, send_json
from mlsystem.serving.intake import Disconnected, Rows, parse_rows, read_body

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mlsystem.serving.model import Model
    from mlsystem.serving.service import Service

PATH = "/predict"

_LOOP_ROWS = 50
"""Most rows that are predicted on the event loop: they hold it for about a millisecond."""

_LOOP_BYTES = 32 * 1024
"""Largest body that is decoded on the event loop."""


class Predict:
    """The endpoint, as a plain ASGI app: a request object would cost more than the model."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await self._answer(scope, receive)
        except Refusal as refusal:
            self._service.metrics.refused(refusal)
            await send_json(send, refusal.body(), status=refusal.status, headers=refusal.headers)
        except Disconnected:
            return
        else:
            await send_json(send, body)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        service = self._service
        service.in_flight.enter()
        leaving = True
        try:
            await asyncio.sleep(0)  # whoever came in the same instant is counted before anybody is worked on
            body = await read_body(scope, receive, service.limits)
            model = service.live.require()
            rows: Rows | None = None
            if len(body) <= _LOOP_BYTES:
                rows = parse_rows(body, service.limits)
                if len(rows) <= _LOOP_ROWS:
                    return self._finish(*self._predict(model, rows))
            leaving = False
            return await self._elsewhere(model, body, rows)
        finally:
            if leaving:
                service.in_flight.leave()

    async def _elsewhere(self, model: Model, body: bytes, rows: Rows | None) -> bytes:
        """Answer in a thread within the time limit; the place is given back when the thread is done, not before."""
        loop, service = asyncio.get_running_loop(), self._service
        job = service.threads.submit(lambda: self._predict(model, rows or parse_rows(body, service.limits)))
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(service.in_flight.leave))
        answer = asyncio.wrap_future(job)
        done, _ = await asyncio.wait({answer}, timeout=service.limits.timeout_s)
        if not done:
            job.cancel()  # only a job that has not begun; one that runs ends by itself, unheard
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise service.limits.timed_out()
        return self._finish(*answer.result())

    def _predict(self, model: Model, rows: Rows) -> tuple[Predictions, bytes]:
        answer = model.answer(rows, strict=self._service.limits.strict)
        return answer, encode(answer)

    def _finish(self, answer: Predictions, body: bytes) -> bytes:
        self._service.metrics.predicted(answer)
        return body


def routes(service: Service) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Predict(service), methods=["POST"])]
