"""Events of delivered systems: a model was trained, promoted, rolled back or has drifted."""

from typing import Literal

from pydantic import Field

from contracts.message import Message

SystemEventName = Literal["trained", "promoted", "demoted", "drifted", "rolled-back", "retrain-requested"]


class SystemEvent(Message):
    """Something that happened to a delivered system."""

    system: str = Field(min_length=1)
    """The system's name, such as `telco-churn`."""
    event: SystemEventName
    """What happened."""
    model_version: int | None = None
    """The version concerned."""
    metric: dict[str, float] = Field(default_factory=dict[str, float])
    """The numbers behind it."""
    evidence: str = ""
    """Where the numbers come from: a path or a digest."""
