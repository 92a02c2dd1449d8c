"""POST /predict: rows in, predictions out.

Owns the order of a request: a place, the body, the rows, the model, and reasons if the request asks for them. A request
keeps the model that it started with.
This is the long way, for bodies that are large or still to come; `protocol` answers the others before they get here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from starlette.routing import Route

from mlsystem.serving.answers import Refusal, encode, send_json
from mlsystem.serving.explain import Stopped
from mlsystem.serving.intake import REASONS, Disconnected, parse_rows, read_body, reasons_wanted
from mlsystem.serving.predictor import LOOP_BYTES
from mlsystem.serving.routes.explain import Reasons, require_few, with_reasons

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mlsystem.serving.model import Judged, Model
    from mlsystem.serving.predictor import Rows
    from mlsystem.serving.service import Service

PATH = "/predict"


class Predict:
    """The endpoint, as a plain ASGI app."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reasons = Reasons(service.spec)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await self._answer(scope, receive)
        except Refusal as refusal:
            refuse(self._service, refusal)
            await send_json(send, refusal.body(), status=refusal.status, headers=refusal.headers)
        except Disconnected:
            return
        else:
            await send_json(send, body)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        service, started = self._service, time.perf_counter()
        service.in_flight.enter()
        try:
            await asyncio.sleep(0)  # whoever came in the same instant is counted before anybody is worked on
            body = await read_body(scope, receive, service.limits)
            model = service.live.require()
            if REASONS in body and (wanted := await asyncio.to_thread(reasons_wanted, body)):
                return await self._reasoned(model, body, wanted, started)
            if len(body) <= LOOP_BYTES:
                return encode(await service.predictor.answer(model, parse_rows(body, service.limits), started))
            rows, judged, answer = await service.predictor.elsewhere(lambda: self._work(model, body), started)
            service.predictor.note(model, rows, judged, started)
            return answer
        finally:
            service.in_flight.leave()

    async def _reasoned(self, model: Model, body: bytes, wanted: int, started: float) -> bytes:
        """Answer with reasons, in a thread: each row takes as long as some thousand predictions."""
        service, stop = self._service, threading.Event()

        def work() -> tuple[Rows, Judged]:
            rows = parse_rows(body, service.limits)
            require_few(rows)
            whole, judged = service.predictor.judge(model, rows)
            try:
                with_reasons(self._reasons, wanted, (model, [dict(row) for row in whole], judged), stop)
            except Stopped:  # the caller has been told by now
                raise service.limits.timed_out() from None
            return whole, judged

        try:
            whole, judged = await service.predictor.elsewhere(work, started)
        finally:
            stop.set()
        service.predictor.note(model, whole, judged, started)
        return encode(judged.answer)

    def _work(self, model: Model, body: bytes) -> tuple[Rows, Judged, bytes]:
        """Decode, judge and encode, all of it away from the event loop."""
        rows = parse_rows(body, self._service.limits)
        whole, judged = self._service.predictor.judge(model, rows)
        return whole, judged, encode(judged.answer)


def refuse(service: Service, refusal: Refusal) -> None:
    """Count a refused request."""
    service.metrics.refused(refusal)
    if service.recorder is not None:
        service.recorder.refused(refusal.status)


def routes(service: Service) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Predict(service), methods=["POST"])]
