"""The wall time that a task's work may take: standing in line for what is scarce does not count.

Left out: deadlines. They are moments, whoever waits for what, and belong to the server's timers.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self


class WallTime:
    """As `asyncio.timeout`, without the time spent in `turn`. `limit_s` None: no limit."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._timeout = asyncio.timeout(limit_s)

    @property
    def over(self) -> bool:
        """True when it ran out, which is why the block was left."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._timeout.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def turn(self, place: asyncio.Lock | asyncio.Semaphore) -> AsyncGenerator[None]:
        """Holds the place while the block runs; the clock stands still until it is had."""
        began, until = asyncio.get_running_loop().time(), self._timeout.when()
        self._set(None)
        await place.acquire()
        try:
            self._set(None if until is None else until + asyncio.get_running_loop().time() - began)
            yield
        finally:
            place.release()

    def _set(self, until: float | None) -> None:
        if not self._timeout.expired():  # one that has just run out cancels the next thing that is waited for
            self._timeout.reschedule(until)
