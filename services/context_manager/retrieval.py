"""Finding the files that a question is about.

Two rankings are fused by reciprocal rank: whole files (path, symbols, body) and 60-line chunks (the best of a
file counts). Formula: sum over rankings of 1 / (60 + rank), Cormack, Clarke and Buettcher 2009. Files in
tests, examples and vendored code weigh less. Names that a question spells out are matched as names.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from services.context_manager import words
from services.context_manager.database import CHUNK_BITS
from services.context_manager.kinds import KINDS, NAMED
from services.context_manager.paths import name_of, suffix_of
from services.context_manager.places import weight
from services.context_manager.walking import rooted

_DAMPING: Final = 60
_FILES: Final = 60
_CHUNKS: Final = 300
_BY_FILE: Final = "SELECT rowid FROM documents WHERE documents MATCH ? ORDER BY rank LIMIT ?"
_BY_CHUNK: Final = "SELECT rowid >> ? FROM chunks WHERE chunks MATCH ? ORDER BY rank LIMIT ?"
_HOLDS: Final = "SELECT 1 FROM documents WHERE documents MATCH ? AND rowid = ?"
_TOKEN: Final = re.compile(r"[^\s\"'`<>|,;:()\[\]{}]+")
_QUOTED: Final = re.compile(r"[\"'`\u201c\u2018]([^\"'`\u201d\u2019]{1,400})[\"'`\u201d\u2019]")


def ranked(connection: sqlite3.Connection, terms: tuple[str, ...]) -> list[str]:
    """Paths of the files that hold any of `terms`, the likeliest first, at most about a hundred."""
    if not terms:
        return []
    query = words.any_of(terms)
    files = (row[0] for row in connection.execute(_BY_FILE, (query, _FILES)))
    chunks = (row[0] for row in connection.execute(_BY_CHUNK, (CHUNK_BITS, query, _CHUNKS)))
    scores = _fused(files, dict.fromkeys(chunks))
    paths = {path: score for file, score in scores.items() for path in _path(connection, file)}
    return sorted(paths, key=lambda path: (-paths[path] * weight(path), path))


def _fused(*rankings: Iterable[int]) -> dict[int, float]:
    scores = defaultdict[int, float](float)
    for ranking in rankings:
        for rank, file in enumerate(ranking, 1):
            scores[file] += 1 / (_DAMPING + rank)
    return scores


def _path(connection: sqlite3.Connection, file: int) -> list[str]:
    return [row[0] for row in connection.execute("SELECT path FROM files WHERE id = ?", (file,))]


def covered(connection: sqlite3.Connection, terms: tuple[str, ...], path: str) -> int:
    """How many of `terms` the file at `path` holds."""
    (file,) = connection.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchone()
    return sum(1 for term in terms if connection.execute(_HOLDS, (words.any_of((term,)), file)).fetchone())


def named(question: str) -> list[str]:
    """What in `question` looks like the name of a file or directory: it has a slash, a known ending or a known name."""
    quoted = [match[1].strip() for match in _QUOTED.finditer(question)]
    tokens = [token.rstrip(".!?") for token in _TOKEN.findall(question)]
    return list(dict.fromkeys(name for name in (*quoted, *tokens) if _is_name(name)))


def matching(names: Sequence[str], paths: Iterable[str]) -> list[str]:
    """Those of `paths` that one of `names` means: the whole path, the end of it at a slash, or the last part alone."""
    wanted = [path.lower() for name in names if (path := rooted(name))]
    return [path for path in paths if any(path.lower().endswith(name) for name in wanted)]


def _is_name(token: str) -> bool:
    last = name_of(token).lower()
    known = suffix_of(last) in KINDS or last in NAMED or (last.startswith(".") and len(last) > 2)
    has_slash = "/" in token.strip("/") or token.startswith("/")
    return known or (has_slash and re.search(r"\w", token) is not None)
