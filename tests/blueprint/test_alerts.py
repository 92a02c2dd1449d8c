"""Alert rules, their own tests, and the dashboard, as a system is delivered with them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlsystem.serving import metrics
from services.ml_engineer import documents
from services.ml_engineer.documents.alerting import BUCKETS_S
from tests.delivered import measured
from tests.tools import tool

DASHBOARD = "deploy/grafana/dashboards/system.json"


def _rendered(spec: dict[str, Any]) -> dict[str, str]:
    return documents.render(measured(spec))


def _laid_out(folder: Path, spec: dict[str, Any]) -> Path:
    for name, text in _rendered(spec).items():
        if name.startswith("deploy/prometheus/"):
            (folder / Path(name).name).write_text(text, encoding="utf-8")
    return folder


def _promtool(folder: Path, *words: str) -> str:
    done = subprocess.run([tool("promtool"), *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else "fine"


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"objectives": {"latency_ms_p99": 20.0, "availability": 0.999}, "monitoring": {"persistence": [3, 5]}},
        {"objectives": {"latency_ms_p99": 60000.0, "availability": 0.95}, "monitoring": {"window": "15m"}},
    ],
)
def test_the_delivered_rules_pass_promtool_and_their_own_tests(tmp_path: Path, spec: dict[str, Any]) -> None:
    """Whatever the objectives, windows and persistence, the rules are valid and fire when their tests say."""
    folder = _laid_out(tmp_path, spec)
    assert [_promtool(folder, "check", "rules", "rules.yml"), _promtool(folder, "test", "rules", "test-rules.yml")] == [
        "fine",
        "fine",
    ]


def test_every_metric_of_rules_and_dashboard_is_one_that_the_server_tells() -> None:
    """A rule over a metric that does not exist never fires, and nobody notices."""
    files = _rendered({})
    rules = yaml.safe_load(files["deploy/prometheus/rules.yml"])
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads(files[DASHBOARD])
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    used = {name for expr in asked for name in re.findall(r"([a-zA-Z_][\w:]+)\{", expr)}
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    assert used - _told() - {"up"} - recorded == set()


def test_buckets_of_the_latency_rules_are_those_of_the_server() -> None:
    """The services do not import the server, so the edges stand twice."""
    assert BUCKETS_S == metrics._BUCKETS_S  # pyright: ignore[reportPrivateUsage]


def test_the_dashboard_has_a_place_for_every_panel() -> None:
    """Panels have numbers of their own and do not lie over each other."""
    panels = json.loads(_rendered({})[DASHBOARD])["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert (len(places), sorted(panel["id"] for panel in panels)) == (len(panels), list(range(1, len(panels) + 1)))


def _told() -> set[str]:
    """Names as they stand on /metrics."""
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    own = {f"{name}{suffix}" for name, series in metrics.METRICS.items() for suffix in suffixes[series.kind]}
    return own | {"process_resident_memory_bytes", "process_cpu_seconds_total"}
