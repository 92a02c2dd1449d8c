"""The command `smoke`: a server is asked what it must answer, before anybody else asks it.

Owns the questions and the gates that follow from the answers: whether a server is ready, whether it answers with the
package that it should, whether its answers are the recorded ones, whether it answers in time. Without a URL the server
is started for the questions, on the package alone, and ended after them. Leaves letting a version go live to `promote`.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlsystem.errors import GateFailed, RegistryError, ServingError
from mlsystem.output import Gate
from mlsystem.registry import registry_of
from mlsystem.schema import Schema
from mlsystem.serving.client import Client
from mlsystem.serving.examples import Row, example_rows
from mlsystem.serving.keys import client_headers
from mlsystem.serving.package import METRICS, Package
from mlsystem.serving.process import serving
from mlsystem.spec import Spec, seconds

if TYPE_CHECKING:
    import argparse

    from mlsystem.stages import Workspace

TOLERANCE: Final = 1e-6
"""Relative; another processor or another build of the runtime rounds differently, by far less than this."""

_POLL_S = 0.2
_TURN_S = 1.5
"""A server keeps what it was asked once a second."""

_TIMED = 50
"""Requests, one after the other, that answer times are taken from."""


class _Measured(msgspec.Struct):
    """What is read of metrics.json."""

    reference_predictions: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])


class Wanted(msgspec.Struct, frozen=True):
    """The version that a server must answer with, and what is known of it."""

    version: int
    digest: str
    schema: Schema
    rows: list[Row]
    recorded: list[dict[str, Any]]
    """What the package answered for its rows where it was made; empty: nothing was recorded."""


def smoke(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`smoke [--url U] [--version V] [--wait S]`: ask a server what it must answer.

    With a URL the server must answer with the live version, without one a server is started on the newest version.
    Raises: GateFailed (exit 3) with every gate if one did not pass; ServingError if nothing answers.
    """
    package = _package(workspace, options.version, live=bool(options.url))
    wanted = _wanted(package)
    with _server(workspace, package, options.url) as client:
        gates = list(_gates(client, wanted, workspace.spec, options.wait))
        answered = gates[-1].name == "latency"
        prediction = client.predict([wanted.rows[0]])[0] if answered else {}
        if answered and options.url:  # a server on a package keeps nothing
            gates.append(_state(client))
    found: dict[str, object] = {
        "version": wanted.version,
        "url": options.url or None,
        "prediction": prediction.get("prediction"),
        "row": wanted.rows[0],
        "gates": [msgspec.to_builtins(gate) for gate in gates],
    }
    if failed := [gate for gate in gates if not gate.passed]:
        told = "; ".join(f"{gate.name}: {gate.text}" for gate in failed)
        raise GateFailed("smoke_failed", told, details=[msgspec.to_builtins(g) for g in failed], result=found)
    return {"ok": True, **found}


@contextlib.contextmanager
def _server(workspace: Workspace, package: Package, url: str) -> Generator[Client]:
    """Give a client of the server to ask: the one that is there, or one on the package's files for the time being."""
    if url:
        with Client.connected(url, client_headers()) as client:
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="mlsystem-") as scratch:
        for name, data in package.files.items():
            (Path(scratch) / name).write_bytes(data)
        workspace.reporter.progress("smoke", None, f"starting a server on version {package.version}")
        with (
            serving(Path(scratch), "--package", scratch) as server,
            Client.connected(server.url, server.headers) as client,
        ):
            yield client


def _gates(client: Client, wanted: Wanted, spec: Spec, patience_s: float) -> Generator[Gate]:
    """Decide one gate after the other; what stands on a gate that failed is not asked."""
    ready = _ready(client, patience_s)
    yield ready
    if not ready.passed:
        return
    version = _version(client, wanted, patience_s)
    yield version
    if not version.passed:
        return
    contract = _contract(client, wanted, spec)
    yield contract
    if contract.passed:
        yield _latency(client, wanted, spec)


def _ready(client: Client, patience_s: float) -> Gate:
    """Wait until the server says that it may be asked; ServingError if nothing answers in all that time."""
    deadline = time.monotonic() + patience_s
    status, content = _readiness(client, deadline)
    while status != 200 and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        status, content = _readiness(client, deadline)
    text = "the server is ready" if status == 200 else f"/readyz says {status}: {content.get('reason', 'no reason')}"
    return Gate("ready", float(status), 200.0, status == 200, text)


def _readiness(client: Client, deadline: float) -> tuple[int, dict[str, Any]]:
    """Return status and content of /readyz; a server that does not listen yet counts as not ready."""
    try:
        return client.get("/readyz")
    except ServingError:
        if time.monotonic() >= deadline:
            raise
        return 0, {}


def _version(client: Client, wanted: Wanted, patience_s: float) -> Gate:
    """Wait until the wanted package answers: servers follow a promotion, some a little later than others."""
    deadline = time.monotonic() + patience_s
    while (found := client.get("/version")[1]).get("digest") != wanted.digest and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    answers, digest = found.get("version"), str(found.get("digest"))
    passed = digest == wanted.digest
    text = f"version {wanted.version} answers, package {wanted.digest[:12]}"
    if not passed:
        text = (
            f"package {digest[:12]} answers as version {answers}; wanted is {wanted.digest[:12]}, version "
            f"{wanted.version}: promote it, or give --version"
        )
    return Gate("version", float(answers) if isinstance(answers, int) else None, float(wanted.version), passed, text)


def _contract(client: Client, wanted: Wanted, spec: Spec) -> Gate:
    """Compare the answers for the rows that came along with the recorded ones, and ask what must be refused."""
    step = min(len(wanted.rows), spec.serving.max_rows)
    parts = [wanted.rows[start : start + step] for start in range(0, len(wanted.rows), step)]
    answers = [answer for part in parts for answer in client.predict(part)]
    wrong = [row for row, answer in enumerate(answers) if not _fits(answer, wanted.schema)]
    pairs = zip(answers, wanted.recorded, strict=False)
    wrong += [row for row, (answer, was) in enumerate(pairs) if not _same(answer, was)]
    nothing: Row = {}
    status, said = client.post("/predict", {"rows": [nothing]})
    if status != 422:
        wording = f"a row without any column is answered with {status}, not refused with 422: {str(said)[:200]}"
        return Gate("contract", None, 0.0, passed=False, text=wording)
    compared = "as recorded" if wanted.recorded else "in the contract's labels"
    text = f"{len(answers)} rows of the data are answered {compared}, a row without its columns is refused"
    if wrong:
        text = f"{len(wrong)} of {len(answers)} rows are not answered {compared}, the first is row {min(wrong)}"
    return Gate("contract", float(len(wrong)), 0.0, not wrong, text)


def _latency(client: Client, wanted: Wanted, spec: Spec) -> Gate:
    """Time single rows; half of them slower than what 99 in 100 may take is beyond what noise explains."""
    allowed_ms = spec.objectives.latency_ms_p99 or seconds(spec.serving.timeout) * 1000
    took_ms: list[float] = []
    for number in range(_TIMED):
        started = time.perf_counter()
        client.predict([wanted.rows[number % len(wanted.rows)]])
        took_ms.append((time.perf_counter() - started) * 1000)
    median = round(statistics.median(took_ms), 3)
    text = f"half of {_TIMED} single rows were answered within {median:g} ms, allowed are {allowed_ms:g} ms"
    return Gate("latency", median, allowed_ms, median <= allowed_ms, text)


def _state(client: Client) -> Gate:
    """Give the server the time in which it keeps what was just asked; it says itself if it could not."""
    deadline = time.monotonic() + _TURN_S
    while (said := client.get("/healthz")[1]).get("status") == "ok" and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    passed = said.get("status") == "ok"
    text = "what is asked is kept" if passed else f"/healthz says {said.get('status')}: {said.get('reason')}"
    return Gate("state", None, None, passed, text)


def _fits(answer: Mapping[str, Any], schema: Schema) -> bool:
    """Tell whether an answer is one that the contract allows."""
    prediction, labels = answer.get("prediction"), schema.task.labels
    if not labels:
        return isinstance(prediction, int | float) and math.isfinite(prediction)
    return prediction in labels and sorted(answer.get("probabilities") or {}) == sorted(labels)


def _same(answer: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    """Tell whether an answer is the recorded one, but for rounding."""
    expected: Mapping[str, float] | None = recorded.get("probabilities")
    if expected is None:
        return math.isclose(answer["prediction"], recorded["prediction"], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    found: Mapping[str, float] = answer.get("probabilities") or {}
    return answer["prediction"] == recorded["prediction"] and all(
        math.isclose(found.get(label, math.nan), share, abs_tol=TOLERANCE) for label, share in expected.items()
    )


def _package(workspace: Workspace, version: int | None, *, live: bool) -> Package:
    """Return a version from the registry; without a number the live one, or the newest."""
    registry = registry_of(workspace)
    ledger = registry.ledger()
    wanted = version or (ledger.active if live else next(reversed(ledger.kept), None))
    if wanted is None:
        code, command = ("nothing_active", "promote") if live else ("nothing_registered", "package")
        raise RegistryError(
            code, f"there is no version to ask for; run `python -m mlsystem {command}`, or give --version"
        )
    return Package.stored(registry, wanted)


def _wanted(package: Package) -> Wanted:
    schema = package.schema()
    measured = msgspec.json.decode(package.files.get(METRICS, b"{}"), type=_Measured)
    rows = example_rows(schema, package.reference())
    return Wanted(package.version, package.digest, schema, rows, measured.reference_predictions)
