"""The verdict as a page to read: one HTML file, no request to anywhere, the suspected cause first.

Owns the order of the page and its words; light and dark follow the reader's system, every plot has a text. With
regulated data no level and no bound of a bin is shown. Leaves shapes to `plots` and sentences about findings to
`words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from typing import Final

from mlsystem import __version__
from mlsystem.monitoring import words
from mlsystem.monitoring.drift import Drift
from mlsystem.monitoring.findings import Facts, Finding, Judged
from mlsystem.monitoring.gathering import Gathered
from mlsystem.monitoring.plots import Line, Point, bars, chart, spark
from mlsystem.monitoring.quality import Quality
from mlsystem.monitoring.verdict import Verdict

_SHOWN: Final = 48
"""Newest windows that are plotted."""

_BARS: Final = 12
_NOTHING: Final = "\N{EN DASH}"

_STANDING: Final = {
    "fine": "Fine",
    "warning": "Worth a look",
    "alert": "Needs attention",
    "too_few_rows": "Too few rows yet",
}

_TITLES: Final = {
    "errors": "Requests fail",
    "missing": "Values are missing",
    "unseen": "New levels or words",
    "drift": "A feature has moved",
    "answers": "The answers have moved",
    "quality": "Quality has fallen",
    "latency": "Answers are slow",
    "stale": "The data is old",
    "outcomes_late": "Outcomes are late",
    "estimate": "Quality may have fallen",
}


def page(system: str, gathered: Gathered, verdict: Verdict) -> str:
    """Return the whole page."""
    facts = gathered.facts
    body = [
        _head(system, gathered, verdict),
        _findings(facts, verdict.findings),
        _quality(facts),
        _traffic(facts),
        _features(facts),
        _how_to_read(facts),
    ]
    title = f"{system}: {_STANDING[verdict.standing].lower()}"
    style = resources.files("mlsystem.monitoring").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f"\n</main>\n<footer>Made by mlsystem {__version__} at {_time(gathered.period.now)}.</footer>\n"
        + "</body>\n</html>\n"
    )


def _head(system: str, gathered: Gathered, verdict: Verdict) -> str:
    facts, period = gathered.facts, gathered.period
    rows = sum(window.sketch.rows for window in facts.windows)
    windows = f"{rows:,} rows in {len(facts.windows)} windows" if facts.windows else "no window with rows enough"
    waiting = gathered.read.gathering
    waits = f"; {waiting.sketch.rows:,} newer rows wait for {facts.spec.monitoring.min_rows:,}" if waiting else ""
    others = (
        f" Versions {words.listed([str(v) for v in gathered.others])} answered in this time too."
        if gathered.others
        else ""
    )
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in gathered.notes)
    return (
        f'<header class="{verdict.standing}">\n'
        f"<p>{escape(system)}, version {gathered.version}</p>\n"
        f"<h1>{_STANDING[verdict.standing]}</h1>\n"
        f'<p class="cause">{escape(verdict.cause)}</p>\n'
        f"<p>{_time(period.since)} to {_time(period.until)}: {windows}{waits}.{others}</p>\n{notes}"
        "</header>"
    )


def _findings(facts: Facts, found: Sequence[Finding]) -> str:
    if not found:
        return ""
    cards = "\n".join(_card(facts, finding) for finding in found)
    return f"<section>\n<h2>What was found</h2>\n{cards}\n</section>"


def _card(facts: Facts, finding: Finding) -> str:
    drifts = facts.windows[-1].drifts if facts.windows else ()
    place = next((i for i, drift in enumerate(drifts) if drift.feature.name == finding.feature), None)
    plots = "" if place is None else f'<div class="plots">{_bars(facts, drifts[place])}{_course(facts, place)}</div>'
    label = "alert" if finding.level == "alert" else "warning"
    return (
        f'<article class="{label}">\n<h3>{_TITLES[finding.kind]}'
        f'<span class="badge">{label}</span></h3>\n'
        f"<p>{escape(finding.text)}</p>\n"
        f'<p class="since">Since {_time(finding.since)}.</p>\n{plots}</article>'
    )


def _bars(facts: Facts, drift: Drift) -> str:
    """Plot how a feature is distributed now and in training: its largest bins, in their order."""
    before, now = drift.before / max(drift.before.sum(), 1), drift.now / max(drift.now.sum(), 1)
    size = [max(b, n) for b, n in zip(before, now, strict=True)]
    kept = sorted(sorted(range(len(size)), key=lambda i: -size[i])[:_BARS])
    names = drift.feature.bins if facts.values else tuple(f"range {i + 1}" for i in range(len(size)))
    rows = [(names[i], float(before[i]), float(now[i])) for i in kept if size[i] > 0]
    legend = (
        '<figcaption><span class="key before"></span>training <span class="key now"></span>newest window</figcaption>'
    )
    return f"<figure>{bars(f'Shares of {drift.feature.name} in training and now', rows)}{legend}</figure>"


def _course(facts: Facts, place: int) -> str:
    effects, alert = _effects(facts, place), facts.spec.monitoring.psi[1]
    name = facts.windows[-1].drifts[place].feature.name
    plot = spark(f"Drift of {name} over {len(effects)} windows; {effects[-1]:.2f} in the newest", effects, alert)
    return f"<figure>{plot}<figcaption>drift by window, {effects[-1]:.2f} now; {alert:g} alerts</figcaption></figure>"


def _effects(facts: Facts, place: int) -> list[float]:
    return [window.drifts[place].effect for window in _newest(facts)]


def _quality(facts: Facts) -> str:
    outcomes = facts.outcomes
    known = Line("with outcomes", "now", _points(outcomes.windows))
    guessed = Line("estimate", "estimate", _points(outcomes.estimates))
    points = [*known.points, *guessed.points]
    counted = f"{outcomes.labelled:,} of {outcomes.captured:,} kept answers have an outcome."
    if not points:
        why = "Quality appears here once outcomes are sent to /outcomes."
        return f"<section>\n<h2>Quality</h2>\n<p>{counted} {why}</p>\n</section>"
    limit = (f"holdout {words.number(facts.holdout)}", facts.holdout) if facts.holdout is not None else None
    times = _time(min(p.at for p in points)), _time(max(p.at for p in points))
    plot = chart(f"{outcomes.metric} over time", [known, guessed], limit, times)
    hint = (
        " Until an outcome comes, the estimate says what the probabilities promise; it cannot see that features have"
        " come to mean something else."
        if guessed.points
        else ""
    )
    legend = '<figcaption><span class="key now"></span>with outcomes, 95 % interval'
    legend += ' <span class="key estimate"></span>estimate without outcomes' if guessed.points else ""
    return (
        f"<section>\n<h2>Quality: {escape(outcomes.metric)}</h2>\n<p>{counted}{hint}</p>\n"
        f"<figure>{plot}{legend}</figcaption></figure>\n</section>"
    )


def _points(windows: Sequence[Quality]) -> list[Point]:
    return [Point(window.start, window.value, window.low, window.high) for window in windows[-_SHOWN:]]


def _traffic(facts: Facts) -> str:
    windows = _newest(facts)
    if not windows:
        return ""
    rows = Line("rows", "now", [Point(window.start, window.sketch.rows) for window in windows])
    times = _time(windows[0].start), _time(windows[-1].start)
    parts = [f"<figure>{chart('Rows by window', [rows], None, times)}<figcaption>rows by window</figcaption></figure>"]
    slow = [Point(w.start, latency) for w in windows if (latency := w.sketch.latency_ms(0.99)) is not None]
    objective = facts.spec.objectives.latency_ms_p99
    if slow:
        limit = (f"objective {objective:g} ms", objective) if objective else None
        plot = chart("Slowest of a hundred requests, ms", [Line("p99", "now", slow)], limit, times)
        parts.append(f"<figure>{plot}<figcaption>slowest of a hundred requests, ms at most</figcaption></figure>")
    return "<section>\n<h2>Traffic</h2>\n" + "\n".join(parts) + "\n</section>"


def _features(facts: Facts) -> str:
    if not facts.windows:
        return ""
    newest = facts.windows[-1].drifts
    shown = [i for i, drift in enumerate(newest) if drift.feature.edges or drift.feature.name == drift.feature.column]
    rows = "\n".join(_row(facts, i) for i in sorted(shown, key=lambda i: -newest[i].impact))
    heads = ("Feature", "Importance", "Drift", "KS", "Missing", "Unseen", "By window")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section>\n<h2>All features, the newest window</h2>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n</section>"
    )


def _row(facts: Facts, place: int) -> str:
    drift = facts.windows[-1].drifts[place]
    feature = drift.feature
    course = spark(f"Drift of {feature.name} by window", _effects(facts, place), facts.spec.monitoring.psi[1])
    answer = feature in facts.windows[-1].sketch.profile.answers
    cells = (
        "an answer" if answer else words.percent(feature.importance),
        f"{drift.effect:.3f}",
        _NOTHING if drift.ks is None else f"{drift.ks:.3f}",
        words.percent(drift.missing[1]),
        words.percent(drift.unseen[1]) if feature.kind != "number" else _NOTHING,
    )
    told = "".join(f"<td>{cell}</td>" for cell in cells)
    level = {"alert": "alert", "warn": "warning"}.get(drift.level, "")
    return f'<tr class="{level}"><th scope="row">{escape(feature.name)}</th>{told}<td>{course}</td></tr>'


def _how_to_read(facts: Facts) -> str:
    settings = facts.spec.monitoring
    warn, alert = settings.psi
    some, of = settings.persistence
    return (
        "<section>\n<h2>How to read this</h2>\n<dl>\n"
        "<dt>Drift</dt><dd>How differently a feature is distributed now and in training: population stability index"
        f" with the noise of small samples taken off. {warn:g} is worth a look, {alert:g} is a real change.</dd>\n"
        "<dt>Importance</dt><dd>Share of the model's quality that is lost when the column is shuffled. Drift counts in"
        " full for columns that matter at least as much as the average one, and less for others.</dd>\n"
        f"<dt>Alert</dt><dd>Drift of that size, beyond chance, in {some} of {of} windows of {settings.window}"
        f" (longer until {settings.min_rows:,} rows have come).</dd>\n"
        "<dt>KS</dt><dd>Largest distance between the two distributions, 0 to 1.</dd>\n</dl>\n</section>"
    )


def _newest(facts: Facts) -> Sequence[Judged]:
    return facts.windows[-_SHOWN:]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %Y %H:%M UTC")
