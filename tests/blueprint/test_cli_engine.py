"""`python -m mlsystem`: what programs read on stdout, what people read on stderr, and the exit codes."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlsystem.__main__ import COMMANDS, exit_code
from mlsystem.errors import (
    DataError,
    GateFailed,
    Held,
    MlsystemError,
    RegistryError,
    ServingError,
    SpecError,
    StageMissing,
)
from mlsystem.output import Reporter, Trace, describe
from tests.blueprint.made_tables import Ran, churn, engine, make_system, own_environment, python, write_csv

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return make_system(tmp_path, churn(), "left").root


def test_json_is_one_object_on_stdout_and_nothing_else(system: Path) -> None:
    ran = engine("validate", "--json", cwd=system)
    assert (ran.code, ran.result["ok"], ran.result["rows"], ran.err) == (0, True, 200, "")


def test_jsonl_is_progress_and_then_the_result(system: Path) -> None:
    events = engine("validate", "--jsonl", cwd=system).events
    assert ({event["event"] for event in events[:-1]}, events[-1]["event"], events[-1]["ok"]) == (
        {"progress"},
        "result",
        True,
    )
    assert set(events[0]) == {"event", "step", "fraction", "message", "metrics"}


def test_people_read_on_stderr(system: Path) -> None:
    ran = engine("validate", cwd=system)
    assert (ran.code, ran.out) == (0, "")
    assert "'country' has the same value in all 200 rows and is left out." in ran.err


def test_spans_join_the_trace_of_the_environment(system: Path) -> None:
    events = engine("validate", "--jsonl", cwd=system, TRACEPARENT=TRACE).events
    spans = {event["name"]: event for event in events if event["event"] == "span"}
    command, stage = spans["command validate"], spans["stage validate"]
    assert (command["trace_id"], command["parent_id"], stage["parent_id"]) == ("a" * 32, "b" * 16, command["span_id"])
    assert command["start_ns"] <= stage["start_ns"] <= stage["end_ns"] <= command["end_ns"]


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'A' * 32}-{'b' * 16}-01"])
def test_without_a_trace_there_are_no_spans(system: Path, traceparent: str) -> None:
    events = engine("check", "--jsonl", cwd=system, TRACEPARENT=traceparent).events
    assert [event["event"] for event in events] == ["result"]


def test_a_failed_span_says_by_what() -> None:
    out = io.StringIO()
    reporter = Reporter("jsonl", out=out, trace=Trace("a" * 32, "b" * 16))
    with pytest.raises(KeyError), reporter.span("work", rows=3):
        raise KeyError
    assert json.loads(out.getvalue())["attributes"] == {"rows": 3, "error.type": "KeyError"}


def test_check_with_unknown_keys_ends_with_2_and_names_them_all(system: Path) -> None:
    path = system / "system.toml"
    path.write_text(path.read_text() + "[serving]\nprot = 1\n[gate]\n")
    ran = engine("check", "--json", cwd=system)
    found = [(problem["key"], problem["nearest"]) for problem in ran.result["error"]["details"]]
    assert (ran.code, ran.result["ok"], found, ran.result["problems"]) == (
        2,
        False,
        [("serving.prot", "serving.port"), ("gate", "gates")],
        ran.result["error"]["details"],
    )


def test_no_command_runs_with_a_key_that_has_no_effect(system: Path) -> None:
    path = system / "system.toml"
    path.write_text(path.read_text() + "[decision]\nthreshold = 0.3\n")
    ran = engine("validate", "--json", cwd=system)
    assert (ran.code, ran.result["error"]["details"][0]["code"]) == (2, "not_supported_yet")


def test_bad_data_ends_with_4_and_says_what_to_do(system: Path) -> None:
    (system / "rows.csv").write_text("a,b\n")
    ran = engine("validate", "--json", cwd=system)
    assert (ran.code, ran.result["error"]["code"]) == (4, "header_only")


@pytest.mark.parametrize(
    "words",
    [["train", "--sped"], ["nothing"], [], ["profile"], ["validate", "--dir", "/nowhere/at/all"], ["promote", "x"]],
)
def test_a_wrong_command_line_ends_with_2_and_is_json_where_that_was_asked_for(system: Path, words: list[str]) -> None:
    ran = engine(*words, "--json", cwd=system)
    assert (ran.code, ran.result["ok"], ran.result["error"]["code"] in {"usage", "no_directory"}) == (2, False, True)


def test_outside_a_system_the_spec_is_missed(tmp_path: Path) -> None:
    ran = engine("validate", "--json", cwd=tmp_path)
    assert (ran.code, ran.result["error"]["code"]) == (2, "no_spec")


def test_profile_needs_no_spec(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", churn())
    ran = engine("profile", "--data", "a.csv", "--target", "left", "--json", cwd=tmp_path)
    assert (ran.code, ran.result["candidates"][0]["kind"]) == (0, "binary")


def test_a_directory_may_be_given_instead_of_changed_into(
    system: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ran = engine("check", "--dir", str(system), "--json", cwd=tmp_path_factory.mktemp("elsewhere"))
    assert (ran.code, ran.result["spec"]["name"]) == (0, "made")


def test_every_command_of_the_table_has_its_function() -> None:
    import importlib

    targets = [command.target.split(":") for command in COMMANDS.values()]
    assert [hasattr(importlib.import_module(module), name) for module, name in targets] == [True] * len(COMMANDS)


def test_checking_a_spec_loads_nothing_of_the_train_side(system: Path) -> None:
    """Serve-side commands start without duckdb, lightgbm, scikit-learn and onnx."""
    code = "import sys; from mlsystem.__main__ import main; main(['check', '--json']); print(sorted(sys.modules))"
    loaded = python(code, system).out.splitlines()[-1]
    heavy = ("duckdb", "lightgbm", "sklearn", "onnx", "mlsystem.data", "mlsystem.train")
    assert [name for name in heavy if f"'{name}'" in loaded] == []


def stopped(system: Path, number: signal.Signals, rows: int) -> Ran:
    """A validation of so many rows that is sent a signal once it has told of its progress for the first time."""
    shutil.rmtree(system / "work", ignore_errors=True)
    write_csv(system / "rows.csv", churn(rows))
    command = [sys.executable, "-m", "mlsystem", "validate", "--jsonl"]
    with subprocess.Popen(command, cwd=system, stdout=subprocess.PIPE, text=True, env=own_environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        out = process.stdout.read()
        return Ran(process.wait(), out, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_and_leaves_no_half_stage(system: Path, number: signal.Signals, code: int) -> None:
    """In the middle of the stage's work. A busy machine may give it the time to finish first: then it gets more."""
    tries = (stopped(system, number, rows) for rows in (20_000, 100_000, 500_000))
    ran = next(ran for ran in tries if ran.code != 0)
    assert (ran.code, ran.events[-1]["ok"], list((system / "work" / "validate").iterdir())) == (code, False, [])


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({}, 0),
        ({"gates": []}, 0),
        ({"gates": [{"passed": True}]}, 0),
        ({"gates": [{"passed": True}, {"passed": False}]}, 3),
        ({"ok": False, "version": 1}, 4),
    ],
)
def test_a_gate_that_did_not_pass_is_3_and_a_result_that_is_not_ok_is_4(result: dict[str, object], code: int) -> None:
    """The whole result is printed all the same: a failed gate is told, not hidden in an error."""
    assert exit_code(result) == code


def test_every_kind_of_error_has_its_exit_code() -> None:
    kinds = (MlsystemError, SpecError, GateFailed, DataError, StageMissing, RegistryError, ServingError, Held)
    assert [kind("code", "text").exit_code for kind in kinds] == [4, 2, 3, 4, 4, 4, 4, 5]


def test_a_result_is_told_as_one_whatever_its_fields_are_called() -> None:
    """A program that reads the lines finds the last one, also when a result tells of an event."""
    out = io.StringIO()
    Reporter("jsonl", out=out).result({"event": "promoted", "version": 1})
    assert json.loads(out.getvalue()) == {"event": "result", "ok": True, "version": 1}


def test_a_result_is_told_in_lines_that_people_can_read() -> None:
    """Findings and gates are sentences, numbers are short, what is nested has a line for each part."""
    result: dict[str, object] = {
        "version": 3,
        "previous": None,
        "metrics": {"roc_auc": {"value": 0.123456789, "linear": 0.5}},
        "gates": [{"name": "parity", "text": "It holds."}, {"name": "ece", "value": 0.25}],
        "entries": [],
        "split": {"method": "time", "train": 3},
    }
    assert describe(result) == [
        "version: 3",
        "previous: none",
        "metrics: 1",
        "  - roc_auc: value 0.123457, linear 0.5",
        "gates: 2",
        "  - It holds.",
        "  - name ece, value 0.25",
        "entries: none",
        "split: method time, train 3",
    ]


def test_a_fault_of_the_engine_is_an_error_for_programs_and_a_traceback_for_people(tmp_path: Path) -> None:
    """A function that does not take what a command is given, as any other fault."""
    code = (
        "from mlsystem.__main__ import Command, main;"
        "raise SystemExit(main(['boom', '--json'], {'boom': Command('operator:truediv', '', needs_spec=False)}))"
    )
    ran = python(code, tmp_path)
    assert (ran.code, ran.result["error"]["code"], "Traceback" in ran.err) == (4, "internal_error", True)


def test_what_an_error_found_out_is_printed_beside_it() -> None:
    out = io.StringIO()
    Reporter("json", out=out).failure(GateFailed("parity", "too far", details=[{"row": 3}], result={"gates": []}))
    assert json.loads(out.getvalue()) == {
        "ok": False,
        "gates": [],
        "error": {"code": "parity", "message": "too far", "details": [{"row": 3}]},
    }


def test_a_directory_that_may_not_be_written_ends_with_4_and_says_so() -> None:
    """Root may write everywhere, so the process gives its rights away, once it has loaded what only root may read."""
    with tempfile.TemporaryDirectory() as folder:
        system = make_system(Path(folder), churn(), "left").root
        system.chmod(0o555)
        code = (
            "import encodings.utf_8_sig, os, mlsystem.data.command; from mlsystem.__main__ import main;"
            "os.geteuid() or os.setuid(65534); raise SystemExit(main(['validate', '--json']))"
        )
        ran = python(code, system)
        system.chmod(0o755)
    error = ran.result["error"]
    assert (ran.code, error["code"], "grant access" in error["message"]) == (4, "system_error", True)


def test_a_full_disk_ends_with_4_and_leaves_no_half_stage(system: Path) -> None:
    """A limit on the size of files, since root may write everywhere."""
    write_csv(system / "rows.csv", churn(5000))
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "from mlsystem.__main__ import main; raise SystemExit(main(['validate', '--json']))"
    )
    ran = python(code, system)
    error = ran.result["error"]
    assert (ran.code, error["code"], "nothing half-done was kept" in error["message"]) == (
        4,
        "system_error",
        True,
    )
    assert list((system / "work" / "validate").iterdir()) == []
