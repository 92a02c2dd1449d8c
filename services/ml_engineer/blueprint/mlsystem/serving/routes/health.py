"""Whether the server lives, is ready, which version answers, and what it has counted.

`/healthz` says that the process answers; restart it when it does not. It also says when predictions are answered and
not kept, which is no reason to restart. `/readyz` says that a model is loaded and has predicted; send no traffic
while it does not. It also names versions that should answer and were refused, since an older one answers instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from mlsystem import __version__
from mlsystem.serving.answers import encode
from mlsystem.serving.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from starlette.requests import Request

    from mlsystem.serving.service import Service


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def healthz(_request: Request) -> Response:
        trouble = service.recorder.trouble if service.recorder is not None else ""
        if not trouble and service.metrics.total()["mlsystem_state_up", ()][0] == 0:
            trouble = "another process of this server cannot keep what it predicts; its log says why"
        return _json({"status": "degraded", "reason": trouble} if trouble else {"status": "ok"})

    async def readyz(_request: Request) -> Response:
        model = service.live.model
        if service.ending.begun:
            return _json({"status": "not ready", "reason": "the server is stopping"}, 503)
        if model is None:
            return _json({"status": "not ready", "reason": "no version is live yet"}, 503)
        refused = [{"version": refused.version, "reason": str(refused.error)} for refused in service.live.refused]
        told = {"refused": refused} if refused else {}
        if service.live.away:  # it answers; which version should, nobody can say until then
            told |= {"registry": service.live.away}
        return _json({"status": "ready", "version": model.name.version, **told})

    async def version(_request: Request) -> Response:
        model = service.live.model
        found = {"version": model.name.version, "digest": model.digest} if model else {"version": None, "digest": None}
        return _json({"name": service.name, **found, "engine": __version__})

    async def metrics(_request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/version", version),
        Route("/metrics", metrics),
    ]


def _json(content: dict[str, object], status: int = 200) -> Response:
    return Response(encode(content), status, media_type="application/json")
