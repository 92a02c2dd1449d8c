"""Facts from prose: precision before recall."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.context_manager.facts import facts_of
from services.context_manager.facts.finding import Source
from services.context_manager.outlines import outline
from services.context_manager.secrecy import without_secrets


def said(text: str, path: str = "/docs/notes.md") -> list[tuple[str, str]]:
    """What a document states or mentions, without its description."""
    return [(f"{f.slot}.{f.field}", f.value) for f in facts_of(Source(path, text))]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("The p99 latency must stay under 20 ms.", [("nfr.latency", "20 ms p99")]),
        ("Latency: p50 under 5 ms, p99 under 20 ms.", [("nfr.latency", "20 ms p99")]),
        ("Answers must not take more than 200 ms (p95).", [("nfr.latency", "200 ms p95")]),
        ("99.9 % of requests are answered within 150 ms.", [("nfr.latency", "150 ms p99.9")]),
        ("The p99 latency must not exceed 0.2 seconds.", [("nfr.latency", "200 ms p99")]),
        ("Response time: sub-50ms at the 99th percentile.", [("nfr.latency", "50 ms p99")]),
        ("The service should answer within 100ms.", [("nfr.latency", "100 ms")]),
        ("- **Response Time**: < 200ms p95 for API calls", [("nfr.latency", "200 ms p95")]),
        ("It serves about 50 requests per second.", [("scale.rate", "50 rps")]),
        ("Around 1,200 rps on average, peak 3x.", [("scale.rate", "1200 rps"), ("scale.spikes", "peak 3x")]),
        ("Load: 50 rps (peak: 150 rps)", [("scale.rate", "50 rps"), ("scale.spikes", "150 rps")]),
        ("50 requests a second, peaking at 200.", [("scale.rate", "50 rps"), ("scale.spikes", "200 rps")]),
        ("Traffic triples on Black Friday.", [("scale.spikes", "peak 3x")]),
        ("Expected load is 50-100 rps.", [("scale.rate", "100 rps")]),
        ("We receive 2 million requests per day.", [("scale.rate", "23.1 rps")]),
        ("Handle 10,000 requests/second peak", [("scale.spikes", "10000 rps")]),
        ("Availability objective: three nines.", [("nfr.availability", "99.9 %")]),
        ("Uptime of 99.95% is promised to shops.", [("nfr.availability", "99.95 %")]),
        ("The store is eventually consistent.", [("nfr.consistency", "eventual")]),
        ("We need strongly consistent reads.", [("nfr.consistency", "strong")]),
        ("The workload is read-heavy.", [("data.read_write", "read-heavy")]),
        ("90 % reads, the rest are writes.", [("data.read_write", "read-heavy")]),
        ("The CSV export is refreshed every night.", [("data.freshness", "1d")]),
        ("Data is at most 15 minutes old.", [("data.freshness", "15m")]),
        ("We are subject to the GDPR. HIPAA does not apply.", [("security.regime", "gdpr")]),
        ("The GDPR applies, HIPAA does not.", [("security.regime", "gdpr")]),
        ("Cards are processed, so PCI-DSS compliance is required.", [("security.regime", "pci")]),
        ("The table contains personal data.", [("security.pii", "The table contains personal data.")]),
        ("Customer records are retained for 2 years.", [("security.retention", "730d")]),
        (
            "A missed churner costs 120 EUR; a wasted voucher 5 EUR.",
            [("business.cost_of_error", "false positive 5, false negative 120")],
        ),
        ("All columns are known at prediction time.", [("data.known_at_prediction", "yes")]),
        ("`refund` is only known after shipping, not at prediction time.", [("data.known_at_prediction", "refund")]),
        ("KPI: share of customers who stay.", [("business.kpi", "KPI: share of customers who stay.")]),
        ("Our goal is to lose fewer customers.", [("business.goal", "Our goal is to lose fewer customers.")]),
        ("## Goal\n\nFewer customers leave the shop.", [("business.goal", "Fewer customers leave the shop.")]),
    ],
)  # fmt: skip
def test_what_a_sentence_states_is_a_fact(text: str, facts: list[tuple[str, str]]) -> None:
    """One canonical value for each field."""
    assert said(text) == facts


@pytest.mark.parametrize(
    "text",
    [
        "We are not subject to HIPAA, PCI DSS or GDPR.",
        "HIPAA, PCI DSS and GDPR do not apply.",
        "Neither HIPAA nor GDPR matter here.",
        "This is out of scope for HIPAA compliance: no health data is kept.",
        "If you need HIPAA compliance, contact sales.",
        "Could we be subject to the GDPR?",
        "GDPR compliance: TBD",
        "GDPR compliance is planned for phase 2.",
        "The card sits in a PCI slot; PCI Express is fast.",
        "There is no PII in this dataset, and no personal data are stored.",
        "Latency budget: TBD ms. Availability: 99.x %.",
        "p99 latency must be under <your value> ms",
        "p99 latency under {{ latency }} ms, or ${LATENCY} 20 ms",
        "For example, a p99 latency of 20 ms would be required.",
        "Requests time out after 30 s. Retries come every 5 seconds.",
        "Training must finish within 60 seconds.",
        "Alert when latency is over 500 ms.",
        "The latency is 20 ms here and 50 ms there.",
        "Each client is limited to 100 requests per second.",
        "Polling happens at 5 requests per second.",
        "Accuracy is 99.9 % on the test set, availability aside.",
        "Logs are kept for 14 days.",
        "The documentation is updated weekly.",
        "The dataset mixes daily, weekly and monthly exports.",
        "```\nThe p99 latency must stay under 20 ms.\n```",
        "<!-- The p99 latency must stay under 20 ms. -->",
        "~~The p99 latency must stay under 20 ms.~~",
        "- [ ] p99 latency must stay under 20 ms",
        "## Non-goals\n\nThe p99 latency must stay under 1 ms.",
        "## Roadmap\n\n### Later\n\nGDPR must apply.",
        "## Examples\n\nThe p99 latency must stay under 1 ms.",
        "---\nlatency: p99 latency must be 20 ms\n---\n",
        "text::\n\n    The p99 latency must stay under 20 ms.\n",
        "Words.\n\n    The p99 latency must stay under 20 ms.\n",
    ],
)
def test_what_a_sentence_does_not_claim_is_no_fact(text: str) -> None:
    """Negations, placeholders, suppositions, plans, code, and numbers of other kinds."""
    assert said(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "We measured a p99 latency of 35 ms on a laptop.",
        "AWS guarantees 99.99% availability.",
        "## AWS S3\n\nSLA: 99.9% availability",
        "The API can handle 10k rps.",
        "See the GDPR guide for more.",
        "HIPAA compliance is required for organizations that handle health records.",
        "A false negative is worse than a false positive.",
    ],
)
def test_what_is_said_in_passing_is_a_mention(text: str) -> None:
    """Measurements, other people's promises and bare names stay below what fills a question."""
    assert [round(f.confidence, 2) <= 0.3 for f in facts_of(Source("/docs/notes.md", text))] == [True]


def test_a_table_says_its_column_of_targets() -> None:
    """Today's numbers are not the required ones."""
    text = "| Metric | Today | Target |\n|---|---|---|\n| p99 latency | 35 ms | 20 ms |\n| Uptime | 99.5% | 99.9% |\n"
    found = [(f.value, f.line, f.confidence) for f in facts_of(Source("/README.md", text))]
    assert found == [("20 ms p99", 3, 0.8), ("99.9 %", 4, 0.8)]


def test_a_fact_names_the_line_of_its_number() -> None:
    """Also in the middle of a wrapped paragraph."""
    text = "# A\n\nThe shop grows, and\nthe p99 latency\nmust stay under 20 ms\nat all times.\n"
    assert [(f.value, f.line) for f in facts_of(Source("/docs/a.md", text))] == [("20 ms p99", 5)]


def test_the_first_sentence_of_the_readme_describes_the_project() -> None:
    """As a mention: a description is not yet a goal."""
    text = "[![badge](x)](y)\n\n# Shop\n\nShop is the **order** [service](x) of a `web` shop. More of it.\n"
    (found,) = facts_of(Source("/README.md", text))
    assert (found.field, found.value, found.line, found.confidence) == (
        "goal",
        "Shop is the order service of a web shop.",
        5,
        0.3,
    )


@pytest.mark.parametrize(
    ("path", "confidence"),
    [
        ("/README.md", 0.8), ("/docs/a.md", 0.76), ("/tests/README.md", 0.24), ("/examples/a/README.md", 0.4),
        ("/CHANGELOG.md", 0.24), ("/vendor/x/README.md", 0.16),
    ],
)  # fmt: skip
def test_where_a_document_lies_weighs_on_what_it_says(path: str, confidence: float) -> None:
    """Tests, examples, changelogs and vendored code speak of something else."""
    (found,) = facts_of(
        Source(path, "# A\n\nThe p99 latency must stay under 20 ms."[5 if path != "/README.md" else 0 :])
    )[:1]
    assert (found.value, round(found.confidence, 2)) == ("20 ms p99", confidence)


@pytest.mark.parametrize("path", ["/LICENSE.md", "/CODE_OF_CONDUCT.md", "/src/main.py", "/notes.txt", "/SECURITY.md"])
def test_other_files_are_no_documents(path: str) -> None:
    """Licences and code of conduct speak of everybody; code is not prose."""
    assert said("The p99 latency must stay under 20 ms.", path) == []


@given(st.text(alphabet="ab 0129.,%-<>|#`~*_\n:;()[]msrpQ99\u00a0", max_size=400))
def test_any_text_is_read_without_failing(text: str) -> None:
    """Lines of facts lie in the text, confidences between 0 and 1."""
    for fact in facts_of(Source("/README.md", text)):
        assert 1 <= fact.line <= text.count("\n") + 1
        assert 0 < fact.confidence <= 1


@pytest.mark.parametrize(
    "part",
    ["[", "![](", "<", "`", "<!--", "~~a", "| ", "*a ", "- a\n", "a. A", "token=", "99.9 % ", '"""', "/*", "a\n===\n"],
)
def test_a_document_made_to_take_long_does_not(part: str) -> None:
    """Time grows with the length of a text, not with its square."""
    text = part * 60_000
    begun = time.process_time()
    facts_of(Source("/README.md", text))
    outline("/README.md", text)
    outline("/a.py", text)
    without_secrets("/a.yaml", text)
    assert time.process_time() - begun < 10
