"""Whether a column holds personal data, and whether one value is some.

Owns the judgement over a column's name and its commonest values, with the thresholds that it takes, and over a single
text. Serve side: the server masks with it. Leaves the patterns to `kinds`, and what follows
from a kind to `regimes` and `mask`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mlsystem.governance.kinds import ABOUT, DETECTORS, OLDEST, PEOPLE, Detector

HOLDS: Final = 0.8
"""Share of a column's values that must have the pattern. Real columns hold `unknown`, `n/a` and typing errors."""
FEWEST: Final = 5
"""Different values from which a pattern says something about a column."""
FEWEST_DIGITS: Final = 20
"""The same for digits with one check digit and no more. One number in ten has it right by chance: so four of five
values do in one column of 2,000, sixteen of twenty in none of 10^12."""
MANY: Final = 0.1
"""Share of different values from which a name such as `email` means the thing itself and not a flag about it."""
FEW_SIGNS: Final = 7
"""Characters below which a whole number is a count or a code, whatever its column is called."""

DIRECT: Final = tuple(found for found in DETECTORS if found.direct)
"""What is looked for in all data."""

CERTAIN: Final = tuple(
    found for found in DIRECT if found.shaped and found.kind in {"email", "ssn", "iban", "phone", "vehicle"}
)
"""Patterns that are believed of a single value, wherever it stands."""
POSSIBLE: Final = (
    *CERTAIN,
    *(found for found in DIRECT if found.shaped and found.kind in {"card", "ip", "device"}),
)
"""The same where data are under a regime: a product's code or version can look like a card number or an IP address."""

_SHORTEST, _LONGEST = 7, 120
_PERSON: Final = re.compile(r"[^\W\d_][\w'.\u2019-]*,?( [(\"]?[^\W\d_][\w'.\u2019-]*[)\",]*){1,6}")


@dataclass(frozen=True, slots=True)
class Values:
    """What a column is judged by."""

    name: str
    type: Literal["number", "integer", "date", "datetime", "category", "text"]
    texts: Sequence[str]
    """Its most frequent values, at most some hundred."""
    distinct: int
    present: int
    characters: int = 0
    """Length of its longest value."""
    high: float | None = None
    """The largest number."""


def recognised(values: Values, kinds: Sequence[Detector] = DIRECT) -> Detector | None:
    """Return what personal data a column holds, None if none is recognised; patterns are believed before names."""
    if values.type in {"category", "integer", "text"}:
        shaped = next((found for found in kinds if _mostly(values.texts, found)), None)
        if shaped:
            return shaped
    words = words_of(values.name)
    return next((found for found in kinds if _could_be(values, found) and _is_called(words, values, found)), None)


def in_value(text: str, kinds: Sequence[Detector] = CERTAIN) -> Detector | None:
    """Return what personal data one value is, None if its pattern says nothing for certain."""
    if not _SHORTEST <= len(text) <= _LONGEST:
        return None
    return next((found for found in kinds if found.shaped and found.shaped(text)), None)


def words_of(name: str) -> str:
    """Return a column's name as lower-case words: `customerEMail` and `customer_e-mail` are `customer e mail`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", apart).lower().split())


def _mostly(texts: Sequence[str], found: Detector) -> bool:
    shaped = found.shaped
    if shaped is None or len(texts) < (FEWEST_DIGITS if found.digits else FEWEST):
        return False
    return sum(1 for text in texts if shaped(text.strip())) >= HOLDS * len(texts)


def _is_called(words: str, values: Values, found: Detector) -> bool:
    if found.kind == "date":
        return True
    if found.named is None or not found.named.search(words) or ABOUT.search(words):
        return False
    return found.kind != "name" or PEOPLE.search(words) is not None or _look_like_people(values.texts)


def _look_like_people(texts: Sequence[str]) -> bool:
    """Whether values are two to seven capitalised words without digits, as names of people are."""
    likely = sum(1 for text in texts if text[:1].isupper() and _PERSON.fullmatch(text))
    return len(texts) >= FEWEST and likely >= HOLDS * len(texts)


def _could_be(values: Values, found: Detector) -> bool:
    """Whether the values of a column could be what its name says."""
    if found.kind == "date":
        return values.type in {"date", "datetime"}
    if found.kind == "age":
        return values.high is not None and values.high > OLDEST
    if not found.direct:
        return values.distinct > 2
    if values.type in {"number", "date", "datetime"} or (values.type == "integer" and values.characters < FEW_SIGNS):
        return False
    return values.distinct > max(2, MANY * values.present)
