"""From rows to predictions, whatever brought the rows: the one way through the model for every route.

Owns where it happens: small requests on the event loop, since a thread would cost more than they do, large ones in a
thread and within the time limit, so that they do not hold up the others. Owns that what was answered is counted and
kept. Leaves reading rows and writing answers to the routes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from mlsystem.errors import StateError
from mlsystem.serving.answers import Refusal, refused_values, warned

if TYPE_CHECKING:
    from mlsystem.boundary import Warning_
    from mlsystem.online.fill import Filler
    from mlsystem.serving.answers import Predictions
    from mlsystem.serving.limits import InFlight, Limits
    from mlsystem.serving.metrics import Metrics
    from mlsystem.serving.model import Judged, Model
    from mlsystem.serving.recorder import Recorder

LOOP_ROWS = 50
"""Most rows that are predicted on the event loop."""

LOOP_S = 0.02
"""Longest time that the model may hold the event loop: with a slow one, single rows too are predicted in a thread."""

LOOP_BYTES = 32 * 1024
"""Largest body that is decoded on the event loop."""

Rows = Sequence[Mapping[str, Any]]
_Done = TypeVar("_Done")


class Predictor:
    """The way through the model; belongs to one event loop."""

    def __init__(
        self,
        limits: Limits,
        in_flight: InFlight,
        metrics: Metrics,
        threads: Executor,
        *,
        recorder: Recorder | None,
        filler: Filler | None = None,
    ) -> None:
        self._limits = limits
        self._in_flight = in_flight
        self._metrics = metrics
        self._threads = threads
        self._recorder = recorder
        self.filler = filler

    def fits_loop(self, model: Model, rows: Rows) -> bool:
        """Tell whether rows can be answered on the event loop: they are few, the model is fast, none is looked up."""
        if len(rows) > LOOP_ROWS or len(rows) * model.row_s > LOOP_S:
            return False
        return self.filler is None or not model.needs.entity or not any(map(model.needs.partial, rows))

    def at_once(self, model: Model, rows: Rows, started: float) -> Predictions:
        """Answer a few rows here and now; Refusal 422. `started` is time.perf_counter() at the request's begin."""
        judged = model.judge(rows, strict=self._limits.strict)
        self.note(model, rows, judged, started)
        return judged.answer

    async def answer(self, model: Model, rows: Rows, started: float | None = None) -> Predictions:
        """Answer rows, in a thread if they are many; Refusal 422, or 503 when the time limit passes."""
        started = time.perf_counter() if started is None else started
        if self.fits_loop(model, rows):
            return self.at_once(model, rows, started)
        whole, judged = await self.elsewhere(lambda: self.judge(model, rows), started)
        self.note(model, whole, judged, started)
        return judged.answer

    def judge(self, model: Model, rows: Rows) -> tuple[Rows, Judged]:
        """Complete partial rows and judge them; Refusal as `complete`, or 422. Blocks."""
        whole, warnings = self.complete(model, rows)
        judged = model.judge(whole, strict=self._limits.strict)
        if warnings:
            judged.answer.warnings = [*(judged.answer.warnings or []), *(warned(warnings) or [])]
        return whole, judged

    def complete(self, model: Model, rows: Rows) -> tuple[Rows, tuple[Warning_, ...]]:
        """Fill what partial rows lack from the online rows of their entities, and say what a caller should know.

        Raises: Refusal 422 for an unknown entity, 503 if nothing can be looked up. Blocks.
        """
        if self.filler is None:
            return rows, ()
        try:
            filled = self.filler.fill(rows, model.needs)
        except StateError as error:
            raise no_online_rows(error) from error
        if filled.problems:
            raise refused_values(filled.problems)
        return filled.rows, filled.warnings

    async def elsewhere(self, work: Callable[[], _Done], started: float) -> _Done:
        """Do work in a thread; Refusal 503 once `serving.timeout` has passed since `started`.

        Work that is late goes on unheard, and its place among the requests in flight is given back when it is done.
        """
        job = self._threads.submit(work)
        answer = asyncio.wrap_future(job)
        left_s = started + self._limits.timeout_s - time.perf_counter()
        done, _ = await asyncio.wait({answer}, timeout=max(0.0, left_s))
        if done:
            return answer.result()
        answer.add_done_callback(lambda late: late.cancelled() or late.exception())
        if not job.cancel():  # it runs
            self._keep_place(job)
        raise self._limits.timed_out()

    def note(self, model: Model, rows: Rows, judged: Judged, started: float) -> None:
        """Count what was answered, and hand it to the recorder."""
        self._metrics.predicted(judged.answer)
        if self._recorder is not None:
            self._recorder.take(model, rows, judged, time.perf_counter() - started)

    def _keep_place(self, job: Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        self._in_flight.keep()
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._in_flight.leave))


def no_online_rows(error: StateError) -> Refusal:
    """Return the 503 of rows that cannot be completed since the state is away."""
    return Refusal(503, "no_online_rows", f"rows cannot be completed now: {error.message}")
