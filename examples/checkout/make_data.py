"""Makes data/customer_churn.csv: the customers of a shop that does not exist, from the process described here.

Every customer is drawn alone, from one random generator with a fixed seed, so the same arguments give the same
bytes. Per customer:

- `tenure_months`: gamma, shape 2, mean 24. `plan`: basic .55, plus .3, family .15.
- `district`: one of 60, the k-th with a weight of 1/k. A district has its own share of late deliveries, beta with
  mean .15, and its own effect on leaving, normal with deviation .5.
- `orders_90d`: Poisson with mean 4, 7 or 9 by plan, times a taste for ordering that is gamma with mean 1.
  `late_deliveries_90d`: binomial on the orders. `support_calls_90d`: Poisson with mean .2 + .5 a late delivery.
- `basket_eur`: log-normal around 38, 46 or 71 by plan; blank without an order.
  `lifetime_spend_eur`: basket, orders a month and tenure, times noise.
- `payment`: card, direct debit, wallet or invoice; blank for one in sixteen. `newsletter`: Yes or No, four to six.
- `churned` is Yes with the probability 1 / (1 + exp(-z)), where
  z = .3 - .04 tenure - .22 orders + .6 late + .4 calls + plan (.3, 0, -.6) + .8 by invoice + the district's effect,
  and another 1.2 for someone whose every second delivery or more was late.

Nothing else has an effect: `customer_id`, `email`, `currency`, `newsletter` and, given the rest, the money columns
tell nothing. With this process no model can reach a ROC AUC of 1: the outcome is drawn, not decided.
"""
# ruff: noqa: INP001 - a script in a workspace of its own

import argparse
import csv
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROWS = 4000
SEED = 7
DEFAULT = Path(__file__).parent / "data" / "customer_churn.csv"

PLANS = {"basic": 0.55, "plus": 0.30, "family": 0.15}
ORDERS = {"basic": 4.0, "plus": 7.0, "family": 9.0}
BASKET = {"basic": 38.0, "plus": 46.0, "family": 71.0}
PLAN_EFFECT = {"basic": 0.3, "plus": 0.0, "family": -0.6}
PAYMENTS = {"card": 0.5, "direct debit": 0.25, "wallet": 0.15, "invoice": 0.1}
DISTRICTS = 60
BLANK_PAYMENT = 1 / 16


@dataclass(frozen=True, slots=True)
class District:
    """A delivery district: the share of late deliveries and the effect on leaving."""

    name: str
    late: float
    effect: float


def write(path: Path, *, rows: int = ROWS, seed: int = SEED) -> Path:
    """Writes the table to `path`, whose directory is made, and returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = customers(rows=rows, seed=seed)
        first = next(table)
        writer = csv.DictWriter(file, fieldnames=list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(table)
    return path


def customers(*, rows: int = ROWS, seed: int = SEED) -> Iterator[dict[str, str]]:
    """The rows of the table, as the texts that stand in it."""
    rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    districts = [
        District(f"district {number}", rng.betavariate(1.5, 8.5), rng.gauss(0, 0.5))
        for number in range(1, DISTRICTS + 1)
    ]
    weights = [1 / number for number in range(1, DISTRICTS + 1)]
    for number in range(1, rows + 1):
        yield _customer(rng, number, rng.choices(districts, weights)[0])


def _customer(rng: random.Random, number: int, district: District) -> dict[str, str]:
    plan = _one_of(rng, PLANS)
    payment = _one_of(rng, PAYMENTS)
    tenure = max(1, round(rng.gammavariate(2, 12)))
    orders = _poisson(rng, ORDERS[plan] * rng.gammavariate(3, 1 / 3))
    late = sum(rng.random() < district.late for _ in range(orders))
    calls = _poisson(rng, 0.2 + 0.5 * late)
    basket = BASKET[plan] * math.exp(rng.gauss(0, 0.35))
    spend = basket * (1 + orders / 3) * tenure * math.exp(rng.gauss(0, 0.25))
    z = 0.3 - 0.04 * tenure - 0.22 * orders + 0.6 * late + 0.4 * calls + PLAN_EFFECT[plan] + district.effect
    z += 0.8 * (payment == "invoice") + 1.2 * (orders > 0 and late >= orders / 2)
    return {
        "customer_id": f"C-{100_000 + number}",
        "email": f"customer{number}@shop.example",
        "currency": "EUR",
        "tenure_months": str(tenure),
        "plan": plan,
        "payment": "" if rng.random() < BLANK_PAYMENT else payment,
        "district": district.name,
        "orders_90d": str(orders),
        "late_deliveries_90d": str(late),
        "support_calls_90d": str(calls),
        "basket_eur": f"{basket:.2f}" if orders else "",
        "lifetime_spend_eur": f"{spend:,.2f}",
        "newsletter": "Yes" if rng.random() < 0.4 else "No",
        "churned": "Yes" if rng.random() < 1 / (1 + math.exp(-z)) else "No",
    }


def _one_of(rng: random.Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _poisson(rng: random.Random, mean: float) -> int:
    """A Poisson count by multiplying uniforms (Knuth); means here stay under 40."""
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def main() -> None:
    """Writes the table to the path on the command line, by default data/customer_churn.csv beside this file."""
    parser = argparse.ArgumentParser(description="Makes the customer table of the checkout example.")
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    path = write(given.path, rows=given.rows, seed=given.seed)
    sys.stdout.write(f"{path}: {given.rows} customers\n")


if __name__ == "__main__":
    main()
