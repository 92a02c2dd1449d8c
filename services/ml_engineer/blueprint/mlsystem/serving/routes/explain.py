"""POST /explain: rows in; for each the prediction and what every column did to it.

Owns the wire shape and how many rows one request may ask about, here and of /predict. An explanation is not captured
and has no id: it is about a prediction, it is none. Leaves the effects to `serving.explain`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.routing import Route

from mlsystem.boundary import Encoded, Problem
from mlsystem.governance.mask import mask_of
from mlsystem.serving.answers import Limit, ModelName, Reason, Refusal, Warned, encode, refused_values, warned
from mlsystem.serving.explain import Effects, Explainer, Stopped
from mlsystem.serving.intake import Rows, parse_rows, read_body
from mlsystem.serving.model import unanswerable
from mlsystem.serving.routes.endpoint import Endpoint, Reply

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from mlsystem.serving.model import Judged, Model
    from mlsystem.serving.service import Service
    from mlsystem.spec import Spec

PATH: Final = "/explain"
MAX_ROWS: Final = 20
"""Rows of one request: each takes as long as some thousand predictions."""


class Explanation(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Why a row's score is not the mean one: base plus all effects is the score."""

    version: int
    prediction: str | float
    probabilities: dict[str, float] | None = None
    explains: str
    """Which score: the probability of a label, or the target's value."""
    base: float
    """Mean score of the reference rows."""
    score: float
    reasons: list[Reason]
    """The columns that moved the score, the strongest first."""


class Explanations(msgspec.Struct, omit_defaults=True):
    """The answer of POST /explain."""

    model: ModelName
    reference_rows: int
    """Rows of the training data that each row was compared with."""
    explanations: list[Explanation]
    warnings: list[Warned] | None = None


class Reasons:
    """Tells reasons of single rows; keeps the explainer of the newest model."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._kept: tuple[Model, Explainer] | None = None

    def explainer(self, model: Model) -> Explainer:
        """Return the explainer of a model."""
        kept = self._kept
        if kept is None or kept[0] is not model:
            kept = self._kept = (model, Explainer(model))
        return kept[1]

    def shown(self, model: Model, rows: Rows) -> Rows:
        """Return the rows as an explanation may repeat them: under a regime without personal data."""
        if not self._spec.governance.regime:
            return rows
        mask = mask_of(model.schema, self._spec)
        return [mask(row) for row in rows]


class Explain:
    """Explains rows with the model that answers."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reasons = Reasons(service.spec)

    async def __call__(self, scope: Scope, receive: Receive) -> Reply:
        """Answer one request in a thread; what is late is told to stop."""
        stop, started = threading.Event(), time.perf_counter()
        body = await read_body(scope, receive, self._service.limits)
        try:
            return await self._service.predictor.elsewhere(lambda: self._answer(body, stop), started)
        finally:
            stop.set()

    def _answer(self, body: bytes, stop: threading.Event) -> Reply:
        limits = self._service.limits
        model = self._service.live.require()
        rows = parse_rows(body, limits)
        require_few(rows)
        whole, late = self._service.predictor.complete(model, rows)
        rows = [dict(row) for row in whole]
        encoded = model.boundary.rows(rows, strict=limits.strict)
        if encoded.problems:
            raise refused_values(encoded.problems)
        explainer = self._reasons.explainer(model)
        try:
            told = explain(model, explainer, (self._reasons.shown(model, rows), encoded), stop)
        except Stopped:  # the caller has been told by now
            raise limits.timed_out() from None
        return Reply(encode(Explanations(model.name, explainer.references, told, warned((*encoded.warnings, *late)))))


def require_few(rows: Rows) -> None:
    """Refuse more rows than can be explained in one request: Refusal 413."""
    if len(rows) > MAX_ROWS:
        message = f"{len(rows)} rows are more than {MAX_ROWS} in one request for explanations; split them"
        raise Refusal(413, "too_many_rows", message, limit=Limit("rows with explanations", MAX_ROWS))


def explain(
    model: Model, explainer: Explainer, asked: tuple[Rows, Encoded], stop: threading.Event
) -> list[Explanation]:
    """Return an explanation for every row, given as it may be shown and as it was encoded.

    Raises: Refusal 422 where a score is no number; Stopped.
    """
    rows, encoded = asked
    scores = model.score(encoded)
    if problems := unanswerable(scores):
        raise refused_values(problems)
    answers = model.predictions(scores, [""] * len(rows))
    labels = model.schema.task.labels
    told: list[Explanation] = []
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        output = _explained(labels, answer.prediction)
        effects = effects_of(explainer, encoded, index, output, stop)
        told.append(
            Explanation(
                version=answer.version,
                prediction=answer.prediction,
                probabilities=answer.probabilities,
                explains=f"probability of {labels[output]}" if labels else model.schema.task.target,
                base=effects.base,
                score=effects.score,
                reasons=reasons_of(row, effects),
            )
        )
    return told


def with_reasons(reasons: Reasons, most: int, asked: tuple[Model, Rows, Judged], stop: threading.Event) -> None:
    """Put the `most` strongest reasons into each prediction of an answer; Refusal 422, Stopped."""
    model, rows, judged = asked
    explainer, labels = reasons.explainer(model), model.schema.task.labels
    for index, row in enumerate(reasons.shown(model, rows)):
        answer = judged.answer.predictions[index]
        output = _explained(labels, answer.prediction)
        answer.reasons = reasons_of(row, effects_of(explainer, judged.encoded, index, output, stop))[:most]


def routes(service: Service) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Endpoint(service, Explain(service)), methods=["POST"])]


def _explained(labels: tuple[str, ...], prediction: str | float) -> int:
    """Return the position of the score that is explained: the positive label's, or the predicted one's of several."""
    return 1 if len(labels) == 2 else labels.index(str(prediction)) if labels else 0


def effects_of(explainer: Explainer, encoded: Encoded, index: int, output: int, stop: threading.Event) -> Effects:
    """Return what moved one score; Refusal 422 if it is no number near the row, Stopped."""
    effects = explainer.explain(encoded.numbers[index], encoded.strings[index], output, stop.is_set)
    if effects.score - effects.score + effects.base - effects.base != 0:  # only numbers that are finite
        raise refused_values((Problem(index, "", "the model has no finite answer near these values", ""),))
    return effects


def reasons_of(row: Mapping[str, Any], effects: Effects) -> list[Reason]:
    """Return the columns that moved a score, the strongest first."""
    reasons = [Reason(column, row.get(column), effect) for column, effect in effects.effects.items()]
    return sorted(reasons, key=lambda reason: -abs(reason.effect))
