"""What the findings point to: the state of a system, and the suspected cause in a sentence or two.

Owns the order of suspicion: a source that failed explains more than a distribution that moved, and that more than
quality that fell. Pure: the same facts give the same verdict whenever it is asked for. Leaves the rules by which
something is a finding to `findings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, get_args

import msgspec

from mlsystem.monitoring import words
from mlsystem.monitoring.findings import Facts, Finding, Kind, findings

Standing = Literal["fine", "warning", "alert", "too_few_rows"]

_ORDER: Final[tuple[Kind, ...]] = get_args(Kind)

_MOST: Final = 0.5
"""Share of the features that have moved from which the traffic as a whole is suspected."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The conclusion."""

    standing: Standing
    cause: str
    findings: tuple[Finding, ...]
    """Alerts first; within a level from cause to consequence, the strongest first."""

    @property
    def alerts(self) -> tuple[Finding, ...]:
        """Return the findings that alert."""
        return tuple(finding for finding in self.findings if finding.level == "alert")


def conclude(facts: Facts) -> Verdict:
    """Return the verdict on the newest windows."""
    found = sorted(findings(facts), key=lambda one: (one.level, _ORDER.index(one.kind), -one.value))
    if found:
        standing: Standing = "alert" if found[0].level == "alert" else "warning"
    else:
        standing = "fine" if facts.windows else "too_few_rows"
    return Verdict(standing=standing, cause=_cause(standing, found, facts), findings=tuple(found))


def _cause(standing: Standing, found: Sequence[Finding], facts: Facts) -> str:
    if standing == "too_few_rows":
        least = facts.spec.monitoring.min_rows
        return f"There are too few rows to say anything yet: a window needs {least:,}."
    if standing == "fine":
        return "Nothing has changed that matters."
    if standing == "warning":
        return f"Nothing alerts. Worth a look: {found[0].text}"
    alerts = [finding for finding in found if finding.level == "alert"]
    always = " It was so in every window that was looked at." if _from_the_first(alerts[0], facts) else ""
    return f"{_suspicion(alerts, facts)}{always}{_consequence(alerts)}"


def _from_the_first(alert: Finding, facts: Facts) -> bool:
    """Tell whether a feature was never as in training: then requests differ from the training rows, it is no drift."""
    return bool(alert.feature) and len(facts.windows) > facts.rule[1] and alert.since == facts.windows[0].start


def _suspicion(alerts: Sequence[Finding], facts: Facts) -> str:
    """Return what probably happened, from the alert that is nearest to a cause."""
    first = alerts[0]
    same = [finding for finding in alerts if finding.kind == first.kind]
    if first.kind == "missing":
        text = f"{first.text} What feeds it has probably failed or changed its name."
        return words.missing_together([finding.feature for finding in same]) if len(same) > 1 else text
    if first.kind == "unseen":
        return f"{first.text} Somebody has probably renamed or added levels."
    if first.kind == "drift":
        return _moved(same, facts)
    if first.kind == "answers":
        return f"{first.text} No single feature alerts: small changes of several act together."
    if first.kind == "quality":
        return (
            f"{first.text} The features look as in training, so what they say about the outcome has probably changed."
        )
    return first.text


def _moved(same: Sequence[Finding], facts: Facts) -> str:
    features = {drift.feature.column for drift in facts.windows[-1].drifts}
    if len(same) > 2 and len(same) >= _MOST * len(features):
        names = words.listed([finding.feature for finding in same])
        return f"{names} have moved at once: the requests probably come from another source or population."
    importance = max(
        (drift.feature.importance for drift in facts.windows[-1].drifts if drift.feature.name == same[0].feature),
        default=0.0,
    )
    weight = f" It carries {words.percent(importance)} of what the model's quality stands on." if importance else ""
    also = f" {words.listed([finding.feature for finding in same[1:]])} moved too." if len(same) > 1 else ""
    return f"{same[0].text}{weight}{also}"


def _consequence(alerts: Sequence[Finding]) -> str:
    """Return what it does to quality, if that is known; what came before the cause is another matter."""
    fallen = next((finding for finding in alerts if finding.kind == "quality"), None)
    if fallen is None or fallen is alerts[0]:
        return ""
    before = " before that, so this does not explain it" if fallen.since < alerts[0].since else ""
    return f" Quality has fallen{before}: {fallen.text}"
