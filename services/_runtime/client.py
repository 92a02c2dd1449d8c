"""The library's NATS client, mended where it would end a connection, go on in the clear, or be slow.

Everything here works around what nats-py does on this side of the wire; what the mesh says over it is the bus's
(bus.py).
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import BadHeaderError

from services._runtime import credentials
from services._runtime.errors import Misconfigured
from services._runtime.settings import Settings

COPIED: Final = "Nats-Sequence-Stored"
"""Our mark on an answer to a read whose message is itself such an answer, which somebody had sent to a stream."""
_BLANK: Final = " \t\r\n\v\f"
_TWICE: Final = b"\r\nNats-Sequence:"
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

log = structlog.get_logger()


class BusClient(Client):
    """The library's client, which keeps on connecting whatever happens in between.

    It knows OSError alone. Under uvloop writing to a connection that was just reset is a RuntimeError, and half a
    greeting is a ValueError: either would end its reconnecting without a word, neither connected nor closed for good.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises Misconfigured for a key file that holds none."""
        super().__init__()
        self._settings = settings
        self._key = credentials.key_of(settings)
        self._public_nkey = self._key.public if self._key else None
        self._writes_soon = False
        self._flushing: asyncio.Future[Any] | None = None
        self._told_at_once: dict[int, Callable[[Msg], None]] = {}
        """Subscription -> who hears its messages."""

    def sign(self, nonce: str) -> bytes:
        """Signs in with the key that is in the file now: one that was changed counts from the next connection on.

        For a seed the library itself would need another one, which has no wheels.
        """
        try:
            self._key = credentials.key_of(self._settings)
        except Misconfigured as error:  # it may be there again the next time
            log.warning("bus.key_unreadable", error=str(error))
        if self._key is None:
            return b""
        self._public_nkey = self._key.public
        return self._key.sign(nonce)

    @property
    def clustered(self) -> bool:
        """True when the server has others beside it."""
        return bool(self._server_info.get("cluster"))

    @property
    def guarded(self) -> bool:
        """True when the server asks who somebody is: then it may also forbid."""
        return bool(self._server_info.get("auth_required"))

    async def _send_ping(self, future: "asyncio.Future[Any] | None" = None) -> None:
        """The library writes its PING past what waits to be written: a flush would return before the server saw it."""
        self._write_pending()
        await super()._send_ping(future)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """Writes at the end of this turn of the loop, with whatever else is said in it.

        The library wakes a task of its own for that, which costs a third of a small message. It still does where the
        server has not yet taken what was written before: then publishers come to wait.
        """
        if force_flush or not self.is_connected or self._unsent() > 0:
            return await super()._flush_pending(force_flush)
        if not self._writes_soon:
            self._writes_soon = True
            asyncio.get_running_loop().call_soon(self._write_pending)
        return None

    def _write_pending(self) -> None:
        self._writes_soon = False
        if not self.is_connected or self._pending_data_size <= 0 or self._transport is None:
            return
        try:
            self._transport.writelines(self._pending[:])
        except (OSError, RuntimeError, AttributeError):  # the library's own flush finds the same, and connects anew
            self._flushing = asyncio.ensure_future(super()._flush_pending())
        else:
            self._pending, self._pending_data_size = [], 0

    def _unsent(self) -> int:
        """Bytes that the operating system has not taken yet; more than none where nobody knows."""
        writer = getattr(self._transport, "_io_writer", None)
        return 1 if writer is None else writer.transport.get_write_buffer_size()

    async def hear_at_once(self, subject: str, told: Callable[[Msg], None], *, queue: str = "") -> Subscription:
        """A subscription whose messages are told as they are read: `told` must be short, and raise nothing.

        The library would wake a task of the subscription's for each, and that one whoever waits for it.
        """

        async def heard(message: Msg) -> None:
            """What comes before the library has returned."""
            told(message)

        subscription = await self.subscribe(subject, queue=queue, cb=heard)
        self._told_at_once |= {sid: told for sid, known in self._subs.items() if known is subscription}
        return subscription

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        told = self._told_at_once.get(sid)
        if told is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        elif sid in self._subs:
            found = await self._process_headers(headers) if headers else None
            told(self._build_message(sid, subject, reply, data, found))

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: Mapping[str, str] | None
    ) -> None:
        """As the library's, which looks at each letter of each header and collects them in pieces."""
        if not headers:
            await super()._send_publish(subject, reply, payload, payload_size, None)
            return
        lines = [f"{known}: {_one_line(value)}" for name, value in headers.items() if (known := _header_name(name))]
        block = "\r\n".join(("NATS/1.0", *lines, "\r\n")).encode()
        to = f"HPUB {subject} {reply} " if reply else f"HPUB {subject} "
        sizes = f"{len(block)} {len(block) + payload_size}\r\n"
        await self._send_command(b"".join((to.encode(), sizes.encode(), block, payload, b"\r\n")))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As the library's, without a look at each letter of each name: a fifth of the time of a small message."""
        found: dict[str, str] = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon and (known := _name_read(name)) is not None:
                found[known] = value.strip(_BLANK)
        return found

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        """Of a header that comes twice the library keeps the last one: the one before would be lost to the reader.

        Of a block that is none it has no notion: its error would end the connection, and again whenever the message
        comes again.
        """
        try:
            found = await super()._process_headers(headers)
        except (ValueError, IndexError) as error:
            log.warning("bus.headers_unreadable", error=str(error))
            return {}
        if found and headers.count(_TWICE) > 1:
            found[COPIED] = "1"
        return found

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        """Subjects that are no UTF-8 would end the connection in the same way: they are read with a mark instead."""
        if not (subject.isascii() and reply.isascii()):
            subject, reply = (part.decode(errors="replace").encode() for part in (subject, reply))
        return super()._build_message(sid, subject, reply, data, headers)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """The library would go on in the clear where a server, or somebody before it, says that it has no TLS."""
        if self.options.get("tls") is not None and not info.get("tls_required"):
            raise ConnectionRefusedError("MLMESH_TLS_CA is set and the server offers no TLS")
        await super()._process_info(info, initial_connection=initial_connection)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except OSError:  # a certificate that is not trusted is a ValueError too
            raise
        except (RuntimeError, ValueError) as error:
            raise ConnectionResetError(f"the connection was lost while it was made: {error}") from error


@lru_cache(maxsize=512)
def _header_name(name: str) -> str:
    """A name as it may stand before a colon; one of blanks is left out. Raises BadHeaderError, as the library does."""
    stripped = name.strip()
    if stripped and not _HEADER_NAME.fullmatch(stripped):
        raise BadHeaderError(stripped)
    return stripped


@lru_cache(maxsize=512)
def _name_read(name: str) -> str | None:
    """A name before a colon without blanks around it; None for what the library takes for no name."""
    stripped = name.strip()
    return stripped if stripped.isascii() and len(stripped.split(None, 1)) < 2 else None


def _one_line(value: str) -> str:
    return value if value.isprintable() else value.strip().replace("\r", " ").replace("\n", " ")
