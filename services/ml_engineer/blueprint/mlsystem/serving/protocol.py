"""The short way for POST /predict: from the parser to the answer without a task, a scope or a route.

Owns requests whose whole body is there when their head is, which is how small requests arrive: nothing is waited for,
so neither a time limit nor a place in a queue is needed, and the answer is written before the parser returns. Anything
else (a body still to come, many rows, reasons, Expect, Upgrade, an old HTTP, a client that does not read) goes
the long way through ASGI, with the bytes that have been read. Also owns which idle connections are closed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlsystem.serving.answers import Error, Refusal, encode
from mlsystem.serving.intake import REASONS, parse_rows, require_plain_json
from mlsystem.serving.predictor import LOOP_BYTES
from mlsystem.serving.routes.predict import PATH, refuse

if TYPE_CHECKING:
    from httptools import HttpRequestParser
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from mlsystem.serving.service import Service

_PATH: Final = PATH.encode()
_CLOSE: Final = b"connection: close\r\n"
_UNUSUAL: Final = frozenset({b"expect", b"upgrade", b"transfer-encoding"})
_STATUS: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_FAILED: Final = encode(
    {"error": Error(code="internal_error", message="the server failed on this request; its log says why")}
)

_log = logging.getLogger(__name__)


class Protocol(HttpToolsProtocol):
    """One connection of a server."""

    def __init__(self, *arguments: Any, service: Service, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._service = service
        self._held: list[bytes] | None = None
        """The body of a request that may go the short way, as far as it has come."""
        self._started = 0.0
        self._begun = math.inf
        """When the head of a request began that has not ended; on the loop's clock."""
        self._seen = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Read what came; a request that is not complete by then waits for the rest the long way."""
        self._seen = self.loop.time()
        super().data_received(data)
        if self._held is not None:
            self._take_long_way()

    def on_message_begin(self) -> None:
        """Parser's callback: the first byte of a request."""
        self._begun = self._seen
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Parser's callback: the head is complete."""
        self._begun = math.inf
        self._started = time.perf_counter()
        if self.url == _PATH and self._is_short():
            self._held = []
        else:
            self._enter_asgi()

    def on_body(self, body: bytes) -> None:
        """Parser's callback: a piece of the body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        """Parser's callback: the request is complete."""
        if self._held is None:
            super().on_message_complete()
            return
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if len(body) > LOOP_BYTES or REASONS in body or not self._answered(body):
            self._take_long_way()
            super().on_message_complete()
        self._held = None

    def sweep(self, now: float, idle_s: float, head_s: float) -> None:
        """Close the connection if it has been idle for too long, or its request's head does not end."""
        if self.transport.is_closing() or self._busy():
            return
        if now - self._begun > head_s:
            self.send_400_response("The head of the request did not arrive in time.")
        elif now - self._seen > idle_s:
            self.transport.close()

    def _busy(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return self._held is not None or (cycle is not None and not cycle.response_complete)

    def _is_short(self) -> bool:
        """Tell whether a request for the path may go the short way, as far as its head says."""
        parser = cast("HttpRequestParser", self.parser)
        if parser.get_method() != b"POST" or self._busy() or self.flow.write_paused:
            return False
        if parser.get_http_version() != "1.1" or parser.should_upgrade():
            return False
        return all(name not in _UNUSUAL for name, _ in self.headers)

    def _enter_asgi(self) -> None:
        super().on_headers_complete()
        if self._service.ending.begun:
            self.cycle.keep_alive = False

    def _take_long_way(self) -> None:
        """Give what has been read to ASGI."""
        held, self._held = self._held or [], None
        self._enter_asgi()
        for piece in held:
            super().on_body(piece)

    def _answered(self, body: bytes) -> bool:
        """Answer a whole request; False if its rows are too many for the event loop."""
        service, status = self._service, 200
        headers: Sequence[tuple[bytes, bytes]] = ()
        try:
            answer = self._predict(body)
        except Refusal as refusal:
            refuse(service, refusal)
            answer, status, headers = refusal.body(), refusal.status, refusal.headers
        except Exception:  # noqa: BLE001 - ONNX Runtime's exceptions have no root but Exception; the connection goes on
            _log.exception("a request failed")
            answer, status = _FAILED, 500
        if answer is None:
            return False
        self._write(status, headers, answer)
        service.metrics.answered("POST", PATH, status, time.perf_counter() - self._started)
        return True

    def _predict(self, body: bytes) -> bytes | None:
        service = self._service
        service.in_flight.enter_turn(self.loop)
        if service.keys is not None and (refused := service.keys.refusal(self.headers, "predict")) is not None:
            raise refused
        require_plain_json(self.headers)
        model = service.live.require()
        rows = parse_rows(body, service.limits)
        if not service.predictor.fits_loop(model, rows):
            service.in_flight.leave_turn()
            return None
        return encode(service.predictor.at_once(model, rows, self._started))

    def _write(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Send an answer; the connection stays, unless the client or the server is at its end."""
        keep = cast("HttpRequestParser", self.parser).should_keep_alive() and not self._service.ending.begun
        head = [_STATUS[status]]
        head.extend(b"%s: %s\r\n" % header for header in (*self.server_state.default_headers, *headers))
        head.append(b"" if keep else _CLOSE)
        head.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        head.append(body)
        self.transport.write(b"".join(head))
        self.server_state.total_requests += 1
        if not keep:
            self.transport.close()


def protocol_of(service: Service) -> type[Protocol]:
    """Return what makes a connection's protocol, as uvicorn asks for it."""

    class Bound(Protocol):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, service=service, **named)

    return Bound
