"""The seed protocol's JSON, byte for byte: the shapes that programs outside the mesh already speak."""

from pathlib import Path

import pytest

from contracts.briefing import ContextRequest, Query
from contracts.message import Message
from contracts.report import ActivityReport

GOLDEN = Path(__file__).parent / "golden"

MODELS: dict[str, type[Message]] = {
    "context-request.json": ContextRequest,
    "activity-report.json": ActivityReport,
}


@pytest.mark.parametrize("name", MODELS)
def test_the_seeds_text_comes_back_byte_for_byte(name: str) -> None:
    """Decoding and writing with an indent of two gives the text of the protocol's definition."""
    golden = (GOLDEN / name).read_bytes()

    message = MODELS[name].from_bytes(golden)

    assert message.model_dump_json(indent=2).encode() + b"\n" == golden


@pytest.mark.parametrize("name", MODELS)
def test_the_wire_carries_the_seeds_json_without_its_white_space(name: str) -> None:
    """A body is compact: same fields, same order, no blanks outside strings."""
    golden = (GOLDEN / name).read_bytes()
    lines = [line.strip() for line in golden.splitlines()]
    compact = b"".join(line.replace(b'": ', b'":', 1) for line in lines)

    assert MODELS[name].from_bytes(golden).to_bytes() == compact


def test_the_seeds_request_is_understood() -> None:
    """The values arrive where the mesh reads them."""
    request = ContextRequest.from_bytes((GOLDEN / "context-request.json").read_bytes())

    assert request == ContextRequest(
        requesting_agent="ml-engineer",
        request_type="get_task_briefing",
        payload=Query(
            query="Initial briefing required for ML system deployment. Provide overview of existing ML models, "
            "training data, inference infrastructure, and relevant MLOps configuration files."
        ),
    )


def test_the_familys_other_spelling_of_a_report_reads_as_the_same_report() -> None:
    """`agent_name`, `lastActionSummary`, `filesModified`; such a report is sent when the work is done."""
    other = b'{"agent_name":"api-designer","lastActionSummary":"Wrote the API.","filesModified":["/api.yaml"]}'

    assert ActivityReport.from_bytes(other) == ActivityReport(
        reporting_agent="api-designer", status="success", summary="Wrote the API.", files_modified=("/api.yaml",)
    )


def test_both_spellings_are_written_in_the_first_one() -> None:
    """What is read in the other spelling is passed on in the protocol's own."""
    other = b'{"agent_name":"a","lastActionSummary":"b","filesModified":[]}'

    written = ActivityReport.from_bytes(other).to_bytes()

    assert written == b'{"reporting_agent":"a","status":"success","summary":"b","files_modified":[]}'


@pytest.mark.parametrize("facet", ["database", "frontend", "api-design", "ml_ops", "k8s"])
def test_a_context_request_of_a_facet_decodes_and_names_its_facet(facet: str) -> None:
    """`get_<facet>_context` is how the family asks for a briefing on one facet."""
    body = f'{{"requesting_agent":"x","request_type":"get_{facet}_context","payload":{{"query":"q"}}}}'.encode()

    request = ContextRequest.from_bytes(body)

    assert (request.facet, request.to_bytes()) == (facet, body)


@pytest.mark.parametrize("request_type", ["get_task_briefing", "get_file_location", "get_directory_purpose"])
def test_the_three_named_request_types_have_no_facet(request_type: str) -> None:
    """A facet belongs to `get_<facet>_context` alone."""
    request = ContextRequest(requesting_agent="x", request_type=request_type, payload=Query(query="q"))

    assert request.facet is None
