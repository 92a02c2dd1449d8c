"""How the tests talk to a server: plain requests, and raw sockets where the bytes matter."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def get(url: str, path: str, method: str = "GET") -> Answer:
    return _exchange(url, method, path, None, {})


def post(
    url: str, body: bytes, content_type: str | None = "application/json", headers: Mapping[str, str] | None = None
) -> Answer:
    typed = {"Content-Type": content_type} if content_type else {}
    return _exchange(url, "POST", "/predict", body, {**typed, **(headers or {})})


def ask(
    url: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Ask any path; a body is JSON unless the headers say something else."""
    typed = {} if body is None else {"Content-Type": "application/json"}
    return _exchange(url, method, path, body, {**typed, **(headers or {})})


def predict(url: str, *rows: Mapping[str, object] | object) -> Answer:
    return post(url, json.dumps({"rows": rows}).encode())


def metric(url: str, sample: str) -> float:
    """Return one sample of /metrics, 0 if nothing was counted under it yet."""
    lines = get(url, "/metrics").body.decode().splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == sample), 0.0)


def begin_request(url: str, length: int) -> socket.socket:
    """Send the head of a request and return once the server waits for its body."""
    parts = urllib.parse.urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
    head = "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    sock.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    assert sock.recv(64) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return sock


def end_request(sock: socket.socket, body: bytes = b"") -> Answer:
    """Send the rest of a request and return the answer."""
    sock.sendall(body)
    response = http.client.HTTPResponse(sock)
    response.begin()
    answer = Answer(response.status, dict(response.getheaders()), response.read())
    sock.close()
    return answer


def _exchange(url: str, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()
