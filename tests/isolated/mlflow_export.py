"""`export mlflow` against a real MLflow: `python -m tests.isolated mlflow_export`.

MLflow and all that it drags along lie in an environment of their own. There a model that the engine wrote without it
is loaded and asked for every row of a table, numbers with gaps, dates and codes among them; then the model is logged
to a tracking server on SQLite, by the engine over HTTP, and read back by MLflow's own client.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.blueprint.made_tables import churn, engine, write_csv
from tests.environments import Environment, environment
from tests.isolated.saying import say

_PEERS: Final = Path(__file__).parent / "peers"
_START_S: Final = 600.0
_SPEC: Final = """format = 1
name = "made"
[task]
kind = "binary"
target = "left"
[data]
source = ["rows.csv"]
[search]
budget = "5s"
families = ["linear"]
[gates]
beats_trivial = false
"""


def run(_arguments: Sequence[str]) -> int:
    """Export, load, predict and log; return 0 if MLflow gives what the engine gives."""
    guest = environment(_PEERS / "mlflow-export.txt")
    say(f"mlflow {guest.versions['mlflow']}, {guest.size_mb:.0f} MB")
    with tempfile.TemporaryDirectory(prefix="mlflow-export-") as scratch:
        root = Path(scratch)
        metrics = _make_system(root)
        expected = _predicted(root)
        failures = _compared("the directory", _ask(guest, root, "work/export/mlflow/1"), expected)
        with _tracking_server(guest, root) as url:
            logged = _run(root, "export", "mlflow", "--to", url)
            say(f"logged as {logged['model']}")
            told = _ask(guest, root, str(logged["model"]), url, str(logged["run_id"]))
        failures += _compared("the store", told, expected)
        if told["metrics"] != metrics:
            failures.append(f"metrics: {told['metrics']} instead of {metrics}")
        if told["status"] != "FINISHED":
            failures.append(f"the run is {told['status']}")
    for failure in failures:
        say(f"FAILED {failure}")
    say("ok" if not failures else f"{len(failures)} failures")
    return int(bool(failures))


def _make_system(root: Path) -> dict[str, float]:
    """Train on a table with gaps, dates and codes, package, promote and export; return the exported metrics."""
    table = churn(300)
    table |= {
        "visits": [None if i % 7 == 0 else i % 11 for i in range(300)],
        "zone": [("1", "2", "3")[i % 3] for i in range(300)],
        "code": [f"0{i % 5}1" for i in range(300)],
        "since": [f"{2019 + i % 4}-0{1 + i % 9}-1{i % 9}" for i in range(300)],
    }
    write_csv(root / "rows.csv", table)
    (root / "system.toml").write_text(_SPEC)
    for words in (("validate",), ("train",), ("evaluate", "--latency-seconds", "0.5"), ("package",), ("promote",)):
        _run(root, *words)
    return dict(_run(root, "export", "mlflow")["metrics"])


def _predicted(root: Path) -> list[dict[str, Any]]:
    """Return what the engine itself says about every row."""
    _run(root, "predict", "--in", "rows.csv", "--out", "answers.jsonl")
    lines = [json.loads(line) for line in (root / "answers.jsonl").read_text().splitlines()]
    return [{"prediction": line["prediction"], "probabilities": line["probabilities"]} for line in lines]


def _ask(guest: Environment, root: Path, model: str, *more: str) -> dict[str, Any]:
    """Let MLflow load a model and predict all rows."""
    command = [str(guest.python), str(_PEERS / "with_mlflow.py"), model, *more]
    done = subprocess.run(command, cwd=root, env=_environment(guest), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        say(done.stderr[-4000:])
        raise SystemExit(1)
    return json.loads(done.stdout.splitlines()[-1])


def _compared(what: str, told: dict[str, Any], expected: list[dict[str, Any]]) -> list[str]:
    """Return what is not as the engine has it."""
    failures: list[str] = []
    if told["answers"] != expected:
        wrong = sum(one != other for one, other in zip(told["answers"], expected, strict=True))
        failures.append(f"{what}: {wrong} of {len(expected)} answers differ")
    inputs = {item["name"]: item["type"] for item in told["inputs"]}
    wanted = {"charge": "double", "visits": "any", "zone": "long", "code": "any", "tenure": "long", "plan": "string"}
    if {name: inputs.get(name) for name in wanted} != wanted:
        failures.append(f"{what}: the signature is {inputs}")
    if told["examples"] != 5:
        failures.append(f"{what}: {told['examples']} rows of the input example were answered")
    say(f"{what}: {len(told['answers'])} answers, signature {inputs}")
    return failures


@contextlib.contextmanager
def _tracking_server(guest: Environment, root: Path) -> Generator[str]:
    """Run MLflow's server on SQLite and a free port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    store = ["--backend-store-uri", f"sqlite:///{root}/mlflow.db", "--artifacts-destination", str(root / "artifacts")]
    command = [str(guest.python), "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=root, env=_environment(guest), stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((root / "server.log").read_text()[-2000:])
            time.sleep(0.3)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # it starts others, which it does not end
        server.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own server
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _environment(guest: Environment) -> dict[str, str]:
    """Return an environment without a trace of ours: the guest has its own copy of the engine, in the model."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    kept["PATH"] = f"{guest.python.parent}:{kept['PATH']}"
    kept |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def _run(root: Path, *words: str) -> dict[str, Any]:
    ran = engine(*words, "--json", cwd=root)
    assert ran.code == 0, f"{words}: {ran.out[-2000:]} {ran.err[-2000:]}"
    return ran.result
