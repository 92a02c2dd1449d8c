"""What is kept of a request that was answered, by version: which columns, of whom, masked how, counted into which bins.

Owns the way from rows and answers to records of the state. Leaves when that happens to `recorder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem.boundary import Encoded, canonical
from mlsystem.governance.mask import mask_of
from mlsystem.monitoring.profile import Profile, read_profile
from mlsystem.state import Captured

if TYPE_CHECKING:
    from mlsystem.serving.model import Judged, Model
    from mlsystem.spec import Spec

_json: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class View:
    """What is kept of one version's rows, and how."""

    model: Model
    features: tuple[str, ...] | None
    entity: str
    mask: Callable[[Mapping[str, Any]], dict[str, Any]]
    harmless: bool
    """Whether a plain row can hold nothing that the mask would take out: numbers and levels of no personal column."""
    share: int
    """Of 2^32: a prediction is kept if the end of its id, which is random, is below."""

    @classmethod
    def of(cls, model: Model, spec: Spec) -> View:
        """Return what the spec says of this version's rows."""
        names = frozenset(model.boundary.required)
        features = [column for column in model.schema.columns if column.name in names]
        dated = any(column.type in {"date", "datetime"} for column in features)
        return cls(
            model=model,
            features=model.boundary.required if spec.capture.columns == "features" else None,
            entity=next((c.name for c in model.schema.columns if c.role == "entity"), ""),
            mask=mask_of(model.schema, spec),
            harmless=not dated and not spec.governance.regime and not any(column.pii for column in features),
            share=round(spec.capture.sample * 2**32),
        )

    @cached_property
    def profile(self) -> Profile | None:
        """The bins that its rows are counted into, None if the package brought none; DataError if it is unreadable."""
        return read_profile(self.model.profile) if self.model.profile else None

    def captured(self, at: float, rows: Sequence[Mapping[str, Any]], judged: Judged) -> Iterator[Captured]:
        """Yield what is kept of a request that was answered at `at`, a record a row, its columns encoded."""
        features, plain = self.features, self.harmless and judged.encoded.plain
        for row, scores, found in zip(rows, judged.scores, judged.answer.predictions, strict=True):
            if int(found.id[-8:], 16) >= self.share:
                continue
            kept = None if features is None else {name: row.get(name) for name in features}
            if kept is not None and not plain:
                kept = self.mask(kept)
            entity = _text(row.get(self.entity)) if self.entity else ""
            encoded = None if kept is None else msgspec.Raw(_json.encode(kept))
            yield Captured(found.id, at, found.version, entity, found.prediction, tuple(scores), encoded)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is to be kept of one answered request."""

    view: View
    at: float
    """Seconds since 1970 UTC."""
    duration_s: float
    rows: int
    encoded: Encoded
    scores: Sequence[Sequence[float]]
    captures: Iterable[Captured]


def _text(value: object) -> str:
    """Return how an entity is known: as the text of the data would be."""
    return "" if value is None else canonical(str(value))
