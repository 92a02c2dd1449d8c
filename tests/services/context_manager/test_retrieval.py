"""Ranking and names."""

from pathlib import Path

import pytest

from services.context_manager import words
from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.retrieval import matching, named
from tests.services.context_manager.workspaces import write


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("Where is the getUserId function?", ("getuserid", "user", "id", "function")),
        ("parse_http_request and HTTPServer", ("parse", "http", "request", "httpserver", "server")),
        ('NEAR("a" OR b*)', ("near",)),
        ("Größe der Tür 数据", ("größe", "der", "tür", "数据")),
        ("", ()),
    ],
)
def test_a_question_is_searched_by_its_words(question: str, terms: tuple[str, ...]) -> None:
    """Parts of compound names count, little words do not."""
    assert words.terms(question) == terms


@pytest.mark.parametrize("question", ["user id", "getUserId", "get_user_id", "USER", "users"])
def test_names_are_found_by_their_parts(memory: KnowledgeBase, workspace: Path, question: str) -> None:
    """Whether camelCase or snake_case, and in other word forms."""
    write(workspace, {"a.js": "function getUserId() {}\n", "b.js": "function paint() {}\n"})
    memory.sync()
    assert memory.search(words.terms(question)) == ["/a.js"]


def test_the_right_part_of_a_long_file_counts(memory: KnowledgeBase, workspace: Path) -> None:
    """A file with one dense passage comes before one with the words scattered over it."""
    filler = "value = other(thing)\n" * 80
    dense = filler + "refund voucher ledger\n" * 3 + filler
    scattered = filler + "refund\n" + filler + "voucher\n" + filler + "ledger\n" + filler
    write(workspace, {"scattered.py": scattered, "dense.py": dense, "none.py": filler})
    memory.sync()
    assert memory.search(("refund", "voucher", "ledger")) == ["/dense.py", "/scattered.py"]


def test_tests_and_vendored_code_come_after_the_code_itself(memory: KnowledgeBase, workspace: Path) -> None:
    """With the same words in them."""
    write(workspace, {f"{place}billing.py": "def billing():\n    pass\n" for place in ("vendor/", "tests/", "src/")})
    memory.sync()
    assert memory.search(("billing",)) == ["/src/billing.py", "/tests/billing.py", "/vendor/billing.py"]


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Predict churn from data/telco.csv; p99 under 20 ms", ["data/telco.csv"]),
        ("Where is `main.py`?", ["main.py"]),
        ("the Dockerfile, the .env and e.g. version 1.5", ["Dockerfile", ".env"]),
        ("read/write ratio", ["read/write"]),
        ("nothing here.", []),
    ],
)
def test_what_looks_like_a_name_is_taken_as_one(question: str, names: list[str]) -> None:
    """A slash, a known ending or a known name."""
    assert named(question) == names


def test_a_name_means_the_end_of_a_path_at_a_slash() -> None:
    """`orders.py` is not `reorders.py`."""
    paths = ["/src/orders.py", "/src/reorders.py", "/orders.py/x"]
    assert matching(["orders.py"], paths) == ["/src/orders.py"]
    assert matching(["src/orders.py"], paths) == ["/src/orders.py"]
    assert matching(["../orders.py", ""], paths) == []
