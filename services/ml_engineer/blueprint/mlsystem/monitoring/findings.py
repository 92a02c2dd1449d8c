"""What is to be told: findings about features, answers, quality, the server and the age of data.

Owns the rules by which each kind is found and when it alerts: a finding in so many of so many windows in a row. Pure.
Leaves the wording of features to `words`, and what it all points to to `verdict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from mlsystem.evaluation.metrics import SMALLER_IS_BETTER
from mlsystem.monitoring import words
from mlsystem.monitoring.drift import Drift
from mlsystem.monitoring.quality import Outcomes, Quality
from mlsystem.monitoring.sketch import Sketch
from mlsystem.spec import Spec, seconds

Kind = Literal[
    "errors", "missing", "unseen", "drift", "answers", "quality", "latency", "stale", "outcomes_late", "estimate"
]
"""From cause to consequence."""

Level = Literal["alert", "warn"]

FEWEST_REQUESTS: Final = 100
"""Requests in a window from which a share of failures says something."""

LATE_SHARE: Final = 0.5
"""Share of the outcomes that are due and have not come, that warns."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person may want to know."""

    kind: Kind
    level: Level
    feature: str = ""
    text: str
    value: float
    """The effect, in the finding's own measure."""
    threshold: float
    since: float
    """Start of the first of the windows in a row that show it, seconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One window with what was found in it."""

    start: float
    end: float
    sketch: Sketch
    drifts: tuple[Drift, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a verdict is made from."""

    spec: Spec
    windows: Sequence[Judged]
    """The oldest first."""
    outcomes: Outcomes
    holdout: float | None
    """Value of the deciding metric on the holdout."""
    newest: float | None
    """The newest time in the time column of the requests."""
    watermark: float | None
    """Until when the online table knows the data."""
    now: float

    @property
    def rule(self) -> tuple[int, int]:
        """In how many of how many windows a finding alerts."""
        return self.spec.monitoring.persistence

    @property
    def values(self) -> bool:
        """Whether values of the data may be told."""
        return not self.spec.governance.regime


def findings(facts: Facts) -> Iterator[Finding]:
    """Yield all there is to tell, in no order."""
    yield from _of_features(facts)
    yield from _of_quality(facts)
    yield from _of_server(facts)
    yield from _of_age(facts)


def persistent(flags: Sequence[bool], rule: tuple[int, int]) -> bool:
    """Tell whether the last windows make an alert: so many of so many, in the order of time."""
    return sum(flags[-rule[1] :]) >= rule[0]


def first_of_run(flags: Sequence[bool], gaps: int) -> int:
    """Return the place of the first bad window of those that reach the end, with at most so many good ones between."""
    first, gap = len(flags) - 1, 0
    for place in range(len(flags) - 1, -1, -1):
        gap = 0 if flags[place] else gap + 1
        if gap > gaps:
            break
        first = place if flags[place] else first
    return first


def loss(value: float, holdout: float, metric: str) -> float:
    """Return how much worse a value is, as a share of the value on the holdout; negative if it is better."""
    worse = value - holdout if metric in SMALLER_IS_BETTER else holdout - value
    return worse / abs(holdout) if holdout else worse


def failure_share(sketch: Sketch) -> float:
    """Return the share of requests that failed for a reason of the server's, 0 where there were few requests."""
    requests = int(sketch.latency.sum()) + sketch.failed
    return sketch.failed / requests if requests >= FEWEST_REQUESTS else 0.0


def _of_features(facts: Facts) -> Iterator[Finding]:
    """Yield the strongest finding of each column of the source, and of each answer."""
    if not facts.windows:
        return
    by_column: dict[str, list[Finding]] = {}
    for i, drift in enumerate(facts.windows[-1].drifts):
        if found := _of_feature(facts, i):
            by_column.setdefault(drift.feature.column, []).append(found)
    for found in by_column.values():
        yield min(found, key=lambda one: (one.level, -one.value))


def _of_feature(facts: Facts, i: int) -> Finding | None:
    """Return the finding about one feature: an alert may outlast a good window, a warning is about the newest."""
    history = [window.drifts[i] for window in facts.windows]
    bad = [drift.level == "alert" for drift in history]
    alerting = persistent(bad, facts.rule)
    if not alerting and history[-1].level == "none":
        return None
    shown = history[-1] if not alerting else next(drift for drift in reversed(history) if drift.level == "alert")
    profile = facts.windows[-1].sketch.profile
    kind: Kind = words.kind_of(shown, answer=i >= len(profile.features) - len(profile.answers))
    flags, gaps = (bad, facts.rule[1] - facts.rule[0]) if alerting else ([d.level != "none" for d in history], 0)
    return Finding(
        kind=kind,
        level="alert" if alerting else "warn",
        feature=shown.feature.name,
        text=words.sentence(shown, kind, values=facts.values) + words.why_not(shown, facts.spec.monitoring.psi[1]),
        value=shown.effect,
        threshold=max(facts.spec.monitoring.psi[1 if alerting else 0], shown.feature.usual),
        since=facts.windows[first_of_run(flags, gaps)].start,
    )


def _of_quality(facts: Facts) -> Iterator[Finding]:
    """Yield what outcomes say, or while there are none, what the probabilities promise; an estimate only warns."""
    outcomes, metric = facts.outcomes, facts.outcomes.metric
    if facts.holdout is None:
        return
    before = f"{words.number(facts.holdout)} on the holdout"
    if outcomes.windows and _is_worse(outcomes.windows[-1], facts):
        last = outcomes.windows[-1]
        text = f"{words.interval(metric, last)} over {last.rows:,} answers whose outcomes are known; {before}."
        yield _judged(facts, "quality", text, outcomes.windows)
    if outcomes.estimates and _is_worse(outcomes.estimates[-1], facts):
        last = outcomes.estimates[-1]
        text = f"Estimate without outcomes: {words.interval(metric, last)}, if the probabilities still hold; {before}."
        yield msgspec.structs.replace(_judged(facts, "estimate", text, outcomes.estimates), level="warn")


def _judged(facts: Facts, kind: Kind, text: str, windows: Sequence[Quality]) -> Finding:
    flags = [_is_worse(window, facts) for window in windows]
    return Finding(
        kind=kind,
        level="alert" if persistent(flags, facts.rule) else "warn",
        text=text,
        value=loss(windows[-1].value, facts.holdout or 0.0, facts.outcomes.metric),
        threshold=facts.spec.monitoring.quality_drop,
        since=windows[first_of_run(flags, facts.rule[1] - facts.rule[0])].start,
    )


def _is_worse(window: Quality, facts: Facts) -> bool:
    """Tell whether quality has fallen by as much as alerts, and its whole interval is worse than the holdout."""
    holdout, metric = facts.holdout or 0.0, facts.outcomes.metric
    best = window.low if metric in SMALLER_IS_BETTER else window.high
    return loss(window.value, holdout, metric) >= facts.spec.monitoring.quality_drop and loss(best, holdout, metric) > 0


def _of_server(facts: Facts) -> Iterator[Finding]:
    allowed, limit = 1 - facts.spec.objectives.availability, facts.spec.objectives.latency_ms_p99
    failures = [failure_share(window.sketch) for window in facts.windows]
    if failures and failures[-1] > allowed:
        text = f"{words.percent(failures[-1])} of the requests were not answered; {words.percent(allowed)} are allowed."
        yield _over(facts, "errors", text, failures, allowed)
    latencies = [window.sketch.latency_ms(0.99) or 0.0 for window in facts.windows]
    if limit and latencies and latencies[-1] > limit:
        text = (
            f"99 % of the requests took up to {words.number(latencies[-1])} ms; {words.number(limit)} ms are allowed."
        )
        yield _over(facts, "latency", text, latencies, limit)


def _over(facts: Facts, kind: Kind, text: str, values: Sequence[float], limit: float) -> Finding:
    flags = [value > limit for value in values]
    first = facts.windows[first_of_run(flags, facts.rule[1] - facts.rule[0])]
    level: Level = "alert" if persistent(flags, facts.rule) else "warn"
    return Finding(kind=kind, level=level, text=text, value=values[-1], threshold=limit, since=first.start)


def _of_age(facts: Facts) -> Iterator[Finding]:
    """Yield data and outcomes that are late; neither is a matter of windows."""
    settings, outcomes = facts.spec.monitoring, facts.outcomes
    allowed = seconds(settings.freshness)
    told: tuple[tuple[str, Level, float | None], ...] = (
        ("The online table stands on data that is", "alert", facts.watermark),
        ("The newest row that was sent is", "warn", facts.newest),
    )
    for what, level, newest in told:
        if newest is not None and (age := facts.now - newest) > allowed:
            text = f"{what} {words.duration(age)} old; {settings.freshness} are allowed."
            since = newest + allowed
            yield Finding(kind="stale", level=level, text=text, value=age, threshold=allowed, since=since)
    if outcomes.labelled and outcomes.due and (share := outcomes.late / outcomes.due) >= LATE_SHARE:
        text = (
            f"The outcomes of {words.percent(share)} of the answers older than {settings.label_delay} have not come, "
            f"{outcomes.late:,} of {outcomes.due:,}."
        )
        since = facts.now - seconds(settings.label_delay)
        yield Finding(kind="outcomes_late", level="warn", text=text, value=share, threshold=LATE_SHARE, since=since)
