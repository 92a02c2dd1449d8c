"""What the clock decided in a training run, so that the run can be made again without one.

A budget cuts in three places: it skips a configuration, ends the fit of a fold, ends a refit. Everything else
follows from rows, seed and versions. A plan holds these cuts, counted in rounds; a replay fits what was fitted and
cuts where it was cut, however long that takes.
"""

from __future__ import annotations

import msgspec

UNCUT = 0
"""Rounds of a fit that ended by itself."""


class Cuts(msgspec.Struct, frozen=True):
    """Where the clock ended the fits of one configuration, in rounds; UNCUT where it did not."""

    folds: tuple[int, ...] = ()
    refit: int = UNCUT

    @property
    def any(self) -> bool:
        """Whether the clock ended any of them."""
        return any((*self.folds, self.refit))

    def of_fold(self, place: int) -> int:
        """Return the rounds after which the fit of a fold was ended."""
        return self.folds[place] if place < len(self.folds) else UNCUT


NOWHERE = Cuts()
"""All fits ended by themselves."""


class Plan(msgspec.Struct, frozen=True):
    """The configurations that were fitted, by name, with their cuts."""

    fitted: dict[str, Cuts]
