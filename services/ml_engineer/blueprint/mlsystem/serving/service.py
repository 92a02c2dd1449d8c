"""What the routes of one server share."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field

from mlsystem.serving.keys import Keys
from mlsystem.serving.limits import InFlight, Limits
from mlsystem.serving.live import Live
from mlsystem.serving.metrics import Metrics
from mlsystem.serving.predictor import Predictor
from mlsystem.serving.recorder import Recorder
from mlsystem.spec import Spec
from mlsystem.state import State


@dataclass(slots=True)
class Ending:
    """Whether the server is on its way out: it answers, takes no new traffic, and closes what it has answered."""

    begun: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One server: the model that answers, what it takes on, what it counts and keeps, threads for large requests."""

    name: str
    spec: Spec
    live: Live
    limits: Limits
    in_flight: InFlight
    metrics: Metrics
    threads: Executor
    predictor: Predictor
    keys: Keys | None = None
    state: State | None = None
    """For routes that read or write what is remembered; None for a package that is served without a system."""
    recorder: Recorder | None = None
    ending: Ending = field(default_factory=Ending)
