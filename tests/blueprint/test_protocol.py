"""Connections: requests in any pieces and any order, and connections that end when somebody says so."""

from __future__ import annotations

import json
import re
import socket
import urllib.parse
from collections.abc import Iterator

import pytest

from mlsystem.serving.process import serving
from tests.blueprint.asking import PATIENCE_S, get, metric, predict
from tests.blueprint.small_system import ROW, classifier, write_package

BODY = json.dumps({"rows": [ROW]}).encode()
PREDICT = b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
OLD = PREDICT.replace(b"HTTP/1.1", b"HTTP/1.0")
LAST = PREDICT.replace(b"Host: test\r\n", b"Host: test\r\nConnection: close\r\n")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    package = write_package(tmp_path_factory.mktemp("package"), classifier(), timeout="1s", concurrency=8)
    with serving(package, "--package", str(package)) as server:
        yield server.url


def connect(url: str) -> socket.socket:
    parts = urllib.parse.urlsplit(url)
    return socket.create_connection((str(parts.hostname), parts.port), timeout=PATIENCE_S)


def said(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def kinds(data: bytes) -> list[str]:
    """What each answer in a stream of answers was about."""
    return [found.decode() for found in re.findall(rb'"status":"ok"|"predictions"', data)]


@pytest.mark.parametrize(
    ("stream", "answers"),
    [
        (PREDICT + PREDICT + LAST, ['"predictions"'] * 3),
        (PREDICT + HEALTH + LAST, ['"predictions"', '"status":"ok"', '"predictions"']),
        (HEALTH + PREDICT + HEALTH + LAST, ['"status":"ok"', '"predictions"', '"status":"ok"', '"predictions"']),
    ],
    ids=["predictions", "health between", "health first"],
)
def test_requests_that_come_in_one_piece_are_answered_in_order(url: str, stream: bytes, answers: list[str]) -> None:
    """Whichever way a request takes through the server, it does not overtake the one before it."""
    with connect(url) as sock:
        sock.sendall(stream)
        assert kinds(said(sock)) == answers


def test_what_comes_at_once_beyond_the_limit_is_turned_away(url: str) -> None:
    """Also where nothing is waited for: requests of one instant would have to wait for each other."""
    with connect(url) as sock:
        sock.sendall(PREDICT * 10 + LAST)
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", said(sock))
    assert statuses == [b"200"] * 8 + [b"503"] * 3
    assert predict(url, ROW).status == 200


@pytest.mark.parametrize("size", [1, 7, 64], ids="{} bytes".format)
def test_requests_in_small_pieces_are_answered_one_by_one(url: str, size: int) -> None:
    stream = PREDICT + LAST
    with connect(url) as sock:
        for start in range(0, len(stream), size):
            sock.sendall(stream[start : start + size])
        assert kinds(said(sock)) == ['"predictions"'] * 2


@pytest.mark.parametrize("request_", [OLD, LAST], ids=["HTTP/1.0", "Connection: close"])
def test_a_connection_ends_where_its_client_wants_it_to(url: str, request_: bytes) -> None:
    with connect(url) as sock:
        sock.sendall(request_)
        answer = said(sock)
    assert (kinds(answer), b"connection: close" in answer) == (['"predictions"'], True)


def test_a_head_that_does_not_end_is_refused_in_time(url: str) -> None:
    """A connection that dribbles holds nothing for longer than `serving.timeout`."""
    with connect(url) as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nHost: te")
        assert said(sock).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("HEAD", "/healthz", 200, None),
        ("HEAD", "/predict", 405, "POST"),
        ("OPTIONS", "/predict", 405, "POST"),
        ("PUT", "/predict", 405, "POST"),
        ("POST", "/predict/", 404, None),
    ],
)
def test_other_methods_are_told_what_is_allowed(
    url: str, method: str, path: str, status: int, allow: str | None
) -> None:
    answer = get(url, path, method)
    assert (answer.status, answer.headers.get("allow")) == (status, allow)


def test_both_ways_through_the_server_are_counted_alike(url: str) -> None:
    """One request whose body is there at once, one whose body comes later."""
    samples = [
        'http_requests_total{method="POST",route="/predict",status="200"}',
        'http_request_duration_seconds_count{route="/predict"}',
        'model_predictions_total{label="Yes",version="0"}',
    ]
    before = [metric(url, sample) for sample in samples]
    assert predict(url, ROW).status == 200
    with connect(url) as sock:
        sock.sendall(LAST[:-10])
        sock.sendall(LAST[-10:])
        said(sock)
    assert [metric(url, s) - b for s, b in zip(samples, before, strict=True)] == [2, 2, 2]
    assert metric(url, "http_requests_in_progress") == 0
