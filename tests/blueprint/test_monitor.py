"""The command `monitor`: what it concludes from windows, captures and outcomes."""

from __future__ import annotations

import json
import re
import time
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from mlsystem.errors import GateFailed, MlsystemError, SpecError
from mlsystem.monitoring import LAST_VERDICT
from mlsystem.monitoring.command import period_of
from mlsystem.monitoring.gauges import WATERMARK, Gauges
from mlsystem.monitoring.words import listed
from mlsystem.serving.client import Client
from mlsystem.serving.command import predict
from mlsystem.serving.process import serving
from mlsystem.spec import Monitoring
from mlsystem.state import Window, state_of
from tests.blueprint.made_tables import engine, python
from tests.blueprint.monitored import Monitored, drawn, rows_of, sketched, traffic

HOUR = 3600.0

NOW = time.time()

CALM = [traffic(seed) for seed in (21, 22, 23)]


@pytest.fixture
def system(tmp_path: Path) -> Monitored:
    return Monitored(tmp_path / "small")


def test_traffic_as_in_training_is_fine(system: Monitored) -> None:
    """Nothing alerts, and that is said."""
    system.play(CALM, now=NOW)
    told = system.monitor()
    assert (told["standing"], told["cause"], told["findings"]) == ("fine", "Nothing has changed that matters.", [])
    assert [(window["rows"], window["alerting"]) for window in told["windows"]] == [(600, [])] * 3


def test_drift_alerts_when_it_lasts(system: Monitored) -> None:
    """One window is a warning; the second of three alerts, since the first, and names what has moved."""
    moved = [traffic(seed, tenure=12.0) for seed in (31, 32)]
    system.play([*CALM, moved[0]], now=NOW)
    once = system.monitor()
    system.play([*CALM, *moved], now=NOW + HOUR)
    twice = system.monitor()
    assert ({f["level"] for f in once["findings"]}, once["standing"]) == ({"warn"}, "warning")
    assert (twice["standing"], {(a["kind"], a["feature"]) for a in twice["alerts"]}) == (
        "alert",
        {("drift", "tenure"), ("answers", "probability of Yes")},
    )
    assert re.match(
        r"tenure is higher than in training: \d.* on average, -5.* in training\. It carries 60 %", twice["cause"]
    )
    assert {alert["since"] for alert in twice["alerts"]} == {twice["windows"][-2]["start"]}


def test_values_that_go_missing_point_to_their_source(system: Monitored) -> None:
    """A cause explains more than a distribution that has moved."""
    system.play([*CALM, *(traffic(seed, missing=0.4, tenure=12.0) for seed in (31, 32))], now=NOW)
    told = system.monitor()
    assert told["alerts"][0]["kind"] == "missing"
    assert told["cause"].startswith("charges is missing in 4")
    assert "in training it was in 0 %. What feeds it has probably failed" in told["cause"]


def test_windows_with_few_rows_are_joined(system: Monitored) -> None:
    """Rows are judged when there are enough of them, never fewer; the newest wait."""
    system.play([traffic(seed, 200) for seed in range(40, 45)], now=NOW)
    told = system.monitor()
    assert ([window["rows"] for window in told["windows"]], told["gathering"]) == ([600], 400)
    few = system.monitor(since="90m")
    assert (few["standing"], few["windows"]) == ("too_few_rows", [])


def test_workers_of_one_window_are_added_up(system: Monitored) -> None:
    """Whatever process saw a row, it is a row of the window; a window that cannot be read is told."""
    state, start = state_of(system.workspace), NOW // HOUR * HOUR - HOUR
    contents = [sketched(system.profile, traffic(seed, 300)).to_bytes() for seed in (1, 2)]
    state.save_windows([Window(start, 1, f"worker {i}", content) for i, content in enumerate([*contents, b"\x90"])])
    state.close()
    told = system.monitor()
    assert ([window["rows"] for window in told["windows"]], len(told["damaged"])) == ([600], 1)


def test_quality_is_measured_once_outcomes_come(tmp_path: Path) -> None:
    """Two windows whose whole interval is below the holdout alert; without drift the meaning has changed."""
    system = Monitored(tmp_path / "small")
    system.play(CALM, now=NOW)
    for hours, honest in ((5, 1.0), (4, 0.2), (3, 0.2)):
        seen = traffic(50 + hours, 550)
        system.capture(seen, at=NOW // HOUR * HOUR - hours * HOUR, told=drawn(seen, hours, honest))
    told = system.monitor()
    values = [window["value"] for window in told["quality"]["windows"]]
    assert ([a["kind"] for a in told["alerts"]], values[0] > 0.75, max(values[1:]) < 0.7) == (["quality"], True, True)
    assert all(window["low"] < window["value"] < window["high"] for window in told["quality"]["windows"])
    assert "what they say about the outcome has probably changed" in told["cause"]
    assert (told["quality"]["labelled"], told["quality"]["captured"]) == (1650, 1650)
    gauges = gauges_of(system, version=1)
    assert (gauges["mlsystem_quality_alerting", ()], gauges_of(system, version=2)) == (1.0, {})
    assert {labels: value for (name, labels), value in gauges.items() if name == "mlsystem_quality"} == {
        ("roc_auc", "holdout"): 0.85,
        ("roc_auc", "outcomes"): values[-1],
    }


def gauges_of(system: Monitored, *, version: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """The gauges of a server that answers with this version, drift left out."""
    told: dict[tuple[str, tuple[str, ...]], float] = {}

    class Kept:
        def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
            told[name, labels] = value

    state = state_of(system.workspace)
    Gauges(Kept()).refresh(state, system.profile, Monitoring(), version=version, now=NOW + 100 * HOUR)
    state.close()
    return told


def test_without_outcomes_quality_is_estimated_and_called_so(tmp_path: Path) -> None:
    """The estimate follows the probabilities: near the truth while they hold; it warns and never alerts."""
    system = Monitored(tmp_path / "small", holdout=0.99)
    seen = traffic(60, 1200)
    system.capture(seen, at=NOW // HOUR * HOUR - 2 * HOUR, told=[None] * 1200)
    told = system.monitor()
    guess = told["quality"]["estimates"][0]
    truth = Monitored(tmp_path / "other")
    truth.capture(seen, at=NOW // HOUR * HOUR - 2 * HOUR, told=drawn(seen, 1))
    known = truth.monitor()["quality"]["windows"][0]
    assert guess["value"] == pytest.approx(known["value"], abs=0.03)
    assert [(f["kind"], f["level"]) for f in told["findings"]] == [("estimate", "warn")]
    assert told["findings"][0]["text"].startswith("Estimate without outcomes: roc_auc")


def test_outcomes_that_do_not_come_in_time_are_told(tmp_path: Path) -> None:
    """Outcomes are due after monitoring.label_delay; it warns when more than half of them are late."""
    system = Monitored(tmp_path / "small", '[monitoring]\nlabel_delay = "1h"\n')
    seen = traffic(61, 600)
    system.capture(seen, at=NOW - 5 * HOUR, told=["Yes", *[None] * 599])
    late = next(f for f in system.monitor()["findings"] if f["kind"] == "outcomes_late")
    assert (late["level"], late["text"]) == (
        "warn",
        "The outcomes of 99.8 % of the answers older than 1h have not come, 599 of 600.",
    )


def test_failing_and_slow_requests_are_told_against_the_objectives(tmp_path: Path) -> None:
    """Failures beyond objectives.availability, and answers beyond objectives.latency_ms_p99."""
    system = Monitored(tmp_path / "small", "[objectives]\nlatency_ms_p99 = 30\navailability = 0.99\n")
    state, start = state_of(system.workspace), NOW // HOUR * HOUR - 2 * HOUR
    for i in range(2):
        sketch = sketched(system.profile, traffic(i))
        sketch.observe(np.full(200, 0.045), failed=10)
        state.save_windows([Window(start + i * HOUR, 1, "a worker", sketch.to_bytes())])
    state.close()
    assert [(a["kind"], a["text"]) for a in system.monitor()["alerts"]] == [
        ("errors", "4.76 % of the requests were not answered; 1 % are allowed."),
        ("latency", "99 % of the requests took up to 49.7 ms; 30 ms are allowed."),
    ]


def test_a_feature_that_was_never_as_in_training_is_told_so(system: Monitored) -> None:
    """No drift then: what is sent is not what the model was trained on."""
    system.play([traffic(seed, tenure=12.0) for seed in range(31, 36)], now=NOW)
    assert "It was so in every window that was looked at." in system.monitor()["cause"]


def test_what_limits_a_verdict_is_noted(tmp_path: Path) -> None:
    """A season that the version does not have, and features that were restless in training."""
    system = Monitored(tmp_path / "small", '[monitoring]\nseason = "7d"\n', source='time = "joined"\n')
    restless = structs.replace(system.profile.numbers[0], usual=3.0)
    system.profile = structs.replace(system.profile, numbers=(restless, *system.profile.numbers[1:]))
    system.publish({"profile.json": msgspec.json.encode(system.profile)}, version=2)
    notes = system.monitor(out=tmp_path / "page.html")["notes"]
    page = (tmp_path / "page.html").read_text()
    assert [note.split(",")[0].split(" and is judged")[0] for note in notes] == [
        "Version 2 was packaged with monitoring.season = ''",
        "tenure moved by more than what alerts within training already",
    ]
    assert all(escape(note) in page for note in notes)


def test_what_a_server_counted_and_kept_is_what_is_judged(tmp_path: Path) -> None:
    """From a request to the verdict: rows, answer times, captures and their outcomes."""
    system = Monitored(tmp_path / "small", "[monitoring]\nmin_rows = 200\n")
    seen = traffic(70, 250)
    with serving(system.workspace.root) as server:
        client = Client(server.url, {})
        answers = client.predict(rows_of(seen))
        outcomes = [{"id": answer["id"], "actual": "Yes"} for answer in answers[:9]]
        status, said = client.post("/outcomes", {"outcomes": outcomes})
    told = system.monitor(since="3h", version=1)
    assert (status, said["accepted"]) == (202, 9)
    assert (sum(window["rows"] for window in told["windows"]) + told["gathering"]) == 250
    assert (told["quality"]["captured"], told["quality"]["labelled"]) == (250, 9)
    assert 0 < told["windows"][-1]["latency_ms_p99"] < 5000


def test_a_file_counts_as_traffic_only_where_that_is_asked_for(system: Monitored) -> None:
    """It may be a trial, or old rows; what is counted is judged like requests."""
    root = system.workspace.root
    (root / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(traffic(61, 600, tenure=12.0))))
    told: list[object] = []
    for monitor in (False, True):
        options = Namespace(input=root / "in.jsonl", output=root / "out.csv", version=None, monitor=monitor)
        told += [predict(system.workspace, options)["counted"], system.monitor()["rows"]]
    assert told == [False, 0, True, 600]


def test_an_online_table_that_is_not_brought_up_to_date_is_told(system: Monitored) -> None:
    """Its watermark is older than monitoring.freshness."""
    state = state_of(system.workspace)
    state.put(WATERMARK, msgspec.json.encode({"watermark": NOW - 9 * 86_400, "at": NOW}))
    state.close()
    assert [(a["kind"], a["text"]) for a in system.monitor()["alerts"]] == [
        ("stale", "The online table stands on data that is 9 d old; 7d are allowed.")
    ]


def test_a_question_about_the_past_tells_nobody_and_leaves_nothing(system: Monitored) -> None:
    """Only a look at now is kept for `status` and told to the webhook."""
    system.play([*CALM, *(traffic(seed, tenure=12.0) for seed in (31, 32)), *CALM], now=NOW)
    then = datetime.fromtimestamp(NOW // HOUR * HOUR - 3 * HOUR + 60, UTC)
    past = system.monitor(since="2d", until=then.isoformat())
    state = state_of(system.workspace)
    assert (past["standing"], "notified" in past, state.get(LAST_VERDICT)) == ("alert", False, None)
    system.monitor()
    kept = msgspec.json.decode(state.get(LAST_VERDICT) or b"")
    state.close()
    assert (kept["standing"], kept["version"], kept["alerts"], kept["cause"]) == (
        "fine",
        1,
        [],
        "Nothing has changed that matters.",
    )


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("", "", (1_000_000 - 7 * 86_400, 1_000_000)),
        ("2h", "30m", (1_000_000 - 7200, 1_000_000 - 1800)),
        ("1970-01-02T00:00Z", "1970-01-03T00:00+00:00", (86_400, 2 * 86_400)),
    ],
)
def test_a_period_is_two_times_or_how_long_ago(since: str, until: str, expected: tuple[float, float]) -> None:
    """The default is the last week."""
    period = period_of(since, until, Monitoring(), now=1_000_000)
    assert (period.since, period.until) == expected


@pytest.mark.parametrize(("since", "until"), [("Monday", ""), ("1h", "2h"), ("", "99999-01-01")])
def test_what_is_no_period_is_refused(since: str, until: str) -> None:
    """With words that say what would be one."""
    with pytest.raises(SpecError, match=r"2d for two days ago|is not before"):
        period_of(since, until, Monitoring(), now=1_000_000)


def test_a_version_without_a_profile_cannot_be_monitored(system: Monitored) -> None:
    """As one that was adopted with nothing but its model."""
    system.publish({}, version=2)
    with pytest.raises(MlsystemError, match=r"version 2 came without profile\.json"):
        system.monitor()
    assert system.monitor(version=1)["standing"] == "too_few_rows"


def test_the_command_exits_3_on_an_alert_where_that_is_asked_for(system: Monitored) -> None:
    """So that a pipeline can stop on it; the result is there all the same."""
    system.play([*CALM, *(traffic(seed, tenure=12.0) for seed in (31, 32))], now=time.time())
    with pytest.raises(GateFailed) as stopped:
        system.monitor(fail_on_alert=True)
    ran = engine("monitor", "--json", "--fail-on-alert", cwd=system.workspace.root)
    assert (ran.code, ran.result["ok"], ran.result["error"]["code"], ran.result["standing"]) == (
        3,
        False,
        "alert",
        "alert",
    )
    assert stopped.value.result["cause"] == ran.result["cause"]


def test_monitoring_needs_no_library_of_training(tmp_path: Path) -> None:
    """It runs in the image that serves."""
    heavy = ("lightgbm", "sklearn", "onnx", "duckdb", "scipy", "optuna", "pandas", "onnxruntime")
    code = f"import sys, mlsystem.monitoring.command; print([name for name in {heavy!r} if name in sys.modules])"
    assert python(code, cwd=tmp_path).out == "[]\n"


def test_gauges_tell_what_all_workers_saw_and_forget_what_is_over(system: Monitored) -> None:
    """The newest window with rows enough; a feature that is no longer bad goes back to 0."""
    told: dict[tuple[str, tuple[str, ...]], float] = {}

    class Kept:
        def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
            told[name, labels] = value

    gauges, state = Gauges(Kept()), state_of(system.workspace)
    refresh: Callable[[], None] = lambda: gauges.refresh(state, system.profile, Monitoring(), version=1, now=NOW)  # noqa: E731
    refresh()
    assert told == {}
    system.play([traffic(31, tenure=12.0, plan="gold")], now=NOW)
    refresh()
    bad = {labels[0] for (name, labels), value in told.items() if name == "mlsystem_drift_alerting" and value}
    assert ("tenure" in bad, told["mlsystem_monitoring_window_rows", ()]) == (True, 600)
    assert told["mlsystem_feature_unseen_ratio", ("plan",)] == pytest.approx(0.5, abs=0.1)
    system.play([traffic(21)], now=NOW)
    refresh()
    assert {value for (name, _), value in told.items() if name == "mlsystem_drift_alerting"} == {0.0}
    state.expire(NOW + HOUR)
    refresh()
    assert set(told.values()) == {0.0}
    state.close()


def test_long_lists_are_cut() -> None:
    """Names in a sentence: the first five of many."""
    assert [listed(list("ab")), listed(list("abcdefgh"))] == ["a and b", "a, b, c, d, e and 3 more"]
