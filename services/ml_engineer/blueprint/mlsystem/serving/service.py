"""What the routes of one server share."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from mlsystem.serving.limits import InFlight, Limits
from mlsystem.serving.live import Live
from mlsystem.serving.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Service:
    """One server: the model that answers, what it takes on, what it counts, and threads for large requests."""

    name: str
    live: Live
    limits: Limits
    in_flight: InFlight
    metrics: Metrics
    threads: Executor
