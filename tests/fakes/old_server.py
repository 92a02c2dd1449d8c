"""A server that speaks NATS but is too old: it greets, answers pings, and says JetStream API level 1."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator

_INFO = {"server_id": "OLD", "version": "2.9.10", "proto": 1, "headers": True, "max_payload": 1 << 20}
_ABOUT = json.dumps({"type": "io.nats.jetstream.api.v1.account_info_response", "api": {"level": 1, "total": 0}})


@contextlib.asynccontextmanager
async def old_server() -> AsyncGenerator[str]:
    """The URL of one, for the time of the block."""
    server = await asyncio.start_server(_converse, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"INFO {json.dumps(_INFO)}\r\n".encode())
    subscriptions: dict[str, str] = {}
    while line := (await reader.readline()).decode().strip():
        word, *rest = line.split(" ")
        match word.upper():
            case "PING":
                writer.write(b"PONG\r\n")
            case "SUB":
                subscriptions[rest[0]] = rest[-1]
            case "PUB" | "HPUB":
                await reader.readexactly(int(rest[-1]) + 2)
                if rest[0] == "$JS.API.INFO":
                    writer.write(_message(rest[1], subscriptions))
            case _:
                pass
    writer.close()


def _message(reply: str, subscriptions: dict[str, str]) -> bytes:
    prefix = reply.rsplit(".", 1)[0]
    return f"MSG {reply} {subscriptions[f'{prefix}.*']} {len(_ABOUT)}\r\n{_ABOUT}\r\n".encode()
