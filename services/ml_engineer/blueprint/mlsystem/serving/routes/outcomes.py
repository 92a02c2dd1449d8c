"""POST /outcomes: what really happened, joined to the predictions that were given.

Owns the wire shape and what an outcome may be: a label of the contract, or a number. One bad outcome refuses all of
the request, so that it can be mended and sent again; sending the same ones twice counts them as duplicates. Leaves
the join to the state.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from starlette.routing import Route

from mlsystem.boundary import Problem, Refused, canonical, parse_number
from mlsystem.errors import StateError
from mlsystem.serving.answers import MAX_DETAILS, Limit, Refusal, encode, unprocessable
from mlsystem.serving.intake import decode, read_body
from mlsystem.serving.recorder import TURN_S
from mlsystem.serving.routes.endpoint import Endpoint, Reply
from mlsystem.state.port import Outcome, Recorded

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from mlsystem.schema import Schema
    from mlsystem.serving.service import Service
    from mlsystem.state.port import State

PATH: Final = "/outcomes"
_WRITTEN_S: Final = 1.5 * TURN_S
"""After this time a prediction that another worker or replica answered is in the state, if that is not overloaded."""

_MOST_WAITING: Final = 8
"""Requests that wait at once: each keeps a place that /predict could have."""

_SHAPE: Final = 'send a JSON object {"outcomes": [{"id": "...", "actual": ...}, ...]}'
SHAPE_EXAMPLE: Final = {"id": "5c2b8c9e-3f0e-4d52-9b0c-6d7f6a3e1c11"}
"""An outcome as documents show it, without what happened."""
LONGEST: Final = 500
"""Characters of an id or an entity."""

_SHOWN = 60


class Outcomes:
    """Records outcomes in the state of the server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive) -> Reply:
        """Record the outcomes of one request; those of predictions that are just being written are waited for."""
        service, started = self._service, time.perf_counter()
        body = await read_body(scope, receive, service.limits)
        state = service.state
        if state is None:
            raise Refusal(503, "no_state", "this server keeps no predictions that outcomes could belong to")
        schema, at = service.live.require().schema, time.time()
        elsewhere = service.predictor.elsewhere
        outcomes = await elsewhere(lambda: read_outcomes(decode(body), schema, service.limits.max_rows, at), started)
        recent = any(outcome.time is not None and outcome.time > at - _WRITTEN_S for outcome in outcomes)
        if recent and not await self._written():  # an older prediction for the entity would be taken
            message = f"{_MOST_WAITING} requests wait already for predictions that are being written; try again"
            raise Refusal(429, "too_many_requests", message, limit=Limit("outcomes waiting", _MOST_WAITING))
        recorded = await elsewhere(lambda: _record(state, outcomes), time.perf_counter())
        if recorded.unknown and await self._written():
            recorded = _both(recorded, await elsewhere(lambda: _record(state, outcomes), time.perf_counter()))
        return Reply(encode(recorded), status=202)

    async def _written(self) -> bool:
        """Wait until what was answered before now is in the state; False at once if too many wait already."""
        if self._waiting >= _MOST_WAITING:
            return False
        self._waiting += 1
        try:
            recorder = self._service.recorder
            others = asyncio.sleep(_WRITTEN_S)
            await (others if recorder is None else asyncio.gather(others, recorder.caught_up()))
        finally:
            self._waiting -= 1
        return True


def _record(state: State, outcomes: list[Outcome]) -> Recorded:
    try:
        return state.record(outcomes)
    except StateError as error:
        message = f"the outcomes were not recorded ({error.code}); send them again"
        raise Refusal(503, "state_unavailable", message) from error


def _both(first: Recorded, again: Recorded) -> Recorded:
    """Return what became of outcomes that were recorded twice: what was accepted at first is no duplicate."""
    return Recorded(first.accepted + again.accepted, again.unknown, max(0, again.duplicate - first.accepted))


def read_outcomes(content: object, schema: Schema, max_rows: int, at: float) -> list[Outcome]:
    """Return the outcomes of a request, told at `at`.

    Raises: Refusal 413 for too many, 422 for another shape or for values that the contract does not know.
    """
    found = cast("dict[str, object]", content).get("outcomes") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise unprocessable("invalid_shape", _SHAPE)
    items = cast("list[object]", found)
    if not items:
        raise unprocessable("no_outcomes", "`outcomes` is empty; send at least one")
    if len(items) > max_rows:
        raise _too_many(len(items), max_rows)
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    for row, item in enumerate(items):
        try:
            outcomes.append(_outcome(item, schema, at))
        except _Bad as bad:
            problems.append(Problem(row, bad.field, bad.reason, _shown(bad.got)))
    if problems:
        first, more = problems[0], len(problems) - 1
        message = f"outcome {first.row}, {first.column or 'as a whole'}: {first.reason}"
        message += f"; and {more} more" if more else ""
        raise unprocessable("invalid_outcomes", message, problems[:MAX_DETAILS])
    return outcomes


def routes(service: Service) -> list[Route]:
    """Return the route."""
    return [Route(PATH, Endpoint(service, Outcomes(service)), methods=["POST"])]


class _Bad(Exception):  # noqa: N818 - an outcome is refused, the program is fine
    """A field that cannot be taken."""

    def __init__(self, field: str, reason: str, got: object = "") -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.got = got


def _outcome(item: object, schema: Schema, at: float) -> Outcome:
    if not isinstance(item, dict):
        raise _Bad("", "an outcome must be an object", item)
    fields = cast("dict[str, object]", item)
    if ("id" in fields) == ("entity" in fields):
        raise _Bad("id", "name the prediction by `id`, or by `entity` and `time`, not by both")
    if "actual" not in fields:
        raise _Bad("actual", "missing; it is what really happened")
    actual = _actual(fields["actual"], schema)
    if "id" in fields:
        return Outcome(actual, at, id=_name("id", fields["id"]))
    entity = _name("entity", fields["entity"])
    if "time" not in fields:
        raise _Bad("time", "missing; with `entity` it says which prediction is meant: the newest one until then")
    return Outcome(actual, at, entity=entity, time=_time(fields["time"]))


def _name(field: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Bad(field, "must be a text", value)
    text = canonical(str(value)) if field == "entity" else str(value).strip()
    if not text or len(text) > LONGEST:
        raise _Bad(field, f"must have between 1 and {LONGEST} characters", value)
    return text


def _actual(value: object, schema: Schema) -> str | float:
    task = schema.task
    if not task.labels:
        return _number(value, schema)
    texts = _BOOLEANS[value] if isinstance(value, bool) else (canonical(str(value)),)
    label = next((text for text in texts if text in task.labels), None)
    if label is None or not isinstance(value, str | int | float):
        raise _Bad("actual", f"is none of the labels {', '.join(task.labels[:20])}", value)
    return label


_BOOLEANS: Final = {True: ("true", "True", "TRUE"), False: ("false", "False", "FALSE")}


def _number(value: object, schema: Schema) -> float:
    try:
        if isinstance(value, str):
            return parse_number(value.strip(), schema.column(schema.task.target).decimal)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Bad("actual", "is not a finite number", value)
        return float(value)
    except (Refused, OverflowError) as error:
        raise _Bad("actual", str(error), value) from None


def _time(value: object) -> float:
    """Return a moment as seconds since 1970: RFC 3339, UTC where it names no zone, or such seconds themselves."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise _Bad("time", "is no time such as 2024-01-31T12:00:00Z", value) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Bad("time", "must be a text such as 2024-01-31T12:00:00Z, or seconds since 1970", value)
    return float(value)


def _too_many(count: int, most: int) -> Refusal:
    message = f"{count} outcomes are more than {most} in one request; split them"
    return Refusal(413, "too_many_rows", message, limit=Limit("serving.max_rows", most))


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)[:_SHOWN]
    return text[:_SHOWN].encode("utf-8", "replace").decode()
