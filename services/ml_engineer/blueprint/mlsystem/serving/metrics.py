"""What a server counts, in Prometheus' format under the field's usual names.

Owns the one table of metrics and their text. Labels are bounded: known routes and methods, classes of the model,
features up to a number. Counting is an addition on the worker's `board`; whoever scrapes any worker gets all of them
together. Leaves judging the numbers to whoever scrapes.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mlsystem.serving.board import Board, Key, boards, read_board

if TYPE_CHECKING:
    from mlsystem.serving.answers import Predictions, Refusal
    from mlsystem.serving.model import Model

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_METHODS: Final = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})
_MAX_LABELS: Final = 20
"""Classes that are counted one by one; more of them are counted together."""

Combine = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric: what it is, its labels, and how the numbers of several workers make one."""

    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    combine: Combine = "sum"
    stays: bool = True
    """Whether a series that stands at 0 is shown: not, where a label names what is true at the time."""


METRICS: Final[dict[str, Series]] = {
    "http_requests": Series("counter", "Requests answered", ("method", "route", "status")),
    "http_request_duration_seconds": Series("histogram", "Time to the answer", ("route",)),
    "http_requests_in_progress": Series("gauge", "Predict requests in flight"),
    "model_predictions": Series("counter", "Rows predicted", ("version", "label")),
    "model_input_warnings": Series("counter", "Values answered with a warning", ("kind",)),
    "model_refusals": Series("counter", "Predict requests refused", ("code",)),
    "model_info": Series("gauge", "The version that answers", ("name", "version", "digest"), "max", stays=False),
    "model_switches": Series("counter", "Versions that took over"),
    "model_switch_failures": Series("counter", "Attempts to load another version that failed"),
    "mlsystem_model_refused": Series(
        "gauge", "1 while a version that should answer cannot be loaded", ("version",), "max", stays=False
    ),
    "mlsystem_registry_up": Series("gauge", "Whether the registry could be asked the last time", combine="min"),
    "mlsystem_captures": Series("counter", "Predictions kept for monitoring and retraining"),
    "mlsystem_captures_dropped": Series("counter", "Predictions that could not be kept", ("reason",)),
    "mlsystem_state_up": Series("gauge", "Whether what is to be kept could be written the last time", combine="min"),
    "mlsystem_data_age_seconds": Series("gauge", "Age of the newest data in the online table", (), "max"),
    "mlsystem_drift_psi": Series(
        "gauge", "Population stability index against training, noise taken off", ("feature",), "max"
    ),
    "mlsystem_drift_impact": Series("gauge", "Drift times the importance of the feature", ("feature",), "max"),
    "mlsystem_drift_alerting": Series(
        "gauge", "1 if the drift of the last window is of the size that alerts", ("feature",), "max"
    ),
    "mlsystem_feature_missing_ratio": Series("gauge", "Share of rows without a value", ("feature",), "max"),
    "mlsystem_feature_unseen_ratio": Series(
        "gauge", "Share of rows with a level that training did not have", ("feature",), "max"
    ),
    "mlsystem_monitoring_window_rows": Series("gauge", "Rows of the window that the drift is about", (), "max"),
    "mlsystem_monitoring_window_end_seconds": Series("gauge", "When that window ends, in Unix time", (), "max"),
    "mlsystem_quality": Series(
        "gauge",
        "The deciding metric as `monitor` found it last: of holdout, of outcomes that came, or estimated without",
        ("metric", "of"),
        "max",
        stays=False,
    ),
    "mlsystem_quality_alerting": Series("gauge", "1 if quality had fallen then by as much as alerts", (), "max"),
    "mlsystem_monitor_seconds": Series("gauge", "When `monitor` looked last at the live version, Unix time", (), "max"),
    "mlsystem_workers": Series("gauge", "Server processes that answer on this port"),
}
"""Every metric but the process's own, by name; counters get `_total` behind it."""


class Metrics:
    """The metrics of one worker, and the text of all of them.

    `board` is the file of this worker's numbers, beside those of its siblings; None: there is one worker alone. Numbers
    are added on the event loop, or by one thread a series.
    """

    def __init__(self, routes: Iterable[str], board: Path | None = None) -> None:
        self._routes = frozenset(routes)
        self._path = board
        self._board = Board(board)
        self._making = threading.Lock()
        self._answered: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._labels: dict[tuple[int, str], int] = {}
        for name, series in METRICS.items():
            if series.kind == "gauge":
                self._board.forget(name)
            if not series.labels:
                self.slot(name)
        self.values = self._board.values
        """The numbers themselves: whoever counts often keeps a slot and adds to it."""
        self.set("mlsystem_workers", (), 1)
        self.set("mlsystem_state_up", (), 1)
        self.set("mlsystem_registry_up", (), 1)
        self.values[self._board.block(_PID, ())] = os.getpid()
        self.registry = CollectorRegistry()
        self.registry.register(_Collected(self))

    def add(self, name: str, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Count under a name of METRICS; KeyError if it is not there."""
        self.values[self.slot(name, labels)] += amount

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Let a gauge of METRICS stand at a value."""
        self.values[self.slot(name, labels)] = value

    def slot(self, name: str, labels: tuple[str, ...] = ()) -> int:
        """Return where a number stands in `values`; of a histogram, where its block begins."""
        series = METRICS[name]
        with self._making:
            return self._board.block(name, labels, _WIDTH if series.kind == "histogram" else 1)

    def answered(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one request."""
        key = (method, route, status)
        counter, histogram = self._answered.get(key) or self._route(method, route, status)
        values = self.values
        values[counter] += 1
        values[histogram + bisect_left(_BUCKETS_S, duration_s)] += 1
        values[histogram + _WIDTH - 1] += duration_s

    def predicted(self, answer: Predictions) -> None:
        """Count predictions by class, and values that were answered with a warning."""
        predictions, version = answer.predictions, answer.model.version
        by_label = 0 < len(predictions[0].probabilities or ()) <= _MAX_LABELS
        if not by_label:
            self.values[self._label(version, "")] += len(predictions)
        elif len(predictions) == 1:
            self.values[self._label(version, str(predictions[0].prediction))] += 1
        else:
            for label, count in Counter(str(p.prediction) for p in predictions).items():
                self.values[self._label(version, label)] += count
        for warning in answer.warnings or ():
            self.add("model_input_warnings", (warning.kind,), warning.count)

    def refused(self, refusal: Refusal) -> None:
        """Count a refused request by its code."""
        self.add("model_refusals", (refusal.error.code,))

    def switched(self, model: Model) -> None:
        """Note which version answers from now on."""
        self._board.forget("model_info")
        self.set("model_info", (model.name.name, str(model.name.version), model.digest), 1)
        self.add("model_switches")

    def text(self) -> bytes:
        """Return the numbers of all workers as Prometheus reads them."""
        return generate_latest(self.registry)

    def total(self) -> Mapping[Key, Sequence[float]]:
        """Return the numbers of all workers, each series by its way of combining; `_process_id` lists them all."""
        found = dict(self._board.read())
        siblings = [path for path in boards(self._path.parent) if path != self._path] if self._path else []
        for path in siblings:
            for key, numbers in read_board(path):
                found[key] = _combined(key[0], found[key], numbers) if key in found else numbers
        return found

    def _route(self, method: str, route: str, status: int) -> tuple[int, int]:
        """Return the slots for these labels; looking them up costs more than counting."""
        known_route = route if route in self._routes else "other"
        known_method = method if method in _METHODS else "other"
        counter = self.slot("http_requests", (known_method, known_route, str(status)))
        found = counter, self.slot("http_request_duration_seconds", (known_route,))
        if (known_method, known_route) == (method, route):
            self._answered[method, route, status] = found
        return found

    def _label(self, version: int, label: str) -> int:
        found = self._labels.get((version, label))
        if found is None:
            found = self._labels[version, label] = self.slot("model_predictions", (str(version), label))
        return found


class _Collected(Collector):
    """What prometheus-client asks for the families of metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        total = self._metrics.total()
        for name, series in METRICS.items():
            yield _family(name, series, {labels: numbers for (n, labels), numbers in total.items() if n == name})
        yield from _processes([int(pid) for pid in total[_PID, ()] if _alive(int(pid))])


_PID: Final = "_process_id"
_WIDTH: Final = len(_BUCKETS_S) + 2
"""Slots of a histogram: its buckets, what is above them, and the sum."""


def _combined(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Sequence[float]:
    if name == _PID:
        return [*ours, *theirs]
    how = METRICS[name].combine
    if how == "sum":
        return [a + b for a, b in zip(ours, theirs, strict=True)]
    return [(max if how == "max" else min)(a, b) for a, b in zip(ours, theirs, strict=True)]


def _family(name: str, series: Series, found: Mapping[tuple[str, ...], Sequence[float]]) -> Metric:
    if series.kind == "histogram":
        histogram = HistogramMetricFamily(name, series.about, labels=series.labels)
        for labels, numbers in found.items():
            counts = list(accumulate(numbers[:-1]))
            bounds = [*map(str, _BUCKETS_S), "+Inf"]
            histogram.add_metric(labels, list(zip(bounds, counts, strict=True)), numbers[-1])
        return histogram
    made = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = made(name, series.about, labels=series.labels)
    for labels, numbers in found.items():
        if numbers[0] or series.stays:
            family.add_metric(labels, numbers[0])
    return family


def _processes(pids: Iterable[int]) -> Iterator[Metric]:
    """Yield what the processes use together, under the names that every exporter uses."""
    summed: dict[str, Metric] = {}
    for pid in pids:
        for family in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():
            (sample,) = family.samples
            held = summed.get(family.name)
            if held is None:
                summed[family.name] = family
            elif family.name != "process_start_time_seconds":
                held.samples[0] = sample._replace(value=held.samples[0].value + sample.value)
    yield from summed.values()


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").is_dir() or not Path("/proc/self").exists()
