"""The socket that a server listens on, and the URL under which it is reached. Loads nothing of a server."""

from __future__ import annotations

import socket

from mlsystem.errors import ServingError


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; ServingError if the port is taken or the address is not this machine's."""
    try:
        return socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        raise ServingError(
            "cannot_listen", f"cannot listen on {host}:{port}: {error.strerror or error}; give another --port or --host"
        ) from error


def url_of(sock: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
