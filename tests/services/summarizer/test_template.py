"""The summary without a model."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import Gate
from services.summarizer.checks import problems, sources
from services.summarizer.claims import Statement, statements
from services.summarizer.template import MAX_WORDS, told
from tests.services.summarizer.journals import CASES, DELIVERED, DESIGNED, REPORT, REQUEST, WORKING, journal, workspace


def text_of(name: str) -> str:
    case = CASES[name]
    return told(statements(case.state, case.history))[0]


def test_a_success_reads_well() -> None:
    """How it ended, how good it is, what it rests on, where it is and what to type: the whole text."""
    assert text_of("success") == (
        "checkout-churn version 1 is ready and predicts churned. On rows that it never saw, ROC AUC is 0.848"
        " (between 0.829 and 0.866); the best trivial guess reaches 0.5 and a linear model reaches 0.846. A plain"
        " linear model does as well, within the uncertainty of the measurement. The server answers in 3.14 ms at p99,"
        " within the 20 ms that were asked for.\n\n"
        "It passed every check: gain over guessing, latency.\n\n"
        "In the data: customer_id names a row; country: constant, dropped. Known from /README.md: latency 20 ms p99;"
        " rate 50 rps. Answered: availability 99.9 %. Not confirmed: A false alarm costs as much"
        " as a missed customer; Rows are kept for 30 days.\n\n"
        "Everything is in /ml/checkout_churn; start with /ml/checkout_churn/README.md and"
        " /ml/checkout_churn/docs/design.md. Start the server with `mlmesh serve ml/checkout_churn`.\n\n"
        "The request was: “Predict which customers will churn from data/churn.csv; our web checkout calls it, p99"
        " under 20 ms”"
    )


def test_a_failure_reads_well() -> None:
    """The reason first, and it says what to do."""
    assert text_of("failed") == (
        "The request could not be carried out. There is no file data/chrun.csv in the workspace; did you mean"
        " data/churn.csv?\n\n"
        "Known from /README.md: latency 20 ms p99; rate 50 rps.\n\n"
        "The request was: “Predict which customers will churn from data/churn.csv; our web checkout calls it, p99"
        " under 20 ms”"
    )


@pytest.mark.parametrize("name", ["partial", "failed checks"])
def test_what_is_wrong_comes_before_what_is_good(name: str) -> None:
    """The outcome opens the text, and every failing statement is in it."""
    case = CASES[name]
    found = statements(case.state, case.history)
    text, claims = told(found)
    assert text.startswith(found[0].claim.text)
    assert all(statement.claim in claims for statement in found if statement.failing)


@pytest.mark.parametrize("name", CASES)
def test_the_template_passes_the_checks_that_prose_must_pass(name: str, tmp_path: Path) -> None:
    """What stands in for prose is held to the same rules."""
    case = CASES[name]
    assert problems(text_of(name), sources(case.state, case.history, workspace=workspace(tmp_path))) == ()


def test_the_claims_are_those_that_the_text_makes() -> None:
    """Each claim's words stand in the text, up to openings that are shared."""
    case = CASES["success"]
    text, claims = told(statements(case.state, case.history))
    assert all(claim.text.partition(": ")[2].removesuffix(".") in text for claim in claims)


@given(
    reasons=st.lists(st.text(alphabet="abc .:;", max_size=150), max_size=30),
    assumptions=st.lists(st.text(alphabet="abc .:;", max_size=150), max_size=30),
)
def test_the_text_stays_short_whatever_was_recorded(reasons: list[str], assumptions: list[str]) -> None:
    """At most 200 words, and the outcome is always told."""
    gates = tuple(Gate(name=f"gate_{at}", passed=False, text=text) for at, text in enumerate(reasons))
    delivered = DELIVERED.model_copy(update={"gates": gates, "outcome": "partial"})
    designed = DESIGNED.model_copy(update={"assumptions": tuple(assumptions)})
    report = REPORT.model_copy(update={"status": "partial"})
    case = journal(REQUEST, WORKING, designed, delivered, report)
    found: tuple[Statement, ...] = statements(case.state, case.history)
    text, _ = told(found)
    assert len(text.split()) <= MAX_WORDS
    assert text.startswith("checkout-churn version 1 is built")
