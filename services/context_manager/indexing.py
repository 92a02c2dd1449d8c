"""From a file of the workspace to what is stored of it: purpose, chunks, words, facts.

Pure but for the reading of the one file. A file that cannot be read is known by its name.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from services.context_manager import reading, words
from services.context_manager.facts import facts_of
from services.context_manager.facts.finding import Finding, Source
from services.context_manager.outlines import Outline, outline
from services.context_manager.purposes import file_purpose
from services.context_manager.reading import Content, Form
from services.context_manager.walking import Entry

_log: Final = structlog.stdlib.get_logger(__name__)

_CHUNK_LINES: Final = 60
_NOTHING: Final = Outline("", "", ())


@dataclass(frozen=True, slots=True)
class Document:
    """What is stored of one file."""

    form: Form
    digest: bytes
    purpose: str
    path_words: str
    symbols: str
    body: str
    chunks: tuple[str, ...]
    facts: tuple[Finding, ...]


def content_of(entry: Entry, *, max_bytes: int) -> Content:
    """What the file holds, or that it cannot be read."""
    try:
        return reading.read(entry.file, entry.path, max_bytes=max_bytes)
    except OSError as error:
        _log.warning("context.file_not_readable", path=entry.path, reason=type(error).__name__)
        return Content(Form.UNREADABLE, b"")


def document(path: str, content: Content) -> Document:
    """What is stored of the file at `path` with this content."""
    text = content.text
    found = outline(path, text) if content.form is Form.TEXT else _NOTHING
    is_factual = content.form in {Form.TEXT, Form.NAMES, Form.TABLE}
    body = text or (" ".join(content.table.columns) if content.table else "")
    parts = [(chunk, words.camel_parts(chunk)) for chunk in _chunks(body)]
    return Document(
        form=content.form,
        digest=content.digest,
        purpose=file_purpose(path, content, found),
        path_words=words.searchable(path),
        symbols=words.searchable(" ".join(found.names)),
        body="\n".join((body, *(split for _, split in parts if split))),
        chunks=tuple(f"{chunk}\n{split}" for chunk, split in parts),
        facts=tuple(facts_of(Source(path, text, content.table))) if is_factual else (),
    )


def _chunks(body: str) -> list[str]:
    lines = body.split("\n")
    parts = ("\n".join(lines[at : at + _CHUNK_LINES]) for at in range(0, len(lines), _CHUNK_LINES))
    return [part for part in parts if part.strip()]
