"""What the rules that data are under ask of a system: GDPR, HIPAA's safe harbor, PCI DSS.

Owns which kinds of personal data a regime looks for, whether values are masked, how long they are kept, and the rules
themselves, each decided from the spec and the contract. Serve side: the server masks and expires by it. Leaves making
gates of broken rules to the evaluation, and advice on law to lawyers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mlsystem.governance.kinds import DETECTORS, OLDEST, Detector
from mlsystem.governance.pii import CERTAIN, DIRECT, POSSIBLE
from mlsystem.schema import Column, ColumnType, Schema
from mlsystem.spec import Spec, seconds

Regime = Literal["gdpr", "hipaa", "pci"]

NO_PII: Final = "none"
"""Value of `columns.<name>.pii` by which a person says that a column holds no personal data."""

_CARDS: Final = frozenset({"card"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a regime asks for, and whether the system does it."""

    kept: bool
    text: str
    """What was found, for people; names of columns, never values."""


def looked_for(regimes: Sequence[str]) -> tuple[Detector, ...]:
    """Return the kinds of personal data that are no features: direct ones, under HIPAA all eighteen identifiers."""
    return DETECTORS if "hipaa" in regimes else DIRECT


def strays(spec: Spec) -> tuple[Detector, ...]:
    """Return the patterns by which a single value is masked wherever it stands."""
    return POSSIBLE if spec.governance.regime else CERTAIN


def masks(spec: Spec, *, captured: bool = False) -> bool:
    """Tell whether personal data is masked in what is stored, or in what is captured of requests."""
    if spec.governance.regime:
        return True
    return spec.governance.mask == "auto" and (not captured or spec.capture.mask == "auto")


def stores_masked(spec: Spec) -> bool:
    """Tell whether the rows that a version was made from are stored without what identifies."""
    return bool(spec.governance.regime) and spec.data.snapshot == "copy"


def orders_alone(schema: Schema, spec: Spec) -> bool:
    """Tell whether the time in stored rows is a place in their order and no date: of people, and no gap counts days."""
    dated = any(column.role == "time" and column.pii for column in schema.columns)
    return dated and stores_masked(spec) and not seconds(spec.split.gap)


def reduced_to(kind: str, type_: ColumnType, spec: Spec) -> Literal["", "year", "capped"]:
    """Return what of a column of personal data may be a feature under HIPAA (45 CFR 164.514(b)(2)(i)(C))."""
    if "hipaa" not in spec.governance.regime:
        return ""
    if kind == "age" and type_ in {"number", "integer"}:
        return "capped"
    return "year" if kind == "date" and type_ in {"date", "datetime"} else ""


def retention_s(spec: Spec) -> float:
    """Return how long captured requests are kept, in seconds: the shorter of the two keys."""
    return min(seconds(spec.capture.retention), seconds(spec.governance.retention))


def handled(spec: Spec, schema: Schema) -> Rule:
    """Return whether every column of personal data is no feature, or one for a reason that somebody wrote down."""
    found = unexplained(schema, spec)
    if found:
        text = f"{', '.join(map(repr, found))} hold personal data, are features, and nobody wrote down why"
        return Rule(kept=False, text=f"{text}: give columns.<name>.why, or take the role 'feature' away")
    used = [column.name for column in personal_features(schema) if column.role == "feature"]
    aside = [column.name for column in schema.columns if column.pii and not column.reduced and column.name not in used]
    parts = [f"personal data that is no feature: {', '.join(map(repr, aside))}"] if aside else []
    parts += [f"features by a person's written decision: {', '.join(map(repr, used))}"] if used else []
    parts += [reduced] if (reduced := _reduced(schema)) else []
    return Rule(kept=True, text="; ".join(parts) or "no personal data was recognised")


def rules(regime: Regime, spec: Spec, schema: Schema) -> tuple[Rule, ...]:
    """Return every rule of a regime with whether it is kept."""
    return tuple(rule(spec, schema) for rule in _RULES[regime])


def personal_features(schema: Schema) -> tuple[Column, ...]:
    """Return the columns of personal data that the model uses all the same, and not just what identifies nobody."""
    found = (column for column in schema.columns if column.role in {"feature", "time"})
    return tuple(column for column in found if column.pii and not column.reduced)


def unexplained(schema: Schema, spec: Spec) -> tuple[str, ...]:
    """Return the features of personal data for which nobody wrote down why."""
    named = (column.name for column in personal_features(schema) if column.role == "feature")
    return tuple(name for name in named if name not in spec.columns or not spec.columns[name].why)


def _no_identifier(_spec: Spec, schema: Schema) -> Rule:
    found = [f"{column.name!r} ({column.pii})" for column in personal_features(schema) if column.role == "feature"]
    if found:
        return Rule(kept=False, text=f"identifiers are features: {', '.join(found)}")
    set_aside = sum(1 for column in schema.columns if column.pii and not column.reduced)
    text = f"none of the 18 identifiers is a feature ({set_aside} columns of them are set aside)"
    return Rule(kept=True, text="; ".join(filter(None, (text, _reduced(schema)))))


def _reduced(schema: Schema) -> str:
    """Return which columns are features as far as they identify nobody; nothing if there are none."""
    years = [repr(column.name) for column in schema.columns if column.reduced == "year"]
    ages = [repr(column.name) for column in schema.columns if column.reduced == "capped"]
    parts = [f"of {', '.join(years)} the year is a feature"] if years else []
    parts += [f"{', '.join(ages)} is a feature in which all over {OLDEST} are one value"] if ages else []
    return ", ".join(parts)


def _no_direct_identifier(spec: Spec, schema: Schema) -> Rule:
    found = unexplained(schema, spec)
    if found:
        return Rule(kept=False, text=f"direct identifiers are features and nobody said why: {', '.join(found)}")
    return Rule(kept=True, text="no direct identifier is a feature without a written reason")


def _callers_are_known(spec: Spec, _schema: Schema) -> Rule:
    known = bool(spec.serving.api_keys)
    text = "callers must send a key" if known else "whoever reaches the port may ask: set serving.api_keys"
    return Rule(known, text)


def _kept_no_longer(spec: Spec, _schema: Schema) -> Rule:
    asked, own = spec.capture.retention, spec.governance.retention
    if seconds(asked) > seconds(own):
        text = f"captured requests are kept for {asked}, governance.retention allows {own}: shorten capture.retention"
        return Rule(kept=False, text=text)
    return Rule(kept=True, text=f"captured requests are kept for {asked} at most")


def _masked(spec: Spec, schema: Schema) -> Rule:
    if "none" in {spec.governance.mask, spec.capture.mask}:
        return Rule(kept=False, text="masking is switched off (governance.mask, capture.mask): set both to 'auto'")
    text = "personal data is masked wherever rows are stored, the snapshot included"
    ordered = [column.name for column in schema.columns if column.role == "time" and column.pii]
    if ordered and stores_masked(spec) and not orders_alone(schema, spec):  # 45 CFR 164.514(e)
        text += f"; for split.gap it has the dates of {ordered[0]!r}, with which it is a limited data set"
    return Rule(kept=True, text=text)


def _an_entity_can_be_erased(_spec: Spec, schema: Schema) -> Rule:
    """Whether a person can be found again to be erased; rows that name nobody need not be found (GDPR, article 11)."""
    entity = next((column.name for column in schema.columns if column.role == "entity"), "")
    if entity:
        return Rule(kept=True, text=f"whoever {entity!r} names can be erased: `erase --entity`")
    return Rule(kept=True, text="no column names whom a row is about, so captured rows cannot be told apart by person")


def _no_cards(_spec: Spec, schema: Schema) -> Rule:
    used = [column.name for column in schema.columns if column.pii in _CARDS and column.role == "feature"]
    if used:
        return Rule(kept=False, text=f"card numbers are features: {', '.join(used)}")
    return Rule(kept=True, text="no card number is a feature, and none is stored")


_RULES: Final[dict[Regime, tuple[Callable[[Spec, Schema], Rule], ...]]] = {
    "gdpr": (_no_direct_identifier, _masked, _kept_no_longer, _an_entity_can_be_erased),
    "hipaa": (_no_identifier, _masked, _callers_are_known, _kept_no_longer),
    "pci": (_no_cards, _masked, _kept_no_longer),
}
