"""The summarizer's verb, with the real SDK against a strict server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contracts.summary import Summary
from services._runtime.llm import Access, Claude, Limit, Patience, resolve
from services.summarizer.claims import claims, statements
from services.summarizer.handlers import summarise
from services.summarizer.prose import Prose
from services.summarizer.template import told
from tests.fakes.anthropic_api import KEY, FakeAnthropic, Refusal, Reply, says
from tests.services.summarizer.journals import CASES, workspace

GOOD = "checkout-churn version 1 is ready.\n\nROC AUC is 0.85. Start it with `mlmesh serve ml/checkout_churn`."


def template(case: str) -> Summary:
    text, made = told(statements(CASES[case].state, CASES[case].history))
    state = CASES[case].state
    assert state.report is not None
    return Summary(text=text, claims=made, outcome=state.report.status)


@asynccontextmanager
async def writer(fake: FakeAnthropic, *, tokens: int = 50_000) -> AsyncGenerator[Claude]:
    """Claude on the fake."""
    access = Access(api_key=KEY, base_url=fake.url)
    limit = Limit(tokens=tokens, cost_usd=1.0)
    claude = Claude(access, model=resolve("haiku"), limit=limit, patience=Patience(base_delay_s=0.001))
    try:
        yield claude
    finally:
        await claude.close()


async def summary(case: str, tmp_path: Path, *script: Reply | Refusal, tokens: int = 50_000) -> Summary:
    journal = CASES[case]
    with FakeAnthropic(*script) as fake:
        async with writer(fake, tokens=tokens) as claude:
            return await summarise(journal.state, journal.history, workspace=workspace(tmp_path), writer=claude)


def prose(text: str) -> Reply:
    return says(Prose(text=text).model_dump_json())


@pytest.mark.parametrize("case", CASES)
async def test_without_a_writer_the_template_speaks(case: str, tmp_path: Path) -> None:
    """No key, no network: the summary is there all the same."""
    journal = CASES[case]
    assert await summarise(journal.state, journal.history, workspace=tmp_path) == template(case)


async def test_prose_that_passes_the_checks_is_shown(tmp_path: Path) -> None:
    """Claude's words, and every claim that it was given."""
    journal = CASES["success"]
    assert await summary("success", tmp_path, prose(f" {GOOD}\n")) == Summary(
        text=GOOD, claims=claims(journal.state, journal.history), outcome="success"
    )


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("success", GOOD.replace("0.85", "0.91")),
        ("success", GOOD + " It is described in /docs/none.md."),
        ("partial", "The work was completed successfully."),
        ("failed", "A model was trained and delivered. One step failed."),
        ("success", ""),
    ],
)
async def test_prose_that_says_more_than_the_journal_is_replaced_by_the_template(
    case: str, text: str, tmp_path: Path
) -> None:
    """A text that does not pass is not shown, not even in part."""
    assert await summary(case, tmp_path, prose(text)) == template(case)


@pytest.mark.parametrize(
    "script",
    [
        (Refusal(529, "overloaded_error"),) * 3,
        (Refusal(401, "authentication_error"),),
        (Refusal(429, "rate_limit_error", error_code="enforced_spend_limit_reached"),),
        (Reply(content=prose(GOOD).content, until="cut"),) * 3,
        (says("I would rather not.", stop_reason="refusal"),),
        (says("not json"),) * 3,
    ],
    ids=["overloaded", "wrong key", "spend limit", "cut", "refusal", "no JSON"],
)
async def test_a_writer_that_fails_leaves_the_template(script: tuple[Reply | Refusal, ...], tmp_path: Path) -> None:
    """Whatever happens to the model, the person gets a summary."""
    assert await summary("success", tmp_path, *script) == template("success")


async def test_a_limit_that_is_too_small_leaves_the_template(tmp_path: Path) -> None:
    """The call that does not fit is never made."""
    assert await summary("success", tmp_path, prose(GOOD), tokens=10) == template("success")


async def test_the_writer_sees_the_claims_and_nothing_else(tmp_path: Path) -> None:
    """Neither the journal nor the workspace leaves the machine."""
    journal = CASES["partial"]
    with FakeAnthropic(prose("x")) as fake:
        async with writer(fake) as claude:
            await summarise(journal.state, journal.history, workspace=workspace(tmp_path), writer=claude)
    sent = fake.requests[0]["messages"][0]["content"]
    lines = [f"{at}. {claim.text}" for at, claim in enumerate(claims(journal.state, journal.history), start=1)]
    assert sent == "\n".join(["The work ended as: partial\n\nClaims:", *lines])
