"""From a journal to claims with references."""

from pathlib import Path

import pytest

from contracts.events import Answer
from contracts.summary import Claim
from services.summarizer.claims import claims, outcome_of, sentence
from tests.services.summarizer.journals import (
    ANSWERED,
    BRIEFING,
    CASES,
    DELIVERED,
    DESIGNED,
    PACKAGED_AGAIN,
    PROMOTED,
    REPORT,
    REQUEST,
    WORKING,
    failed,
    journal,
    partial,
    success,
    workspace,
)


def test_a_success_is_told_with_its_evidence() -> None:
    """Each claim names the messages, or the files, that it comes from."""
    case = success()
    assert claims(case.state, case.history)[:5] == (
        Claim(text="checkout-churn version 1 is ready and predicts churned.", refs=("t/8", "t/9")),
        Claim(
            text="On rows that it never saw, ROC AUC is 0.848 (between 0.829 and 0.866); the best trivial guess"
            " reaches 0.5 and a linear model reaches 0.846.",
            refs=("t/8",),
        ),
        Claim(
            text="A plain linear model does as well, within the uncertainty of the measurement.",
            refs=("t/6",),
        ),
        Claim(text="The server answers in 3.14 ms at p99, within the 20 ms that were asked for.", refs=("t/8",)),
        Claim(text="It passed every check: gain over guessing, latency.", refs=("t/8",)),
    )


def test_what_is_missing_is_told_gate_by_gate_and_requirement_by_requirement() -> None:
    """A partial outcome says what does not hold and what it would take."""
    case = partial()
    texts = [claim.text for claim in claims(case.state, case.history)]
    assert "The check of latency failed: measured 31.4, required 20." in texts
    assert "Not met: nfr.consistency = strong: serving.state on PostgreSQL is not supported yet." in texts


def test_a_failure_tells_the_reason_and_offers_nothing_to_type() -> None:
    """Nothing was delivered, so there is nothing to serve."""
    case = failed()
    assert claims(case.state, case.history) == (
        Claim(
            text="The request could not be carried out. There is no file data/chrun.csv in the workspace; did you"
            " mean data/churn.csv?",
            refs=("t/4",),
        ),
        Claim(text="Known from /README.md: latency 20 ms p99.", refs=("t/3", "/README.md")),
        Claim(text="Known from /README.md: rate 50 rps.", refs=("t/3", "/README.md")),
        Claim(
            text="The request was: “Predict which customers will churn from data/churn.csv; our web checkout calls"
            " it, p99 under 20 ms”",
            refs=("t/1",),
        ),
    )


def test_the_surest_fact_of_a_field_is_told_alone() -> None:
    """Two sources that differ are not both the truth."""
    case = success()
    texts = " ".join(claim.text for claim in claims(case.state, case.history))
    assert "rate 50 rps" in texts
    assert "5 rps" not in texts.replace("50 rps", "")


def test_an_answer_refers_to_the_message_that_gave_it() -> None:
    """An answer in the request refers to the request, a later one to its own message."""
    goal = Answer(question_id="business.goal", value="keep customers")
    case = journal(REQUEST.model_copy(update={"answers": (goal,)}), WORKING, BRIEFING, ANSWERED, REPORT)
    told = {claim.text: claim.refs for claim in claims(case.state, case.history) if "Answered" in claim.text}
    assert told == {"Answered: goal keep customers.": ("t/1",), "Answered: availability 99.9 %.": ("t/4",)}


@pytest.mark.parametrize(
    ("version", "promoted", "command"),
    [
        (1, True, None),
        (2, True, "rollback"),
        (2, False, "promote 2"),
    ],
)
def test_what_to_type_next_fits_what_is_serving(version: int, *, promoted: bool, command: str | None) -> None:
    """A first version has nothing to go back to; a version that serves nobody is offered for promotion."""
    delivered = DELIVERED.model_copy(update={"version": version})
    steps = (PROMOTED,) if promoted else ()
    case = journal(REQUEST, WORKING, DESIGNED, *steps, delivered, REPORT)
    texts = [claim.text for claim in claims(case.state, case.history)]
    engine = "cd ml/checkout_churn && PYTHONPATH=vendor/mlsystem-0.1.0-py3-none-any.whl python -m mlsystem"
    assert "Start the server with `mlmesh serve ml/checkout_churn`." in texts
    assert [text for text in texts if engine in text] == [text for text in texts if command and command in text]


def test_a_version_that_did_not_change_is_told_as_such() -> None:
    """The same package makes no new version, and there is nothing to promote."""
    delivered = DELIVERED.model_copy(update={"version": 2})
    case = journal(REQUEST, WORKING, DESIGNED, PACKAGED_AGAIN, delivered, REPORT)
    told = claims(case.state, case.history)
    assert told[1] == Claim(text="Nothing that the model depends on has changed: version 2 stands.", refs=("t/4",))
    assert not [claim for claim in told if "promote" in claim.text]


@pytest.mark.parametrize("name", CASES)
def test_every_reference_is_a_message_of_the_journal_or_a_file(name: str, tmp_path: Path) -> None:
    """A reference that leads nowhere supports nothing."""
    case = CASES[name]
    ids = {event.metadata.id for event in case.history}
    directory = workspace(tmp_path)
    for claim in claims(case.state, case.history):
        assert claim.refs
        assert all(ref in ids or (ref.startswith("/") and (directory / ref[1:]).exists()) for ref in claim.refs)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("success", "success"), ("partial", "partial"), ("failed", "failed"), ("failed checks", "failed")],
)
def test_the_report_decides_the_outcome(name: str, outcome: str) -> None:
    """What the agent reported is what people are told."""
    assert outcome_of(CASES[name].state) == outcome


def test_a_task_without_a_report_is_no_success() -> None:
    """Nothing reported, nothing claimed."""
    assert outcome_of(journal(REQUEST, WORKING, DELIVERED).state) == "failed"


def test_other_peoples_words_are_one_line_without_secrets() -> None:
    """A quote is cut at a word and redacted."""
    assert sentence("a\n  b") == "a b."
    assert sentence("Use password: 'hunter2hunter2'") == "Use password: '[redacted value]'."
    assert sentence("word " * 100, longest=20) == "word word word word …"
