"""Somebody else's HTTP service: applies each effect once by its idempotency key, and remembers every call."""

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Endpoint:
    """`POST /effects` with `Idempotency-Key`; `url` is where it listens."""

    url: str = ""
    calls: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    """(idempotency key, claim) -> how often it was called."""
    applied: list[str] = field(default_factory=list[str])
    """Keys of the effects that took place, in their order: a second call is answered and changes nothing."""
    _known: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, key: str, claim: int) -> None:
        """A call."""
        with self._lock:
            if key not in self._known:
                self._known.add(key)
                self.applied.append(key)
            self.calls[key, claim] += 1


@contextmanager
def listening() -> Generator[Endpoint]:
    """An endpoint on a free port of loopback, in threads of its own."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        """One call."""

        def do_POST(self) -> None:
            """Takes the effect."""
            endpoint.take(self.headers["Idempotency-Key"], int(self.headers["X-Claim"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        """Many at once: callers are killed in the middle."""

        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A caller that was killed before it was answered."""

    server = Server(("127.0.0.1", 0), Handler)
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}"
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
