"""Traces and logs: one trace a task, one JSON line an event, both carrying the same ids.

Owns every span and attribute name. Messages carry W3C `traceparent`; a task's root span has ids that any
reader can derive (contracts.envelope), so no span stays open while a task waits for days: it is emitted once,
from the fold, when the final event is seen. With no OTLP endpoint spans are made (ids are needed) and dropped.

Sources: OpenTelemetry semantic conventions for messaging 1.4x, W3C Trace Context.
"""

import contextlib
import logging
import random
import sys
from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO, cast

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from structlog.tracebacks import ExceptionDictTransformer

from contracts.envelope import split_traceparent
from services._runtime.settings import Settings

MESSAGING_SYSTEM: Final = "messaging.system"
DESTINATION: Final = "messaging.destination.name"
DESTINATION_TEMPLATE: Final = "messaging.destination.template"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGE_ID: Final = "messaging.message.id"
CONSUMER_GROUP: Final = "messaging.consumer.group.name"
TASK: Final = "mlmesh.task"
EVENT: Final = "mlmesh.event"
OUTCOME: Final = "mlmesh.outcome"
STEP: Final = "mlmesh.step"
DELIVERY: Final = "mlmesh.delivery"

Attributes = dict[str, str | int | float | bool]

_OURS: Final = frozenset({"event", "level", "timestamp", "service", "trace_id", "span_id"})
"""Facts of a log line that nobody else gives: they hold no secret."""
_ENTRANCES: Final = frozenset({SpanKind.CONSUMER, SpanKind.SERVER})
"""Kinds of spans that begin work on a message: log lines inside carry its task."""

_reserved: ContextVar[tuple[int, int] | None] = ContextVar("reserved_span_ids", default=None)
_unheard: ContextVar[str] = ContextVar("unheard_span", default="")
"""traceparent of the current span where spans are ids alone; empty: none."""


class _ReservedIds(RandomIdGenerator):
    """Random ids, except where a span must get the ids that were reserved for it."""

    def generate_trace_id(self) -> int:
        reserved = _reserved.get()
        return reserved[0] if reserved else super().generate_trace_id()

    def generate_span_id(self) -> int:
        reserved = _reserved.get()
        return reserved[1] if reserved else super().generate_span_id()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The tracer of one service."""

    service: str
    provider: TracerProvider
    tracer: trace.Tracer
    exports: bool
    """Without a collector spans are ids alone: messages and logs carry them."""

    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> contextlib.AbstractContextManager[object]:
        """A current span. `parent` and `links` are traceparents; "" begins a trace, None hangs on the current span.

        Log lines inside carry its ids, and those about a message the task that the attributes name.
        """
        task = str((attributes or {}).get(TASK, "")) if kind in _ENTRANCES else ""
        bound = structlog.contextvars.bound_contextvars(task=task) if task else None
        if not self.exports:
            return _Unheard(_below(parent), bound)
        context = None if parent is None else _context(parent)
        found = [Link(linked) for text in links if (linked := _span_context(text)) is not None]
        span = self.tracer.start_as_current_span(name, context=context, kind=kind, links=found, attributes=attributes)
        return _both(bound, span) if bound else span

    def emit(self, record: "SpanRecord") -> None:
        """A finished span with given ids: a task's root, or a span that a subprocess told of."""
        if not self.exports:
            return
        token = _reserved.set((int(record.trace_id, 16), int(record.span_id, 16)))
        try:
            span = self.tracer.start_span(
                record.name,
                context=_context(f"00-{record.trace_id}-{record.parent_id}-01") if record.parent_id else Context(),
                kind=record.kind,
                start_time=record.start_ns,
                attributes=dict(record.attributes),
            )
        finally:
            _reserved.reset(token)
        if record.error:
            span.set_status(Status(StatusCode.ERROR, record.error))
        span.end(record.end_ns)

    def close(self) -> None:
        """Sends what is left and stops."""
        self.provider.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """A span that is over before it is told of. Ids are hex, times are nanoseconds since 1970."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | int | float | bool]
    kind: SpanKind = SpanKind.INTERNAL
    error: str = ""


def start(service: str, settings: Settings) -> Telemetry:
    """The telemetry of a service: OTLP over HTTP when an endpoint is set.

    A collector that is away never holds up work: export runs in a thread and gives up quietly after 2 s.
    """
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "mlmesh"}),
        id_generator=_ReservedIds(),
        shutdown_on_exit=False,
    )
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        url = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, timeout=2), schedule_delay_millis=500))
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return Telemetry(service, provider, provider.get_tracer("mlmesh"), bool(settings.otlp_endpoint))


def received(subject: str, *, template: str = "", group: str = "", message_id: str = "", task: str = "") -> Attributes:
    """Attributes of a span that processes a message, by the messaging conventions; what is not known is left out."""
    found = {
        MESSAGING_SYSTEM: "nats",
        DESTINATION: subject,
        DESTINATION_TEMPLATE: template,
        OPERATION: "process",
        OPERATION_TYPE: "process",
        CONSUMER_GROUP: group,
        MESSAGE_ID: message_id,
        TASK: task,
    }
    return {name: value for name, value in found.items() if value}


def current_traceparent() -> str:
    """The current span as a traceparent, or an empty string outside any span."""
    if unheard := _unheard.get():
        return unheard
    context = trace.get_current_span().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01" if context.is_valid else ""


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970."""
    return int(moment.timestamp() * 1_000_000) * 1000


def configure_logs(level: str, target: Path | TextIO | None = None) -> None:
    """JSON lines to a file, a stream or stdout; secrets are redacted, ids come from context variables."""
    stream = _stream(target)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _spanned,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _redacted,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _redacted(_logger: object, _method: str, event: Any) -> Any:
    return {key: value if key in _OURS else _without_secrets(value) for key, value in event.items()}


def _without_secrets(value: Any) -> Any:
    """Texts at any depth: a traceback is a tree."""
    from services._runtime.redaction import redact

    match value:
        case str():
            return redact(value)
        case dict():
            return {key: _without_secrets(inner) for key, inner in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_without_secrets(inner) for inner in cast("list[Any]", value)]
        case _:
            return value


def _stream(target: Path | TextIO | None) -> TextIO:
    if target is None:
        return sys.stdout
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("a", encoding="utf-8", buffering=1)
    return target


def _spanned(_logger: object, _method: str, event: Any) -> Any:
    """Log lines inside a span carry its ids."""
    if traceparent := current_traceparent():
        event |= {"trace_id": traceparent[3:35], "span_id": traceparent[36:52]}
    return event


class _Unheard:
    """A current span that nobody is told of: ids below its parent's, which messages and logs carry."""

    __slots__ = ("_bound", "_token", "_traceparent")

    def __init__(self, traceparent: str, bound: contextlib.AbstractContextManager[None] | None) -> None:
        self._traceparent, self._bound = traceparent, bound

    def __enter__(self) -> None:
        self._token = _unheard.set(self._traceparent)
        if self._bound is not None:
            self._bound.__enter__()

    def __exit__(self, *_raised: object) -> None:
        if self._bound is not None:
            self._bound.__exit__(None, None, None)
        _unheard.reset(self._token)


def _below(parent: str | None) -> str:
    """The ids of a new span below `parent`, or below the current one; of a new trace where there is none."""
    above = current_traceparent() if parent is None else parent
    parts = split_traceparent(above) if above else None
    trace_id = parts[0] if parts else f"{random.getrandbits(128):032x}"
    return f"00-{trace_id}-{random.getrandbits(64):016x}-01"


@contextlib.contextmanager
def _both(*entered: contextlib.AbstractContextManager[object]) -> Generator[None]:
    with contextlib.ExitStack() as stack:
        for each in entered:
            stack.enter_context(each)
        yield


def _span_context(header: str) -> SpanContext | None:
    parts = split_traceparent(header)
    if parts is None:
        return None
    return SpanContext(int(parts[0], 16), int(parts[1], 16), is_remote=True, trace_flags=TraceFlags(1))


def _context(header: str) -> Context:
    """A context of its own: the callback's inherited one is never a parent."""
    context = _span_context(header)
    return trace.set_span_in_context(NonRecordingSpan(context), Context()) if context else Context()
