"""The files that rows come from: found, looked at as bytes, and made readable.

Owns globs, what makes a file unusable before it is parsed (absent, empty, binary, not readable), the digest of its
bytes, and its encoding: what is not UTF-8 or mixes line ends is rewritten into a scratch copy, and that is told.
Leaves delimiters and columns to `reader`, databases to `database`.
"""

from __future__ import annotations

import codecs
import functools
import glob
import gzip
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import msgspec

from mlsystem.errors import DataError

Format = Literal["csv", "parquet", "jsonl"]

_CHUNK = 1 << 20
_HEAD = 1 << 16

_MAGIC: Final = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"),
)
_UTF16: Final = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_FALLBACK: Final = "cp1252"  # what spreadsheets in western countries write; latin-1 where it has gaps
_SPREADSHEET: Final = "export it as CSV, or as Parquet"
_RESTLESS_NS: Final = 2_000_000_000
"""A file that was written less than this ago may be written again without its time changing: clocks of disks are
coarse."""
_JSON_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the source: its path, the path to read (itself or a UTF-8 copy), and what was found out."""

    path: Path
    readable: Path
    format: Format
    encoding: str
    digest: str
    bytes: int


def find_files(patterns: Sequence[str], root: Path) -> tuple[Path, ...]:
    """Return the files that the paths and globs name, relative to `root`, sorted; DataError `no_such_file`."""
    found: list[Path] = []
    for pattern in patterns:
        literal = root / pattern  # a file may be called data[1].csv
        globbed = glob.glob(str(literal), recursive=True)  # noqa: PTH207 - patterns may be absolute
        matches = [literal] if literal.is_file() else sorted(map(Path, globbed))
        files = [path for path in matches if path.is_file()]
        if not files:
            raise _no_such_file(pattern, root, matches)
        found.extend(file for file in files if file not in found)
    return tuple(found)


def open_source(path: Path, scratch: Path, encoding: str = "") -> SourceFile:
    """Look at one file and return it ready to be read; DataError says what is wrong with it."""
    try:
        head = _head(path)
        form = _format(path, head)
        readable, used = (path, "utf-8") if form == "parquet" else _as_utf8(path, scratch, encoding, head)
        return SourceFile(path, readable, form, used, file_digest(path), path.stat().st_size)
    except PermissionError:
        raise DataError("not_readable", f"{path} may not be read; grant read access to it") from None


def together(digests: Sequence[str]) -> str:
    """Return the digest of a source from those of its files in order: of one file it is the file's own."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def digest_of(paths: Sequence[Path]) -> str:
    """Return the digest of a source that consists of these files, without reading them as tables."""
    return together([file_digest(path) for path in paths])


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as `sha256sum` prints it.

    A file that lies still is read once a process, however often its digest is asked for.
    """
    found = path.stat()
    if time.time_ns() - found.st_mtime_ns < _RESTLESS_NS:
        return _digest(path)
    return _digest_of_version(path, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@functools.lru_cache(maxsize=1024)
def _digest_of_version(path: Path, _version: tuple[int, ...]) -> str:
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_such_file(pattern: str, root: Path, matches: Sequence[Path]) -> DataError:
    if matches:
        return DataError("no_such_file", f"{pattern} is a directory; name a file in it, such as {pattern}/*.csv")
    folder = (root / pattern).parent
    near = sorted(path.name for path in folder.iterdir() if path.is_file())[:10] if folder.is_dir() else []
    hint = f"; there: {', '.join(near)}" if near else f"; there is no directory {folder} either" * (not folder.is_dir())
    details = [{"pattern": pattern, "nearest": near}]
    return DataError("no_such_file", f"no file matches {pattern} in {root}{hint}", details=details)


def _head(path: Path) -> bytes:
    with _open(path) as file:
        try:
            return file.read(_HEAD)
        except (gzip.BadGzipFile, EOFError):
            raise DataError("binary_file", f"{path.name} is a damaged gzip file; make it again") from None


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _format(path: Path, head: bytes) -> Format:
    """Return how the file is written; DataError for what is no table."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if not head.strip(b" \t\r\n\xef\xbb\xbf"):
        raise DataError("empty_file", f"{path.name} is empty; give a file with a line of names and rows below it")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DataError("binary_file", f"{path.name} is {what}, not a table of text; {_SPREADSHEET}")
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\x00" in head:
        raise DataError("binary_file", f"{path.name} is a binary file, not a table of text; {_SPREADSHEET}")
    return "jsonl" if _is_json(path, head) else "csv"


def _is_json(path: Path, head: bytes) -> bool:
    """Whether the file holds JSON objects: its name says so, or its first line is one."""
    if {suffix.lower() for suffix in path.suffixes} & _JSON_SUFFIXES:
        return True
    first = head.removeprefix(codecs.BOM_UTF8).lstrip().split(b"\n", 1)[0]
    if not first.startswith(b"{"):
        return False
    try:
        return isinstance(msgspec.json.decode(first), dict)
    except msgspec.DecodeError:
        return False


def _as_utf8(path: Path, scratch: Path, encoding: str, head: bytes) -> tuple[Path, str]:
    """Return a path that holds the text as UTF-8 with one kind of line end, and the encoding that the file has."""
    used = encoding or _encoding(path, head)
    plain = _codec(used) in {"utf-8", "utf-8-sig", "ascii"}
    if plain and not encoding and path.suffix != ".gz" and _same_line_ends(path):
        return path, "utf-8"
    copy = scratch / f"{len(list(scratch.iterdir())):03d}-{path.name.removesuffix('.gz')}"
    only_cr = b"\n" not in head
    try:
        with copy.open("w", encoding="utf-8", newline="") as out:
            for text in _decoded(path, used):
                out.write(text.replace("\r\n", "\n").replace("\r", "\n") if only_cr else text.replace("\r\n", "\n"))
    except UnicodeError:
        text = f"{path.name} is not the {used} text that it seems to be; name its encoding in data.reader.encoding"
        raise DataError("bad_encoding", f"{text}, or save it as UTF-8") from None
    return copy, "utf-8" if plain else used


def _codec(encoding: str) -> str:
    """Return Python's name of a text encoding; DataError if there is none of that name."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, ValueError):
        text = f"data.reader.encoding {encoding!r} is not known; try utf-8, cp1252 or utf-16"
        raise DataError("bad_encoding", text) from None


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in _UTF16:
        if head.startswith(mark):
            return name
    for candidate in ("utf-8", _FALLBACK):
        try:
            for _ in _decoded(path, candidate):
                pass
        except UnicodeDecodeError:
            continue
        return candidate
    return "latin-1"


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    """Yield the text in pieces that never end between a carriage return and its line feed."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)()
    held = ""
    with _open(path) as file:
        while chunk := file.read(_CHUNK):
            text = held + decoder.decode(chunk)
            held = "\r" if text.endswith("\r") else ""
            yield text.removesuffix("\r") if held else text
    yield held + decoder.decode(b"", final=True)


def _same_line_ends(path: Path) -> bool:
    r"""Whether all lines end in the same way; a carriage return alone counts as another way."""
    returns = feeds = pairs = 0
    last = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            returns, feeds = returns + chunk.count(b"\r"), feeds + chunk.count(b"\n")
            pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk.startswith(b"\n"))
            last = chunk[-1:]
    return (returns == 0) or (returns == pairs == feeds)
