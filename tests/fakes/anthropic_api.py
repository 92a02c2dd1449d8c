"""A server that speaks `POST /v1/messages` as Anthropic's API does, over real HTTP on a free port.

It plays a script, one entry a request, and refuses what the real API refuses: bad authentication, unknown keys
and models, empty messages, a tool_use that nobody answered, schemas outside the supported subset. A streamed
answer arrives in the documented order of events, split into small pieces. What it left out: batches, files,
beta headers and everything a model could mean.
"""

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY: Final = "test-key"

_MODELS: Final = {"claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"}
_KEYS: Final = {
    *("model", "max_tokens", "messages", "system", "stream", "stop_sequences", "metadata", "tools", "tool_choice"),
    *("thinking", "output_config", "cache_control", "service_tier", "container", "inference_geo"),
}
_BLOCKS: Final = {"text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"}
_SCHEMA_KEYS: Final = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf"),
    *("$ref", "$defs", "title", "description", "format", "minItems", "default"),
}
_PIECE: Final = 7
"""Characters a delta: small enough to cut words, escapes and numbers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A turn that works, as far as `until` lets it."""

    content: Sequence[Mapping[str, Any]]
    stop_reason: str = "end_turn"
    input_tokens: int = 120
    output_tokens: int = 40
    until: str = "end"
    """end; `error` (an error event inside the stream); `cut` (the stream ends early); `hang` (silence)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A turn that is answered with an HTTP error."""

    status: int
    type: str | None
    """None: a proxy's page, not the API's JSON."""
    message: str = "no"
    error_code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def says(text: str, **given: Any) -> Reply:
    """A turn that answers with one block of text."""
    return Reply(content=({"type": "text", "text": text},), **given)


class _BadRequestError(Exception):
    """What the API answers with 400 or 404."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class FakeAnthropic:
    """The server. Use as a context manager; `requests` holds the bodies that were accepted."""

    def __init__(self, *script: Reply | Refusal, key: str = KEY) -> None:
        self._script = list(script)
        self._key = key
        self._ids = itertools.count(1)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.streaming = threading.Event()
        """Set when a stream hangs on purpose."""
        self.disconnected = threading.Event()
        """Set when the client closed the socket of a stream that hung."""

    def __enter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = Starlette(routes=[Route("/v1/messages", self._messages, methods=["POST"])])
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()

    async def _messages(self, request: Request) -> Response:
        if not self._authentic(request.headers):
            return self._error(401, "authentication_error", "invalid x-api-key")
        try:
            body = _checked(await request.body(), request.headers)
        except _BadRequestError as wrong:
            return self._error(wrong.status, wrong.kind, str(wrong))
        self.requests.append(body)
        if not self._script:
            return self._error(500, "api_error", "the script is over", headers={"x-should-retry": "false"})
        match self._script.pop(0):
            case Refusal() as refusal:
                return self._refused(refusal)
            case Reply() as reply:
                return self._answer(body, reply)

    def _authentic(self, headers: Mapping[str, str]) -> bool:
        return headers.get("x-api-key") == self._key or headers.get("authorization") == f"Bearer {self._key}"

    def _refused(self, refusal: Refusal) -> Response:
        if refusal.type is None:
            return Response("<html>bad gateway</html>", refusal.status, media_type="text/html")
        return self._error(
            refusal.status, refusal.type, refusal.message, code=refusal.error_code, headers=refusal.headers
        )

    def _error(
        self, status: int, kind: str, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        request_id = f"req_{next(self._ids):04d}"
        error: dict[str, Any] = {"type": kind, "message": message}
        if code is not None:
            error["details"] = {"error_code": code}
        body = {"type": "error", "error": error, "request_id": request_id}
        return JSONResponse(body, status, headers={"request-id": request_id, **(headers or {})})

    def _answer(self, body: dict[str, Any], reply: Reply) -> Response:
        usage = {
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }
        message: dict[str, Any] = {
            "id": f"msg_{next(self._ids):04d}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": list(reply.content),
            "stop_reason": reply.stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }
        headers = {"request-id": f"req_{next(self._ids):04d}", "anthropic-ratelimit-requests-remaining": "49"}
        if not body.get("stream"):
            return JSONResponse(message, headers=headers)
        return StreamingResponse(self._stream(message, reply), media_type="text/event-stream", headers=headers)

    async def _stream(self, message: dict[str, Any], reply: Reply) -> AsyncIterator[bytes]:
        start: dict[str, Any] = {
            **message,
            "content": [],
            "stop_reason": None,
            "usage": {**message["usage"], "output_tokens": 1},
        }
        yield _event("message_start", message=start)
        for index, block in enumerate(reply.content):
            for event in _block_events(index, dict(block), broken=reply.until != "end"):
                yield event
        match reply.until:
            case "error":
                yield _event("error", error={"type": "overloaded_error", "message": "Overloaded"})
            case "hang":
                await self._silence()
            case "end":
                delta = {"stop_reason": reply.stop_reason, "stop_sequence": None}
                yield _event("message_delta", delta=delta, usage={"output_tokens": reply.output_tokens})
                yield _event("message_stop")
            case _:
                pass

    async def _silence(self) -> None:
        """Waits until the client goes away: the server then cancels this stream."""
        self.streaming.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.disconnected.set()


def _event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def _block_events(index: int, block: dict[str, Any], *, broken: bool) -> list[bytes]:
    """The events of one content block; a `broken` one never stops."""
    start, deltas = _deltas(block)
    events = [_event("content_block_start", index=index, content_block=start)]
    if index == 0:
        events.append(_event("ping"))
    events += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
    return events if broken else [*events, _event("content_block_stop", index=index)]


def _deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    match block["type"]:
        case "text":
            return {"type": "text", "text": ""}, [
                {"type": "text_delta", "text": piece} for piece in _pieces(block["text"])
            ]
        case "tool_use":
            pieces = ["", *_pieces(json.dumps(block["input"]))]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                *thoughts,
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case kind:
            raise AssertionError(f"the script has a block of type {kind!r}")


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _checked(raw: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """The body, or _BadRequestError with the API's kind of message."""
    _require("anthropic-version" in headers, "anthropic-version: header is required")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise _BadRequestError("the request body is not valid JSON") from error
    _require(isinstance(body, dict), "the request body is not an object")
    for key in body:
        _require(key in _KEYS, f"{key}: Extra inputs are not permitted")
    for key in ("model", "max_tokens", "messages"):
        _require(key in body, f"{key}: Field required")
    _require(isinstance(body["max_tokens"], int) and body["max_tokens"] >= 1, "max_tokens: must be at least 1")
    if body["model"] not in _MODELS:
        raise _BadRequestError(f"model: {body['model']}", status=404, kind="not_found_error")
    _check_system(body.get("system", ""))
    _check_messages(body["messages"])
    _check_output(body.get("output_config"))
    return cast("dict[str, Any]", body)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise _BadRequestError(message)


def _check_system(system: Any) -> None:
    if isinstance(system, list):
        blocks = cast("list[Any]", system)
        _require(all(block.get("type") == "text" and block.get("text") for block in blocks), "system: text blocks only")
    else:
        _require(isinstance(system, str), "system: must be a string or a list of text blocks")


def _check_messages(given: Any) -> None:
    _require(isinstance(given, list) and bool(cast("list[Any]", given)), "messages: at least one message is required")
    messages = cast("list[dict[str, Any]]", given)
    _require(messages[0].get("role") == "user", "messages: first message must use the user role")
    open_tools: set[str] = set()
    for at, message in enumerate(messages):
        _require(set(message) == {"role", "content"}, f"messages.{at}: role and content are required, and nothing else")
        _require(message["role"] in {"user", "assistant"}, f"messages.{at}.role: must be user or assistant")
        blocks = _blocks(message["content"], at)
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        _require(open_tools <= answered, f"messages.{at}: tool_use ids without tool_result: {sorted(open_tools)}")
        _require(answered <= open_tools, f"messages.{at}: unexpected tool_use_id in tool_result blocks")
        open_tools = {block["id"] for block in blocks if block["type"] == "tool_use"}
    _require(not open_tools, "messages: the last message has tool_use blocks without tool_result")


def _blocks(content: Any, at: int) -> list[dict[str, Any]]:
    if isinstance(content, str):
        _require(bool(content.strip()), f"messages.{at}: text content must be non-empty")
        return [{"type": "text", "text": content}]
    _require(
        isinstance(content, list) and bool(cast("list[Any]", content)),
        f"messages.{at}.content: at least one block is required",
    )
    blocks = cast("list[dict[str, Any]]", content)
    for block in blocks:
        _require(block.get("type") in _BLOCKS, f"messages.{at}.content: unknown block type {block.get('type')!r}")
    return blocks


def _check_output(config: Any) -> None:
    if config is None or "format" not in config:
        return
    _require(config["format"].get("type") == "json_schema", "output_config.format.type: must be json_schema")
    _check_schema(config["format"].get("schema"), "output_config.format.schema")


def _check_schema(schema: Any, place: str) -> None:
    """The supported subset of JSON Schema: closed objects, no lengths, no ranges, no patterns."""
    _require(isinstance(schema, dict), f"{place}: must be an object")
    for key in schema:
        _require(key in _SCHEMA_KEYS, f"{place}: property {key!r} is not supported")
    if schema.get("type") == "object":
        _require(schema.get("additionalProperties") is False, f"{place}: additionalProperties must be false")
    for name in ("properties", "$defs"):
        for key, part in schema.get(name, {}).items():
            _check_schema(part, f"{place}.{name}.{key}")
    for name in ("anyOf", "allOf"):
        for part in schema.get(name, []):
            _check_schema(part, f"{place}.{name}")
    if "items" in schema:
        _check_schema(schema["items"], f"{place}.items")
