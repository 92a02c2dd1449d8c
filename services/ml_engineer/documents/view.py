"""What the templates may say: the dossier's facts, put into words and rows.

Owns every judgement that a document makes (what is told first, what nobody confirmed), each
from measured facts. A fact that was not measured is None and is told as not measured. Leaves the wording around them
to the templates, and Markdown's rules to `markdown`.
"""

import math
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from pydantic import JsonValue

from contracts.events import AnswerValue
from mlsystem.spec import Spec, examine, seconds
from services.ml_engineer.documents.figures import figure, interval, percent, score
from services.ml_engineer.documents.markdown import NOTHING, code, names, text
from services.ml_engineer.dossier import Dossier
from services.ml_engineer.engine import ColumnProfile, Finding, GateResult
from services.ml_engineer.evidence import own_gates, told_rollback, trials
from services.ml_engineer.request import words_of
from services.ml_engineer.slots import SLOT_LIST, SLOTS_BY_ID, Known

Outcome = Literal["success", "partial", "failed"]

SERVED_METRICS: Final = ("latency_ms_p50", "latency_ms_p99", "rows_per_s")
SMALLER_IS_BETTER: Final = frozenset({"log_loss", "brier", "ece", "mae", "rmse", "mase"})
_IN_TARGET_UNITS: Final = frozenset({"mae", "rmse"})
_TAKEN_AWAY: Final = frozenset({"dropped", "masked"})
_REGIMES: Final = {"gdpr": "GDPR", "hipaa": "HIPAA", "pci": "PCI DSS"}
_PROTECTED: Final = frozenset(
    {"age", "ethnicity", "disability", "gender", "marital", "married", "nationality", "partner", "pregnant", "race"}
    | {"religion", "senior", "sex"}
)
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_PLAIN_FILE: Final = re.compile(r"[A-Za-z0-9._/-]+\.(csv|tsv|txt|jsonl)")
_MOST_EXAMPLE_COLUMNS: Final = 60
_MEMORY_STEP_MB: Final = 64
_LEAST_MEMORY_MB: Final = 256


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric on the holdout, beside what it is compared with."""

    name: str
    value: str
    interval: str
    baseline: str
    linear: str
    better: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that was tried, and what became of it."""

    name: str
    family: str
    score: float
    wall_s: float
    weight: float
    verdict: str


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """A column of the data."""

    name: str
    type: str
    used: str
    missing: str
    distinct: str
    personal: bool
    why: str


@dataclass(frozen=True)
class View:
    """A dossier as the templates see it."""

    dossier: Dossier

    @cached_property
    def spec(self) -> Spec:
        """The spec with every default filled in, by the engine's own definition."""
        spec, problems = examine(self.dossier.design.spec)
        if spec is None:
            raise ValueError(f"the spec of {self.system!r} is none: {'; '.join(p.message for p in problems)}")
        return spec

    # ---- names

    @property
    def system(self) -> str:
        """The system's name."""
        return self.dossier.design.system

    @property
    def run(self) -> str:
        """How a command of the engine begins, in the system's directory."""
        return f"PYTHONPATH=vendor/{self.dossier.wheel} .venv/bin/python -m mlsystem"

    @property
    def port(self) -> int:
        """The port that documents name: the spec's, or 8080 where any free one is taken."""
        return self.spec.serving.port or 8080

    @property
    def sources(self) -> tuple[str, ...]:
        """The data's files, relative to the top of the repository; absolute where they lie elsewhere."""
        return tuple(posixpath.normpath(posixpath.join(self.dossier.directory, s)) for s in self.spec.data.source)

    @property
    def sources_inside(self) -> tuple[str, ...]:
        """Those of the files that a clone of the repository can hold."""
        return tuple(path for path in self.sources if not path.startswith(("/", "../")) and ":" not in path)

    @property
    def registry_inside(self) -> bool:
        """Whether the registry is a plain path in the system's directory, so that an image can take it along."""
        return _PLAIN_PATH.fullmatch(self.spec.registry.url) is not None

    # ---- outcome

    @property
    def outcome(self) -> Outcome:
        """What the gates say; a requirement without effect makes a success partial."""
        if self.dossier.evaluation.outcome == "failed":
            return "failed"
        whole = self.dossier.evaluation.outcome == "success" and not self.failed_gates and not self.dossier.design.unmet
        return "success" if whole else "partial"

    @cached_property
    def gates(self) -> tuple[GateResult, ...]:
        """What was measured on the model, and what was proven on the delivered system."""
        own = own_gates(self.dossier.tested, self.dossier.drill)
        return (*self.dossier.evaluation.gates, *(GateResult.model_validate(gate.model_dump()) for gate in own))

    @property
    def failed_gates(self) -> tuple[GateResult, ...]:
        """The gates that did not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def holdout_rows(self) -> int:
        """Rows that the numbers come from."""
        rows = self.dossier.evaluation.holdout.get("rows")
        return int(rows) if isinstance(rows, int | float) else self.dossier.validation.split.holdout

    @property
    def holdout_opened(self) -> int:
        """How often somebody has looked at them; 0: not said."""
        opened = self.dossier.evaluation.holdout.get("opened")
        return int(opened) if isinstance(opened, int | float) else 0

    @cached_property
    def verdict(self) -> tuple[str, ...]:
        """How it ended, as Markdown paragraphs: what failed first."""
        gates, failed = self.gates, self.failed_gates
        told: list[str] = []
        if failed:
            named = names(gate.name for gate in failed)
            told.append(f"**{len(failed)} of {len(gates)} gates failed: {named}.** {self._consequence}")
            told.extend(f"{code(gate.name)}: {text(gate.text)}" for gate in failed)
        if unmet := self.dossier.design.unmet:
            told.append(f"**Asked for and without effect yet:** {'; '.join(text(item) for item in unmet)}.")
        if not failed:
            passed = f"All {len(gates)} gates passed on {self.holdout_rows:,} rows that training never saw."
            told.append(passed if unmet else f"**{passed}**")
        return (*told, self.live)

    @property
    def _consequence(self) -> str:
        if self.dossier.packaged.servable:
            return "The model can be served; what failed is not promised."
        return "Do not serve this model: `promote` refuses it."

    @property
    def live(self) -> str:
        """Which version there is, and what was done with it."""
        version = self.dossier.packaged.version
        if self.dossier.promoted is not None:
            return f"Version {version} was made live."
        if not self.dossier.packaged.servable:
            return f"Version {version} is registered as a record of what was tried; nothing was made live."
        return (
            f"Version {version} is registered. Making it live is left to a person: `make promote VERSION={version}`; "
            "`make history` says which version is live."
        )

    # ---- quality

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self.dossier.training.metric

    @cached_property
    def metrics(self) -> tuple[MetricRow, ...]:
        """Quality on the holdout, the deciding metric first."""
        found = self.dossier.evaluation.metrics
        ordered = sorted((name for name in found if name not in SERVED_METRICS), key=lambda name: name != self.metric)
        return tuple(self._metric(name) for name in ordered)

    def _metric(self, name: str) -> MetricRow:
        row = self.dossier.evaluation.metrics[name]
        unit = f", in units of {code(self.spec.task.target)}" if name in _IN_TARGET_UNITS else ""
        return MetricRow(
            name=name,
            value=score(row.get("value")),
            interval=interval(row.get("low"), row.get("high")),
            baseline=score(row.get("baseline")),
            linear=score(row.get("linear")),
            better=f"{'smaller' if name in SMALLER_IS_BETTER else 'larger'}{unit}",
        )

    @property
    def deciding(self) -> str:
        """The deciding metric on the holdout; a dash if it was not measured."""
        return self._metric(self.metric).value if self.metric in self.dossier.evaluation.metrics else NOTHING

    @property
    def headline(self) -> str:
        """The deciding metric in a sentence; empty if it was not measured."""
        if self.metric not in self.dossier.evaluation.metrics:
            return ""
        row = self._metric(self.metric)
        unit = f" in units of {code(self.spec.task.target)}" if self.metric in _IN_TARGET_UNITS else ""
        return (
            f"{code(row.name)} {row.value}{unit} (95 % interval {row.interval}) "
            f"on {self.holdout_rows:,} held-out rows; "
            f"best trivial answer ({text(self.dossier.evaluation.best_baseline)}) {row.baseline}, "
            f"linear model {row.linear}."
        )

    @property
    def only_linear(self) -> bool:
        """Whether what is shipped is the linear model alone."""
        families = {str(item.get("name")): item.get("family") for item in self.dossier.training.candidates}
        members = self.dossier.training.ensemble
        return bool(members) and all(families.get(name, name) == "linear" for name in members)

    @property
    def tie(self) -> str:
        """What there is to be proud of when a linear model is as good; empty when it is not."""
        if self.only_linear and len(self.dossier.training.candidates) > 1:
            return "**The linear model is what is shipped:** none of the larger candidates paid for itself out of fold."
        found = self.dossier.evaluation
        if self.outcome == "failed" or not found.tie_with_linear or self.metric not in found.metrics:
            return ""
        row = self._metric(self.metric)
        told = (
            f"**A linear model is as good here.** {code(row.name)} is {row.linear} for it and {row.value} for the "
            "shipped model; the 95 % interval of their paired difference holds 0."
        )
        if self.spec.search.prefer == "simple":
            return told
        return (
            f'{told} `search.prefer = "simple"` in system.toml makes the next training ship the linear model '
            "unless a larger one is surely better."
        )

    @cached_property
    def leaderboard(self) -> tuple[Candidate, ...]:
        """Every model that was tried, best out-of-fold score first."""
        sign = 1 if self.metric in SMALLER_IS_BETTER else -1
        found = [self._candidate(item) for item in self.dossier.training.candidates]
        return tuple(sorted(found, key=lambda item: (math.isnan(item.score), sign * item.score, item.name)))

    def _candidate(self, item: dict[str, JsonValue]) -> Candidate:
        name = str(item.get("name", ""))
        weight = self.dossier.training.ensemble.get(name, 0.0)
        alone = len(self.dossier.training.ensemble) == 1
        verdict = (
            "shipped, alone" if weight and alone else f"shipped, weight {weight:.2f}" if weight else "adds nothing"
        )
        return Candidate(
            name, str(item.get("family", "")), _float(item.get("score")), _float(item.get("wall_s")), weight, verdict
        )

    # ---- data

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Columns that the model may use: all but the target, what the spec and what findings take away."""
        data = self.spec.data
        away = {self.spec.task.target, data.time, data.entity, data.label_time, self.time_column}
        away |= {name for name, rule in self.spec.columns.items() if rule.role not in {"", "feature"}}
        for finding in self.dossier.validation.findings:
            away |= set(finding.columns) if finding.action in _TAKEN_AWAY else set()
        return tuple(column.name for column in self.dossier.profile.columns if column.name not in away)

    @property
    def time_column(self) -> str:
        """The column that orders the rows where they are split by time; empty where they are not."""
        if self.dossier.validation.split.method != "time":
            return self.spec.data.time
        if self.spec.data.time or len(self.dossier.profile.time) != 1:
            return self.spec.data.time
        return self.dossier.profile.time[0]

    @property
    def snapshot(self) -> tuple[str, str]:
        """Digest of the bytes that were learned from, and where they are kept; empty: not said, not kept."""
        found = self.dossier.validation.snapshot
        return str(found.get("digest") or ""), str(found.get("path") or "")

    @property
    def file_to_predict(self) -> str:
        """A file to try: the first of the data's, as seen from the system's directory."""
        first = self.spec.data.source[0]
        return first if _PLAIN_FILE.fullmatch(first) else "rows.csv"

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """Findings that are still true of what the model learned from."""
        return tuple(finding for finding in self.dossier.validation.findings if finding.action in {"kept", "asked"})

    @property
    def masked(self) -> tuple[str, ...]:
        """Columns of personal data."""
        findings = self.dossier.validation.findings
        found = (finding.columns for finding in findings if finding.kind == "pii" and finding.action != "converted")
        return tuple(dict.fromkeys(name for columns in found for name in columns))

    @property
    def protected(self) -> tuple[str, ...]:
        """Features whose names say that they describe what people must not be judged by."""
        return tuple(name for name in self.features if _PROTECTED & set(words_of(name)))

    @property
    def regime(self) -> str:
        """Rules that the data are under; empty: none."""
        return ", ".join(_REGIMES[name] for name in self.spec.governance.regime)

    @property
    def example(self) -> dict[str, JsonValue]:
        """A row to ask about, of frequent values of the features; empty where none can be shown."""
        made = self.dossier.packaged.example
        return {} if self.regime or len(made) > _MOST_EXAMPLE_COLUMNS else made

    # ---- what is known

    @property
    def said(self) -> tuple[tuple[str, str, str], ...]:
        """(what, value, source) of all that somebody or something said."""
        known = self.dossier.known
        told = (known[slot.id] for slot in SLOT_LIST if slot.id in known and slot.id != "business.goal")
        texts = {slot.id: slot.text for slot in SLOT_LIST}
        return tuple((texts[item.id], _shown(item.value), _origin(item)) for item in told if item.origin != "default")

    @property
    def goal(self) -> str:
        """What it is for."""
        known = self.dossier.known.get("business.goal")
        return self.spec.goal or (str(known.value) if known else self.dossier.request)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What nobody confirmed, in words: the question, what was assumed, the keys that say so."""
        known = (self.dossier.known.get(slot.id) for slot in SLOT_LIST)
        assumed = tuple(_assumed(item) for item in known if item is not None and item.origin == "default")
        return assumed or self.dossier.design.assumptions

    @property
    def retention(self) -> str:
        """How long captured requests are kept: the shorter of the two keys."""
        capture, own = self.spec.capture.retention, self.spec.governance.retention
        return min(capture, own, key=seconds)

    @property
    def columns(self) -> tuple[ColumnRow, ...]:
        """Every column of the data, and what it is for."""
        return tuple(self._column(column) for column in self.dossier.profile.columns)

    def _column(self, column: ColumnProfile) -> ColumnRow:
        why = [f.text for f in self.dossier.validation.findings if column.name in f.columns and f.action in _TAKEN_AWAY]
        rule = self.spec.columns.get(column.name)
        why += [rule.why] if rule and rule.why else []
        return ColumnRow(
            name=column.name,
            type=column.type,
            used=self._use(column.name),
            missing=percent(column.missing),
            distinct=figure(column.distinct),
            personal=column.name in self.masked,
            why=" ".join(why),
        )

    def _use(self, name: str) -> str:
        data = self.spec.data
        special = {self.spec.task.target: "target", data.entity: "names whom a row is about", self.time_column: "time"}
        return special.get(name) or ("feature" if name in self.features else "not used")

    # ---- serving

    def served(self, name: str) -> float | None:
        """A measurement of the real server, None if it was not made."""
        return self.dossier.evaluation.metrics.get(name, {}).get("value")

    @property
    def rate_rps(self) -> float | None:
        """Requests a second at which latency was measured."""
        rate = self.dossier.evaluation.latency.get("rate_rps")
        return float(rate) if isinstance(rate, int | float) and self.p99_ms is not None else None

    @property
    def p50_ms(self) -> float | None:
        """Median answer time."""
        return _number(self.dossier.evaluation.latency.get("p50_ms"))

    @property
    def p99_ms(self) -> float | None:
        """99th percentile of the answer time."""
        return _number(self.dossier.evaluation.latency.get("p99_ms"))

    @property
    def peak_rps(self) -> float:
        """Requests a second at the peak that was asked for."""
        return self.spec.objectives.rate_rps * self.spec.objectives.peak_factor

    @property
    def memory_limit_mb(self) -> int | None:
        """A limit for one server: three times what was measured, since two versions are loaded during a switch."""
        measured = self.dossier.evaluation.memory_mb
        if measured is None:
            return None
        return max(_LEAST_MEMORY_MB, math.ceil(3 * measured / _MEMORY_STEP_MB) * _MEMORY_STEP_MB)

    @property
    def poll(self) -> str:
        """How often a server looks at the registry."""
        return "every two seconds" if "://" in self.spec.registry.url else "four times a second"

    def drilled(self, name: str) -> Mapping[str, JsonValue]:
        """What came of one failure of the drill; empty where it was not played."""
        empty: Mapping[str, JsonValue] = {}
        return next((trial for trial in trials(self.dossier.drill) if trial.get("name") == name), empty)

    @property
    def rolled_back(self) -> str:
        """How a rollback went in the drill, in a sentence; empty where it was not played."""
        return told_rollback(self.drilled("rollback"))

    @property
    def limits(self) -> tuple[tuple[str, str, str], ...]:
        """(key, value, answer beyond it) of the server's limits."""
        serving = self.spec.serving
        return (
            ("serving.max_rows", f"{serving.max_rows:,} rows a request", "413 `too_many_rows`"),
            ("serving.max_body", serving.max_body, "413 `body_too_large`"),
            ("serving.timeout", serving.timeout, "408 `slow_body`, 503 `timeout`"),
            ("serving.concurrency", f"{serving.concurrency} requests at once", "503 `overloaded`"),
            (
                "serving.strict",
                "unknown columns are refused" if serving.strict else "unknown columns are answered with a warning",
                "422" if serving.strict else "a warning",
            ),
        )


def _shown(value: AnswerValue) -> str:
    return ", ".join(value) if isinstance(value, list) else figure(value) if isinstance(value, bool) else str(value)


def _assumed(known: Known) -> str:
    slot = SLOTS_BY_ID[known.id]
    keys = ", ".join(slot.effect(known.value))
    return f"{slot.text} Assumed: {_shown(known.value)}{f' ({keys})' if keys else ''}."


def _origin(known: Known) -> str:
    return f"an answer ({known.source})" if known.origin == "answer" and known.source != "an answer" else known.source


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _float(value: JsonValue) -> float:
    found = _number(value)
    return math.nan if found is None else found
