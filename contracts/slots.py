"""What a person can be asked: the seed's five groups and the task itself. Question ids are `<slot>.<field>`."""

from typing import Final

SLOTS: Final[dict[str, tuple[str, ...]]] = {
    "task": ("data", "target", "kind", "positive", "system"),
    "business": ("goal", "kpi", "cost_of_error"),
    "scale": ("rate", "spikes"),
    "data": ("read_write", "freshness", "known_at_prediction", "time", "entity"),
    "nfr": ("latency", "availability", "consistency"),
    "security": ("pii", "regime"),
}

QUESTION_IDS: Final = tuple(f"{slot}.{name}" for slot, names in SLOTS.items() for name in names)
