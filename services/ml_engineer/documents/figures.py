"""Numbers as documents write them: as many digits as say something, thousands with commas.

Scores keep their zeros, so that a column of them can be compared; amounts (times, sizes, rates) drop theirs.
"""

import math

from services.ml_engineer.documents.markdown import NOTHING

Figure = float | int | bool | str | None


def score(value: Figure) -> str:
    """A metric or what a gate measured: four telling digits or three decimals."""
    if not isinstance(value, float) or not math.isfinite(value) or value.is_integer():
        return figure(value)
    size = abs(value)
    if not 0.001 <= size < 1000:
        return figure(value)
    return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"


def figure(value: Figure) -> str:
    """An amount with two or three telling digits; a dash for none, words as they are."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return _decimal(value)


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval."""
    if low is None or high is None:
        return NOTHING
    return f"{score(low)} to {score(high)}"


def times(count: int) -> str:
    """How often."""
    return "once" if count == 1 else f"{count:,} times"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{share * 100:.3g} %"


def _decimal(value: float) -> str:
    if not math.isfinite(value):
        return "undefined"
    size = abs(value)
    if size >= 1000 or value.is_integer():
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.{1 if size >= 10 else 2}f}".rstrip("0").rstrip(".")
    return f"{value:.3f}" if size >= 0.001 else f"{value:.1e}"
