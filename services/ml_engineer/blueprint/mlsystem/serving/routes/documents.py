"""GET /openapi.json and /docs: how to call this system, with its real columns and a row that works.

Both are made from the contract of the version that answers, so they change when it does. The page brings everything
it needs along and loads nothing from elsewhere.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from mlsystem.serving.answers import Refusal, encode
from mlsystem.serving.openapi import document

if TYPE_CHECKING:
    from starlette.requests import Request

    from mlsystem.serving.service import Service

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'"
)


def routes(service: Service) -> list[Route]:
    """Return the routes."""
    page = files("mlsystem.serving").joinpath("docs.html").read_text(encoding="utf-8")

    async def openapi(_request: Request) -> Response:
        try:
            model = service.live.require()
        except Refusal as refusal:
            return Response(refusal.body(), refusal.status, media_type="application/json")
        return Response(
            encode(document(model, service.limits, keys=service.keys is not None)), media_type="application/json"
        )

    async def docs(_request: Request) -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]
