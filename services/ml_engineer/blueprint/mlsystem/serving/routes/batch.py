"""POST /batch: rows of any number as CSV or JSON lines, answered line by line while they still come.

Owns the bridge between the event loop and a thread that reads, predicts and writes in constant memory: it takes the
next bytes when it has written the answers to the last ones, so a caller that does not read is not read from, and one
that goes away ends the work. What is wrong with a row stands in its line; what is wrong with the whole is an error
answer before the first line, and after it a last line with the error, and an answer that is cut off. Rows are
completed like those of /predict, and counted for monitoring, not captured: `tally` says why. Leaves rows to `batch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.routing import Route

from mlsystem.errors import DataError, StateError
from mlsystem.serving import batch
from mlsystem.serving.answers import Limit, Prediction, Predictions, Refusal, encode, send_json, warned
from mlsystem.serving.batch import TextFormat
from mlsystem.serving.intake import Disconnected
from mlsystem.serving.predictor import no_online_rows
from mlsystem.serving.streams import Block, csv_blocks, json_blocks
from mlsystem.serving.tally import Tally

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from mlsystem.online.fill import Filler
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model
    from mlsystem.serving.service import Service


PATH: Final = "/batch"
STREAMS: Final = 2
"""Batches at once: each keeps a thread busy, and /predict shares the processor with them."""

MEDIA: Final[dict[str, TextFormat]] = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/x-jsonlines": "jsonl",
}
_TYPES: Final = {"csv": b"text/csv; charset=utf-8", "jsonl": b"application/jsonl"}
_Result = TypeVar("_Result")


class Batch:
    """The endpoint, as a plain ASGI app."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(STREAMS, "batch")
        self._running = 0
        state = service.state
        self._tally = None if state is None else Tally(state, service.spec.monitoring)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        connection = _Connection(receive, send, self._service.limits)
        try:
            await self._stream(scope, connection)
        except Refusal as refusal:
            self._service.metrics.refused(refusal)
            if not connection.started:
                await send_json(send, refusal.body(), status=refusal.status, headers=refusal.headers)
        except Disconnected:
            return

    async def _stream(self, scope: Scope, connection: _Connection) -> None:
        service, asked = self._service, _Asked(scope["headers"])
        model = service.live.require()
        if self._running >= STREAMS:
            message = f"{STREAMS} batches are being answered already; try again"
            raise Refusal(429, "too_many_requests", message, limit=Limit("batches at once", STREAMS))
        service.in_flight.enter()
        self._running += 1
        try:
            around = _Around(service.limits, self._counter(), service.predictor.filler, self._tally)
            work = self._threads.submit(_work, model, asked, connection, around)
            await asyncio.wrap_future(work)
        finally:
            self._running -= 1
            service.in_flight.leave()

    def _counter(self) -> Callable[[Predictions], None]:
        """Return what counts answers from a thread: on the event loop, where the others are counted."""
        loop, metrics = asyncio.get_running_loop(), self._service.metrics

        def count(answer: Predictions) -> None:
            loop.call_soon_threadsafe(metrics.predicted, answer)

        return count


@dataclass(frozen=True, slots=True)
class _Around:
    """What a batch is answered with besides the model."""

    limits: Limits
    count: Callable[[Predictions], None]
    filler: Filler | None
    tally: Tally | None


class _Asked:
    """What the headers say: in which format the rows come, and in which the answers go."""

    def __init__(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        said = {name: value.decode("latin-1") for name, value in headers}
        if said.get(b"content-encoding", "identity").strip().lower() != "identity":
            raise _unsupported("send the rows as they are, not with Content-Encoding")
        media, _, parameters = said.get(b"content-type", "").partition(";")
        rows: TextFormat | None = MEDIA.get(media.strip().lower())
        if rows is None:
            raise _unsupported("send Content-Type: text/csv or application/jsonl")
        _, _, charset = parameters.partition("charset=")
        accepted = [part.partition(";")[0].strip().lower() for part in said.get(b"accept", "").split(",")]
        self.rows: TextFormat = rows
        self.answers: TextFormat = _first_known(accepted) or rows
        self._charset = charset.partition(";")[0].strip(' "')

    def blocks(self, source: Iterator[bytes], model: Model, around: _Around) -> Iterator[Block]:
        """Return the rows of the body; a line may be as long as a whole request elsewhere."""
        limits, filler = around.limits, around.filler
        if self.rows == "jsonl":
            return json_blocks(source, model, longest=limits.max_body, strict=limits.strict, filler=filler)
        return csv_blocks(source, model, longest=limits.max_body, encoding=self._charset, filler=filler)


def _first_known(media: Sequence[str]) -> TextFormat | None:
    return next((MEDIA[name] for name in media if name in MEDIA), None)


class _Connection:
    """Both directions of one request, for a thread: every step waits until the event loop has done it."""

    def __init__(self, receive: Receive, send: Send, limits: Limits) -> None:
        self._receive = receive
        self._send = send
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.started = False

    def read(self) -> Iterator[bytes]:
        """Yield the body as it comes; Refusal 408 if nothing comes in time, Disconnected if nobody is there."""
        more = True
        while more:
            try:
                message = self._wait(self._next())
            except TimeoutError:
                raise self._limits.slow_body() from None
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    def start(self, media: bytes) -> None:
        """Begin a 200."""
        self.started = True
        self._put({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media)]})

    def write(self, text: str | bytes, *, last: bool = False) -> None:
        """Send a part of the answer; Disconnected if the caller does not take it."""
        body = text.encode() if isinstance(text, str) else text
        self._put({"type": "http.response.body", "body": body, "more_body": not last})

    async def _next(self) -> Message:
        return await self._receive()

    async def _give(self, message: Message) -> None:
        await self._send(message)

    def _put(self, message: Message) -> None:
        try:
            self._wait(self._give(message))
        except TimeoutError:
            raise Disconnected from None

    def _wait(self, step: Coroutine[Any, Any, _Result]) -> _Result:
        within = asyncio.wait_for(step, self._limits.timeout_s)
        return asyncio.run_coroutine_threadsafe(within, self._loop).result()


def routes(service: Service) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Batch(service), methods=["POST"])]


def _work(model: Model, asked: _Asked, connection: _Connection, around: _Around) -> None:
    """Read, predict and write until the rows end; runs in a thread. What stops it is told, and raised as Refusal."""
    seen = None if around.tally is None else around.tally.add
    try:
        for block in asked.blocks(connection.read(), model, around):
            if not connection.started:
                _begin(model, asked, connection)
            lines = batch.predict_block(model, block, seen)
            connection.write(batch.text(lines, model.schema, asked.answers))
            if answered := [line for line in lines if isinstance(line, Prediction)]:
                around.count(Predictions(model.name, answered, warned(block.encoded.warnings)))
        _end(connection)
    except (DataError, Refusal, StateError) as error:
        refusal = error if isinstance(error, Refusal) else _refused(error)
        if connection.started:
            connection.write(_last_line(refusal, model, asked))
        raise refusal from None
    finally:
        if around.tally is not None:
            around.tally.save()


def _begin(model: Model, asked: _Asked, connection: _Connection) -> None:
    connection.start(_TYPES[asked.answers])
    if first := batch.head(model.schema, asked.answers):
        connection.write(first)


def _end(connection: _Connection) -> None:
    if not connection.started:
        raise DataError("no_rows", "there are no rows; there is nothing to predict")
    connection.write(b"", last=True)


def _last_line(refusal: Refusal, model: Model, asked: _Asked) -> bytes:
    """Return the line after which nothing comes; it has no id, since it is about no row."""
    if asked.answers == "jsonl":
        return encode({"error": refusal.error}) + b"\n"
    return batch.text([batch.RefusedRow("", refusal.error.message)], model.schema, "csv").encode()


def _refused(error: DataError | StateError) -> Refusal:
    if isinstance(error, StateError):
        return no_online_rows(error)
    return Refusal(422, error.code, error.message)


def _unsupported(message: str) -> Refusal:
    return Refusal(415, "unsupported_media_type", message)
