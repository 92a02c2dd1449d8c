"""The protocol's questions: what is there with its sources, `not_found` for what is not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.briefing import Activity
from contracts.report import ActivityReport
from services.context_manager.answers import answer
from services.context_manager.knowledge import KnowledgeBase
from tests.services.context_manager.workspaces import ask, request, shop, write

KINDS = ("get_task_briefing", "get_file_location", "get_directory_purpose", "get_data_context")
AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
SEED = (
    "Initial briefing required for ML system deployment. Provide overview of existing ML models, training data,"
    " inference infrastructure, and relevant MLOps configuration files."
)


SUMMARY = """
Shop: Shop is the order service of a small web shop (/README.md:3).
It has 2 Markdown, 2 Python, 1 CSV and 2 other files.
Stack: python >=3.12 (/pyproject.toml:3); fastapi >=0.115 (/pyproject.toml:4); postgresql (/pyproject.toml:4);
python:3.12-slim (/Dockerfile:1).
Data: /data/customers.csv: 4 columns: customer_id, email, plan, churned; 2 rows.
Known: goal: We want to reduce churn by a tenth (/README.md:7); load 50 rps (/README.md:9);
peaks 200 rps (/README.md:9); latency 20 ms p99 (/docs/slo.md:5); availability 99.9 % (/docs/slo.md:6);
personal data column email in /data/customers.csv (/data/customers.csv:1).
Nothing is said about: measure of success, cost of an error, access pattern, freshness, known at prediction time,
consistency, regime, retention.
Closest to the question: /src/churn_model.py (Trains the churn model);
/data/customers.csv (CSV file: 4 columns: customer_id, email, plan, churned).
"""


def test_a_briefing_says_what_the_files_say(memory: KnowledgeBase, workspace: Path) -> None:
    """Summary, paths with purposes, and facts with their places."""
    shop(workspace)
    found = ask(memory, SEED)
    body = found.briefing
    assert (found.response_to, found.status) == ("ml-engineer", "success")
    assert body.summary == " ".join(SUMMARY.split())
    assert {f"{f.slot}.{f.field}": f.value for f in reversed(body.facts)} == {
        "business.goal": "We want to reduce churn by a tenth.",
        "scale.rate": "50 rps",
        "scale.spikes": "200 rps",
        "nfr.latency": "20 ms p99",
        "nfr.availability": "99.9 %",
        "data.dataset": '/data/customers.csv: 4 columns: customer_id, email, plan, churned; 2 rows; delimiter ","',
        "security.pii": "column email in /data/customers.csv",
        "stack.language": "python >=3.12",
        "stack.framework": "fastapi >=0.115",
        "stack.database": "postgresql",
        "stack.image": "python:3.12-slim",
    }
    assert set(body.relevant_paths) == {
        "/README.md", "/docs/slo.md", "/pyproject.toml", "/Dockerfile", "/src/churn_model.py", "/data/customers.csv",
    }  # fmt: skip
    assert set(body.file_purposes) == set(body.relevant_paths)
    assert body.file_purposes["/src/churn_model.py"] == "Trains the churn model"


def test_a_file_that_the_task_names_comes_first(memory: KnowledgeBase, workspace: Path) -> None:
    """Before everything that merely holds its words."""
    shop(workspace)
    found = ask(memory, "Predict which customers will churn from data/customers.csv; our checkout calls it")
    assert found.briefing.relevant_paths[:2] == ("/data/customers.csv", "/src/churn_model.py")


def test_facts_nearest_to_the_question_come_first(memory: KnowledgeBase, workspace: Path) -> None:
    """Among equally sure ones: the dataset that the task is about is the first dataset."""
    write(workspace, {"data/bikes.csv": "day,rides\n1,2\n", "data/telco_churn.csv": "tenure,churned\n1,No\n"})
    facts = ask(memory, "Predict churn from data/telco_churn.csv").briefing.facts
    assert [fact.value.split(":")[0] for fact in facts] == ["/data/telco_churn.csv", "/data/bikes.csv"]


@pytest.mark.parametrize("files", [{}, {".git/HEAD": "x"}, {"node_modules/a.js": "x"}])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_workspace_is_not_found(
    memory: KnowledgeBase, workspace: Path, files: dict[str, str], kind: str
) -> None:
    """Whatever is asked."""
    write(workspace, files)
    found = ask(memory, "churn model", kind)
    assert (found.status, found.briefing.relevant_paths, found.briefing.facts) == ("not_found", (), ())
    assert found.briefing.summary


@pytest.mark.parametrize(
    ("question", "paths"),
    [
        ("src/orders.py", ("/src/orders.py",)),
        ("/src/orders.py", ("/src/orders.py",)),
        ("Where is orders.py?", ("/src/orders.py",)),
        ("Where can I find `ORDERS.PY`, please?", ("/src/orders.py",)),
        ("where is the Dockerfile", ("/Dockerfile",)),
        ("train churn model", ("/src/churn_model.py",)),
        ("trainChurnModel", ("/src/churn_model.py",)),
        ("Where is the OrderBook defined?", ("/src/orders.py",)),
        ("slo.md and customers.csv", ("/data/customers.csv", "/docs/slo.md")),
    ],
)
def test_a_file_is_found_by_its_name_or_by_what_it_holds(
    memory: KnowledgeBase, workspace: Path, question: str, paths: tuple[str, ...]
) -> None:
    """Names in any case, descriptions in other word forms."""
    shop(workspace)
    found = ask(memory, question, "get_file_location")
    assert (found.status, found.briefing.relevant_paths) == ("success", paths)
    assert all(path in found.briefing.summary for path in paths)


@pytest.mark.parametrize(
    "question",
    [
        "orders.js",
        "src/nothing.py",
        "Where is payment.py?",
        "kubernetes ingress controller",
        "../README.md",
        "/etc/passwd",
        "?",
        "src/orders.py/deeper",
        "the",
        "quantum orders flux capacitor",
    ],
)
def test_a_file_that_is_not_there_is_not_found(memory: KnowledgeBase, workspace: Path, question: str) -> None:
    """Rather than a guess."""
    shop(workspace)
    found = ask(memory, question, "get_file_location")
    assert (found.status, found.briefing.relevant_paths, found.briefing.file_purposes) == ("not_found", (), {})


def test_a_name_almost_spelled_right_is_suggested(memory: KnowledgeBase, workspace: Path) -> None:
    """In words: a suggestion is no answer."""
    shop(workspace)
    found = ask(memory, "Where is order.py?", "get_file_location")
    assert (found.status, found.briefing.summary) == (
        "not_found",
        "No file is called order.py. Names like it: orders.py.",
    )


@pytest.mark.parametrize(
    ("question", "paths"),
    [
        ("docs", ("/docs", "/docs/slo.md")),
        ("/docs/", ("/docs", "/docs/slo.md")),
        ("What is the `docs` directory for?", ("/docs", "/docs/slo.md")),
        ("purpose of ./docs", ("/docs", "/docs/slo.md")),
        ("src/", ("/src", "/src/churn_model.py", "/src/orders.py")),
    ],
)
def test_a_directory_is_told_by_what_it_holds(
    memory: KnowledgeBase, workspace: Path, question: str, paths: tuple[str, ...]
) -> None:
    """It and the files directly in it, with their purposes."""
    shop(workspace)
    found = ask(memory, question, "get_directory_purpose")
    assert (found.status, found.briefing.relevant_paths) == ("success", paths)
    assert set(found.briefing.file_purposes) == set(paths)


def test_a_directory_says_what_its_readme_or_package_says(memory: KnowledgeBase, workspace: Path) -> None:
    """Then what is in it; nothing is invented."""
    write(workspace, {"a/README.md": "# Adapters\n", "b/__init__.py": '"""Billing."""\n', "c/x.py": "", "c/d/y.py": ""})
    summaries = [ask(memory, name, "get_directory_purpose").briefing.summary for name in ("a", "b", "c", "/")]
    assert summaries == [
        "/a: Adapters. 1 Markdown file: README.md.",
        "/b: Billing. 1 Python file: __init__.py.",
        "/c: 2 Python files: x.py, d/.",
        "/: 3 Python and 1 Markdown files: a/, b/, c/.",
    ]


@pytest.mark.parametrize(
    "question", ["nope", "/src/nope", "src/orders.py/", "..", "/../", "what is the billing folder for?", "src/src"]
)
def test_a_directory_that_is_not_there_is_not_found(memory: KnowledgeBase, workspace: Path, question: str) -> None:
    """Rather than a guess."""
    shop(workspace)
    found = ask(memory, question, "get_directory_purpose")
    assert (found.status, found.briefing.relevant_paths) == ("not_found", ())


def test_reports_show_up_in_the_next_briefing(memory: KnowledgeBase, workspace: Path) -> None:
    """Newest first, with their time; the files they name are known."""
    shop(workspace)
    memory.sync()
    for n, summary in enumerate(["Trained a first churn model.", "Wrote the service levels."], 1):
        report = ActivityReport(reporting_agent=f"agent-{n}", summary=summary, files_modified=("/docs/slo.md",))
        memory.record(report, seq=n, at=AT + timedelta(days=n))
    found = ask(memory, SEED)
    assert found.briefing.related_activity == (
        Activity(agent="agent-2", summary="Wrote the service levels.", timestamp=AT + timedelta(days=2)),
        Activity(agent="agent-1", summary="Trained a first churn model.", timestamp=AT + timedelta(days=1)),
    )
    assert found.briefing.summary.endswith(
        "Recent activity: 2025-03-03 agent-2 (success): Wrote the service levels; 2025-03-02 agent-1 (success): Trained"
        " a first churn model."
    )
    assert [a.agent for a in ask(memory, "slo.md", "get_file_location").briefing.related_activity] == [
        "agent-2",
        "agent-1",
    ]
    assert ask(memory, "orders.py", "get_file_location").briefing.related_activity == ()


def test_old_reports_return_when_the_question_is_about_them(memory: KnowledgeBase, workspace: Path) -> None:
    """The latest three are always told, older ones when they share the question's words."""
    shop(workspace)
    said = [
        "Calibrated the churn model.",
        "Painted the office.",
        "Bought coffee.",
        "Sold coffee.",
        "Fixed the printer.",
    ]
    for n, summary in enumerate(said, 1):
        memory.record(ActivityReport(reporting_agent="a", summary=summary), seq=n, at=AT + timedelta(hours=n))
    told = [activity.summary for activity in ask(memory, "calibrate the churn model").briefing.related_activity]
    assert told == ["Fixed the printer.", "Sold coffee.", "Bought coffee.", "Calibrated the churn model."]


def test_a_workspace_without_files_but_with_reports_has_a_briefing(memory: KnowledgeBase) -> None:
    """History is knowledge too."""
    memory.record(ActivityReport(reporting_agent="a", summary="Deleted everything."), seq=1, at=AT)
    found = ask(memory, SEED)
    assert (found.status, found.briefing.relevant_paths) == ("success", ())
    assert found.briefing.summary.endswith("Recent activity: 2025-03-01 a (success): Deleted everything.")


@pytest.mark.parametrize(
    ("facet", "inside", "outside", "fields"),
    [
        (
            "deployment",
            "/Dockerfile",
            "/src/orders.py",
            {"stack.image", "nfr.latency", "nfr.availability", "scale.rate", "scale.spikes"},
        ),
        ("database", "/pyproject.toml", "/Dockerfile", {"stack.database", "data.dataset", "security.pii"}),
        ("security", "/data/customers.csv", "/src/orders.py", {"security.pii"}),
        ("orders", "/src/orders.py", "/Dockerfile", {"business.goal", "scale.rate", "scale.spikes"}),
    ],
)
def test_a_facet_is_the_part_of_a_briefing_that_concerns_it(
    memory: KnowledgeBase, workspace: Path, facet: str, inside: str, outside: str, fields: set[str]
) -> None:
    """A known facet chooses facts by their fields, an unknown one finds what holds its name."""
    shop(workspace)
    found = ask(memory, "what is there?", f"get_{facet}_context")
    assert found.status == "success"
    assert inside in found.briefing.relevant_paths
    assert outside not in found.briefing.relevant_paths
    assert {f"{fact.slot}.{fact.field}" for fact in found.briefing.facts} == fields


def test_a_facet_that_nothing_is_about_is_not_found(memory: KnowledgeBase, workspace: Path) -> None:
    """Rather than the whole briefing."""
    shop(workspace)
    found = ask(memory, "what is there?", "get_blockchain_context")
    assert (found.status, found.briefing.summary) == ("not_found", "Nothing in the workspace is about blockchain.")


HOSTILE = (
    "Kunden Liste ü (final) [v2].csv",
    'it\'s "quoted".md',
    "100%_done;DROP TABLE files.md",
    "NEAR(a b).py",
    "-leading.md",
    "数据集.csv",
    "a\nb.md",
    "{x}*?.txt",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_files_with_hostile_names_are_found_by_them(memory: KnowledgeBase, workspace: Path, name: str) -> None:
    """Spaces, quotes, other scripts, syntax of the index and of SQL."""
    write(workspace, {f"data sets/{other}": "id,x\n1,2\n" for other in HOSTILE})
    found = ask(memory, f"data sets/{name}", "get_file_location")
    assert (found.status, found.briefing.relevant_paths) == ("success", (f"/data sets/{name}",))


@pytest.mark.parametrize(
    "question",
    ['"foo* OR NEAR(', "' OR 1=1 --", "a AND b NOT c", "*", '"', "path:x", "{", "^x", "x" * 20_000, "\0", "-"],
)
@pytest.mark.parametrize(
    "kind", ["get_task_briefing", "get_file_location", "get_directory_purpose", "get_data_context", "get_near_context"]
)
def test_syntax_in_a_question_is_only_text(memory: KnowledgeBase, workspace: Path, question: str, kind: str) -> None:
    """Nothing of a question is ever an expression."""
    shop(workspace)
    assert ask(memory, question, kind).status in {"success", "not_found"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=st.text(min_size=1, max_size=80), kind=st.sampled_from(KINDS))
def test_every_path_in_an_answer_exists(memory: KnowledgeBase, workspace: Path, question: str, kind: str) -> None:
    """Whatever is asked."""
    shop(workspace)
    body = ask(memory, question, kind).briefing
    sources = [fact.source.rpartition(":")[0] for fact in body.facts]
    assert all(
        (workspace / path.lstrip("/")).exists() for path in (*body.relevant_paths, *body.file_purposes, *sources)
    )


def test_a_file_deleted_after_the_sync_is_not_told(memory: KnowledgeBase, workspace: Path) -> None:
    """Paths are looked at once more before they are told."""
    shop(workspace)
    memory.sync()
    (workspace / "docs" / "slo.md").unlink()
    body = answer(memory, request(SEED)).briefing
    assert "/docs/slo.md" not in (*body.relevant_paths, *body.file_purposes)
    assert [fact for fact in body.facts if "/docs/slo.md" in fact.source] == []
