"""Numbers of one server process in memory that its siblings can read: what `/metrics` of any worker adds up.

Owns slots of float64 and the keys that they stand for. With one worker the memory is its own; with several it is a
file a worker, mapped, so that counting costs an addition, and what a killed worker had counted stays. Leaves what the
numbers mean to `metrics`.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

Key = tuple[str, tuple[str, ...]]
"""Name of a metric and the values of its labels."""

_SLOTS: Final = 16_384
_BYTES: Final = 8 * _SLOTS
_KEYS: Final = ".keys"


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """A line of the file of keys: a block of slots and what it stands for."""

    name: str
    labels: tuple[str, ...]
    start: int
    width: int


class Board:
    """The numbers of one worker: blocks of slots, one a key. Whoever makes keys from several threads takes a lock."""

    def __init__(self, path: Path | None = None) -> None:
        """Make a board, or go on with the one of a worker that ended, if `path` holds one."""
        self._blocks: dict[Key, tuple[int, int]] = {}
        self._keys = None
        self._next = 0
        if path is None:
            self.values: memoryview[float] = memoryview(array("d", bytes(_BYTES)))
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, _BYTES)
        self.values = memoryview(mmap.mmap(descriptor, _BYTES)).cast("d")
        os.close(descriptor)
        keys = path.with_name(path.name + _KEYS)
        for place in _places(keys):
            self._blocks[place.name, place.labels] = place.start, place.width
            self._next = place.start + place.width
        self._keys = keys.open("ab", buffering=0)

    def block(self, name: str, labels: tuple[str, ...], width: int = 1) -> int:
        """Return the first slot of a key's block, made if it is new; IndexError when the board is full."""
        found = self._blocks.get((name, labels))
        if found is not None:
            return found[0]
        start = self._next
        if start + width > _SLOTS:
            raise IndexError("too many series of metrics")
        self._next += width
        if self._keys is not None:
            self._keys.write(msgspec.json.encode(_Place(name, labels, start, width)) + b"\n")
        self._blocks[name, labels] = start, width
        return start

    def read(self) -> Iterator[tuple[Key, Sequence[float]]]:
        """Yield every key with its numbers as they are now."""
        for key, (start, width) in list(self._blocks.items()):
            yield key, self.values[start : start + width].tolist()

    def forget(self, name: str) -> None:
        """Set all numbers under a name to 0: a gauge of a process that is gone says nothing."""
        for (found, _), (start, width) in self._blocks.items():
            if found == name:
                for slot in range(start, start + width):
                    self.values[slot] = 0.0


def read_board(path: Path) -> Iterator[tuple[Key, Sequence[float]]]:
    """Yield the keys and numbers of another worker's board."""
    places = list(_places(path.with_name(path.name + _KEYS)))  # before the numbers: what is named is there
    values = memoryview(path.read_bytes()).cast("d")
    for place in places:
        yield (place.name, place.labels), values[place.start : place.start + place.width].tolist()


def boards(directory: Path) -> list[Path]:
    """Return the boards in a directory."""
    return sorted(path for path in directory.iterdir() if path.suffix != _KEYS)


def _places(path: Path) -> Iterator[_Place]:
    """Yield the whole lines of a file of keys; one that is being written has no end yet."""
    if path.is_file():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield msgspec.json.decode(line, type=_Place)
