"""What is kept of the traffic: captured predictions and sketches, written to the state behind the answers.

Owns a bounded buffer and the one thread that empties it about once a second and at the end. Answering never waits for
it: when the state is slow or gone the oldest are dropped and counted, and health says so. A kill -9 loses at most what
came since the last turn. Leaves storing to `state`, counting to `monitoring.sketch`, masking to `governance.mask`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlsystem.errors import MlsystemError, StateError
from mlsystem.governance.regimes import retention_s
from mlsystem.monitoring.gauges import Gauges
from mlsystem.serving.sketches import Sketches, breathe
from mlsystem.serving.view import Taken, View
from mlsystem.state import Captured, replica_name

if TYPE_CHECKING:
    from mlsystem.output import Reporter
    from mlsystem.serving.live import Live
    from mlsystem.serving.metrics import Metrics
    from mlsystem.serving.model import Judged, Model
    from mlsystem.spec import Spec
    from mlsystem.state import State

TURN_S: Final = 1.0
"""Longest time between an answer and its capture being safe."""

MAX_ROWS: Final = 5_000
"""Rows that wait in memory, some 3 kB each; beyond them the oldest are dropped."""

LEASE_S: Final = 30.0
"""How long a claim on the state holds without being renewed."""

_BATCH_ROWS: Final = 64
"""Predictions that are written in one transaction."""

_STEP_ROWS: Final = 16
"""Rows between two breaths."""

_SKETCH_ROWS: Final = 512
"""Rows that are counted at once, column by column."""

_FEW_ROWS: Final = 50
"""Rows of a request of which captures are made on the event loop."""

_WAKE_ROWS: Final = 1_000
"""Rows that do not wait for the turn's time: they would be memory."""

_CATCH_UP_S: Final = 5.0
_LOOK_S: Final = 0.02
_HOUR_S: Final = 3600.0
_GAUGES_S: Final = 10.0
"""Seconds between two looks at the drift of what all workers saw."""

_CLOSE_S: Final = 10.0


class Recorder:
    """The buffer and its thread. `take`, `refused` and `caught_up` belong to the event loop, the rest to the thread."""

    def __init__(self, state: State, spec: Spec, live: Live, metrics: Metrics, reporter: Reporter) -> None:
        self._state = state
        self._spec = spec
        self._sketches = Sketches(state, spec.monitoring)
        self._live = live
        self._metrics = metrics
        self._gauges = Gauges(metrics)
        self._reporter = reporter
        self._waiting: deque[Taken] = deque()
        self._rows = _Rows()
        self._refusals = [0, 0]
        self._told = [0, 0]
        self._views: dict[int, View] = {}
        self._turns = 0  # that have ended
        self._claim_at = self._expire_at = self._gauge_at = 0.0
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._trouble = ""
        self._broken = False
        """Whether the trouble is not the state's."""

    @property
    def trouble(self) -> str:
        """Why what is to be kept cannot be; empty if it can."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._ended.is_set():
            return "the thread that writes has ended; restart the server"
        return self._trouble

    def start(self) -> None:
        """Claim the state and start the thread; StateError `replica_refused` if the state is another host's.

        A state that cannot be reached is no reason not to answer: it is told, and tried again.
        """
        try:
            self._renew()
        except StateError as error:
            if error.code == "replica_refused":
                raise
            self._failed(error)
        self._thread.start()

    def take(self, model: Model, rows: Sequence[Mapping[str, Any]], judged: Judged, duration_s: float) -> None:
        """Keep what there is to keep of a request that was answered just now; never waits."""
        self._put(self._taken(model, rows, judged, duration_s))

    def _taken(self, model: Model, rows: Sequence[Mapping[str, Any]], judged: Judged, duration_s: float) -> Taken:
        """Return what is kept; of a few rows it is made here and now, where all that it is made of is at hand.

        A second later that would be out of the processor's caches, and would have been in the way of later requests.
        """
        view, at = self._view(model), time.time()
        captures: Iterable[Captured] = view.captured(at, rows, judged)
        if len(rows) <= _FEW_ROWS:
            try:
                captures = list(captures)
            except Exception:  # noqa: BLE001 - the answer is not to blame; the thread meets it again, and tells
                captures = view.captured(at, rows, judged)
        return Taken(view, at, duration_s, len(rows), judged.encoded, judged.scores, captures)

    def _put(self, taken: Taken) -> None:
        waiting, rows = self._waiting, self._rows
        waiting.append(taken)
        rows.put += taken.rows
        while rows.waiting() > MAX_ROWS:
            try:
                oldest = waiting.popleft()
            except IndexError:  # the thread was faster
                break
            rows.dropped += oldest.rows
            self._metrics.add("mlsystem_captures_dropped", ("buffer",), oldest.rows)
        if rows.waiting() > _WAKE_ROWS:
            self._wake.set()

    def refused(self, status: int) -> None:
        """Count a request that got no prediction: below 500 it was wrong, else it failed."""
        self._refusals[status >= 500] += 1

    async def caught_up(self) -> None:
        """Wait until a turn has ended that began after now, for _CATCH_UP_S at most; it comes at once."""
        wanted, end = self._turns + 2, time.monotonic() + _CATCH_UP_S  # one may be under way
        while self._turns < wanted and time.monotonic() < end:
            self._wake.set()
            await asyncio.sleep(_LOOK_S)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._ended.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(TURN_S)
            self._wake.clear()
            self._turn()
            self._turns += 1
        self._turn()
        with contextlib.suppress(StateError):  # a lease that is not given back ends by itself
            self._state.release(replica_name())
        self._state.close()

    def _turn(self) -> None:
        """Write what waits. What goes wrong is told and counted, and the next turn comes."""
        taken, sound = self._take_all(), True
        traffic = bool(taken)
        steps = (lambda: self._count(taken), lambda: self._capture(taken), self._sketches.save, self._housekeeping)
        for step in steps:
            try:
                step()
            except StateError as error:  # the other steps would wait for the same state
                self._failed(error)
                return
            except Exception as error:  # noqa: BLE001 - the thread must not end: answers would go on, unkept and unseen
                self._failed(error)
                sound, self._broken = False, True
        if sound and (traffic or not self._broken):  # without traffic nothing shows that it works again
            self._recovered()

    def _count(self, taken: Iterable[Taken]) -> None:
        for _, group in itertools.groupby(
            taken, lambda one: (one.view.model.name.version, self._sketches.window(one.at))
        ):
            while some := list(itertools.islice(group, _SKETCH_ROWS)):
                self._sketch(some)

    def _take_all(self) -> deque[Taken]:
        """Take what waits now; what comes meanwhile is for the next turn."""
        taken: deque[Taken] = deque()
        with contextlib.suppress(IndexError):  # some were dropped meanwhile
            for _ in range(len(self._waiting)):
                taken.append(self._waiting.popleft())
        self._rows.got += sum(one.rows for one in taken)
        return taken

    def _view(self, model: Model) -> View:
        found = self._views.get(model.name.version)
        if found is None or found.model is not model:
            found = View.of(model, self._spec)
            self._views = {**dict(list(self._views.items())[-1:]), model.name.version: found}  # a view keeps its model
        return found

    def _sketch(self, taken: Sequence[Taken]) -> None:
        """Count the rows of one version and window, all at once: a sketch costs by calls more than by rows."""
        view = taken[0].view
        if view.profile is None:
            return
        sketch = self._sketches.changing(taken[0].at, view.model.name.version, view.profile)
        encoded = [one.encoded for one in taken]
        scores = [row for one in taken for row in one.scores]
        sketch.update(
            np.concatenate([e.numbers for e in encoded]),
            np.concatenate([e.strings for e in encoded]),
            np.array(scores, np.float64),
            pause=breathe,
        )
        refused, failed = self._new_refusals()
        sketch.observe(np.array([one.duration_s for one in taken]), refused=refused, failed=failed)

    def _new_refusals(self) -> tuple[int, int]:
        now = list(self._refusals)
        new = now[0] - self._told[0], now[1] - self._told[1]
        self._told = now
        return new

    def _capture(self, taken: deque[Taken]) -> None:
        """Write the rows in batches; when one cannot be written, it and those behind it are lost and counted.

        What was taken is let go one by one: to free all of it in one go would hold the interpreter for milliseconds.
        """
        records = itertools.chain.from_iterable(_let_go(taken))
        while batch := self._batch(records):
            try:
                self._state.capture(batch)
            except StateError:
                lost = len(batch) + sum(1 for _ in records)
                self._metrics.add("mlsystem_captures_dropped", ("state",), lost)
                raise
            self._metrics.add("mlsystem_captures", (), len(batch))
            breathe()

    @staticmethod
    def _batch(records: Iterator[Captured]) -> list[Captured]:
        """Return the next records."""
        batch: list[Captured] = []
        while len(batch) < _BATCH_ROWS and (some := list(itertools.islice(records, _STEP_ROWS))):
            batch += some
            breathe()
        return batch

    def _housekeeping(self) -> None:
        """Renew the claim, say how the traffic has drifted, and once an hour let go what is older than it may be."""
        now = time.monotonic()
        if now >= self._claim_at or self._trouble:  # which shows whether the state is there again
            self._renew()
        if now >= self._gauge_at:
            self._gauge_at = now + _GAUGES_S
            self._gauge()
        if now >= self._expire_at:
            self._state.expire(time.time() - retention_s(self._spec))
            self._expire_at = now + _HOUR_S

    def _gauge(self) -> None:
        model = self._live.model
        if model is not None and (profile := self._view(model).profile) is not None:
            settings, version = self._spec.monitoring, model.name.version
            self._gauges.refresh(self._state, profile, settings, version=version, now=time.time())

    def _renew(self) -> None:
        self._state.claim(replica_name(), LEASE_S)
        self._claim_at = time.monotonic() + LEASE_S / 3

    def _failed(self, error: Exception) -> None:
        told = error.message if isinstance(error, MlsystemError) else f"{type(error).__name__}: {error}"
        self._metrics.set("mlsystem_state_up", (), 0)
        if told != self._trouble:
            self._reporter.progress("serve", None, f"predictions are answered and not kept: {told}")
        self._trouble = told

    def _recovered(self) -> None:
        if self._trouble:
            self._reporter.progress("serve", None, "predictions are kept again")
            self._metrics.set("mlsystem_state_up", (), 1)
        self._trouble, self._broken = "", False


def _let_go(taken: deque[Taken]) -> Iterator[Iterable[Captured]]:
    while taken:
        yield taken.popleft().captures


@dataclass(slots=True)
class _Rows:
    """Rows that came, that the thread took, and that were dropped; each number has one writer."""

    put: int = 0
    got: int = 0
    dropped: int = 0

    def waiting(self) -> int:
        """Rows that came and are still in memory."""
        return self.put - self.got - self.dropped
