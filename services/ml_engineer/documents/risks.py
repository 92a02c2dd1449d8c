"""What can go wrong with a delivered system, and what to do about it.

Owns which facts of a dossier are risks: what was measured and failed, what the data and the split leave open, what
nobody confirmed, and what no delivered system does yet. Leaves the numbers to `view`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from services.ml_engineer.documents.figures import figure
from services.ml_engineer.documents.markdown import cell_code, text
from services.ml_engineer.documents.view import View

_ACTIONS: Final = {
    "few_rows": "Collect more before trusting a difference that is smaller than the interval.",
    "imbalance": "Judge by average_precision and the cost of each error, not by accuracy.",
    "label_conflict": "Look for the column that would tell these rows apart.",
    "duplicate_rows": "Remove repeats at the source, or name whom a row is about in `data.entity`.",
    "mostly_missing": "Find out why it is missing; the reason may end with these data.",
    "ambiguous_date": "Set `data.reader.dayfirst`.",
    "maybe_late": "Make sure that it is known when the prediction is made.",
    "pii": "Make sure that its use is allowed.",
}


@dataclass(frozen=True, slots=True)
class Risk:
    """What can go wrong and what to do about it, both ready for a table's cell."""

    text: str
    action: str


def risks(view: View) -> tuple[Risk, ...]:
    """Every risk, what is certain first."""
    return (*_measured(view), *_open(view), *_standing(view))


def _measured(view: View) -> Iterator[Risk]:
    for gate in view.failed_gates:
        yield Risk(
            f"Gate {cell_code(gate.name)} failed: {text(gate.text)}",
            "Accept it, or change what it rests on and run again; it is not promised.",
        )
    for item in view.dossier.design.unmet:
        yield Risk(f"Asked for and without effect yet: {text(item)}.", "Cover it outside of this system.")
    if view.rate_rps is not None and view.rate_rps < view.peak_rps:
        yield Risk(
            f"Latency was measured at {figure(view.rate_rps)} requests a second, the peak is {figure(view.peak_rps)}.",
            f"Set `objectives.rate_rps` to {figure(view.peak_rps)} and run `make evaluate`.",
        )


def _open(view: View) -> Iterator[Risk]:
    for finding in view.open_findings:
        yield Risk(f"{cell_code(finding.kind)}: {text(finding.text)}", _ACTIONS.get(finding.kind, "Judge it."))
    if view.dossier.validation.split.method == "random":
        yield Risk(
            "Rows were held out at random: the numbers say nothing about how quality changes over time.",
            "If a column says when a row was known, name it in `data.time`.",
        )
    if assumed := len(view.assumptions):
        things = "1 thing was" if assumed == 1 else f"{assumed} things were"
        yield Risk(f"{things} assumed, and nobody confirmed it.", "Confirm them, or change them and run again.")


def _standing(view: View) -> Iterator[Risk]:
    yield Risk(
        "Whether predictions come true is known only where outcomes are sent back; until then quality is an estimate.",
        "Have somebody send `POST /outcomes`: [monitoring](monitoring.md).",
    )
    if "://" not in view.spec.registry.url:
        yield Risk(
            f"The registry {cell_code(view.spec.registry.url)} is not in git, and on one disk.",
            "Back it up, or keep it in an object store (`registry.url`): [rollback](rollback.md).",
        )
