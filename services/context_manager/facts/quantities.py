"""Numbers, durations and rates as people write them, in the one form that facts use."""

from typing import Final

NUMBER: Final = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SCALES: Final = {"": 1.0, "k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}
_MILLISECONDS: Final = {"u": 1e-3, "µ": 1e-3, "μ": 1e-3, "m": 1.0, "s": 1e3}
_SECONDS_PER: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DAYS_PER: Final = {"d": 1, "w": 7, "m": 30, "y": 365}
WORDS: Final = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
}  # fmt: skip


def number(text: str, scale: str = "") -> float:
    """`1,200` or `1.5` with `k`, `m`, `thousand` or `million` as a number."""
    return float(text.replace(",", "")) * _SCALES[scale.lower()]


def written(value: float) -> str:
    """A number without needless digits: three significant ones below a hundred, whole from there."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(amount: str, unit: str) -> str:
    """`0.2`, `seconds` -> `200 ms`. The unit's first letter decides; a bare `s` is seconds."""
    return f"{written(number(amount) * _MILLISECONDS[unit[0].lower()])} ms"


def per_second(amount: float, unit: str) -> str:
    """An amount in a second, minute, hour or day as `50 rps`."""
    return f"{written(amount / _SECONDS_PER[unit[0].lower()])} rps"


def days(amount: float, unit: str) -> str:
    """An amount of days, weeks, months (30 days) or years (365) as `90d`."""
    return f"{written(amount * _DAYS_PER[unit[0].lower()])}d"


def multiple(text: str) -> float:
    """`3`, `2.5` or `three` as a number."""
    lowered = text.lower()
    return WORDS.get(lowered) or number(lowered)
