"""Numbers as documents write them: as many digits as say something, thousands with commas, units at the end."""

import math

from services.ml_engineer.documents.markdown import NOTHING

Figure = float | int | bool | str | None


def figure(value: Figure) -> str:
    """A number with three or four telling digits; a dash for none, words as they are."""
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
    return f"{figure(low)} to {figure(high)}"


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
    if size >= 1000 or value == round(value):
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.{1 if size >= 10 else 2}f}".rstrip("0").rstrip(".")
    return f"{value:.3f}" if size >= 0.001 else f"{value:.1e}"
