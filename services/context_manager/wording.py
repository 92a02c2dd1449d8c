"""Briefings in plain words: what the project is, what is known with its sources, what happened lately.

Every number and name comes from a fact, a purpose or a report; nothing is rounded, joined or concluded here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from contracts.briefing import Fact
from services.context_manager.knowledge import Report
from services.context_manager.outlines import shortened
from services.context_manager.purposes import counted

_FIRM: Final = 0.5
"""From this confidence on a fact is told as known, below as mentioned."""
_LABELS: Final = {
    "business.goal": "goal", "business.kpi": "measure of success", "business.cost_of_error": "cost of an error",
    "scale.rate": "load", "scale.spikes": "peaks", "data.read_write": "access pattern", "data.freshness": "freshness",
    "data.known_at_prediction": "known at prediction time", "nfr.latency": "latency",
    "nfr.availability": "availability",
    "nfr.consistency": "consistency", "security.regime": "regime", "security.pii": "personal data",
    "security.retention": "retention",
}  # fmt: skip
_STACK: Final = ("language", "framework", "database", "image", "api", "ci")
_SHOWN: Final = {"stack.framework": 6, "security.pii": 3, "data.dataset": 5}
_SENTENCE: Final = 5
"""A value of more words is a sentence and is set off from its label."""
_COLUMNS: Final = 160
"""Characters of a dataset's path and columns; the fact has more of them."""
_ROWS: Final = re.compile(r"(; (?:about )?\d+ rows)(?:; delimiter \S+)?$")
_REPORTS: Final = 3


def overview(name: str, purposes: Mapping[str, str], facts: Sequence[Fact]) -> list[str]:
    """Sentences about the whole project."""
    goals = [fact for fact in facts if (fact.slot, fact.field) == ("business", "goal")]
    described = min(goals, key=lambda fact: fact.confidence, default=None)
    about = f": {_ended(described.value)} ({described.source})" if described else ""
    files = [f"It has {counted(purposes)}."] if purposes else []
    return [
        f"{name}{about}.",
        *files,
        *_stack(facts),
        *_datasets(facts),
        *_known(facts),
        *_mentioned(facts),
        *_silent(facts),
    ]


def about_facts(facts: Sequence[Fact]) -> list[str]:
    """Sentences about one side of the project: as `overview`, without the whole and without what is missing."""
    return [*_stack(facts), *_datasets(facts), *_known(facts), *_mentioned(facts)]


def _stack(facts: Sequence[Fact]) -> list[str]:
    parts = [part for field in _STACK for part in _told([f for f in facts if (f.slot, f.field) == ("stack", field)])]
    return [f"Stack: {'; '.join(parts)}."] if parts else []


def _datasets(facts: Sequence[Fact]) -> list[str]:
    parts = [f.value for f in facts if (f.slot, f.field) == ("data", "dataset")]
    shown = [_dataset(part) for part in parts[: _SHOWN["data.dataset"]]]
    more = f" and {len(parts) - len(shown)} more" if len(parts) > len(shown) else ""
    return [f"Data: {'; '.join(shown)}{more}."] if shown else []


def _dataset(value: str) -> str:
    """A dataset with its first columns and its rows."""
    rows = _ROWS.search(value)
    columns, told = (value[: rows.start()], rows[1]) if rows else (value, "")
    return shortened(columns, _COLUMNS) + told


def _known(facts: Sequence[Fact]) -> list[str]:
    firm = [fact for fact in facts if fact.confidence >= _FIRM]
    parts = [part for key in _LABELS for part in _labelled(key, firm)]
    return [f"Known: {'; '.join(parts)}."] if parts else []


def _mentioned(facts: Sequence[Fact]) -> list[str]:
    settled = {(fact.slot, fact.field) for fact in facts if fact.confidence >= _FIRM}
    weak = [fact for fact in facts if fact.confidence < _FIRM and (fact.slot, fact.field) not in settled]
    parts = [part for key in _LABELS if key != "business.goal" for part in _labelled(key, weak)]
    return [f"Mentioned in passing, to be confirmed: {'; '.join(parts)}."] if parts else []


def _silent(facts: Sequence[Fact]) -> list[str]:
    """What nothing in the workspace speaks of."""
    said = {f"{fact.slot}.{fact.field}" for fact in facts if fact.field != "goal" or fact.confidence >= _FIRM}
    missing = [label for key, label in _LABELS.items() if key not in said]
    return [f"Nothing is said about: {', '.join(missing)}."] if missing else []


def _labelled(key: str, facts: Sequence[Fact]) -> list[str]:
    slot, field = key.split(".")
    told = _told([fact for fact in facts if (fact.slot, fact.field) == (slot, field)])
    colon = (
        ":"
        if any(len(fact.value.split()) > _SENTENCE for fact in facts if (fact.slot, fact.field) == (slot, field))
        else ""
    )
    return [f"{_LABELS[key]}{colon} {'; '.join(told)}"] if told else []


def _told(facts: Sequence[Fact]) -> list[str]:
    """Values of one field with their places, the surest first, and how many are left out."""
    if not facts:
        return []
    limit = _SHOWN.get(f"{facts[0].slot}.{facts[0].field}", 2)
    shown = [f"{_ended(fact.value)} ({fact.source})" for fact in facts[:limit]]
    if len(facts) > limit:
        shown[-1] += f" and {len(facts) - limit} more"
    return shown


def closest(paths: Sequence[str], purposes: Mapping[str, str]) -> list[str]:
    """A sentence that names the files nearest to the question."""
    shown = [f"{path} ({_ended(purposes[path])})" for path in paths[:3] if path in purposes]
    return [f"Closest to the question: {'; '.join(shown)}."] if shown else []


def lately(reports: Sequence[Report]) -> list[str]:
    """A sentence on what agents reported."""
    told = [f"{r.at:%Y-%m-%d} {r.agent} ({r.status}): {_ended(_line(r.summary))}" for r in reports[:_REPORTS]]
    return [f"Recent activity: {'; '.join(told)}."] if told else []


def title(workspace_name: str, purposes: Mapping[str, str], facts: Sequence[Fact]) -> str:
    """What the project calls itself: the heading of its README, else the name of its directory."""
    readme = next((purposes[path] for path in ("/README.md", "/readme.md", "/README.rst") if path in purposes), "")
    if (
        readme
        and not readme.endswith(" file")
        and len(readme) <= 80
        and not any(fact.value == readme for fact in facts)
    ):
        return _ended(readme)
    return workspace_name


def _line(text: str) -> str:
    return shortened(" ".join(text.split()), 300)


def _ended(text: str) -> str:
    """`text` without the full stop, so that a sentence can go on."""
    return re.sub(r"[.\s]+$", "", text)
