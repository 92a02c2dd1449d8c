"""/v2: the Open Inference Protocol over HTTP, so that its clients (tritonclient, KServe) can ask this server.

Owns the paths, the lengths in headers, and errors in the protocol's shape. The one model is the one that answers
/predict, under the system's name; its only version is the live one. Leaves tensors to `serving.oip`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response
from starlette.routing import Route

from mlsystem.serving.answers import Refusal, encode, error_body
from mlsystem.serving.intake import receive_body
from mlsystem.serving.oip import ServerMetadata, malformed, metadata, read_request, require_outputs, write_response
from mlsystem.serving.predictor import LOOP_BYTES
from mlsystem.serving.routes.endpoint import Endpoint, Reply
from mlsystem.serving.routes.predict import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope

    from mlsystem.serving.model import Model
    from mlsystem.serving.service import Service

BASE: Final = "/v2"
_LENGTH: Final = b"inference-header-content-length"


def routes(service: Service) -> list[Route]:
    """Return the routes; with a version in the path or without."""

    def told(content: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return _json(content(request))
            except Refusal as refusal:
                return Response(_error(refusal), refusal.status, dict(_texts(refusal)), "application/json")

        return answer

    def model_ready(request: Request) -> dict[str, object]:
        _require_staying(service)
        model = _asked(service, request.path_params)
        return {"name": model.name.name, "ready": True}

    def ready(_request: Request) -> dict[str, object]:
        _require_staying(service)
        service.live.require()
        return {"ready": True}

    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    described = told(lambda request: metadata(_asked(service, request.path_params)))
    infer = Endpoint(service, Infer(service), told=_error, count=lambda refusal: refuse(service, refusal))
    return [
        Route(BASE, told(lambda _: ServerMetadata())),
        Route("/v2/health/live", told(lambda _: {"live": True})),
        Route("/v2/health/ready", told(ready)),
        *(Route(path, described) for path in (model, version)),
        *(Route(f"{path}/ready", told(model_ready)) for path in (model, version)),
        *(Route(f"{path}/infer", infer, methods=["POST"]) for path in (model, version)),
    ]


class Infer:
    """POST .../infer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive) -> Reply:
        """Answer one request."""
        service = self._service
        length = _json_length(scope["headers"])
        body = await receive_body(receive, service.limits)
        model = _asked(service, scope["path_params"])
        if len(body) <= LOOP_BYTES:
            request, rows = read_request(body, length, service.limits)
        else:
            request, rows = await asyncio.to_thread(read_request, body, length, service.limits)
        require_outputs(request, model)
        answer, json_length = write_response(request, await service.predictor.answer(model, rows))
        if json_length is None:
            return Reply(answer)
        return Reply(answer, media=b"application/octet-stream", headers=[(_LENGTH, b"%d" % json_length)])


def _require_staying(service: Service) -> None:
    """Raise Refusal 503 on a server that is about to end: it answers, and wants no new traffic."""
    if service.ending.begun:
        raise Refusal(503, "stopping", "the server is stopping")


def _asked(service: Service, path: dict[str, str]) -> Model:
    """Return the model that a path names; Refusal 404 if it is another one, 503 if none is live."""
    if path["name"] != service.name:
        raise Refusal(404, "unknown_model", f"there is no model {path['name'][:60]!r} here, only {service.name!r}")
    model = service.live.require()
    live, wanted = str(model.name.version), path.get("version", "")
    if wanted and wanted != live:
        raise Refusal(404, "unknown_version", f"version {wanted[:20]!r} does not answer here, the live one is {live!r}")
    return model


def _json_length(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Return the length of the JSON before the bytes of tensors, None if all of the body is JSON."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Refusal(415, "unsupported_media_type", "send the body as it is, not compressed")
        if name == _LENGTH:
            if not value.isdigit() or len(value) > 10:
                raise malformed("Inference-Header-Content-Length is no number")
            return int(value)
    return None


def _error(refusal: Refusal) -> bytes:
    return error_body(refusal.error, BASE)


def _texts(refusal: Refusal) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in refusal.headers]


def _json(content: Any) -> Response:
    return Response(encode(content), media_type="application/json")
