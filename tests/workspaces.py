"""Small workspaces with data made from a stated process, for tests of the whole."""

import csv
import math
import random
from pathlib import Path


def churn(directory: Path, *, rows: int = 600, seed: int = 3) -> Path:
    """A workspace with `data/churn.csv`: an id, a constant, numbers, categories and a target that depends on them.

    P(churned) = sigmoid(1.5 - 0.08 tenure + 0.02 (charges - 50) + 1.2 [plan is monthly]).
    """
    draw = random.Random(seed)
    file = directory / "data" / "churn.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as output:
        write = csv.writer(output)
        write.writerow(["customer", "tenure", "charges", "plan", "country", "churned"])
        for row in range(rows):
            tenure, charges = draw.randint(0, 72), round(draw.uniform(20, 110), 2)
            plan = draw.choice(["monthly", "yearly", "two years"])
            score = 1.5 - 0.08 * tenure + 0.02 * (charges - 50) + 1.2 * (plan == "monthly")
            churned = "Yes" if draw.random() < 1 / (1 + math.exp(-score)) else "No"
            write.writerow([f"C{row:05d}", tenure, charges, plan, "NL", churned])
    return directory


REQUEST = "Predict which customers churned from data/churn.csv, p99 under 200 ms"
