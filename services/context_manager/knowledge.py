"""The memory of one workspace: files, words, facts, and what agents reported, in one SQLite file.

`sync` brings it in line with the file system; everything else answers from what is held. One thread at a time
uses a KnowledgeBase; the handlers see to that. Files are told apart by modification time, change time and size,
then by digest; a file touched less than two seconds before it was read is read again next time, since a second
write in the same tick of the clock would not show.
"""

import json
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from contracts.briefing import Activity, Fact
from contracts.report import ActivityReport
from services._runtime.errors import Transient
from services._runtime.redaction import redact
from services.context_manager import indexing, retrieval, walking
from services.context_manager.database import CHUNK_BITS, last_seq, open_database
from services.context_manager.indexing import Document
from services.context_manager.outlines import shortened
from services.context_manager.reading import Form
from services.context_manager.walking import Entry

_SETTLED_NS: Final = 2_000_000_000
"""The coarsest clock of a common file system, FAT's."""
_SYSTEMS: Final = "SELECT path FROM files WHERE path LIKE '/%/system.toml'"
_TOUCH: Final = "UPDATE files SET mtime_ns = ?, ctime_ns = ?, size = ?, settled = ? WHERE id = ?"
_INSERT: Final = (
    "INSERT INTO files (path, mtime_ns, ctime_ns, size, settled, digest, form, purpose) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_REPORT: Final = "SELECT rowid, at, agent, status, summary, files FROM activity WHERE rowid = ?"
_REPORTS: Final = 4096
"""Reports that are remembered at least until so many were read."""
_TOLD: Final = 2_000
"""Characters of a report in a briefing; the memory keeps all of it."""
_BATCH: Final = 400
"""Files in one transaction: a kill in the middle of a first reading loses seconds."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a sync found."""

    files: int
    """Files that are known now."""
    read: int
    """Files that were opened."""
    indexed: int
    """Files whose content was new."""
    removed: int
    """Files that are gone."""


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """A report as it is kept; a memory has one of each, so what was worked out of it is found by its identity."""

    at: datetime
    agent: str
    status: str
    summary: str
    files: tuple[str, ...]

    @property
    def activity(self) -> Activity:
        """The report as briefings tell it."""
        return Activity(agent=self.agent, summary=shortened(self.summary, _TOLD), timestamp=self.at)


class KnowledgeBase:
    """What is known of `workspace`, kept in `database`."""

    def __init__(self, database: Path, workspace: Path, *, max_file_bytes: int = 2_000_000) -> None:
        self.workspace = workspace.resolve()
        self.database = database
        self._max_bytes = max_file_bytes
        self._connection = open_database(database)
        home = database.resolve().parent
        self._own = database.resolve() if home == self.workspace else home
        """What of the workspace is the memory itself, when it lies inside."""
        self._reports = dict[int, Report]()
        """Of reports that were read, by their rows: each is read for many briefings, and none ever changes."""
        self._stop = threading.Event()

    def stop(self) -> None:
        """Makes a sync that runs in another thread end soon, with Transient."""
        self._stop.set()

    def close(self) -> None:
        """Closes the database. No thread may be using it."""
        self._connection.close()

    def sync(self) -> Changes:
        """Brings the memory in line with the workspace.

        Raises Transient after `stop`, and sqlite3.Error when the database cannot be written.
        """
        entries = walking.walk(self.workspace, without=self._own)
        known = {
            row[0]: row[1:] for row in self._rows("SELECT path, mtime_ns, ctime_ns, size, settled, form FROM files")
        }
        gone = [path for path in known if path not in entries]
        stale = [entry for path, entry in entries.items() if self._is_stale(entry, known.get(path))]
        for at in range(0, len(gone), _BATCH):
            with self._transaction():
                for path in gone[at : at + _BATCH]:
                    self._forget(path)
        indexed = 0
        for at in range(0, len(stale), _BATCH):
            with self._transaction():
                indexed += sum(1 for entry in stale[at : at + _BATCH] if self._take_in(entry))
        return Changes(len(entries), len(stale), indexed, len(gone))

    def index(self, paths: Iterable[str]) -> None:
        """Reads these files now, and forgets those of them that are gone or ignored."""
        with self._transaction():
            for path in paths:
                entry = walking.look(self.workspace, path, without=self._own)
                if entry is None:
                    self._forget(path)
                else:
                    self._take_in(entry)

    def record(self, report: ActivityReport, *, seq: int, at: datetime) -> bool:
        """Keeps a report, the `seq`-th of the bus; False when it was kept before. Indexes the files that it names."""
        files = [path for name in report.files_modified if (path := walking.rooted(name))]
        row = (seq, at.isoformat(), report.reporting_agent, report.status, redact(report.summary), json.dumps(files))
        with self._transaction():
            new = (
                self._connection.execute("INSERT OR IGNORE INTO activity VALUES (?, ?, ?, ?, ?, ?)", row).rowcount == 1
            )
        if new and self.workspace.is_dir():
            self.index(files)
        return new

    @property
    def last_seq(self) -> int:
        """Sequence of the newest report that is kept, 0 before the first."""
        return last_seq(self.database)

    def purposes(self) -> dict[str, str]:
        """Every known file and what it is for."""
        return dict(self._rows("SELECT path, purpose FROM files ORDER BY path"))

    def facts(self) -> list[Fact]:
        """Every fact, the surest first. Those of delivered systems are left out: they repeat what was assumed there."""
        systems = tuple(row[0].removesuffix("system.toml") for row in self._rows(_SYSTEMS))
        rows = self._rows(
            "SELECT slot, field, value, path, line, confidence FROM facts JOIN files ON files.id = facts.file"
            " ORDER BY confidence DESC, length(path), path, line"
        )
        return [
            Fact(slot=slot, field=field, value=value, source=f"{path}:{line}", confidence=confidence)
            for slot, field, value, path, line, confidence in rows
            if not path.startswith(systems)
        ]

    def activity(self, limit: int) -> list[Report]:
        """The last reports, newest first."""
        order = [row[0] for row in self._rows("SELECT rowid FROM activity ORDER BY at DESC, seq DESC LIMIT ?", limit)]
        if unread := [row for row in order if row not in self._reports]:
            if len(self._reports) > _REPORTS:
                self._reports.clear()
                unread = order
            found = (row for wanted in unread for row in self._rows(_REPORT, wanted))
            self._reports |= {row[0]: _report(*row[1:]) for row in found}
        return [self._reports[row] for row in order]

    def search(self, terms: tuple[str, ...]) -> list[str]:
        """Files that hold any of `terms`, the likeliest first."""
        return retrieval.ranked(self._connection, terms)

    def covered(self, terms: tuple[str, ...], path: str) -> int:
        """How many of `terms` a known file holds."""
        return retrieval.covered(self._connection, terms, path)

    def _is_stale(self, entry: Entry, row: tuple[Any, ...] | None) -> bool:
        if row is None or row[:3] != _stat(entry) or not row[3]:
            return True
        return row[4] == Form.LARGE and entry.size <= self._max_bytes  # the limit was raised since

    def _take_in(self, entry: Entry) -> bool:
        """Reads one file; True when its content is new."""
        if self._stop.is_set():
            raise Transient("the context-manager is ending: ask again when it is back")
        content = indexing.content_of(entry, max_bytes=self._max_bytes)
        row = next(self._rows("SELECT id, digest, form FROM files WHERE path = ?", entry.path), None)
        if row and tuple(row[1:]) == (content.digest, content.form):
            self._connection.execute(_TOUCH, (*_stat(entry), _is_settled(entry), row[0]))
            return False
        if row:
            self._forget(entry.path)
        self._store(entry, indexing.document(entry.path, content))
        return True

    def _store(self, entry: Entry, document: Document) -> None:
        run = self._connection.execute
        values = (entry.path, *_stat(entry), _is_settled(entry), document.digest, document.form, document.purpose)
        file = run(_INSERT, values).lastrowid or 0
        run(
            "INSERT INTO documents (rowid, path, symbols, body) VALUES (?, ?, ?, ?)",
            (file, document.path_words, document.symbols, document.body),
        )
        chunks = [(file << CHUNK_BITS | n, document.path_words, text) for n, text in enumerate(document.chunks)]
        self._connection.executemany("INSERT INTO chunks (rowid, path, body) VALUES (?, ?, ?)", chunks)
        facts = [(file, f.slot, f.field, f.value, f.line, f.confidence) for f in document.facts]
        self._connection.executemany("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?)", facts)

    def _forget(self, path: str) -> None:
        row = next(self._rows("SELECT id FROM files WHERE path = ?", path), None)
        if row is None:
            return
        file = row[0]
        self._connection.execute("DELETE FROM documents WHERE rowid = ?", (file,))
        bounds = (file << CHUNK_BITS, (file + 1) << CHUNK_BITS)
        self._connection.execute("DELETE FROM chunks WHERE rowid >= ? AND rowid < ?", bounds)
        self._connection.execute("DELETE FROM files WHERE id = ?", (file,))

    def _rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        return iter(self._connection.execute(statement, values))

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _report(at: str, agent: str, status: str, summary: str, files: str) -> Report:
    """A row of `activity`."""
    return Report(datetime.fromisoformat(at), agent, status, summary, tuple(json.loads(files)))


def _stat(entry: Entry) -> tuple[int, int, int]:
    return entry.mtime_ns, entry.ctime_ns, entry.size


def _is_settled(entry: Entry) -> bool:
    """Whether a later write is sure to show. Change times count: modification times can be set to anything."""
    return time.time_ns() - entry.ctime_ns > _SETTLED_NS
