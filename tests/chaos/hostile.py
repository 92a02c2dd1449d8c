"""Messages that a mesh may get: right ones, nearly right ones, and what somebody sends who means harm.

Everything is drawn from one seed. A message is a channel of the contracts (or a made-up subject), a header block as
it stands on the wire, and a body; `kind` says what was done to them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, JsonValue

from contracts.channels import CHANNELS, Channel
from contracts.envelope import Metadata, encode
from contracts.message import Message
from services._runtime.provision import ADVISORY_SUBJECTS

HOSTILE_TASKS: Final = ("ü-task", "任务", "a%2Eb", "x" * 65, "x" * 300, "a\u00a0b", "*", "~", "\u202e", "0")
LARGEST: Final = 1024 * 1024
"""Bytes that the server takes in one message, headers included."""
_WORDS: Final = ("predict churn", "Ω", "\u0000", "\u202etxt", "'; DROP TABLE tasks; --", "../../etc/x", "a" * 5000, "")
_LEAVES: Final[tuple[Any, ...]] = (None, True, -1, 10**400, 1e308, "", "x", [], {}, 2**63, "NaN")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A message to send."""

    channel: str
    subject: bytes
    headers: bytes
    """A whole header block, or empty."""
    body: bytes
    kind: str
    is_alone: bool = False
    """True for what may make the server end the connection."""


@dataclass(slots=True)
class Hostile:
    """Draws messages. `workspace` is one that exists; tasks are asked for one that does not."""

    draw: Random
    workspace: str
    tasks: int
    _made: int = 0

    def messages(self, count: int) -> Iterator[Made]:
        """`count` messages."""
        for _ in range(count):
            self._made += 1
            yield self._one()

    def _one(self) -> Made:
        roll = self.draw.random()
        if roll < 0.08:
            return self._made_up()
        if roll < 0.10:
            return self._advisory()
        weights = [4 if channel.name in {"task-submitted", "get-task-briefing"} else 1 for channel in CHANNELS]
        channel = self.draw.choices(CHANNELS, weights)[0]
        model = self.draw.choice(channel.messages)
        subject, task = self._address(channel)
        body_kind, body = self._body(model)
        header_kind, headers = self._headers(model, task)
        if header_kind == "claim check" and self.draw.random() < 0.7:
            body_kind, body = "claim", self._claim()
        return self._whole(channel.name, subject, (header_kind, headers), (body_kind, body))

    def _whole(self, channel: str, subject: str, headers: tuple[str, bytes], body: tuple[str, bytes]) -> Made:
        size = len(headers[1]) + len(body[1])
        encoded = subject.encode()
        return Made(
            channel=channel,
            subject=encoded,
            headers=headers[1],
            body=body[1],
            kind=f"{body[0]}/{headers[0]}",
            is_alone=size > LARGEST or len(encoded) > 3000,
        )

    def _made_up(self) -> Made:
        """Any subject under `mesh.`, also such that a stream takes."""
        parts = (
            "task",
            "work",
            "report",
            "system",
            "dead",
            "context",
            "timer",
            "due",
            "x",
            "ü",
            "..",
            "submitted",
            "ready",
        )
        depth = self.draw.randint(1, 6)
        subject = ".".join(["mesh", *(self.draw.choice(parts) for _ in range(depth))])
        if self.draw.random() < 0.1:
            subject = "mesh.report." + "d" * self.draw.choice((200, 3500, 5000))
        if self.draw.random() < 0.05:
            subject = "mesh.task.bytes.submitted.ml-engineer"
            made = self._whole("made up", subject, self._block([]), self._noise())
            return replace(made, subject=b"mesh.task.\xff\xfe.submitted.ml-engineer")
        return self._whole("made up", subject, self._block([]), self._noise())

    def _advisory(self) -> Made:
        """As if the server had said that something was tried in vain."""
        told = {
            "stream": self.draw.choice(("TASKS", "REPORTS", "NOPE", "", 7)),
            "consumer": self.draw.choice(("gateway", "x" * 300, "ü", None)),
            "stream_seq": self.draw.choice((0, -1, 10**30, "1", 10**9, None)),
            "deliveries": self.draw.choice((5, "x", -3, 2**70)),
            "timestamp": self.draw.choice(("2026-01-01T00:00:00.123456789Z", "yesterday", 5)),
        }
        kind, body = self._noise() if self.draw.random() < 0.3 else ("advisory", json.dumps(told).encode())
        subject = self.draw.choice(ADVISORY_SUBJECTS).replace("*", "forged")
        return self._whole("advisories", subject, ("none", b""), (kind, body))

    def _address(self, channel: Channel) -> tuple[str, str]:
        roll = self.draw.random()
        if roll < 0.5:
            task = f"shared-{self.draw.randrange(self.tasks)}"
        elif roll < 0.85:
            task = f"own-{self._made}"
        else:
            task = self.draw.choice(HOSTILE_TASKS)
        return _filled(channel.address.replace("{task}", task), self.draw), task

    def _body(self, model: type[Message]) -> tuple[str, bytes]:
        roll = self.draw.random()
        if roll < 0.5:
            return "valid", self._valid(model)
        makers: tuple[Callable[[], tuple[str, bytes]], ...] = (
            lambda: ("newer", _plus(self._valid(model), b'"of_tomorrow":{"a":[1]}')),
            lambda: ("mutated", self._mutated(self._valid(model))),
            lambda: ("mistyped", self._mistyped(self._valid(model))),
            lambda: ("duplicate keys", _plus(self._valid(model), b'"request":"x","request":7,"status":0')),
            lambda: ("nested", _plus(self._valid(model), b'"result":' + b"[" * 150 + b"]" * 150)),
            lambda: ("cut", self._valid(model)[: self.draw.randrange(20)]),
            self._noise,
        )
        return self.draw.choice(makers)()

    def _noise(self) -> tuple[str, bytes]:
        roll = self.draw.random()
        if roll < 0.02:
            size = self.draw.choice((LARGEST - 5000, LARGEST - 20, LARGEST + 1, LARGEST + 5000))
            return "oversized", b'{"request":"' + b"x" * (size - 14) + b'"}'
        if roll < 0.05:
            return "large", b'{"request":"' + b"y" * 300_000 + b'"}'
        return self.draw.choice(
            (
                ("deep", b"[" * 100_000),
                ("deep", b'{"request":' * 50_000),
                ("huge number", b'{"request":' + b"9" * 20_000 + b"}"),
                ("not a number", b'{"fraction":NaN,"step":"x","wall_s":Infinity}'),
                ("empty", b""),
                ("no object", b"null"),
                ("byte order mark", b'\xef\xbb\xbf{"request":"x"}'),
                ("no text", b"\xff\xfe\x00"),
                ("surrogate", b'{"request":"\\ud800","reporting_agent":"\\udfff","summary":"x"}'),
                ("random", self.draw.randbytes(self.draw.randrange(1, 200))),
            )
        )

    def _valid(self, model: type[Message]) -> bytes:
        told = drawn(model, self.draw)
        if model.__name__ == "TaskSubmitted":
            told |= {"request": "predict churn", "workspace": self.draw.choice(("", "/nowhere/at/all", self.workspace))}
            told.pop("constraints", None)
        return json.dumps(told, ensure_ascii=False).encode(errors="replace")

    def _claim(self) -> bytes:
        """A claim check as it should be, of a payload that is not there."""
        name = self.draw.choice(("0" * 64, ">", "*", "../x", "", "ü", "n" * 3000))
        bucket = self.draw.choice(("mesh-payloads", "mesh-payloads", "mesh-payloads", "another", ""))
        return json.dumps({"bucket": bucket, "name": name, "digest": "sha256:0", "size": 10**12}).encode()

    def _mutated(self, body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(self.draw.randint(1, 4)):
            changed[self.draw.randrange(len(changed))] = self.draw.randrange(256)
        return bytes(changed)

    def _mistyped(self, body: bytes) -> bytes:
        told: dict[str, Any] = json.loads(body)
        for name in list(told):
            if self.draw.random() < 0.5:
                told[name] = self.draw.choice(_LEAVES)
        return json.dumps(told).encode()

    def _headers(self, model: type[Message], task: str) -> tuple[str, bytes]:
        roll = self.draw.random()
        if roll < 0.3:
            return "none", b""
        envelope = self._envelope(model, task)
        if roll < 0.6:
            return self._block(list(envelope.items()), "envelope")
        if roll < 0.65:
            newer = envelope | {"ce-dataschema": f"{model.data_schema()}.7"}
            return self._block(list(newer.items()), "newer minor")
        kind, changed = self.draw.choice(tuple(_HOSTILE.items()))
        if isinstance(changed, bytes):
            return kind, changed
        return self._block([*envelope.items(), *changed], kind)

    def _block(self, headers: list[tuple[str, str]], kind: str = "none") -> tuple[str, bytes]:
        if not headers:
            return "none", b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return kind, b"NATS/1.0\r\n" + lines.encode(errors="surrogateescape") + b"\r\n"

    def _envelope(self, model: type[Message], task: str) -> dict[str, str]:
        return encode(
            Metadata(
                id=f"fuzz-{self._made}",
                type="mlmesh.fuzz",
                source="urn:mlmesh:fuzz",
                time=datetime(2026, 1, 1, tzinfo=UTC),
                schema=model.data_schema(),
                task=task,
                traceparent=f"00-{self.draw.randbytes(16).hex()}-{self.draw.randbytes(8).hex()}-01",
                workspace=self.draw.choice(("", self.workspace)),
            )
        )


_HOSTILE: Final[Mapping[str, list[tuple[str, str]] | bytes]] = {
    "unknown major": [("ce-dataschema", "urn:mlmesh:TaskSubmitted:9")],
    "another schema": [("ce-dataschema", "urn:somebody:Else:1")],
    "no schema": [("ce-dataschema", "")],
    "specversion": [("ce-specversion", "0.3")],
    "times": [("ce-time", "yesterday"), ("mesh-deadline", "soon")],
    "deadline passed": [("mesh-deadline", "2001-01-01T00:00:00Z")],
    "trace": [("traceparent", "00-zz-zz-zz"), ("tracestate", "x" * 600)],
    "workspace nul": [("mesh-workspace", "/srv/%00x")],
    "workspace long": [("mesh-workspace", "/" + "w" * 5000)],
    "workspace bytes": [("mesh-workspace", "/%ff%fe")],
    "workspace dots": [("mesh-workspace", "/etc/../etc")],
    "workspace link": [("mesh-workspace", "file://[/x")],
    "huge": [("x-huge", "h" * 60_000)],
    "many": [(f"x-{number}", "v") for number in range(2000)],
    "unicode": [("x-ü", "Ω≈ç√"), ("ce-id", "任务")],
    "no utf-8": [("x-bytes", "\udcff\udcfe")],
    "id is huge": [("Nats-Msg-Id", "i" * 40_000)],
    "same id": [("Nats-Msg-Id", "always-the-same")],
    "claim check": [("mesh-claim-check", "1")],
    "status": [("Status", "503"), ("Description", "No Responders")],
    "answer of the server": [("Nats-Sequence", "abc"), ("Nats-Subject", "x"), ("Nats-Time-Stamp", "never")],
    "source": [("Nats-Stream-Source", "TASKS 1 x y z")],
    "scheduler": [("Nats-Scheduler", "mesh.timer.x.y.z")],
    "redriven often": [("mesh-redrive", "9" * 30)],
    "expectation": [("Nats-Expected-Last-Sequence", "1")],
    "expected stream": [("Nats-Expected-Stream", "OTHER")],
    "batch": [("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1")],
    "bad batch": [("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "x")],
    "rollup": [("Nats-Rollup", "all")],
    "rollup of a subject": [("Nats-Rollup", "sub")],
    "ttl": [("Nats-TTL", "1h")],
    "bad ttl": [("Nats-TTL", "soon")],
    "schedule": [("Nats-Schedule", "@at 2040-01-01T00:00:00Z"), ("Nats-Schedule-Target", "mesh.task.x.failed.y")],
    "bad schedule": [("Nats-Schedule", "whenever")],
    "line break": b"NATS/1.0\r\nx: a\rb\r\n y: folded\r\nNats-Msg-Id\r\n\r\n",
    "injected": b"NATS/1.0\r\nx: 1\r\n\r\nPUB mesh.task.y.failed.z 2\r\n{}\r\n\r\n",
    "status line": b"NATS/1.0 503 No Responders\r\nStatus: 100\r\n\r\n",
    "no version": b"HTTP/1.1\r\nx: y\r\n\r\n",
    "too short": b"x",
    "status no utf-8": b"NATS/1.0 \xff\xff\xff \xfe\r\n\r\n",
    "no end": b"NATS/1.0\r\nx: y",
    "no name": b"NATS/1.0\r\n: v\r\n:\r\n\r\n",
    "twice": b"NATS/1.0\r\nce-id: a\r\nce-id: b\r\nCE-ID: c\r\n\r\n",
    "nul": b"NATS/1.0\r\nx\x00: a\x00b\r\n\r\n",
}


def drawn(model: type[BaseModel], draw: Random) -> dict[str, Any]:
    """Fields of a valid instance, as JSON has them; optional ones now and then."""
    return {
        name: _value(field.annotation, field.metadata, draw)
        for name, field in model.model_fields.items()
        if field.is_required() or draw.random() < 0.4
    }


def _value(annotation: Any, metadata: Any, draw: Random) -> Any:  # noqa: PLR0911 - a case for each kind of type
    origin, arguments = get_origin(annotation), get_args(annotation)
    if any(getattr(item, "pattern", None) for item in metadata):
        return draw.choice(("nfr.latency", "task.target"))
    if annotation is str:
        return draw.choice(_WORDS) or "x"
    if annotation is bool:
        return draw.random() < 0.5
    if annotation is int or annotation is float:
        return draw.choice((1, 2, 100))
    if annotation in {datetime, AwareDatetime}:
        return "2026-01-01T00:00:00Z"
    if annotation is JsonValue:
        return draw.choice(({"a": [1, None, "x"]}, 7, None))
    if origin is Literal:
        return draw.choice(arguments)
    if origin in {Union, UnionType}:
        return _value(draw.choice(arguments), (), draw)
    return _many(annotation, origin, arguments, draw)


def _many(annotation: Any, origin: Any, arguments: tuple[Any, ...], draw: Random) -> Any:
    if annotation is type(None):
        return None
    if origin is dict:
        return {"x": _value(arguments[1], (), draw)}
    if origin in {tuple, list}:
        return [_value(arguments[0], (), draw)]
    if origin is not None or not isinstance(annotation, type):  # an annotated type
        return _value(arguments[0], annotation.__metadata__, draw)
    return drawn(annotation, draw)


def _filled(address: str, draw: Random) -> str:
    """An address with its other parameters."""
    filled = {
        "{agent}": draw.choice(("ml-engineer",) * 6 + ("wizard", "summarizer", "a%2Eb", "ü", "%zz")),
        "{system}": draw.choice(("churn", "fraud%20system", "ü", "%2e")),
        "{event}": draw.choice(("trained", "drifted", "exploded", "")) or "x",
        "{durable}": draw.choice(("gateway", "nobody", "ml-engineer")),
        "{timer}": draw.choice(("answers", "deadline", "coffee")),
    }
    for name, value in filled.items():
        address = address.replace(name, value)
    return address


def _plus(body: bytes, fields: bytes) -> bytes:
    """A JSON object with more fields."""
    return body[:-1] + (b"," if len(body) > 2 else b"") + fields + b"}"
