"""Workspaces made of text, and questions to a memory of them."""

from collections.abc import Mapping
from pathlib import Path

from contracts.briefing import Briefing, ContextRequest, Query
from services.context_manager.answers import answer
from services.context_manager.knowledge import KnowledgeBase

SHOP = {
    "README.md": (
        "# Shop\n\nShop is the order service of a small web shop.\n\n## Goal\n\nWe want to reduce churn by a tenth.\n\n"
        "It serves about 50 requests per second, with peaks of 200 on Black Friday.\n"
    ),
    "docs/slo.md": (
        "# Service levels\n\n| what | target |\n|---|---|\n| p99 latency | 20 ms |\n| availability | 99.9 % |\n"
    ),
    "pyproject.toml": (
        '[project]\nname = "shop"\nrequires-python = ">=3.12"\ndependencies = ["fastapi>=0.115", "psycopg"]\n'
    ),
    "Dockerfile": "FROM python:3.12-slim\nCOPY . /app\n",
    "src/churn_model.py": '"""Trains the churn model."""\n\n\ndef trainChurnModel(customers):\n    return customers\n',
    "src/orders.py": '"""Takes orders."""\n\n\nclass OrderBook:\n    pass\n',
    "data/customers.csv": "customer_id,email,plan,churned\n1,a@example.org,basic,No\n2,b@example.org,plus,Yes\n",
}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes `files` below `root`, which is returned."""
    for name, body in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body.encode() if isinstance(body, str) else body)
    return root


def shop(root: Path) -> Path:
    """A small workspace whose files say something for each group of questions."""
    return write(root, SHOP)


def request(question: str, kind: str = "get_task_briefing") -> ContextRequest:
    """A question of the ml-engineer."""
    return ContextRequest(requesting_agent="ml-engineer", request_type=kind, payload=Query(query=question))


def ask(memory: KnowledgeBase, question: str, kind: str = "get_task_briefing") -> Briefing:
    """The answer of `memory`, brought in line first."""
    memory.sync()
    return answer(memory, request(question, kind))


def stored_bytes(memory: KnowledgeBase) -> bytes:
    """Every byte of the database's files."""
    return b"".join(file.read_bytes() for file in sorted(memory.database.parent.iterdir()) if file.is_file())
