"""The ASGI app of one server, composed of its routes.

Owns what holds for every route: counting and timing, and errors in one shape. Leaves the process to `server`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from mlsystem.serving.answers import Error, error_body
from mlsystem.serving.keys import Guarded
from mlsystem.serving.routes import batch, documents, explain, health, oip, outcomes, predict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mlsystem.serving.metrics import Metrics
    from mlsystem.serving.service import Service

_ROUTES = (predict, batch, explain, outcomes, oip, health, documents)

PATHS = (
    "/predict",
    "/batch",
    "/explain",
    "/outcomes",
    oip.BASE,
    "/healthz",
    "/readyz",
    "/version",
    "/metrics",
    "/openapi.json",
    "/docs",
)
"""Paths that are counted by name; what lies below /v2 is counted as that."""

_CODES = {404: "not_found", 405: "method_not_allowed"}


def build(service: Service) -> Starlette:
    """Return the app; while it runs it follows the registry."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with service.live.following():
            yield

    guard = [Middleware(Guarded, keys=service.keys, metrics=service.metrics)] if service.keys else []
    app = Starlette(
        routes=[route for module in _ROUTES for route in module.routes(service)],
        middleware=[Middleware(Counted, metrics=service.metrics), *guard],
        exception_handlers={HTTPException: _refused, Exception: _failed},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path that is nearly right is a mistake to be told, not an answer elsewhere
    return app


class Counted:
    """Counts and times every request by route and status; one that fails without an answer counts as 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            path: str = scope["path"]
            path = oip.BASE if path.startswith(f"{oip.BASE}/") else path
            self._metrics.answered(scope["method"], path, status, time.perf_counter() - started)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what the router refuses: an unknown path, another method."""
    refusal = cast("HTTPException", error)
    code = _CODES.get(refusal.status_code, "refused")
    message = f"{request.method} {request.url.path}: {refusal.detail}; see /docs"
    body = error_body(Error(code=code, message=message), request.url.path)
    return Response(body, refusal.status_code, refusal.headers, "application/json")


async def _failed(request: Request, _error: Exception) -> Response:
    """Answer what nobody expected; the traceback goes to the log, not to the caller."""
    error = Error(code="internal_error", message="the server failed on this request; its log says why")
    return Response(error_body(error, request.url.path), 500, media_type="application/json")
