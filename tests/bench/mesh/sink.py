"""A collector that takes traces and forgets them: `python -m tests.bench.mesh.sink PORT`, until its stdin ends.

Cheap, so that it is not what is measured.
"""

import asyncio
import contextlib
import sys

from tests.bench.mesh.driver import until_told

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request of a connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(_ANSWER)
    writer.close()


async def main(port: int) -> None:
    """Listens on loopback."""
    async with await asyncio.start_server(take, "127.0.0.1", port):
        await until_told()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
