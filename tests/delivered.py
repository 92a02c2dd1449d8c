"""A system in a user's repository, as an engagement delivers it, without the engagement: made data, a canned dossier.

Owns laying out the files; nothing is trained here. What stands there works: the spec names data that are there, and
the locks name the wheel that was built.
"""

from __future__ import annotations

import csv
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from services.ml_engineer import delivery, documents, wheel
from services.ml_engineer.dossier import Dossier
from tests.fakes import dossier as fake

ROWS: Final = 400
PLAIN: Final[dict[str, Any]] = {
    "search": {"budget": "1s", "families": ["linear"]},
    "gates": {"beats_trivial": False, "ece": 0.0},
    "objectives": {"latency_ms_p99": 0.0},
}
"""Spec tables of a system that trains in a moment and passes its gates on any machine."""


def measured(spec: dict[str, Any] | None = None, **latency: float) -> Dossier:
    """The canned dossier with other tables of the spec, and with other measurements of the server."""
    known = fake.dossier()
    design = known.design.model_copy(update={"spec": {**known.design.spec, **(spec or {})}})
    found = {**known.evaluation.latency, "capacity_rps": 4000.0, **latency}
    return replace(known, design=design, evaluation=known.evaluation.model_copy(update={"latency": found}))


def lay_out(repository: Path, *, spec: dict[str, Any] | None = None, rows: int = ROWS) -> Path:
    """Write data, system and workflow into a repository; return the system's directory."""
    repository.mkdir(parents=True, exist_ok=True)
    write_customers(repository / "data" / "customers.csv", rows)
    known = measured(PLAIN if spec is None else spec)
    directory = repository / known.directory
    directory.mkdir(parents=True)
    built = wheel.build(directory / "vendor")
    known = replace(known, wheel=built.name, wheel_sha256=delivery.put_wheel(built, directory))
    delivery.put_spec(directory, known.design.spec)
    delivery.write(directory, documents.render(known) | delivery.delivered_tests())
    delivery.write(repository, documents.render_repository(known))
    return directory


def write_customers(path: Path, rows: int = ROWS) -> None:
    """Customers who leave when they are new and pay by the month."""
    draw = random.Random(11)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["customerID", "email", "SeniorCitizen", "tenure", "plan", "signed", "Churn"])
        for number in range(rows):
            tenure, plan = draw.randint(1, 72), draw.choice(["monthly", "yearly"])
            leaves = draw.random() < (0.8 if plan == "monthly" and tenure < 30 else 0.1)
            signed = f"20{draw.randint(18, 24)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
            name = f"C-{draw.randint(10**6, 10**7)}-{number}"
            person = [name, f"{name}@example.org", draw.randint(0, 1), tenure, plan, signed]
            table.writerow([*person, "Yes" if leaves else "No"])


def commit(repository: Path) -> None:
    """Make it a repository of git, everything in it that is not ignored committed."""
    who = ("-c", "user.name=A test", "-c", "user.email=test@example.org")
    git(repository, "init", "--quiet", "--initial-branch", "main")
    git(repository, "add", "--all")
    git(repository, *who, "commit", "--quiet", "--message", "Deliver")


def git(directory: Path, *words: str) -> str:
    """Run git, and return what it says."""
    done = subprocess.run(["git", *words], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout
