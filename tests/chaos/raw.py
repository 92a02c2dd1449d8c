"""A publisher that writes the protocol itself: headers and subjects that no client library would send."""

import asyncio
import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

_CONNECT: Final = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"raw","version":"1",'
    b'"protocol":1,"name":"fuzz"}\r\nPING\r\n'
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the header block and the body, or why the server ended the connection."""

    headers: bytes = b""
    body: bytes = b""
    ended: str = ""

    @property
    def nobody(self) -> bool:
        """True when the server knows nobody who would take the message."""
        return self.headers.startswith(b"NATS/1.0 503")


@dataclass(slots=True)
class RawPublisher:
    """One connection. A message is answered, or the server ends the connection with a word about it."""

    url: str
    _reader: asyncio.StreamReader = field(init=False)
    _writer: asyncio.StreamWriter = field(init=False)
    _waiting: dict[bytes, "asyncio.Future[Answer]"] = field(default_factory=dict[bytes, "asyncio.Future[Answer]"])
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _inbox: bytes = b"_INBOX.fuzz"
    _listening: "asyncio.Task[None] | None" = None
    _said: str = ""

    async def open(self) -> None:
        """Connects; returns when the server has answered."""
        address = urlsplit(self.url)
        self._reader, self._writer = await asyncio.open_connection(address.hostname, address.port, limit=2**22)
        self._inbox = b"_INBOX.fuzz%d" % id(self._writer)
        self._writer.write(_CONNECT + b"SUB " + self._inbox + b".* 1\r\n")
        await self._reader.readuntil(b"PONG\r\n")
        self._said = ""
        self._listening = asyncio.create_task(self._listen())

    async def publish(self, subject: bytes, headers: bytes, body: bytes, *, within_s: float) -> Answer | None:
        """The answer, or None when there was none in time. `headers` is a whole header block, or empty."""
        reply = b"%s.%d" % (self._inbox, next(self._numbers))
        answer = asyncio.get_running_loop().create_future()
        self._waiting[reply] = answer
        if headers:
            head = b"HPUB %s %s %d %d\r\n" % (subject, reply, len(headers), len(headers) + len(body))
        else:
            head = b"PUB %s %s %d\r\n" % (subject, reply, len(body))
        try:
            self._writer.write(head + headers + body + b"\r\n")
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(reply, None)

    async def close(self) -> None:
        """Ends the connection."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._one((await self._reader.readuntil(b"\r\n"))[:-2])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(Answer(ended=self._said or "the server ended the connection"))

    async def _one(self, line: bytes) -> None:
        words = line.split(b" ")
        match words[0].upper():
            case b"PING":
                self._writer.write(b"PONG\r\n")
            case b"MSG":
                body = await self._reader.readexactly(int(words[-1]) + 2)
                self._hear(words[1], Answer(body=body[:-2]))
            case b"HMSG":
                whole = await self._reader.readexactly(int(words[-1]) + 2)
                size = int(words[-2])
                self._hear(words[1], Answer(headers=whole[:size], body=whole[size:-2]))
            case b"-ERR":
                self._said = line.decode(errors="replace")
            case _:
                pass  # INFO, PONG

    def _hear(self, subject: bytes, answer: Answer) -> None:
        waiting = self._waiting.get(subject)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
