"""Gates: what a model must pass, each decided from measured numbers and told in a sentence.

Owns the closed list of gates and the outcome. `parity`, `beats_trivial` and `contract` decide whether there is a
model worth serving at all, `pii_handled` and those of a regime whether it may be served, the others whether it keeps
what was asked of it. A gate that the spec switches off is told as reported only, and passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mlsystem.compile.parity import Parity
from mlsystem.evaluation.bootstrap import Resampling
from mlsystem.evaluation.metrics import SMALLER_IS_BETTER, score
from mlsystem.features.arrays import Floats, Ints
from mlsystem.governance import regimes
from mlsystem.output import Gate
from mlsystem.schema import Schema
from mlsystem.spec import Metric, Spec

Outcome = Literal["success", "partial", "failed"]

ESSENTIAL: Final = frozenset(
    {"parity", "beats_trivial", "contract", "pii_handled", "regime_gdpr", "regime_hipaa", "regime_pci"}
)
CHANCE_DRAWS = 400
CHANCE_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better the model is than the best trivial answer: the interval of the paired difference."""

    metric: str
    baseline: str
    value: float
    low: float
    high: float


def outcome(gates: Sequence[Gate]) -> Outcome:
    """Return success if all gates passed, failed if one did without which nothing can be served, else partial."""
    failed = {gate.name for gate in gates if not gate.passed}
    if failed & ESSENTIAL:
        return "failed"
    return "partial" if failed else "success"


def parity_gate(parity: Parity, limit: float, *, labels: bool = True) -> Gate:
    """Decide whether the file answers like the model that was fitted; a limit of 0 reports only."""
    flips = f"; {parity.flips} labels flip" if labels else ""
    text = (
        f"The compiled model differs from the native one by at most {parity.largest:.1e} over {parity.rows} rows, "
        f"hostile ones included{flips}."
    )
    if limit <= 0:
        return Gate("parity", parity.largest, None, passed=True, text=f"{text} Reported only.")
    return Gate("parity", parity.largest, limit, parity.passes(limit), text)


def trivial_gate(gain: Gain, reported: Sequence[Gain], *, required: bool) -> Gate:
    """Decide whether the model beats the best trivial answer beyond doubt; `reported` gains are told, nothing more."""
    beaten = gain.low > 0
    verdict = "Better" if beaten else "Not surely better"
    text = f"{verdict} than {gain.baseline}, the best trivial answer, by {_gained(gain)}."
    for other in reported:
        text += f" Against the {other.baseline} value of training, which no caller could answer with: {_gained(other)}."
    if not required:
        return Gate("beats_trivial", gain.low, None, passed=True, text=f"{text} Reported only.")
    return Gate("beats_trivial", gain.low, 0.0, beaten, text)


def _gained(gain: Gain) -> str:
    interval = f"95 % interval {_short(gain.low)} to {_short(gain.high)}"
    return f"{gain.metric} {_short(gain.value)} ({interval})"


def calibration_gate(target: Ints, probabilities: Floats, rows: Resampling, limit: float) -> Gate:
    """Decide whether probabilities mean what they say.

    A few rows show a calibration error even when every probability is right, so the gate fails only if the error is
    over the limit and beyond what a perfectly calibrated model would show by chance in 95 of 100 cases. Rows of one
    unit may all turn out alike.
    """
    kind = "binary" if probabilities.shape[1] == 2 else "multiclass"
    value = score("ece", kind, target, probabilities, rows.weight)
    if limit <= 0:
        return Gate("ece", value, None, passed=True, text=f"Calibration error {value:.3f}. Reported only.")
    if value <= limit:
        return Gate("ece", value, limit, passed=True, text=f"Calibration error {value:.3f}, at most {limit:g} allowed.")
    chance = _chance_ece(probabilities, rows, kind)
    text = (
        f"Calibration error {value:.3f} is over {limit:g}; with {len(target)} rows a perfectly calibrated model shows "
        f"up to {chance:.3f} by chance."
    )
    return Gate("ece", value, limit, passed=value <= chance, text=text)


def latency_gate(latency: Mapping[str, float] | None, objective_ms: float) -> Gate:
    """Decide whether the server's 99th percentile holds the objective; 0 reports only."""
    value = latency["p99_ms"] if latency else None
    seen = f"p99 {value:.2f} ms at {latency['rate_rps']:g} requests a second" if latency else "p99 was not measured"
    if objective_ms <= 0:
        return Gate("latency_ms_p99", value, None, passed=True, text=f"{seen}; no objective is set.")
    passed = value is not None and value <= objective_ms
    return Gate("latency_ms_p99", value, objective_ms, passed, f"{seen}; at most {objective_ms:g} ms are allowed.")


def size_gate(model_mb: float, limit: float) -> Gate:
    """Decide whether the model file is small enough."""
    text = f"The model file has {model_mb:.2f} MB, at most {limit:g} are allowed."
    return Gate("model_mb", model_mb, limit, model_mb <= limit, text)


def floor_gates(values: Mapping[str, float], floors: Mapping[Metric, float]) -> list[Gate]:
    """Decide for each floor whether the holdout metric is at least as good."""
    gates: list[Gate] = []
    for metric, floor in floors.items():
        value = values.get(metric)
        if value is None:
            text = f"{metric} is not defined for this kind of task; remove it from gates.floors."
            gates.append(Gate(f"floor_{metric}", None, floor, passed=False, text=text))
            continue
        smaller = metric in SMALLER_IS_BETTER
        passed = value <= floor if smaller else value >= floor
        text = f"{metric} is {_short(value)}, {'at most' if smaller else 'at least'} {_short(floor)} is asked for."
        gates.append(Gate(f"floor_{metric}", value, floor, passed, text))
    return gates


def contract_gate(latency: Mapping[str, float] | None, problem: str) -> Gate:
    """Decide whether the real server answers rows of the source."""
    if latency is None:
        return Gate("contract", None, 0.0, passed=False, text=f"The server did not answer: {problem}")
    errors, requests = latency["errors"], latency["requests"]
    text = f"The server answered {requests - errors:g} of {requests:g} requests with rows of the source."
    return Gate("contract", errors, 0.0, errors == 0 and requests > 0, text)


def governance_gates(spec: Spec, schema: Schema) -> list[Gate]:
    """Decide whether personal data is handled and a regime's rules are kept; values count breaches."""
    gates = [_rules_gate("pii_handled", (regimes.handled(spec, schema),))]
    return gates + [_rules_gate(f"regime_{name}", regimes.rules(name, spec, schema)) for name in spec.governance.regime]


def _rules_gate(name: str, rules: Sequence[regimes.Rule]) -> Gate:
    broken = [rule for rule in rules if not rule.kept]
    told = "; ".join(rule.text for rule in broken or rules)
    return Gate(name, float(len(broken)), 0.0, not broken, f"{told[:1].upper()}{told[1:]}.")


def _chance_ece(probabilities: Floats, rows: Resampling, kind: Literal["binary", "multiclass"]) -> float:
    """Return the 95 % quantile of the calibration error when labels are drawn from the probabilities themselves."""
    generator = np.random.default_rng(rows.seed)
    reached = np.cumsum(probabilities, axis=1)
    units, count = rows.units()
    draws = generator.random((CHANCE_DRAWS, count, 1))[:, units]
    last = probabilities.shape[1] - 1
    values = [
        score("ece", kind, np.minimum((draw > reached).sum(axis=1), last), probabilities, rows.weight) for draw in draws
    ]
    return float(np.quantile(values, CHANCE_LEVEL))


def _short(value: float) -> str:
    return f"{value:.4g}"
