"""The delivered engine in its subprocess: what it is given, what it may say, and that nothing of it outlives a task."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from contracts.events import Progressed
from services._runtime import telemetry
from services._runtime.embedded import die_with_parent
from services._runtime.errors import Permanent, Transient
from services.ml_engineer.engine import Engine, Profile, Result, Training, Watchers
from tests.fakes.engine import Behaviour, pack
from tests.services.ml_engineer.pids import gone
from tests.workspaces import churn


@dataclass(slots=True)
class Told:
    """What a run told of itself."""

    progress: list[Progressed] = field(default_factory=list[Progressed])
    spans: list[telemetry.SpanRecord] = field(default_factory=list[telemetry.SpanRecord])
    running: asyncio.Event = field(default_factory=asyncio.Event)

    def watchers(self) -> Watchers:
        """Watchers that remember."""

        async def heard(body: Progressed) -> None:
            self.progress.append(body)
            self.running.set()

        return Watchers(heard, self.spans.append)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with churn data."""
    return churn(tmp_path / "shop", rows=60)


def engine(tmp_path: Path, **behaviour: Any) -> Engine:
    """The fake engine, packed with this behaviour."""
    return Engine(pack(tmp_path / "wheel", Behaviour(**behaviour)), tmp_path / "lib")


def profile(found: Engine, workspace: Path, told: Told | None = None) -> Awaitable[Profile]:
    """A run of `profile` on the workspace's data."""
    return found.run(
        ("profile", "--data", str(workspace / "data" / "churn.csv")),
        workspace,
        Profile,
        watchers=(told or Told()).watchers(),
        log_file=workspace / "profile.log",
    )


async def test_a_command_gives_its_result_and_tells_its_progress(tmp_path: Path, workspace: Path) -> None:
    """One process a command: JSON lines in, a typed result out."""
    told = Told()
    found = await profile(engine(tmp_path), workspace, told)
    assert (found.rows, found.columns[-1].name, found.candidates[0].target) == (60, "churned", "churned")
    assert told.progress == [Progressed(step="profile", fraction=0.5, message="profile is running")]


async def test_the_subprocess_is_given_no_secret_and_no_bus(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine runs code that people may change: keys of this process are none of its business."""
    secrets = {
        "ANTHROPIC_API_KEY": "sk-ant-secret",
        "NATS_URL": "nats://user:secret@127.0.0.1:4222",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "MLMESH_HOME": "/secret",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "PYTHONSTARTUP": "/secret.py",
        "LD_PRELOAD": "",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    await profile(engine(tmp_path, environment=str(tmp_path / "environment.json")), workspace)
    given: dict[str, str] = json.loads((tmp_path / "environment.json").read_text())
    given.pop("LC_CTYPE", None)  # Python sets it itself
    assert sorted(given) == [
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "OMP_NUM_THREADS",
        "OPENBLAS_CORETYPE",
        "OPENBLAS_NUM_THREADS",
        "ORT_DISABLE_TELEMETRY",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONHASHSEED",
        "PYTHONNOUSERSITE",
        "PYTHONPATH",
        "PYTHONSAFEPATH",
        "TMPDIR",
        "TRACEPARENT",
    ]
    assert "secret" not in json.dumps(given)


async def test_a_module_in_the_users_workspace_is_not_the_engines(tmp_path: Path, workspace: Path) -> None:
    """A repository may well hold a json.py or a csv.py at its top: it is data, not code of ours."""
    for name in ("json", "csv", "zipfile", "mlsystem"):
        (workspace / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    assert (await profile(engine(tmp_path), workspace)).rows == 60


async def test_what_is_no_line_of_the_protocol_is_logged_and_changes_nothing(tmp_path: Path, workspace: Path) -> None:
    """A library that prints, a newer engine, numbers that JSON cannot carry: the task goes on."""
    strange = [
        "Warning: a library prints",
        "",
        "[1, 2]",
        "3",
        '"text"',
        "null",
        '{"event": "thought", "of": 1}',
        '{"event": "span", "name": "half"}',
        '{"event": "span", "name": "x", "trace_id": "t", "span_id": "s", "start_ns": "soon", "end_ns": 2}',
        '{"event": "progress", "fraction": "half", "metrics": {"auc": NaN, "rows": 3, "name": "x"}}',
        '{"event": "progress", "fraction": Infinity, "metrics": null}',
        '{"event": "progress", "fraction": -3, "metrics": {}}',
        '{"event": "progress", "metrics": 5}',
        "[" * 100_000,
        "\udcff\udcfe".encode(errors="surrogateescape").decode("latin-1"),
    ]
    told = Told()
    with structlog.testing.capture_logs() as logs:
        found = await profile(engine(tmp_path, lines={"profile": strange}), workspace, told)
    assert found.rows == 60
    assert [(body.fraction, body.metrics) for body in told.progress] == [
        (None, {"rows": 3.0}),
        (None, {}),
        (0.0, {}),
        (0.5, {}),
    ]
    assert told.spans == []
    assert [log["event"] for log in logs] == ["engine.strange_line"] * (len(strange) - 3)
    assert all(len(log["line"]) <= 200 for log in logs)


async def test_a_line_that_memory_should_not_hold_fails_the_task_with_a_reason(tmp_path: Path, workspace: Path) -> None:
    """16 MiB in one line is no result that anybody reads; nothing is left running."""
    with pytest.raises(Permanent, match="mlsystem profile said more than 16 MiB in one line"):
        await profile(engine(tmp_path, lines={"profile": ["x" * (17 * 2**20)]}), workspace)


async def test_a_refusal_is_permanent_with_the_engines_own_words(tmp_path: Path, workspace: Path) -> None:
    """The engine says what to do; its details are added where the message lacks them."""
    error = {"code": "header_only", "message": "no rows: give some", "details": [{"message": "line 1"}, {"row": 2}]}
    with pytest.raises(Permanent, match=r"^no rows: give some \(line 1\)$"):
        await profile(engine(tmp_path, errors={"profile": error}), workspace)
    with pytest.raises(Permanent, match=r"^mlsystem profile failed$"):
        await profile(engine(tmp_path, results={"profile": {"ok": False}}), workspace)


async def test_a_result_of_another_shape_is_told_by_its_fields(tmp_path: Path, workspace: Path) -> None:
    """Without the values: they may hold anything."""
    with pytest.raises(Permanent, match=r"mlsystem profile answered what cannot be read: rows: Input should be"):
        await profile(engine(tmp_path, results={"profile": {"rows": "secret"}}), workspace)


async def test_a_crash_is_permanent_with_the_last_words(tmp_path: Path, workspace: Path) -> None:
    """The same run would crash again; its log is kept."""
    with pytest.raises(Permanent, match="mlsystem profile crashed with exit code 7: RuntimeError: it broke"):
        await profile(engine(tmp_path, dies={"profile": -7}), workspace)
    assert (workspace / "profile.log").read_text() == "RuntimeError: it broke\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_run_that_was_killed_may_work_again(tmp_path: Path, workspace: Path, how: signal.Signals) -> None:
    """Out of memory, an operator, a shutdown: the work item comes back."""
    with pytest.raises(Transient, match=r"was killed by signal|was stopped from outside"):
        await profile(engine(tmp_path, dies={"profile": int(how)}), workspace)


@pytest.mark.parametrize("code", ["terminated", "interrupted"])
async def test_a_run_that_says_that_it_was_stopped_may_work_again(tmp_path: Path, workspace: Path, code: str) -> None:
    """The engine catches SIGTERM and says so: the task has not failed by that."""
    error: dict[str, Any] = {"code": code, "message": "stopped by SIGTERM; finished stages are kept", "details": []}
    with pytest.raises(Transient, match="mlsystem profile was stopped from outside"):
        await profile(engine(tmp_path, errors={"profile": error}), workspace)


@pytest.mark.parametrize("stubborn", [[], ["profile"]], ids=["obedient", "stubborn"])
async def test_cancelling_ends_the_whole_process_group_at_once(
    tmp_path: Path, workspace: Path, stubborn: list[str]
) -> None:
    """Without a wait for them, also when the child or its own child ignores SIGTERM: they would live for a minute."""
    behaviour = {"holds": {"profile": str(tmp_path / "go")}, "child": str(tmp_path / "child"), "stubborn": stubborn}
    told = Told()
    running = asyncio.ensure_future(profile(engine(tmp_path, **behaviour), workspace, told))
    await asyncio.wait_for(told.running.wait(), 30)
    while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text():  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.01)
    child = int((tmp_path / "child").read_text())
    group = os.getpgid(child)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert time.monotonic() - began < 20
    assert await gone(child, group)


async def test_what_a_finished_command_left_running_is_ended_too(tmp_path: Path, workspace: Path) -> None:
    """A server of a measurement, a worker of a pool: none outlives its command."""
    (tmp_path / "go").touch()
    behaviour = {"holds": {"profile": str(tmp_path / "go")}, "child": str(tmp_path / "child")}
    await profile(engine(tmp_path, **behaviour), workspace)
    child = int((tmp_path / "child").read_text())
    assert await gone(child, child)


PARENT = """
import asyncio, sys
from pathlib import Path
from services.ml_engineer.engine import Engine, Profile, Watchers
async def heard(body): pass
workspace = Path(sys.argv[2])
asyncio.run(Engine(Path(sys.argv[1]), workspace).run(
    ("profile", "--data", str(workspace / "data" / "churn.csv")), workspace, Profile,
    watchers=Watchers(heard, print), log_file=workspace / "log",
))
"""


async def test_the_engine_dies_with_its_parent(tmp_path: Path, workspace: Path) -> None:
    """Kill -9 of the service leaves no training behind that would write into the system beside the next one."""
    calls = tmp_path / "environment.json"
    found = engine(tmp_path, holds={"profile": str(tmp_path / "go")}, environment=str(calls))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(found.wheel), str(workspace)], preexec_fn=die_with_parent(signal.SIGKILL)
    )
    try:
        while not calls.exists():
            assert parent.poll() is None
            await asyncio.sleep(0.01)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 1
    finally:
        parent.kill()
        parent.wait(10)
    assert await gone(int(children[0]))


def test_results_are_read_loosely() -> None:
    """A newer engine may say more."""
    said = {"digest": "d", "candidates": [{"name": "x", "new": 1}], "more": {"of": "it"}}
    assert Training.model_validate(said) == Training(digest="d", candidates=({"name": "x", "new": 1},))
    assert issubclass(Training, Result)
