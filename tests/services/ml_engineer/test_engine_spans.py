"""Spans that the engine's process tells of, as part of the step that ran it."""

import pytest

from services._runtime.telemetry import SpanRecord
from services.ml_engineer.engine import hung_under

STEP = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def span(span_id: str, parent_id: str) -> SpanRecord:
    """A span of a second."""
    return SpanRecord(
        name=span_id,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id=span_id,
        parent_id=parent_id,
        start_ns=0,
        end_ns=10**9,
        attributes={},
    )


@pytest.mark.parametrize(
    ("told", "parents"),
    [
        # the whole run: a span is told of when it ends, the inner ones first
        (
            [("fit", "stage"), ("stage", "command"), ("command", "b7ad6b7169203331")],
            ["stage", "command", "b7ad6b7169203331"],
        ),
        # killed before `stage` and `command` ended: nobody will ever tell of them
        ([("fit", "stage")], ["b7ad6b7169203331"]),
        ([("fit", "stage"), ("inner", "fit")], ["b7ad6b7169203331", "fit"]),
    ],
)
def test_spans_of_a_killed_run_hang_under_its_step(told: list[tuple[str, str]], parents: list[str]) -> None:
    """A parent that is missing would leave them outside the tree."""
    spans = [span(*ids) for ids in told]
    assert [found.parent_id for found in hung_under(spans, STEP)] == parents
    assert hung_under(spans, "") == spans
