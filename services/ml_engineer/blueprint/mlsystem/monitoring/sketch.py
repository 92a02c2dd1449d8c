"""What one worker saw in one window, in a fixed size: counts by the bins of a profile, sums, and how it was served.

Owns counting and adding up. A sketch of a million rows is as large as one of ten and holds no row. Leaves windows
and their storage to the server, and what the counts mean to `drift`. Imports numpy and the profile alone.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from mlsystem.errors import DataError
from mlsystem.monitoring.profile import Feature, Profile

Floats = npt.NDArray[np.float64]
Strings = npt.NDArray[np.object_]
Counts = npt.NDArray[np.int64]

LATENCY_EDGES_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""A request belongs to the first bin whose edge its duration does not exceed; the last bin is above all of them."""

_LATENCY_EDGES: Final = np.array(LATENCY_EDGES_S)


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A sketch as bytes."""

    format: int
    digest: str
    rows: int
    counts: bytes
    sums: bytes
    words: bytes
    latency: bytes
    refused: int
    failed: int


@dataclass(slots=True)
class Sketch:
    """Counts of one profile's bins; not for use by two threads at once."""

    profile: Profile
    rows: int
    counts: Counts
    """Rows a bin, feature after feature (`Profile.places`)."""
    sums: Floats
    """Of every number feature: sum, smallest and largest value [C1, 3]; infinities where there was none."""
    words: Counts
    """Of every string feature: words, and words that training did not have [C2, 2]; texts alone."""
    latency: Counts
    """Answered requests by LATENCY_EDGES_S."""
    refused: int = 0
    """Requests that were wrong."""
    failed: int = 0
    """Requests that were not answered for a reason of the server's."""
    _bins: tuple[dict[str, int], ...] = field(default=(), repr=False)
    """Of every string feature: the bin of each known level."""
    _vocabularies: tuple[frozenset[int], ...] = field(default=(), repr=False)

    @classmethod
    def empty(cls, profile: Profile) -> Sketch:
        """Return a sketch of nothing."""
        sums = np.tile([0.0, np.inf, -np.inf], (len(profile.numbers), 1))
        words = np.zeros((len(profile.strings), 2), np.int64)
        latency = np.zeros(len(LATENCY_EDGES_S) + 1, np.int64)
        counts = np.zeros(profile.places[-1].stop if profile.places else 0, np.int64)
        bins = tuple(_bins_of(feature) for feature in profile.strings)
        vocabularies = tuple(frozenset(feature.vocabulary) for feature in profile.strings)
        return cls(profile, 0, counts, sums, words, latency, _bins=bins, _vocabularies=vocabularies)

    def update(
        self, numbers: Floats, strings: Strings, scores: Floats, *, pause: Callable[[], object] = lambda: None
    ) -> None:
        """Count answered rows: numbers [N, C1], strings [N, C2], scores [N, K] (probabilities by label, or values).

        `pause` is called after each column, by whom others wait for.
        """
        profile, places = self.profile, iter(self.profile.places)
        self.rows += len(scores)
        for i, (feature, values) in enumerate(zip(profile.numbers, np.ascontiguousarray(numbers.T), strict=True)):
            self._count_numbers(i, feature, next(places), values)
            pause()
        for i, feature in enumerate(profile.strings):
            self._count_strings(i, feature, next(places), strings[:, i])
            pause()
        for feature, values in zip(profile.answers, answers_of(profile, scores), strict=True):
            place = next(places)
            self.counts[place] += np.bincount(values, minlength=feature.width)

    def observe(self, durations_s: Floats, *, refused: int = 0, failed: int = 0) -> None:
        """Count requests: the durations [N] of those that were answered, and how many were not."""
        bins = np.searchsorted(_LATENCY_EDGES, durations_s)
        self.latency += np.bincount(bins, minlength=len(self.latency))
        self.refused += refused
        self.failed += failed

    def merge(self, other: Sketch) -> None:
        """Add another sketch of the same bins; DataError if it has others."""
        _require(other.profile.digest, self.profile)
        self.rows += other.rows
        self.counts += other.counts
        self.words += other.words
        self.latency += other.latency
        self.refused += other.refused
        self.failed += other.failed
        self.sums[:, 0] += other.sums[:, 0]
        self.sums[:, 1] = np.minimum(self.sums[:, 1], other.sums[:, 1])
        self.sums[:, 2] = np.maximum(self.sums[:, 2], other.sums[:, 2])

    def mean(self, i: int) -> float | None:
        """Return the mean of a number feature, None where all values are missing."""
        known = int(self.counts[self.profile.places[i]][:-1].sum())
        return self.sums[i, 0].item() / known if known else None

    def latency_ms(self, quantile: float) -> float | None:
        """Return a quantile of the answer times, linear within its bin; None if no request was answered."""
        total = int(self.latency.sum())
        if not total:
            return None
        edges = (0.0, *LATENCY_EDGES_S, 2 * LATENCY_EDGES_S[-1])
        counts, wanted = self.latency.tolist(), quantile * total
        place = next(i for i in range(len(counts)) if sum(counts[: i + 1]) >= wanted - 1e-9 and counts[i])
        share = (wanted - sum(counts[:place])) / counts[place]
        return 1000 * (edges[place] + max(0.0, share) * (edges[place + 1] - edges[place]))

    def to_bytes(self) -> bytes:
        """Return the sketch as it is stored, about eight bytes a bin."""
        stored = _Stored(
            1,
            self.profile.digest,
            self.rows,
            self.counts.astype("<i8").tobytes(),
            self.sums.astype("<f8").tobytes(),
            self.words.astype("<i8").tobytes(),
            self.latency.astype("<i8").tobytes(),
            self.refused,
            self.failed,
        )
        return msgspec.msgpack.encode(stored)

    @classmethod
    def from_bytes(cls, content: bytes, profile: Profile) -> Sketch:
        """Return a stored sketch; DataError if it is damaged or has other bins than the profile."""
        try:
            stored = msgspec.msgpack.decode(content, type=_Stored)
            _require(stored.digest, profile)
            sketch = cls.empty(profile)
            for array, data, kind in (
                (sketch.counts, stored.counts, "<i8"),
                (sketch.sums, stored.sums, "<f8"),
                (sketch.words, stored.words, "<i8"),
                (sketch.latency, stored.latency, "<i8"),
            ):
                array[...] = np.frombuffer(data, kind).reshape(array.shape)
        except (msgspec.DecodeError, ValueError) as error:
            raise DataError("bad_sketch", f"a stored window cannot be read: {error}") from error
        sketch.rows, sketch.refused, sketch.failed = stored.rows, stored.refused, stored.failed
        return sketch

    def _count_numbers(self, i: int, feature: Feature, place: slice, values: Floats) -> None:
        """Count one column, contiguous: how many are above each edge is all that is needed, and quick to tell."""
        missing = np.isnan(values)
        known = len(values) - int(np.count_nonzero(missing))
        above = [known, *(int(np.count_nonzero(values > edge)) for edge in feature.edges), 0]
        self.counts[place] += [*(more - less for more, less in pairwise(above)), len(values) - known]
        if known:
            self.sums[i, 0] += values.sum(where=~missing)
            self.sums[i, 1] = min(self.sums[i, 1], np.fmin.reduce(values))
            self.sums[i, 2] = max(self.sums[i, 2], np.fmax.reduce(values))

    def _count_strings(self, i: int, feature: Feature, place: slice, values: Strings) -> None:
        counts, bins = self.counts[place], self._bins[i]
        if feature.kind == "text":
            self.words[i] += _count_texts(feature, self._vocabularies[i], values.tolist(), counts)
            return
        other = feature.width - (2 if feature.complete else 3)
        seen: Counter[str] = Counter(values.tolist())
        for text, count in seen.items():
            counts[bins.get(text, other)] += count


def answers_of(profile: Profile, scores: Floats) -> list[Counts]:
    """Return the bins [N] of every feature in `profile.answers` for scores [N, K]."""
    answers = profile.answers
    if len(profile.labels) > 2:
        label = np.minimum(scores.argmax(axis=1), len(answers[0].levels))  # labels beyond the listed are the rest
        return [label, np.searchsorted(answers[1].edges, scores.max(axis=1))]
    return [np.searchsorted(answers[0].edges, scores[:, -1])]


def _bins_of(feature: Feature) -> dict[str, int]:
    """Return the bin of every known level."""
    rest = len(feature.levels)
    known = {level: i for i, level in enumerate(feature.levels)}
    return dict.fromkeys(feature.others, rest) | known | {"": feature.width - 1}


def _count_texts(feature: Feature, known: frozenset[int], texts: Iterable[str], counts: Counts) -> tuple[int, int]:
    """Count texts by their length in words, "" as missing; return the words and those that training did not have."""
    words = unknown = 0
    for text in texts:
        parts = words_of(text)
        words += len(parts)
        unknown += sum(part not in known for part in parts)
        counts[np.searchsorted(feature.edges, len(parts)) if text else feature.width - 1] += 1
    return words, unknown


def words_of(text: str) -> list[int]:
    """Return the words of a text as vocabularies hold them: checksums, whatever their case."""
    return [zlib.crc32(word.encode()) for word in text.casefold().split()]


def _require(digest: str, profile: Profile) -> None:
    if digest != profile.digest:
        raise DataError("other_bins", "a sketch has other bins than its profile: it belongs to another version")
