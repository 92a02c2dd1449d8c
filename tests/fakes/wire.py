"""The wire between a client and a nats-server: a TCP proxy that loses what either side says, and breaks.

It runs on the loop of the test. A connection may also be refused in the two ways that clients take worst: reset right
after the greeting, and closed in the middle of it.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

_GREETING = b'INFO {"server_id":"wire","version":"2.14.0","headers":true,"max_payload":1048576}\r\n'


@dataclass
class Wire:
    """A way to the server on `target`; `url` is where clients find it."""

    target: int
    url: str = ""
    silent: bool = False
    """What the server says is lost."""
    mute: bool = False
    """What the client says is lost."""
    closed: bool = False
    """Nobody gets through: a connection ends as soon as it is made."""
    refusals: list[Literal["reset", "half"]] = field(default_factory=list[Literal["reset", "half"]])
    """How the next connections end before they begin."""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list[asyncio.StreamWriter])
    _pumps: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    @property
    def connected(self) -> bool:
        """Whether somebody is connected to the server through it."""
        return any(not writer.is_closing() for writer in self._writers)

    def cut(self) -> None:
        """Every connection breaks at once."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        if self.refusals:
            await _refuse(writer, self.refusals.pop(0))
            return
        if self.closed:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server is away: to its client this looks like a refusal
            writer.transport.abort()
            return
        self._writers = [one for one in self._writers if not one.is_closing()] + [writer, server_writer]
        for pump in (self._pump(reader, server_writer), self._pump(server_reader, writer, from_server=True)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_server: bool = False
    ) -> None:
        with suppress(OSError, RuntimeError):  # the other end may just have gone: uvloop says it with a RuntimeError
            while said := await source.read(65_536):
                if not (self.silent if from_server else self.mute):
                    target.write(said)
                    await target.drain()
        target.close()


async def _refuse(writer: asyncio.StreamWriter, how: Literal["reset", "half"]) -> None:
    if how == "half":
        writer.write(_GREETING[:4])
        writer.close()
        return
    linger_s = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_s)
    writer.write(_GREETING)
    await writer.drain()
    await asyncio.sleep(0)  # the greeting has been read, the answer to it has not been written
    writer.transport.abort()


@asynccontextmanager
async def wire_to(port: int) -> AsyncGenerator[Wire]:
    """A wire to the nats-server on `port`."""
    wire = Wire(port)
    listening = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    wire.url = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        wire.cut()
        listening.close()
