"""What a server counts, in Prometheus' format under the field's usual names.

Owns the metric objects of one server; labels are bounded: known routes, known methods, classes of the model. Leaves
judging them to whoever scrapes.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlsystem.serving.answers import Predictions, Refusal
    from mlsystem.serving.limits import InFlight
    from mlsystem.serving.model import Model

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})
_MAX_LABELS = 20
"""Classes that are counted one by one; more of them are counted together."""


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, routes: Iterable[str]) -> None:
        self._routes = frozenset(routes)
        self._routes_seen: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._labels_seen: dict[tuple[int, str], Counter] = {}
        self.registry = registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=registry)
        self._requests = Counter("http_requests", "Requests answered", ("method", "route", "status"), registry=registry)
        self._duration = Histogram(
            "http_request_duration_seconds", "Time to the answer", ("route",), buckets=_BUCKETS_S, registry=registry
        )
        self._in_progress = Gauge("http_requests_in_progress", "Predict requests in flight", registry=registry)
        self._predictions = Counter("model_predictions", "Rows predicted", ("version", "label"), registry=registry)
        self._warnings = Counter("model_input_warnings", "Values answered with a warning", ("kind",), registry=registry)
        self._refused = Counter("model_refusals", "Predict requests refused", ("code",), registry=registry)
        self._info = Gauge("model_info", "The version that answers", ("name", "version", "digest"), registry=registry)
        self._switches = Counter("model_switches", "Versions that took over", registry=registry)
        self.switch_failures = Counter(
            "model_switch_failures", "Attempts to load another version that failed", registry=registry
        )

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request."""
        route = route if route in self._routes else "other"
        method = method if method in _METHODS else "other"
        counter, histogram = self._of_route(method, route, status)
        counter.inc()
        histogram.observe(duration_s)

    def predicted(self, answer: Predictions) -> None:
        """Count predictions by class, and values that were answered with a warning."""
        by_label = 0 < len(answer.predictions[0].probabilities or ()) <= _MAX_LABELS
        version = answer.model.version
        if by_label:
            for label, count in collections.Counter(str(p.prediction) for p in answer.predictions).items():
                self._of_label(version, label).inc(count)
        else:
            self._of_label(version, "").inc(len(answer.predictions))
        for warning in answer.warnings or ():
            self._warnings.labels(warning.kind).inc(warning.count)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused request by its code."""
        self._refused.labels(refusal.error.code).inc()

    def watch(self, in_flight: InFlight) -> None:
        """Show the requests in flight as they are when somebody looks."""
        self._in_progress.set_function(lambda: in_flight.count)

    def switched(self, model: Model) -> None:
        """Note which version answers from now on."""
        self._info.clear()
        self._info.labels(model.name.name, str(model.name.version), model.digest).set(1)
        self._switches.inc()

    def _of_route(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        """Return the children for these labels; looking them up costs more than counting."""
        key = (method, route, status)
        found = self._routes_seen.get(key)
        if found is None:
            found = self._requests.labels(method, route, str(status)), self._duration.labels(route)
            self._routes_seen[key] = found
        return found

    def _of_label(self, version: int, label: str) -> Counter:
        key = (version, label)
        found = self._labels_seen.get(key)
        if found is None:
            found = self._labels_seen[key] = self._predictions.labels(str(version), label)
        return found

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self.registry)
