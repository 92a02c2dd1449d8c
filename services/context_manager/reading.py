"""One file as it is read: bytes to text, or the reason why only its name is known.

Text comes out with one kind of line ending and without secrets. Tables give their header and a count of rows,
never a row, whatever their size. Links that leave the workspace are not here: `walking` never offers them.
"""

import codecs
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Final

from services.context_manager import notebook, secrecy, tables
from services.context_manager.paths import suffix_of
from services.context_manager.places import is_generated
from services.context_manager.tables import Table

_SNIFFED: Final = 8_000
"""Bytes in which a NUL means that the file is not text, as for git."""
_DELIMITED: Final = frozenset({".csv", ".tsv"})
_ROWS: Final = frozenset({".jsonl", ".ndjson"})
"""One record a line: rows again, and without a header."""


class Form(StrEnum):
    """What of a file is known."""

    TEXT = "text"
    NAMES = "names"
    TABLE = "table"
    NOTEBOOK = "notebook"
    ROWS = "rows"
    GENERATED = "generated"
    BINARY = "binary"
    LARGE = "large"
    SECRET = "secret"  # noqa: S105 - a kind of file
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Content:
    """What was read. `text` is empty where only the name is known."""

    form: Form
    digest: bytes
    text: str = ""
    table: Table | None = None


def read(file: Path, path: str, *, max_bytes: int) -> Content:
    """The content of `file`, known as `path` in the workspace. `max_bytes` holds for texts, not for tables.

    Raises OSError when the file is gone or may not be read.
    """
    if secrecy.is_secret(path):
        return Content(Form.SECRET, b"")
    suffix = suffix_of(path)
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor that followed no link
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        if suffix == ".parquet":
            return _parquet(file, status)
        if suffix in _DELIMITED:
            return _delimited(stream.read(tables.HEAD_BYTES), status.st_size, suffix)
        if status.st_size > max_bytes:
            return Content(Form.LARGE, _digest(stream.read(_SNIFFED), status.st_size))
        return _whole(path, suffix, stream.read(max_bytes + 1))


def _whole(path: str, suffix: str, body: bytes) -> Content:
    digest = blake2b(body, digest_size=16).digest()
    text = decoded(body)
    if text is None:
        return Content(Form.BINARY, digest)
    if suffix in _ROWS:
        return Content(Form.ROWS, digest)
    if is_generated(path):
        return Content(Form.GENERATED, digest)
    if secrecy.names_only(path):
        return Content(Form.NAMES, digest, secrecy.setting_names(text))
    if suffix == ".ipynb":
        return Content(Form.NOTEBOOK, digest, secrecy.without_secrets(path, notebook.sources(text)))
    return Content(Form.TEXT, digest, secrecy.without_secrets(path, text))


def _delimited(head: bytes, size: int, suffix: str) -> Content:
    digest = _digest(head, size)
    text = decoded(head)
    if text is None:
        return Content(Form.BINARY, digest)
    return Content(Form.TABLE, digest, table=tables.delimited(text, len(head), size, tabbed=suffix == ".tsv"))


def _parquet(file: Path, status: os.stat_result) -> Content:
    digest = _digest(b"%d" % status.st_mtime_ns, status.st_size)
    table = tables.parquet(file)
    return Content(Form.BINARY, digest) if table is None else Content(Form.TABLE, digest, table=table)


def _digest(head: bytes, size: int) -> bytes:
    return blake2b(b"%d " % size + head, digest_size=16).digest()


def decoded(body: bytes) -> str | None:
    """`body` as text with line feeds at line ends; None when it is binary.

    UTF-8, UTF-16 when it is marked, else Windows' Latin-1.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = body.decode("utf-16", errors="replace")
    elif b"\0" in body[:_SNIFFED]:
        return None
    else:
        text = _eight_bit(body)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")


def _eight_bit(body: bytes) -> str:
    """UTF-8 if it is, tolerating a character cut at the end, else Windows' Latin-1."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        return decoder.decode(body, final=False)
    except UnicodeDecodeError:
        return body.decode("cp1252", errors="replace")
