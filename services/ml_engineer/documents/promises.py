"""What an owner was promised, where each thing is, and what proved it.

Owns the list of deliverables in an owner's words, with the files, the gates and delivered tests that stand behind each,
and what is not there. Results and times come from the dossier: a gate or a test that did not run is told as such.
Leaves the page to its template.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from services.ml_engineer.documents.figures import figure
from services.ml_engineer.documents.markdown import cell_code, text
from services.ml_engineer.documents.view import View
from services.ml_engineer.engine import GateResult
from services.ml_engineer.evidence import TestResult


@dataclass(frozen=True, slots=True)
class Promise:
    """One deliverable."""

    name: str
    means: str
    """What an owner gets, in a sentence."""
    files: tuple[str, ...]
    """Paths in the system's directory; a `/` at the end names a directory, `../` at the start the repository."""
    gates: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """Names, or the beginnings of names, of delivered tests."""
    drill: bool = False
    """Whether the rollback of the drill proves it too."""
    try_it: str = ""
    """A command that shows it."""
    missing: str = ""
    """What belongs to it and is not there."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that proved a promise, ready for a table's cell."""

    what: str
    result: str
    told: str


PROMISES: Final = (
    Promise(
        name="A serving API that scales",
        means="One row or a million get an answer that names the version which gave it; more load takes more servers, "
        "not another program.",
        files=(
            "vendor/",
            "schema.json",
            "docs/openapi.json",
            "deploy/Dockerfile.serve",
            "deploy/compose.yml",
            "deploy/kubernetes/",
            "docs/deployment.md",
        ),
        gates=("contract", "latency_ms_p99", "parity"),
        tests=("test_mlsystem_model",),
        try_it="make smoke",
        missing="splitting traffic between two versions (shadow, canary, A/B)",
    ),
    Promise(
        name="An automated pipeline",
        means="From the data to a version that has answered, with every gate on the way, by hand, in CI or on a "
        "schedule; making it live is a person's yes.",
        files=("Makefile", "system.toml", "deploy/Dockerfile.train", "deploy/kubernetes/components/pipeline.yml"),
        gates=("beats_trivial",),
        tests=("test_mlsystem_contract",),
        try_it="make pipeline",
        missing="retraining that starts by itself when the data drift",
    ),
    Promise(
        name="Monitoring with alerts",
        means="Somebody is told when answers fail or are late, when the data or the predictions drift, and when "
        "quality falls; a page says why.",
        files=("deploy/prometheus/", "deploy/grafana/", "docs/monitoring.md", "docs/runbook.md"),
        tests=("test_mlsystem_monitoring",),
        try_it="make monitor",
        missing="delivery of Prometheus' own alerts: name your Alertmanager in deploy/prometheus/prometheus.yml",
    ),
    Promise(
        name="Training that can be repeated",
        means="The same rows, spec, seed and locks give the same model file; the rows are kept under their digest.",
        files=("system.toml", "requirements/", "docs/data_sheet.md"),
        tests=("test_mlsystem_training", "test_mlsystem_registry"),
        try_it="make reproduce VERSION=1",
    ),
    Promise(
        name="Documents",
        means="Why it is as it is, what it can and cannot do, what it learned from, how to run it, what to do when it "
        "breaks.",
        files=(
            "README.md",
            "docs/design.md",
            "docs/model_card.md",
            "docs/data_sheet.md",
            "docs/deployment.md",
            "docs/monitoring.md",
            "docs/runbook.md",
            "docs/rollback.md",
        ),
    ),
    Promise(
        name="Rollback and recovery",
        means="One command brings the version before back without a failed request; lost or damaged files are found "
        "by their digest and have a written way back.",
        files=("docs/rollback.md", "docs/runbook.md"),
        gates=("recovery",),
        drill=True,
        tests=("test_mlsystem_registry",),
        try_it="make drill",
        missing="rollback that decides by itself",
    ),
    Promise(
        name="Features under control",
        means="One compiled graph makes the features in training and in serving, so the two cannot differ; your own "
        "are expressions in `[derive]` or functions in `hooks.py`; the newest values of an entity can be kept for "
        "requests that do not bring them.",
        files=("system.toml", "hooks.py", "schema.json"),
        gates=("parity",),
        tests=("test_mlsystem_contract",),
    ),
    Promise(
        name="Versions of data and models",
        means="Which version was live when, by whom and why, what it learned from, and how two of them differ.",
        files=("docs/rollback.md",),
        tests=("test_mlsystem_registry",),
        try_it="make history",
    ),
    Promise(
        name="Governance",
        means="Personal data is recognised and kept out of the model and of what is stored; a person can be erased; "
        "the parts and their licences are listed.",
        files=("docs/sbom.json", "docs/data_sheet.md", "docs/model_card.md", "LICENSE"),
        gates=("pii_handled", "regime_gdpr", "regime_hipaa", "regime_pci"),
        tests=("test_mlsystem_governance",),
        try_it="make sbom",
    ),
)
"""In the order of what was asked for; a test holds that every file is delivered and every command runs."""


@dataclass(frozen=True)
class Evidence:
    """The promises with what proved them here."""

    view: View

    @cached_property
    def promises(self) -> tuple[tuple[Promise, tuple[Proof, ...]], ...]:
        """Each promise with its proofs."""
        return tuple((promise, tuple(self._proofs(promise))) for promise in PROMISES)

    @property
    def tested(self) -> str:
        """How the delivered tests ended, in a sentence."""
        found = self.view.dossier.tested
        if found is None:
            return "The delivered tests have not been run yet: `make test`."
        when = f" at {found.at.replace('T', ' ')}" if found.at else ""
        verdict = "passed" if found.passed else "**did not pass**"
        return f"The delivered tests {verdict}{when}: {text(found.text)}."

    def _proofs(self, promise: Promise) -> Iterator[Proof]:
        gates = {gate.name: gate for gate in self.view.gates}
        yield from (_by_gate(gates[name]) for name in promise.gates if name in gates)
        if promise.drill and (told := self.view.rolled_back):
            yield Proof("drill `rollback`", "done", told)
        if self.view.dossier.tested is None:
            return
        for prefix in promise.tests:
            found = [test for test in self.view.dossier.tested.tests if test.name.startswith(prefix)]
            if found:
                yield _by_tests(prefix, found)


def _by_gate(gate: GateResult) -> Proof:
    return Proof(f"gate {cell_code(gate.name)}", "passed" if gate.passed else "**failed**", text(gate.text))


def _by_tests(prefix: str, tests: list[TestResult]) -> Proof:
    passed = sum(test.result == "passed" for test in tests)
    failed = [test.name for test in tests if test.result == "failed"]
    result = f"**failed**: {', '.join(cell_code(name) for name in failed)}" if failed else f"{passed} passed"
    skipped = len(tests) - passed - len(failed)
    told = f"{result}, {skipped} skipped" if skipped else result
    return Proof(f"tests {cell_code(f'tests/{prefix}.py')}", told, f"In {figure(sum(t.seconds for t in tests))} s.")
