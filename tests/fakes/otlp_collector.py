"""An OpenTelemetry collector small enough for a test: real HTTP, real protobuf, everything it got is kept.

Takes `POST /v1/traces` (OTLP/HTTP, binary protobuf, gzip or plain) on a free port of loopback and answers as a
collector does. What else is posted is refused with the status that the protocol gives it. Left out: metrics, logs,
storage.

Source: OTLP specification 1.x, section OTLP/HTTP.
"""

import gzip
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

_PROTOBUF = "application/x-protobuf"

Value = str | bool | int | float | None


class Kind(IntEnum):
    """Span kinds by their number on the wire."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


@dataclass(frozen=True, slots=True)
class Context:
    """Which span: both ids in hex."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span as it was exported."""

    service: str
    name: str
    kind: Kind
    context: Context
    parent_id: str
    """Span id in hex; empty: a root."""
    links: tuple[Context, ...]
    attributes: dict[str, Value]
    start_ns: int
    end_ns: int
    error: str
    """Status message of a span that failed."""

    @property
    def trace_id(self) -> str:
        """The trace it belongs to."""
        return self.context.trace_id

    @property
    def span_id(self) -> str:
        """Its own id."""
        return self.context.span_id


class OtlpCollector:
    """Runs inside `with`. `spans` is everything so far, `until` waits for what is still on its way.

    A connection serves one request (HTTP/1.0), so that `stop` leaves no exporter connected.
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._news = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Taking)
        self._server.took = self._take
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """Value for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> tuple[Span, ...]:
        """Spans in the order of their arrival."""
        with self._news:
            return tuple(self._spans)

    def until(self, enough: Callable[[Sequence[Span]], bool], *, within_s: float = 30) -> tuple[Span, ...]:
        """The spans once they are enough. Raises AssertionError with what came instead."""
        with self._news:
            if not self._news.wait_for(lambda: enough(self._spans), within_s):
                told = "\n".join(f"{span.service}: {span.name} {span.context}" for span in self._spans)
                raise AssertionError(f"not enough spans within {within_s:g} s:\n{told}")
            return tuple(self._spans)

    def stop(self) -> None:
        """Closes the port: from now on exporters are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _take(self, spans: Sequence[Span]) -> None:
        with self._news:
            self._spans.extend(spans)
            self._news.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    took: Callable[[Sequence[Span]], None]


class _Taking(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path != "/v1/traces":
            self._answer(404, b"only traces are taken here")
        elif self.headers.get("content-type") != _PROTOBUF:
            self._answer(415, f"only {_PROTOBUF} is taken here".encode())
        else:
            self._export(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""

    def _export(self, body: bytes) -> None:
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError as error:
            self._answer(400, str(error).encode())
            return
        self.server.took(_spans(request))
        self._answer(200, b"")  # an empty ExportTraceServiceResponse: everything was taken

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", _PROTOBUF if status == 200 else "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _spans(request: ExportTraceServiceRequest) -> list[Span]:
    return [
        _span(str(_attributes(group.resource.attributes).get("service.name", "")), span)
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _span(service: str, span: ProtoSpan) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=Kind(span.kind),
        context=Context(span.trace_id.hex(), span.span_id.hex()),
        parent_id=span.parent_span_id.hex(),
        links=tuple(Context(link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        error=span.status.message,
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    """A plain value; the mesh sets no others."""
    which = value.WhichOneof("value")
    return None if which is None else getattr(value, which)
