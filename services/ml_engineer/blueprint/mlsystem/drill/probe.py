"""Light load on a server, and a log of what came of each request.

Owns one thread that sends a row again and again and notes when it was answered, and by which version. A request that
got no answer, or another one than 200, counts as failed. Leaves judging the log to the scenarios.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from mlsystem.errors import ServingError
from mlsystem.serving.client import Client

_PAUSE_S: Final = 0.02
"""Between an answer and the next request: what a drill measures is as exact as this."""

_STEADY: Final = 10
"""Answers in a row that show that a server has settled."""

PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it ended on the monotonic clock, whether it was answered, and by which version."""

    at: float
    ok: bool
    version: int | None
    why: str = ""


class Probe:
    """Asks while its context lasts."""

    def __init__(self, url: str, row: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._url = url
        self._row = dict(row)
        self._headers = headers
        self._log: list[Asked] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def since(self, moment: float) -> list[Asked]:
        """Return the requests that ended after a moment on the monotonic clock."""
        return [asked for asked in self._log if asked.at >= moment]

    def settled(self, good: Callable[[Asked], bool], since: float, patience_s: float = PATIENCE_S) -> float | None:
        """Wait until answers are good and stay so, and return when the first of them came; None if they do not."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            found = self.since(since)
            bad = max((index for index, asked in enumerate(found) if not good(asked)), default=-1)
            if len(found) - bad > _STEADY:
                return found[bad + 1].at
            time.sleep(_PAUSE_S)
        return None

    def _run(self) -> None:
        with Client.connected(self._url, self._headers) as client:
            while not self._stop.is_set():
                self._log.append(self._ask(client))
                time.sleep(_PAUSE_S)

    def _ask(self, client: Client) -> Asked:
        try:
            status, said = client.post("/predict", {"rows": [self._row]})
        except ServingError as error:
            return Asked(time.monotonic(), ok=False, version=None, why=str(error))
        version = said["predictions"][0]["version"] if status == 200 else None
        return Asked(time.monotonic(), status == 200, version, "" if status == 200 else f"{status}: {said}"[:200])
