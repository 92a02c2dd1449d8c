"""The package that answered last, kept on this host: what a server starts with while its registry is out of reach.

Owns one file and its digest. A start without the registry is a compromise: whether another version went live
meanwhile cannot be known, so it is told, and what the registry says counts again as soon as it answers. Leaves
deciding when that is to `live`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from mlsystem.serving.package import Package

FILE: Final = "state/live.package"
"""Beside what else a server writes; relative to the system."""
_DIGEST: Final = hashlib.sha256().digest_size


class Kept:
    """One file on this host; servers and workers that share it write the same."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell

    def put(self, package: Package) -> None:
        """Keep a package in the place of the last one; a disk that does not take it is told and no reason to stop."""
        content = msgspec.msgpack.encode(package)
        scratch = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(hashlib.sha256(content).digest() + content)
            scratch.replace(self._path)
        except OSError as error:
            self._tell(f"version {package.version} is not kept for a start without the registry: {error}")

    def get(self) -> Package | None:
        """Return what was kept last; None, and told if there is something else, if nothing can be used."""
        try:
            stored = self._path.read_bytes()
        except OSError:
            return None
        digest, content = stored[:_DIGEST], stored[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            self._tell(f"{self._path} is damaged, it is not used; remove it")
            return None
        return msgspec.msgpack.decode(content, type=Package)
