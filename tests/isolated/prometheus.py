"""A real Prometheus with the delivered rules scrapes a real server; drift and wrong answers are played; alerts fire.

Nothing is waited for longer than the durations of the spec: a window is 15 s here instead of an hour, everything else
is as delivered. Also asked of Prometheus: whether every rule evaluates, and every panel of the dashboard answers.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlsystem.serving.client import Client
from mlsystem.serving.process import serving
from services.ml_engineer import documents
from tests.blueprint.monitored import Monitored, rows_of, traffic
from tests.delivered import measured
from tests.isolated.saying import say

MONITORING: Final[dict[str, Any]] = {"window": "15s", "min_rows": 200, "psi": [0.1, 0.25], "persistence": [2, 3]}
PATIENCE_S: Final = 120.0
_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **query: str) -> Any:
        """The data of an API call."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http, as it was made
            return json.load(answer)["data"]

    def firing(self) -> set[tuple[str, str]]:
        """Names and features of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("feature", "")) for a in alerts if a["state"] == "firing"}


def run(_arguments: Sequence[str]) -> int:
    """Plays it and says what happened; 0 if the alert fired and not before there was drift."""
    program = shutil.which("prometheus")
    if program is None:
        say("prometheus is not installed: apt-get install prometheus")
        return 2
    dossier = measured({"monitoring": MONITORING})
    files = documents.render(dossier)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in MONITORING.items())
        system = Monitored(root / "system", f"[monitoring]\n{lines}\n")
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(serving(system.workspace.root))
            prometheus = stack.enter_context(_prometheus(program, root, files, server.port))
            return _play(Client(server.url, {}), system, prometheus, files)


def _play(client: Client, system: Monitored, prometheus: Prometheus, files: dict[str, str]) -> int:
    calm = _until(client, prometheus, seconds=50.0, tenure=0.0)
    say(f"50 s of traffic as in training: {sorted(calm) or 'nothing fires'}")
    started = time.monotonic()
    found = _until(client, prometheus, seconds=PATIENCE_S, tenure=12.0)
    say(f"drift played in: {sorted(found) or 'nothing fires'} after {time.monotonic() - started:.0f} s")
    worse = _with_wrong_answers(client, system, prometheus)
    say(f"outcomes that deny every answer: {sorted(worse - found) or 'nothing more fires'}")
    broken = _broken(prometheus, json.loads(files["deploy/grafana/dashboards/system.json"]))
    say("\n".join(broken) or "every rule evaluates, every panel answers")
    return 0 if not calm and ("FeatureDrift", "tenure") in found and _WORSE in worse and not broken else 1


def _until(client: Client, prometheus: Prometheus, *, seconds: float, tenure: float) -> set[tuple[str, str]]:
    """Asks for predictions until drift of a feature fires or the time is over; what fires then."""
    end, seed = time.monotonic() + seconds, 100 + int(tenure)
    while time.monotonic() < end:
        seed += 1000
        client.predict(rows_of(traffic(seed, _ROWS, tenure=tenure)))
        found = prometheus.firing()
        if any(name == "FeatureDrift" for name, _ in found):
            return found
        time.sleep(0.2)
    return prometheus.firing()


def _with_wrong_answers(client: Client, system: Monitored, prometheus: Prometheus) -> set[tuple[str, str]]:
    """Tells the server that the opposite of what it says came true, until `monitor` has found it; what fires then."""
    end, seed = time.monotonic() + PATIENCE_S, 0
    while time.monotonic() < end and _WORSE not in prometheus.firing():
        seed += 1
        told = client.predict(rows_of(traffic(seed, _ROWS)))
        denied = [{"id": p["id"], "actual": "No" if p["prediction"] == "Yes" else "Yes"} for p in told]
        client.post("/outcomes", {"outcomes": denied})
        system.monitor()
        time.sleep(0.2)
    return prometheus.firing()


def _broken(prometheus: Prometheus, dashboard: dict[str, Any]) -> list[str]:
    """Rules that do not evaluate, and panels that show nothing though there is traffic."""
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    found = [f"rule {rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    for panel in dashboard["panels"]:
        answers = [prometheus.ask("query", query=target["expr"])["result"] for target in panel["targets"]]
        if not any(answers) and panel["title"] not in _EMPTY:
            found.append(f"panel {panel['title']!r} shows nothing")
    return found


_WORSE: Final = ("QualityDropped", "")
_EMPTY: Final = {"Refused requests", "Failed requests"}
"""Panels of what has not happened."""


@contextlib.contextmanager
def _prometheus(program: str, root: Path, files: dict[str, str], port: int) -> Generator[Prometheus]:
    """Runs Prometheus with the delivered rules and a scrape every second."""
    job = next(line for line in files["deploy/prometheus/prometheus.yml"].splitlines() if "job_name:" in line)
    config = root / "prometheus.yml"
    (root / "rules.yml").write_text(files["deploy/prometheus/rules.yml"], encoding="utf-8")
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [rules.yml]\n"
        f"scrape_configs:\n{job}\n    static_configs:\n      - targets: ['127.0.0.1:{port}']\n",
        encoding="utf-8",
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={root / 'data'}"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stderr=subprocess.DEVNULL)
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{own}")
        _await_ready(prometheus)
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _await_ready(prometheus: Prometheus) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            prometheus.ask("rules")
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
