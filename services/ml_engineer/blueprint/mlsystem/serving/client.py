"""A client of a running server: JSON over one connection that is kept.

Owns turning what can go wrong on the way into a sentence that says what to do. Leaves what is asked to the caller.
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Self

import msgspec

from mlsystem.errors import ServingError, SpecError

_PATIENCE_S = 10.0


class Client:
    """One connection to a server, opened anew where the server closed it."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """`headers` go along with every request, a key among them; they are in no message."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SpecError("bad_url", f"{parts.netloc or url!r} is no address of a server: give http://HOST:PORT")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=_PATIENCE_S)
        self._base = parts.path.rstrip("/")
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{self._base}"
        self._headers = dict(headers)

    @classmethod
    @contextlib.contextmanager
    def connected(cls, url: str, headers: Mapping[str, str]) -> Generator[Self]:
        """Give a client that is closed at the end."""
        client = cls(url, headers)
        try:
            yield client
        finally:
            client._connection.close()

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of a GET; ServingError if nothing answers."""
        return self._exchange("GET", path, None)

    def post(self, path: str, content: object) -> tuple[int, dict[str, Any]]:
        """Return status and JSON of a POST; ServingError if nothing answers."""
        return self._exchange("POST", path, msgspec.json.encode(content))

    def predict(self, rows: Sequence[object]) -> list[dict[str, Any]]:
        """Return the predictions of some rows; ServingError with the server's words if there are none."""
        status, said = self.post("/predict", {"rows": rows})
        if status != 200:
            told = msgspec.json.encode(said).decode()[:500]
            raise ServingError("smoke_failed", f"{self._shown}/predict answered {status}: {told}")
        return said["predictions"]

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json", **self._headers} if body else self._headers
        try:
            self._connection.request(method, self._base + path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, msgspec.json.decode(answer.read(), type=dict[str, Any])
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            self._connection.close()
            raise ServingError(
                "no_server",
                f"nothing that is such a server answers at {self._shown} ({error}); start one with "
                "`python -m mlsystem serve`",
            ) from None
