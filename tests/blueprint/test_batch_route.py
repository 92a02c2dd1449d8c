"""POST /batch: rows without end go through in constant memory, at the pace of the slower side."""

from __future__ import annotations

import csv
import http.client
import io
import json
import signal
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from mlsystem.serving.process import Listening, serving
from tests.blueprint.asking import PATIENCE_S, Answer, ask, metric
from tests.blueprint.small_system import ROW, classifier, probability, slow_classifier, write_package

HEADER = "customer,tenure,charges,plan,joined\n"
MB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    package = write_package(tmp_path_factory.mktemp("package"), classifier(), timeout="2s", max_body="256KiB")
    with serving(package, "--package", str(package)) as found:
        yield found


def post(server: Listening, body: str | bytes, media: str = "text/csv", **headers: str) -> Answer:
    raw = body.encode() if isinstance(body, str) else body
    return ask(server.url, "POST", "/batch", raw, {"Content-Type": media, **headers})


def line(number: int, **changes: object) -> dict[str, object]:
    return {**ROW, "customer": f"C-{number}", "tenure": number, **changes}


def as_csv(*rows: Mapping[str, object]) -> str:
    return "".join(",".join(str(value) for value in row.values()) + "\n" for row in rows)


def table(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode())))


class Stream:
    """A batch whose body is sent in chunks, whenever the test likes."""

    def __init__(self, server: Listening, media: str = "text/csv") -> None:
        parts = urllib.parse.urlsplit(server.url)
        self.sock = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
        head = f"POST /batch HTTP/1.1\r\nHost: test\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.sock.sendall(head.encode())
        self._response: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()  # it holds the connection, too
        self.sock.close()

    def send(self, text: str | bytes) -> None:
        raw = text.encode() if isinstance(text, str) else text
        self.sock.sendall(b"%x\r\n%b\r\n" % (len(raw), raw))

    def end(self) -> None:
        self.sock.sendall(b"0\r\n\r\n")

    @property
    def response(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = http.client.HTTPResponse(self.sock)
            self._response.begin()
        return self._response

    def line(self) -> str:
        return self.response.readline().decode()


def in_progress(server: Listening) -> float:
    return metric(server.url, "http_requests_in_progress")


def settles(server: Listening, count: float, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while in_progress(server) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return in_progress(server) == count


def peak_mb(server: Listening) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(found.split()[1]) / 1024 for found in status.splitlines() if found.startswith("VmHWM:"))


def sent_until_full(stream: Stream, block: bytes) -> int:
    """Send until nobody takes anything any more; return the bytes that were taken."""
    sent = 0
    while True:
        try:
            stream.send(block)
        except TimeoutError:
            return sent
        sent += len(block)


def test_every_row_of_a_csv_is_answered_in_order_under_its_id(server: Listening) -> None:
    rows = [line(number) for number in range(-20, 20)]
    answer = post(server, HEADER + as_csv(*rows))
    found = table(answer.body)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert list(found[0]) == ["id", "version", "prediction", "probability_No", "probability_Yes", "error"]
    assert [told["id"] for told in found] == [row["customer"] for row in rows]
    assert [float(told["probability_Yes"]) for told in found] == pytest.approx([probability(row) for row in rows])


def test_answers_are_counted_like_those_of_predict(server: Listening) -> None:
    samples = ('model_predictions_total{label="Yes",version="0"}', 'model_input_warnings_total{kind="unseen_category"}')
    before = [metric(server.url, sample) for sample in samples]
    post(server, HEADER + as_csv(line(10), line(20, plan="weekly"), line(12, charges="much")))
    assert [metric(server.url, sample) for sample in samples] == [before[0] + 2, before[1] + 1]


def test_json_lines_are_answered_by_json_lines_and_bad_rows_in_their_place(server: Listening) -> None:
    rows: list[object] = [line(1), line(2, charges="much"), 7, {}, line(5)]
    answer = post(server, "\n\n".join(json.dumps(row) for row in rows), "application/x-ndjson")
    found = [json.loads(told) for told in answer.body.splitlines()]
    assert (answer.status, answer.headers["content-type"]) == (200, "application/jsonl")
    assert [told["id"] for told in found] == ["C-1", "C-2", "3", "4", "C-5"]
    assert [told.get("error", "")[:22] for told in found] == [
        "",
        "charges: not a number ",
        "not a JSON object: Exp",
        "tenure: missing column",
        "",
    ]


def test_the_answer_may_be_asked_for_in_the_other_format(server: Listening) -> None:
    answer = post(server, HEADER + as_csv(ROW), Accept="text/html, application/jsonl;q=0.9")
    assert json.loads(answer.body)["probabilities"]["Yes"] == pytest.approx(probability(ROW))


def test_another_encoding_may_be_named(server: Listening) -> None:
    answer = post(server, (HEADER + as_csv(line(1, customer="Ö"))).encode("latin-1"), "text/csv; charset=latin-1")
    assert table(answer.body)[0]["id"] == "Ö"


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        ("", "text/csv", 422, "empty_file"),
        ("", "application/jsonl", 422, "no_rows"),
        (HEADER, "text/csv", 422, "no_rows"),
        ("tenure,plan\n1,monthly\n", "text/csv", 422, "missing_columns"),
        (HEADER.encode() + b"\xff\n", "text/csv", 422, "bad_encoding"),
        (HEADER, "text/csv; charset=klingon", 422, "bad_encoding"),
        (HEADER, "text/csv; charset=zlib", 422, "bad_encoding"),
        (HEADER, "text/csv; charset=utf-16", 422, "bad_encoding"),
        ("tenure,charges,plan,joined,plan\n", "text/csv", 422, "duplicate_columns"),
        ("x" * 300_000, "application/jsonl", 422, "line_too_long"),
        ("{}", "application/json", 415, "unsupported_media_type"),
        ("{}", "", 415, "unsupported_media_type"),
    ],
    ids=[
        "empty",
        "no lines",
        "header",
        "columns",
        "bytes",
        "charset",
        "no text",
        "no mark",
        "twice",
        "endless line",
        "json",
        "no type",
    ],
)
def test_what_cannot_be_read_at_all_is_an_error_and_not_an_answer(
    server: Listening, body: str | bytes, media: str, status: int, code: str
) -> None:
    answer = post(server, body, media)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_compressed_rows_are_refused(server: Listening) -> None:
    assert post(server, b"", **{"Content-Encoding": "gzip"}).status == 415


def test_rows_are_answered_while_others_still_come(server: Listening) -> None:
    """What is there is answered: a row that comes alone does not wait for others."""
    with Stream(server) as stream:
        stream.send(HEADER + as_csv(line(1)))
        assert [stream.line()[:3], stream.line()[:4]] == ["id,", "C-1,"]
        stream.send(as_csv(line(2))[:7])
        stream.send(as_csv(line(2))[7:])
        assert stream.line()[:4] == "C-2,"
        stream.end()
        assert (stream.line(), settles(server, 0)) == ("", True)


def test_fifty_megabytes_go_through_in_constant_memory(server: Listening) -> None:
    """Made while they are sent, counted while they are read; wide texts that the model does not use make the bytes."""
    head, filling = HEADER.strip() + ",note\n", "x" * 4000
    post(server, head + as_csv({**ROW, "note": filling}) * 400)  # what one block needs is there from now on
    before = peak_mb(server)
    blocks, rows = 410, 32
    block = (as_csv({**ROW, "note": filling}) * rows).encode()
    with Stream(server) as stream:

        def feed() -> None:
            stream.send(head)
            for _ in range(blocks):
                stream.send(block)
            stream.end()

        feeder = threading.Thread(target=feed)
        feeder.start()
        answered = sum(1 for _ in stream.response)
        feeder.join()
    assert len(block) * blocks >= 50 * MB
    assert answered == 1 + blocks * rows
    assert peak_mb(server) - before < 8


def test_a_caller_that_does_not_read_is_not_read_from(server: Listening) -> None:
    """Answers are longer than these rows: what is not taken piles up nowhere, and goes on when it is taken."""
    before = peak_mb(server)
    block = ("1,2,a,\n" * 8000).encode()
    with Stream(server) as stream:
        stream.send("tenure,charges,plan,joined\n")
        stream.sock.settimeout(0.5)
        assert sent_until_full(stream, block) < 30 * MB
        assert peak_mb(server) - before < 16
        assert len(stream.response.read(MB)) == MB
    assert settles(server, 0)


def test_a_caller_that_goes_away_ends_the_work(server: Listening) -> None:
    with Stream(server) as stream:
        stream.send(HEADER + as_csv(line(1)))
        stream.line()
        assert in_progress(server) == 1
    assert settles(server, 0)


def test_a_caller_that_falls_silent_is_told_and_cut_off(server: Listening) -> None:
    """Before the first line it is an answer, after it a last line about no row, and an end that is none."""
    with Stream(server) as silent, Stream(server, "application/jsonl") as started:
        started.send(json.dumps(line(1)) + "\n")
        assert json.loads(started.line())["id"] == "C-1"
        assert silent.response.status == 408
        last: Any = json.loads(started.line())
        assert (last["error"]["code"], last["error"]["limit"]["name"]) == ("slow_body", "serving.timeout")
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            started.response.read()
    assert settles(server, 0)


def test_bytes_that_are_no_text_end_a_batch_after_what_was_answered(server: Listening) -> None:
    with Stream(server) as stream:
        stream.send(HEADER + as_csv(line(1)))
        assert [stream.line()[:3], stream.line()[:4]] == ["id,", "C-1,"]
        stream.send(b"C-2,\xff")
        assert "cannot be read" in stream.line()
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            stream.response.read()


def test_more_batches_than_there_are_threads_are_turned_away(server: Listening) -> None:
    with Stream(server) as first, Stream(server) as second:
        for stream in (first, second):
            stream.send(HEADER + as_csv(line(1)))
            stream.line()
        answer = post(server, HEADER)
        assert (answer.status, answer.error["code"]) == (429, "too_many_requests")
        assert answer.error["limit"] == {"name": "batches at once", "value": 2}
    assert settles(server, 0)


def test_a_batch_that_runs_is_answered_to_its_end_when_the_server_stops(tmp_path: Path) -> None:
    package = write_package(tmp_path, slow_classifier())
    with serving(package, "--package", str(package)) as server, Stream(server) as stream:
        stream.send(HEADER + as_csv(line(1)))
        assert [stream.line()[:3], stream.line()[:4]] == ["id,", "C-1,"]
        server.process.send_signal(signal.SIGTERM)
        stream.send(as_csv(line(2)))
        assert stream.line()[:4] == "C-2,"
        stream.send(as_csv(line(3)))
        stream.end()
        assert stream.line()[:4] == "C-3,"
        assert (stream.line(), server.process.wait(10)) == ("", 0)
