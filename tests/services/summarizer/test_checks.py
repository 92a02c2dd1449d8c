"""What a text about a task may say."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.summarizer.checks import problems, sources
from tests.services.summarizer.journals import CASES, workspace

LOOKS_SECRET = "sk-ant-" + "api03-" + "a1B2c3D4" * 4


def check(text: str, tmp_path: Path, *, case: str = "success") -> tuple[str, ...]:
    journal = CASES[case]
    return problems(text, sources(journal.state, journal.history, workspace=workspace(tmp_path)))


@pytest.mark.parametrize(
    "text",
    [
        "ROC AUC is .85, between 0.83 and 0.87; guessing reaches 0.5.",
        "ROC AUC is 0.8476 and about 85 % of pairs are ranked right (84.8 percent).",
        "Latency at p99 is 3.1 ms, and the objective was 20ms.",
        "It needs 99.9% availability at 50 rps.",
        "Built on 2026-04-03, that is 3 April 2026, with engine 0.1.0.",
        "Version 1 of checkout-churn is ready; see /ml/checkout_churn/docs/design.md.",
        "Read `ml/checkout_churn/README.md`, then `docs/design.md`, then /README.md:14.",
        "Type `cd ml/checkout_churn && PYTHONPATH=vendor/mlsystem-0.1.0-py3-none-any.whl python -m mlsystem history`.",
        "The ml-engineer built it on what the context-manager knew and the data-engineer had exported.",
        "It was trained successfully, and every check passed.",
        "Read/write patterns, yes/no answers and 50 requests a second are no paths.",
        "The request named data/churn.csv.",
    ],
)
def test_a_true_text_passes(text: str, tmp_path: Path) -> None:
    """Rounding, percents, spoken dates, relative paths and commands are all the same facts."""
    assert check(text, tmp_path) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ROC AUC is 0.86.", "number 0.86 occurs in no message"),
        ("ROC AUC is 0.84.", "number 0.84 occurs in no message"),
        ("ROC AUC is 86 %.", "number 86 occurs in no message"),
        ("ROC AUC changed by -0.848.", "number -0.848 occurs in no message"),
        ("It answers 1,250 requests.", "number 1,250 occurs in no message"),
        ("It answers at p95.", "p95 occurs in no message"),
        ("Engine 0.2.0 was used.", "version 0.2.0 occurs in no message"),
        ("This is v7.", "version 7 occurs in no message"),
        ("It was built on 2026-04-05.", "date 2026-04-05 occurs in no message"),
        ("It was built on 5 April 2026.", "date 2026-04-05 occurs in no message"),
        ("See /ml/checkout_churn/docs/guide.md.", "path /ml/checkout_churn/docs/guide.md does not exist"),
        (f"See /{'x' * 5000}.", f"path /{'x' * 5000} does not exist"),
        ("See `ml/other`.", "path ml/other does not exist"),
        ("See docs/guide.md.", "path docs/guide.md does not exist"),
        ("See /../../etc/passwd.", "path /../../etc/passwd does not exist"),
        ("See https://example.org/x.", "address https://example.org/x. occurs in no message"),
        ("The qa-engineer agreed.", "agent qa-engineer is not in the journal"),
        ("The summarizer agreed.", "agent summarizer is not in the journal"),
        ("It is deployed to the cluster.", "tells as done what no step did: deploy"),
        ("The model was rolled back.", "tells as done what no step did: rollback"),
        ("The model is now monitored.", "tells as done what no step did: monitor"),
        (f"The key is {LOOKS_SECRET}.", "holds something that looks like a secret: anthropic key"),
        ("", "the text is empty"),
        ("word " * 221, "221 words, at most 200"),
    ],
)
def test_what_no_message_says_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """A number, version, date, path, address, agent or deed that the journal does not hold."""
    assert problem in check(text, tmp_path)


def test_what_a_step_did_may_be_told(tmp_path: Path) -> None:
    """The journal has a step that promoted, and none that deployed."""
    assert check("Version 1 was promoted.", tmp_path) == ()
    assert check("Version 2 was promoted; the rest failed.", tmp_path, case="partial") == (
        "tells as done what no step did: promote",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("The work was completed successfully.", "tells 'successfully' of work that ended as partial"),
        ("Everything is ready. One check failed.", "tells 'ready' of work that ended as partial"),
        ("Every check passed. One requirement is unmet.", "tells 'Every check passed' of work that ended as partial"),
        ("It was built and predicts churned.", "does not tell that the work ended as partial"),
        ("Latency is within bounds. Part of it failed.", "tells 'latency' as if it were done"),
        ("Strong consistency is ensured. One check failed.", "tells 'consistency' as if it were done"),
    ],
)
def test_a_partial_outcome_is_not_told_as_success(text: str, problem: str, tmp_path: Path) -> None:
    """Success words, a shortfall that is not told, and failed or unmet things told as done."""
    assert problem in check(text, tmp_path, case="partial")


@pytest.mark.parametrize(
    "text",
    [
        "Version 2 is built, but it is not a success: latency was 31.4 ms, over the 20 ms asked for.",
        "The work is not complete: strong consistency is not supported yet.",
        "Checkout-churn could not be finished as asked. Latency failed at 31.4 ms.",
    ],
)
def test_a_partial_outcome_that_is_told_as_one_passes(text: str, tmp_path: Path) -> None:
    """Saying what is not there is what the summary is for."""
    assert check(text, tmp_path, case="partial") == ()


def test_nothing_is_built_where_nothing_was_delivered(tmp_path: Path) -> None:
    """A failed task without a delivery built nothing, whatever the prose says."""
    wrong = "A model was trained. It failed later."
    assert check(wrong, tmp_path, case="failed") == ("tells of something built where nothing was delivered",)
    assert check("Nothing was built: there is no file data/chrun.csv.", tmp_path, case="failed") == ()


def test_a_file_of_the_report_may_be_named_before_it_is_seen(tmp_path: Path) -> None:
    """The report's files count even where the workspace is not at hand."""
    journal = CASES["success"]
    held = sources(journal.state, journal.history, workspace=tmp_path / "elsewhere")
    assert problems("See /ml/checkout_churn/README.md.", held) == ()
    assert problems("See /README.md.", held) == ("path /README.md does not exist",)


@given(text=st.text(alphabet="0123456789.,-\u2212+eE%/`:vpx \n;@~\\'\"é٣²") | st.text())
def test_any_text_gets_a_verdict(text: str) -> None:
    """Whatever a model writes is judged; nothing makes a check fall over."""
    journal = CASES["partial"]
    held = sources(journal.state, journal.history, workspace=Path("/nowhere"))
    assert all(problems(text, held))
