"""How a command talks: text for people on stderr, JSON for programs on stdout.

Owns the three modes (`text`, `json`, `jsonl`), progress events, spans and the final result. stdout carries
nothing else: one object under `--json`, one object a line under `--jsonl`. Spans are emitted only under
`--jsonl` and only when the environment's TRACEPARENT names a trace. Leaves exit codes to `__main__`.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlsystem.errors import MlsystemError

Mode = Literal["text", "json", "jsonl"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Gate(msgspec.Struct, frozen=True):
    """A decision that a result holds under `gates`; one that is not passed is told by the exit code."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    text: str


def readable(content: object) -> bytes:
    """Return the JSON of a file that people read too: two blanks a level, a line end at the end."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def timestamp(moment: datetime, *, to: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Return an aware moment as RFC 3339 writes it, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec=to).replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that this process belongs to, and the span that started it (W3C trace context)."""

    trace_id: str
    parent_id: str

    @classmethod
    def from_traceparent(cls, text: str) -> Trace | None:
        """Parse a `traceparent` header; anything malformed is no trace, as the standard asks."""
        match = _TRACEPARENT.fullmatch(text.strip())
        return cls(match.group(1), match.group(2)) if match else None


@dataclass(slots=True)
class Span:
    """A span that is still open; `attributes` may be added to until it ends."""

    name: str
    span_id: str
    attributes: dict[str, object] = field(default_factory=dict[str, object])


_current_span: contextvars.ContextVar[str] = contextvars.ContextVar("mlsystem_span", default="")


class Reporter:
    """Writes progress, spans and the result of one command; safe to use from threads."""

    def __init__(
        self, mode: Mode = "text", *, out: TextIO | None = None, err: TextIO | None = None, trace: Trace | None = None
    ) -> None:
        self.mode: Mode = mode
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._trace = trace
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, mode: Mode) -> Reporter:
        """Return a reporter on the process's streams, in the trace named by TRACEPARENT."""
        return cls(mode, trace=Trace.from_traceparent(os.environ.get("TRACEPARENT", "")))

    def progress(self, step: str, fraction: float | None = None, message: str = "", **metrics: object) -> None:
        """Tell how far `step` has come: `fraction` in [0, 1], or None when that is not known."""
        if self.mode == "jsonl":
            event: dict[str, object] = {"event": "progress", "step": step, "fraction": fraction, "message": message}
            self._line(event | {"metrics": metrics})
        elif self.mode == "text":
            done = "" if fraction is None else f"{fraction:4.0%} "
            self._text(f"{step:<10} {done}{message}".rstrip())

    @contextlib.contextmanager
    def span(self, name: str, **attributes: object) -> Generator[Span]:
        """Time a piece of work; the span is emitted when it ends, also when it ends by an error."""
        span = Span(name, os.urandom(8).hex(), attributes)
        parent = _current_span.get() or (self._trace.parent_id if self._trace else "")
        token = _current_span.set(span.span_id)
        start_ns = time.time_ns()
        try:
            yield span
        except BaseException as error:
            span.attributes["error.type"] = type(error).__name__
            raise
        finally:
            _current_span.reset(token)
            self._emit_span(span, parent, start_ns)

    def result(self, result: Mapping[str, object]) -> None:
        """Write the final object of a command that did its work."""
        self._final({"ok": True, **result})
        if self.mode == "text":
            self._text("\n".join(describe(result)))

    def failure(self, error: MlsystemError) -> None:
        """Write the final object of a command that failed, with what it found out before."""
        self._final({**error.result, "ok": False, "error": error.as_json()})
        if self.mode == "text":
            self._text("\n".join([*describe(error.result), f"error: {error.message}"]))

    def _final(self, payload: dict[str, object]) -> None:
        if self.mode == "jsonl":
            self._line({**payload, "event": "result"})  # whatever a result calls its fields, it is told as one
        elif self.mode == "json":
            self._line(payload)

    def _emit_span(self, span: Span, parent: str, start_ns: int) -> None:
        if self._trace is None or self.mode != "jsonl":
            return
        ids = {"trace_id": self._trace.trace_id, "span_id": span.span_id, "parent_id": parent}
        times = {"start_ns": start_ns, "end_ns": time.time_ns()}
        self._line({"event": "span", "name": span.name, **ids, **times, "attributes": span.attributes})

    def _line(self, payload: Mapping[str, object]) -> None:
        line = msgspec.json.encode(payload).decode()
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()

    def _text(self, text: str) -> None:
        with self._lock, contextlib.suppress(OSError):  # a log that is full or gone stops nobody's work
            self._err.write(text + "\n")
            self._err.flush()


def describe(result: Mapping[str, object]) -> list[str]:
    """Return a result as lines for people: a line per value, items that carry a `text` as sentences."""
    lines: list[str] = []
    for key, value in result.items():
        items = _items(value)
        if items is None:
            lines.append(f"{key}: {_plain(value)}")
        else:
            lines.append(f"{key}: {len(items)}" if items else f"{key}: none")
            lines.extend(f"  - {item}" for item in items)
    return lines


def _items(value: object) -> list[str] | None:
    """Return the parts of a value that deserve a line each, None if it fits on one."""
    if isinstance(value, Mapping):
        parts = cast("Mapping[str, object]", value)
        if not any(isinstance(part, Mapping) for part in parts.values()):
            return None
        return [f"{name}: {_plain(part)}" for name, part in parts.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_sentence(item) for item in cast("Sequence[object]", value)]
    return None


def _sentence(item: object) -> str:
    if not isinstance(item, Mapping):
        return _plain(item)
    fields = cast("Mapping[str, object]", item)
    return str(fields.get("text") or fields.get("message") or _plain(fields))


def _plain(value: object) -> str:
    """Return a value on one line, numbers with six digits at most."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return ", ".join(f"{name} {_plain(item)}" for name, item in fields.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(item) for item in cast("Sequence[object]", value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)
