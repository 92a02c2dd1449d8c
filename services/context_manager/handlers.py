"""Answers questions about workspaces and takes in reports: the service's two verbs.

Reading and searching run in threads, one at a time for each workspace. A caller that gives up does not set its
workspace free early: the thread goes on, and the next one waits for it.
"""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeVar

import structlog

from contracts.briefing import Briefing, ContextRequest
from contracts.report import ActivityReport
from services._runtime.errors import Permanent, Transient
from services.context_manager.answers import answer, failure
from services.context_manager.database import is_damaged, last_seq, set_aside
from services.context_manager.export import export
from services.context_manager.knowledge import KnowledgeBase

_log: Final = structlog.stdlib.get_logger(__name__)

DATABASE: Final = "knowledge.db"
_EXPORT_S: Final = 1.0
"""How long after a change the view is written."""
_Result = TypeVar("_Result")


@dataclass(slots=True)
class _Place:
    """What is held of one workspace. The memory is opened by the first thread that needs it."""

    directory: Path
    workspace: Path
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    memory: KnowledgeBase | None = None
    synced_at: float = 0.0
    """When the last sync began, monotonic: it serves every request that was there by then."""
    exporting: "asyncio.Task[None] | None" = None
    """The next writing of the view."""


class ContextManager:
    """The memories of all workspaces, each in its own directory below `directory`.

    `max_file_bytes`: files above this are known by name alone. Tables are read by their heads, whatever their size.
    """

    def __init__(self, directory: Path, *, max_file_bytes: int = 2_000_000) -> None:
        self._directory = directory
        self._max_file_bytes = max_file_bytes
        self._places = dict[Path, _Place]()

    async def answer(self, request: ContextRequest, workspace: Path) -> Briefing:
        """The briefing that `request` asks for, of the workspace as it is now.

        Status `error` when there is no such workspace. Raises Transient when the memory cannot be read or written.
        """
        place, asked_at = self._place(workspace), time.monotonic()
        try:
            briefing, changed = await self._run(place, lambda memory: self._answered(place, memory, request, asked_at))
        except Permanent as error:
            return failure(request, str(error))
        if changed:
            self._export_soon(place)
        return briefing

    async def record(self, report: ActivityReport, *, workspace: Path, seq: int, at: datetime) -> None:
        """Takes in the `seq`-th report of the bus, stored at `at`. The same report twice counts once.

        Files that it names are known when this returns. Raises Transient when the memory cannot be written, Permanent
        for a workspace that is not there.
        """
        place = self._place(workspace)
        if await self._run(place, lambda memory: memory.record(report, seq=seq, at=at)):
            self._export_soon(place)

    def last_seq(self, workspace: Path) -> int:
        """Sequence of the newest report of this workspace, 0 before the first."""
        return last_seq(self._directory / directory_name(workspace.resolve()) / DATABASE)

    def position(self) -> int:
        """Where reading the bus goes on: every memory has seen the reports up to this sequence. 0: from the start.

        Reports that a memory has seen already are read again for another's sake, and change nothing.
        """
        return min((last_seq(file) for file in self._directory.glob(f"*/{DATABASE}")), default=0)

    async def close(self) -> None:
        """Ends running reads soon and closes the memories."""
        for place in self._places.values():
            if place.memory is not None:
                place.memory.stop()
        for place in self._places.values():
            stale = place.exporting is not None and place.exporting.cancel()
            async with place.lock:
                if place.memory is not None:
                    if stale:
                        self._exported(place.memory)
                    place.memory.close()
        self._places.clear()

    def _answered(
        self, place: _Place, memory: KnowledgeBase, request: ContextRequest, asked_at: float
    ) -> tuple[Briefing, bool]:
        """Requests that waited for the same memory share one sync: a queue of them costs little more than one.

        True when the memory knows something new.
        """
        if place.synced_at >= asked_at:
            return answer(memory, request), False
        begun = time.monotonic()
        changes = memory.sync()
        place.synced_at = begun
        changed = bool(changes.indexed or changes.removed)
        if changed:
            _log.info("context.synced", files=changes.files, indexed=changes.indexed, removed=changes.removed)
        return answer(memory, request), changed

    def _export_soon(self, place: _Place) -> None:
        """The view is for people: it is written once for whatever happens within a second."""
        if place.exporting is None or place.exporting.done():
            place.exporting = asyncio.create_task(self._export(place))

    async def _export(self, place: _Place) -> None:
        await asyncio.sleep(_EXPORT_S)
        try:
            await self._run(place, self._exported)
        except Transient as error:
            _log.warning("context.not_exported", reason=str(error))

    def _exported(self, memory: KnowledgeBase) -> None:
        export(memory, memory.database.parent)

    async def _run(self, place: _Place, call: Callable[[KnowledgeBase], _Result]) -> _Result:
        """`call` in a thread, alone with its workspace's memory, to its end even when the caller is cancelled."""
        await place.lock.acquire()
        work = asyncio.ensure_future(asyncio.to_thread(self._called, place, call))
        work.add_done_callback(lambda _: place.lock.release())
        return await asyncio.shield(work)

    def _called(self, place: _Place, call: Callable[[KnowledgeBase], _Result]) -> _Result:
        try:
            try:
                return call(self._opened(place))
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                _log.warning("context.database_damaged", directory=str(place.directory), reason=str(error))
                self._begin_anew(place)
                return call(self._opened(place))
        except (sqlite3.Error, OSError) as error:
            raise Transient(
                f"the memory of {str(place.workspace)!r} in {str(place.directory)!r} cannot be used ({error}):"
                f" check free space and permissions there"
            ) from error

    def _opened(self, place: _Place) -> KnowledgeBase:
        if not place.workspace.is_dir():
            raise Permanent(f"There is no workspace at {place.workspace}: name an existing directory.")
        if place.memory is None:
            database = place.directory / DATABASE
            place.memory = KnowledgeBase(database, place.workspace, max_file_bytes=self._max_file_bytes)
        return place.memory

    def _begin_anew(self, place: _Place) -> None:
        """Reports come back with the next start: `position` is 0 for an empty memory."""
        if place.memory is not None:
            place.memory.close()
            place.memory = None
        place.synced_at = 0.0
        set_aside(place.directory / DATABASE)

    def _place(self, workspace: Path) -> _Place:
        resolved = workspace if workspace in self._places else workspace.resolve()
        if resolved not in self._places:
            self._places[resolved] = _Place(self._directory / directory_name(resolved), resolved)
        return self._places[resolved]


def directory_name(workspace: Path) -> str:
    """The name of a workspace's directory: its own name, for people, and a digest of its path."""
    spoken = re.sub(r"[^A-Za-z0-9]+", "-", workspace.name).strip("-").lower()[:40] or "workspace"
    return f"{spoken}-{blake2b(str(workspace).encode(errors='surrogateescape'), digest_size=8).hexdigest()}"
