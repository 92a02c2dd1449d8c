"""The command `monitor`: a verdict on the live version, as JSON, as a page, and to a webhook.

Owns the options, the result and what is left in the state: the last verdict, for whoever asks how the system is. A
question about a past period leaves nothing and tells nobody. Leaves the verdict to `verdict`.
"""

from __future__ import annotations

import re
import time
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

import msgspec

from mlsystem.errors import GateFailed, SpecError
from mlsystem.monitoring import LAST_VERDICT, notify
from mlsystem.monitoring.findings import Finding, Judged, failure_share
from mlsystem.monitoring.gathering import Gathered, Period, gather, live_version
from mlsystem.monitoring.page import page
from mlsystem.monitoring.quality import Quality
from mlsystem.monitoring.verdict import Verdict, conclude
from mlsystem.output import timestamp
from mlsystem.spec import Monitoring, seconds
from mlsystem.stages import Workspace
from mlsystem.state import State, state_of

_WEEK_S: Final = 7 * 86_400.0
_WINDOWS: Final = 24
_DURATION: Final = re.compile(r"\d+(\.\d+)?(ms|s|m|h|d)")


def monitor(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Command `monitor`: judge the newest windows of a version against its training.

    Raises: GateFailed with the result if something alerts and `--fail-on-alert` was given.
    """
    period = period_of(options.since, options.until, workspace.spec.monitoring, now=time.time())
    version = cast("int | None", options.version) or live_version(workspace)
    state = state_of(workspace)
    try:
        gathered = gather(workspace, state, version, period)
        verdict = conclude(gathered.facts)
        result = result_of(gathered, verdict)
        if not options.until:
            result["notified"] = _tell(workspace, state, gathered, verdict)
    finally:
        state.close()
    if options.out:
        text = page(workspace.spec.name, gathered, verdict)
        cast("Path", options.out).write_text(text, encoding="utf-8")
        result["report"] = str(options.out)
    workspace.reporter.progress("monitor", 1.0, verdict.cause)
    if options.fail_on_alert and verdict.alerts:
        raise GateFailed("alert", verdict.cause, details=[_told(alert) for alert in verdict.alerts], result=result)
    return result


def period_of(since: str, until: str, settings: Monitoring, *, now: float) -> Period:
    """Return the time that is asked about: by default the last week, or 24 windows if they are longer."""
    end = _moment(until, now, "--until") if until else now
    start = _moment(since, now, "--since") if since else end - max(_WEEK_S, _WINDOWS * seconds(settings.window))
    if start >= end:
        raise SpecError("bad_period", f"--since {since!r} is not before --until {until or 'now'!r}")
    return Period(start, end, end)


def _moment(text: str, now: float, flag: str) -> float:
    """Return a moment: an ISO time, local unless it says otherwise, or how long ago it was."""
    if _DURATION.fullmatch(text):
        return now - seconds(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise SpecError(
            "bad_time", f"{flag} {text!r} is no time; write 2026-11-23T12:00, 2026-11-23T12:00Z, or 2d for two days ago"
        ) from None


def _tell(workspace: Workspace, state: State, gathered: Gathered, verdict: Verdict) -> dict[str, object]:
    """Keep the verdict, and post what is new in it if a webhook is set."""
    last = {
        "at": stamp(gathered.period.now),
        "version": gathered.version,
        "standing": verdict.standing,
        "cause": verdict.cause,
        "alerts": [_told(alert) for alert in verdict.alerts],
        "quality": _newest(gathered),
    }
    state.put(LAST_VERDICT, msgspec.json.encode(last))
    webhook = workspace.spec.monitoring.notify
    news = notify.change(state, verdict.alerts)
    if not webhook or not news:
        return {"sent": False, "why": "nothing is new" if webhook else "monitoring.notify is not set"}
    content = notify.message(workspace.spec.name, gathered.version, verdict.cause, news)
    why = notify.post(webhook, content)
    if why:
        workspace.reporter.progress("monitor", None, f"nobody was told: {why}; it is tried again the next time")
        return {"sent": False, "why": why}
    notify.remember(state, verdict.alerts)
    return {"sent": True, "firing": len(news.firing), "over": len(news.over)}


def _newest(gathered: Gathered) -> dict[str, object]:
    """Return the newest quality by what it is known from, as servers tell it to Prometheus."""
    outcomes, known = gathered.facts.outcomes, dict[str, float]()
    if gathered.facts.holdout is not None:
        known["holdout"] = gathered.facts.holdout
    known |= {"outcomes": outcomes.windows[-1].value} if outcomes.windows else {}
    known |= {"estimate": outcomes.estimates[-1].value} if outcomes.estimates else {}
    return {"metric": outcomes.metric, "known": known}


def result_of(gathered: Gathered, verdict: Verdict) -> dict[str, object]:
    """Return the JSON of a verdict."""
    facts, read = gathered.facts, gathered.read
    outcomes = facts.outcomes
    return {
        "version": gathered.version,
        "other_versions": list(gathered.others),
        "since": stamp(gathered.period.since),
        "until": stamp(gathered.period.until),
        "standing": verdict.standing,
        "cause": verdict.cause,
        "alerts": [_told(alert) for alert in verdict.alerts],
        "findings": [_told(finding) for finding in verdict.findings],
        "rows": sum(window.sketch.rows for window in facts.windows),
        "gathering": read.gathering.sketch.rows if read.gathering else 0,
        "windows": [_window(window) for window in facts.windows],
        "quality": {
            "metric": outcomes.metric,
            "holdout": facts.holdout,
            "windows": [_quality(window) for window in outcomes.windows],
            "estimates": [_quality(window) for window in outcomes.estimates],
            "captured": outcomes.captured,
            "labelled": outcomes.labelled,
            "unknown_labels": outcomes.unknown,
            "due": outcomes.due,
            "late": outcomes.late,
        },
        "damaged": list(read.damaged),
        "notes": list(gathered.notes),
    }


def stamp(at: float) -> str:
    """Return a time as RFC 3339, UTC."""
    return timestamp(datetime.fromtimestamp(at, UTC))


def _told(finding: Finding) -> dict[str, object]:
    return {**msgspec.to_builtins(finding), "since": stamp(finding.since)}


def _window(window: Judged) -> dict[str, object]:
    return {
        "start": stamp(window.start),
        "end": stamp(window.end),
        "rows": window.sketch.rows,
        "failed": failure_share(window.sketch),
        "latency_ms_p99": window.sketch.latency_ms(0.99),
        "drift": {drift.feature.name: round(drift.effect, 4) for drift in window.drifts},
        "alerting": [drift.feature.name for drift in window.drifts if drift.level == "alert"],
    }


def _quality(quality: Quality) -> dict[str, object]:
    figures = {"value": quality.value, "low": quality.low, "high": quality.high, "rows": quality.rows}
    return {"start": stamp(quality.start), "end": stamp(quality.end), **figures}
