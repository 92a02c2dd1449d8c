"""`mlmesh` as a process: what it prints, what it starts, how it ends. Services are fakes that follow the protocol."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from services.gateway.cli import WORDS
from tests.fakes.cli import ROOT, Cli, Done, environment, obey_permissions, until
from tests.server import NatsServer

KEYS = [
    *("task", "state", "outcome", "request", "system", "system_dir", "version", "metrics", "gates", "findings"),
    *("known", "questions", "assumptions", "summary", "files_modified", "trace_id", "wall_s"),
]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line in an empty workspace."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    return Cli(workspace, environment(tmp_path / "fakes"))


def told(done: Done, *names: str) -> tuple[Any, ...]:
    return (done.code, *(done.object[name] for name in names))


def test_usage_comes_at_once(cli: Cli) -> None:
    """Nothing heavy is imported for it: under half a second of work, the interpreter's start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = cli.process("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (done.code, spent_s < 0.5) == (0, True)
    assert [word for word in WORDS if not re.search(rf"\n    {word}\s", done.stdout)] == []


def test_every_word_takes_json_and_says_what_it_is_for(cli: Cli) -> None:
    """One flag, the same everywhere."""
    for word, about in WORDS.items():
        text = " ".join(cli.run(word, "--help").stdout.split())
        assert ("--json" in text, about.about in text) == (True, True)


def test_a_request_goes_from_words_to_an_object(cli: Cli) -> None:
    """One object on stdout; the life of the task, line by line, on stderr."""
    done = cli.process("run", "do it", "--accept-defaults", "--json")
    found = done.object
    assert (done.code, list(found)) == (0, KEYS)
    assert {name: found[name] for name in KEYS if name not in {"task", "trace_id", "wall_s"}} == {
        "state": "completed",
        "outcome": "success",
        "request": "do it",
        "system": "fake",
        "system_dir": str(cli.workspace / "ml" / "fake"),
        "version": 1,
        "metrics": {"roc_auc": {"value": 0.84, "low": 0.82, "high": 0.86, "baseline": 0.5, "linear": 0.83}},
        "gates": [{"name": "parity", "value": 0.0, "threshold": 1e-5, "passed": True}],
        "findings": [{"kind": "id_like", "columns": ["id"], "action": "dropped", "text": "id is an id"}],
        "known": ["scale.rate = 50 rps (/README.md:7)"],
        "questions": [],
        "assumptions": ["nfr.latency = none"],
        "summary": "The model of the fake is there.",
        "files_modified": ["/ml/fake/model.txt"],
    }
    assert (len(found["trace_id"]), 0 < found["wall_s"] < 10) == (32, True)
    assert "00:00 designed: 1 section, decided, 1 assumption\n" in done.stderr


def test_without_json_the_summary_is_the_answer(cli: Cli) -> None:
    """On stdout alone; what to type next is on stderr."""
    done = cli.run("run", "do it", "--accept-defaults")
    assert (done.code, done.stdout) == (0, "The model of the fake is there.\n")
    assert f"serve it: mlmesh serve {cli.workspace}/ml/fake\n" in done.stderr


@pytest.mark.parametrize(
    ("request_", "code", "outcome", "reason"),
    [
        ("partial", 3, "partial", "one requirement is not met"),
        ("fail", 4, "failed", "the data holds one row: bring more"),
    ],
)
def test_the_exit_code_is_the_outcome(request_: str, code: int, outcome: str, reason: str, cli: Cli) -> None:
    """With the reason a person can act on."""
    done = cli.run("run", request_, "--accept-defaults", "--json")
    assert told(done, "outcome", "reason") == (code, outcome, reason)


def test_a_run_that_nobody_can_answer_waits_and_an_answer_completes_it(cli: Cli) -> None:
    """`run` takes its bus along; `answer` in the same directory brings it back and follows the task to its end."""
    waiting = cli.process("run", "do it", "--json")
    task = waiting.object["task"]
    assert told(waiting, "state", "outcome", "known", "questions") == (
        6,
        "input-required",
        "waiting",
        ["50 rps (/README.md:7)"],
        [
            {
                "id": "nfr.latency",
                "text": "How fast must an answer be?",
                "evidence": ["/README.md:3"],
                "default": "none",
                "answer": None,
            }
        ],
    )
    done = cli.process("answer", task, "nfr.latency=20 ms", "--json")
    assert told(done, "task", "state", "assumptions") == (0, task, "completed", [])
    assert done.object["questions"][0]["answer"] == "20 ms"


def test_an_answer_may_be_left_for_the_next_mesh(cli: Cli) -> None:
    """`--no-wait` records it; `run --task` picks the task up."""
    task = cli.run("run", "do it", "--json").object["task"]
    recorded = cli.run("answer", task, "nfr.latency=20 ms", "--no-wait", "--json")
    assert told(recorded, "task", "outcome") == (0, task, None)
    assert told(cli.run("run", "--task", task, "--json"), "task", "state") == (0, task, "completed")


def test_a_task_goes_on_from_another_directory_of_the_same_home(cli: Cli, tmp_path: Path) -> None:
    """The home remembers which workspaces it may work in: the task does not fail for where `answer` was typed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    home = str(tmp_path / "home")
    task = cli.run("run", "do it", "--json", MLMESH_HOME=home).object["task"]
    other = Cli(elsewhere, cli.environment)
    done = other.run("answer", task, "nfr.latency=1 s", "--json", MLMESH_HOME=home)
    assert told(done, "outcome", "system_dir") == (0, "success", str(cli.workspace / "ml" / "fake"))


def test_answers_may_come_from_a_file_in_advance(cli: Cli) -> None:
    """Then nothing is asked and nothing assumed."""
    (cli.workspace / "answers.toml").write_text('[nfr]\nlatency = "20 ms"\n')
    done = cli.run("run", "do it", "--answers", "answers.toml", "--json")
    assert told(done, "state", "questions", "assumptions") == (0, "completed", [], [])


def test_the_same_request_goes_on_with_the_unfinished_task_and_says_so(cli: Cli) -> None:
    """Answers and accepted defaults of the second call count."""
    task = cli.run("run", "target", "--json").object["task"]
    again = cli.run("run", "target", "--accept-defaults", "--json")
    assert told(again, "task", "outcome") == (6, task, "waiting")
    assert f"task {task} goes on: it is this request, unfinished" in again.stderr
    assert [question["answer"] for question in again.object["questions"]] == [None]
    (cli.workspace / "a.toml").write_text('[task]\ntarget = "Churn"\n')
    done = cli.run("run", "target", "--answers", "a.toml", "--json")
    assert told(done, "task", "outcome") == (0, task, "success")
    assert cli.run("run", "target", "--json").object["task"] != task


def test_a_design_waits_for_approval_and_is_built_or_refused(cli: Cli) -> None:
    """`approve` follows as `answer` does."""
    words = ("--accept-defaults", "--approval", "design", "--json")
    tasks = [cli.run("run", f"do it {n}", *words).object["task"] for n in (1, 2)]
    done = cli.run("approve", tasks[0], "--json")
    assert told(done, "task", "outcome") == (0, tasks[0], "success")
    refused = cli.run("approve", tasks[1], "--refuse", "--comment", "too slow", "--json")
    assert told(refused, "outcome", "reason") == (4, "failed", "the design was refused: too slow")
    assert cli.run("approve", tasks[0]).code == 2


def test_ctrl_c_once_cancels_and_waits_for_the_end(cli: Cli) -> None:
    """Exit code 5, with the object."""
    with cli.started("run", "slow", "--accept-defaults", "--json") as running:
        until(running, "progressed: train")
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=20)
    assert (running.returncode, json.loads(stdout)["state"]) == (5, "canceled")
    assert "cancel-requested: Ctrl-C" in stderr


def test_ctrl_c_twice_stops_and_the_task_can_be_taken_up(cli: Cli) -> None:
    """The agent is deaf here: its process is stopped in the middle of everything."""
    deaf = Cli(cli.workspace, environment(cli.workspace.parent / "deaf", ml_engineer="tests.fakes.services:start_idle"))
    with deaf.started("run", "do it", "--accept-defaults", "--json") as running:
        until(running, "submitted:")
        running.send_signal(signal.SIGINT)
        until(running, "cancel-requested: Ctrl-C")
        running.send_signal(signal.SIGINT)
        stdout, _ = running.communicate(timeout=20)
    found = json.loads(stdout)
    assert (running.returncode, found["state"], found["outcome"]) == (5, "submitted", None)
    assert found["reason"].endswith(f"it goes on with: mlmesh run --task {found['task']}")
    assert told(cli.run("run", "--task", found["task"], "--json"), "state") == (5, "canceled")


def test_sigterm_stops_and_the_task_goes_on_later(cli: Cli) -> None:
    """Nothing is cancelled; steps that are recorded are not done again."""
    with cli.started("run", "slow", "--accept-defaults", "--json") as running:
        until(running, "progressed: train")
        running.send_signal(signal.SIGTERM)
        stdout, _ = running.communicate(timeout=20)
    task = json.loads(stdout)["task"]
    (cli.workspace / "go").touch()
    assert running.returncode == 1
    assert told(cli.run("run", "--task", task, "--json"), "task", "state") == (0, task, "completed")


def test_kill_9_of_everything_and_the_task_goes_on_later(cli: Cli) -> None:
    """The home is free again, the bus comes back on the same store."""
    with cli.started("run", "slow", "--accept-defaults", "--json") as running:
        said = until(running, "progressed: train")
        running.kill()
        running.communicate()
    (cli.workspace / "go").touch()
    done = cli.run("run", "slow", "--accept-defaults", "--json")
    assert told(done, "state") == (0, "completed")
    assert f"task {done.object['task']} submitted" in said


def test_one_mesh_serves_every_command_of_its_home(cli: Cli) -> None:
    """`up` is the mesh; the others are clients. Ctrl-C ends it in order."""
    with cli.started("up", "--port", "0", "--json") as mesh:
        assert mesh.stdout is not None
        about = json.loads(mesh.stdout.readline())
        assert (about["home"], about["started_s"] < 2) == (str(cli.workspace / ".mlmesh"), True)
        task = cli.run("submit", "do it", "--json").object["task"]
        assert told(cli.run("watch", task, "--json"), "task", "outcome") == (6, task, "waiting")
        assert cli.run("submit", "do it", "--task", task).code == 2
        listed = cli.run("tasks", "--json").object
        assert [(row["task"], row["waiting"]) for row in listed["tasks"]] == [(task, "answers")]
        assert told(cli.run("answer", task, "nfr.latency=1 s", "--wait", "--json"), "outcome") == (0, "success")
        assert told(cli.run("run", "again", "--accept-defaults", "--json"), "outcome") == (0, "success")
        assert cli.run("doctor").code == 0
        mesh.send_signal(signal.SIGINT)
        stdout, stderr = mesh.communicate(timeout=20)
    assert (mesh.returncode, stdout) == (0, "")
    assert "stopping: unfinished tasks go on when a mesh runs here again" in stderr


def test_up_takes_up_what_was_left(cli: Cli) -> None:
    """And says so."""
    task = cli.run("run", "do it", "--json").object["task"]
    cli.run("answer", task, "nfr.latency=1 s", "--no-wait")
    with cli.started("up", "--port", "0") as mesh:
        assert f"goes on: {task}" in until(mesh, "goes on:")
        assert told(cli.run("watch", task, "--json"), "outcome") == (0, "success")


def test_a_second_run_outlives_the_mesh_of_the_first(cli: Cli) -> None:
    """It was a client of it; then the home is free, and it goes on with a mesh of its own."""
    with cli.started("run", "slow one", "--accept-defaults", "--json") as first:
        until(first, "progressed: train")
        with cli.started("run", "slow two", "--accept-defaults", "--json") as second:
            until(second, "progressed: train")
            first.send_signal(signal.SIGTERM)
            first.communicate(timeout=20)
            until(second, "going on with a mesh of our own")
            (cli.workspace / "go").touch()
            stdout, _ = second.communicate(timeout=30)
    assert (second.returncode, json.loads(stdout)["state"]) == (0, "completed")


def test_cancel_is_recorded_or_waited_for(cli: Cli) -> None:
    """Without a mesh the wish is stored; the next mesh ends the task."""
    task = cli.run("run", "do it", "--json").object["task"]
    assert told(cli.run("cancel", task, "--reason", "enough", "--json"), "task", "outcome") == (0, task, None)
    done = cli.run("run", "--task", task, "--json")
    assert told(done, "outcome", "reason") == (5, "canceled", "enough")
    assert cli.run("cancel", task).code == 2


def test_watching_without_a_mesh_shows_what_there_is(cli: Cli) -> None:
    """And says how it goes on."""
    task = cli.run("run", "do it", "--json").object["task"]
    assert told(cli.run("watch", task, "--json"), "outcome") == (6, "waiting")
    cli.run("answer", task, "nfr.latency=1 s", "--no-wait")
    done = cli.run("watch", task, "--json")
    assert told(done, "state", "outcome") == (1, "working", None)
    assert done.object["reason"].endswith(f"it goes on with: mlmesh run --task {task}")


def test_a_timeline_needs_nothing_but_the_journal(cli: Cli) -> None:
    """Events, steps with their durations, the trace, where files are."""
    task = cli.run("run", "do it", "--accept-defaults", "--json").object["task"]
    found = cli.run("show", task, "--json").object
    assert [event["event"] for event in found["events"]] == [
        *("submitted", "working", "briefed", "designed", "progressed", "step", "step", "delivered", "reported"),
        *("summarised", "working", "completed"),
    ]
    assert [(step["name"], step["outcome"], step["attempt"]) for step in found["steps"]] == [
        ("train", "ok", 1),
        ("package", "ok", 1),
    ]
    assert found["files"] == {
        "workspace": str(cli.workspace),
        "system": str(cli.workspace / "ml" / "fake"),
        "log": str(cli.workspace / ".mlmesh" / "logs" / "mesh.jsonl"),
    }
    plain = cli.run("show", task)
    assert (plain.code, found["trace_id"] in plain.stdout, "train" in plain.stdout) == (0, True, True)


def test_tasks_in_words_say_what_to_type(cli: Cli) -> None:
    """The whole id, the question, the command; dead letters are counted."""
    task = cli.run("run", "do it", "--json").object["task"]
    done = cli.run("tasks")
    assert (done.code, task in done.stdout) == (0, True)
    assert f"mlmesh answer {task} nfr.latency=..." in done.stdout
    assert done.stdout.endswith("dead letters: 0\n")


WRONG = {
    "no request": (("run",), "say what is wanted"),
    "blank request": (("run", "  "), "the request is blank: say in plain words what is wanted"),
    "unknown word": (("runn",), "invalid choice: 'runn'"),
    "unknown option": (("run", "x", "--fast"), "unrecognized arguments: --fast"),
    "bad budget": (("run", "x", "--time-budget", "soon"), "'soon' is no duration between 1s and 24h"),
    "bad task id": (("run", "x", "--task", "a b"), "task id 'a b' is not 1 to 64 letters, digits, _ or -"),
    "missing workspace": (("run", "x", "--workspace", "nowhere"), "is no directory here: create it"),
    "workspace with ..": (("run", "x", "--workspace", "../work"), "contains '..': give the absolute path itself"),
    "missing answers": (("run", "x", "--answers", "none.toml"), "answers file none.toml cannot be read"),
    "unknown answer": (("answer", "t", "nfr.latncy=1"), "did you mean 'nfr.latency'?"),
    "no answer": (("answer", "t"), "no answer was given"),
    "no such system": (("serve", "shop"), "'shop' is no delivered system: no system stands in"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused_before_anything_starts(case: str, cli: Cli) -> None:
    """Exit code 2, one object that says why, no home."""
    words, problem = WRONG[case]
    done = cli.run(*words, "--json")
    assert told(done, "exit") == (2, 2)
    assert problem in done.object["error"]
    assert list(cli.workspace.iterdir()) == []


def test_a_workspace_outside_the_allowed_roots_is_refused(cli: Cli) -> None:
    """With the setting that would allow it."""
    done = cli.run("run", "x", "--json", MLMESH_WORKSPACE_ROOTS="/srv")
    assert (done.code, "add its directory to MLMESH_WORKSPACE_ROOTS" in done.object["error"]) == (2, True)


def test_an_id_that_is_taken_is_refused(cli: Cli) -> None:
    """By another request; the same one follows its task, also when it is over."""
    first = cli.run("run", "do it", "--accept-defaults", "--task", "mine", "--json")
    again = cli.run("run", "do it", "--accept-defaults", "--task", "mine", "--json")
    other = cli.run("run", "other", "--task", "mine", "--json")
    unknown = cli.run("run", "--task", "yours", "--json")
    assert told(first, "task") == (0, "mine")
    assert told(again, "task", "wall_s") == (0, "mine", first.object["wall_s"])
    assert (other.code, other.object["error"]) == (
        2,
        "task id 'mine' is taken by another request: choose another, or leave the request out",
    )
    assert (unknown.code, unknown.object["error"].split(":")[0]) == (2, "there is no task 'yours' here")


def test_wrong_settings_are_named(cli: Cli) -> None:
    """The variable and what is wrong with it."""
    done = cli.run("tasks", "--json", MLMESH_ACK_WAIT_S="soon")
    assert (done.code, "settings are wrong: MLMESH_ACK_WAIT_S" in done.object["error"].replace("ack_wait_s", "")) == (
        1,
        False,
    )
    assert "ack_wait_s: Input should be a valid number" in done.object["error"]


def test_a_bus_that_is_not_there_is_an_error_within_seconds(cli: Cli) -> None:
    """Exit code 1; nothing is started instead."""
    begun = time.monotonic()
    done = cli.run("run", "x", "--json", NATS_URL="nats://127.0.0.1:9", MLMESH_CONNECT_TIMEOUT_S="60")
    assert (done.code, done.object["error"].split(":")[0]) == (1, "no NATS server answers at nats")
    assert (time.monotonic() - begun < 8, list(cli.workspace.iterdir())) == (True, [])


def test_with_nats_url_a_command_is_a_client(cli: Cli, server: NatsServer) -> None:
    """A bus without a mesh is told; `up` starts nothing there."""
    done = cli.run("submit", "x", "--json", NATS_URL=server.url)
    assert (done.code, "lacks the streams TASKS" in done.object["error"]) == (1, True)
    refused = cli.run("up", "--json", NATS_URL=server.url)
    assert (refused.code, refused.object["error"].split(":")[0]) == (2, "NATS_URL is set to nats")


def test_a_port_that_is_taken_is_told_by_up(cli: Cli) -> None:
    """With the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli.run("up", "--port", str(port), "--json")
    assert (done.code, done.object["error"]) == (
        1,
        f"port {port} on 127.0.0.1 is taken: stop what listens there, or choose another with --port",
    )


def test_a_second_mesh_in_a_home_is_refused(cli: Cli) -> None:
    """Two servers on one store would lose data."""
    with cli.started("up", "--port", "0", "--json") as mesh:
        assert mesh.stdout is not None
        mesh.stdout.readline()
        done = cli.run("up", "--port", "0", "--json")
    assert (done.code, f"another mesh lives in {cli.workspace}/.mlmesh" in done.object["error"]) == (1, True)


def test_a_home_that_cannot_be_written_is_told(cli: Cli) -> None:
    """Also to root, whose right to write everywhere is dropped here."""
    cli.workspace.chmod(0o555)
    done, doctor = (
        subprocess.run(
            cli.command(*words, "--json"),
            cwd=cli.workspace,
            env=cli.environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=obey_permissions,
        )
        for words in (("run", "x"), ("doctor",))
    )
    cli.workspace.chmod(0o755)
    ill = [check["name"] for check in json.loads(doctor.stdout)["checks"] if not check["ok"]]
    assert (doctor.returncode, ill) == (1, ["home"])
    assert (done.returncode, json.loads(done.stdout)["error"]) == (
        1,
        (
            f"cannot write to {cli.workspace}/.mlmesh: Permission denied:"
            " free space, or choose another place with MLMESH_HOME"
        ),
    )


@pytest.mark.parametrize("size", [0, 12_000])
def test_a_disk_that_is_full_is_told(size: int, cli: Cli) -> None:
    """At once, or when the store cannot grow: exit code 1, and where to look."""
    done = subprocess.run(
        cli.command("run", "do it " + "x" * 15_000, "--accept-defaults", "--json"),
        cwd=cli.workspace,
        # Bytecode that is cut off at the limit would break the next process that imports it.
        env={**cli.environment, "MLMESH_BUS_PATIENCE_S": "3", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, ".mlmesh" in error, "space" in error or "room" in error) == (1, True, True)


def test_doctor_knows_what_is_wrong(cli: Cli) -> None:
    """Each line with what to do; exit code 1 when something is."""
    fresh = cli.run("doctor", "--json")
    assert (fresh.code, fresh.object["healthy"]) == (0, True)
    assert list(cli.workspace.iterdir()) == []
    cli.run("run", "do it", "--json")
    names = [check["name"] for check in cli.run("doctor", "--json").object["checks"]]
    assert names == [
        *("nats-server", "home", "workspace roots", "disk", "traces", "bus", "streams", "durables"),
        *("context-manager", "ml-engineer", "summarizer", "gateway", "dead letters"),
    ]
    ill = cli.run(
        "doctor",
        "--json",
        NATS_URL="nats://127.0.0.1:9",
        MLMESH_CONNECT_TIMEOUT_S="0.5",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        MLMESH_WORKSPACE_ROOTS="/nowhere",
    )
    assert (ill.code, [check["name"] for check in ill.object["checks"] if not check["ok"]]) == (
        1,
        ["workspace roots", "traces", "bus"],
    )
    assert [check["name"] for check in ill.object["checks"] if not check["ok"] and not check["do"]] == []


def checked(cli: Cli) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in cli.run("doctor", "--json").object["checks"]}


def test_doctor_misses_a_service_that_does_not_run(cli: Cli, server: NatsServer) -> None:
    """On a bus of its own, where somebody made the streams."""
    alone = Cli(cli.workspace, {**cli.environment, "NATS_URL": server.url})
    code = (
        "from tests.fakes.services import *; from services._runtime.service import main; main('gateway', start_gateway)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], env=alone.environment, cwd=ROOT, stdout=subprocess.DEVNULL
    ) as gateway:
        while (checks := checked(alone)).get("gateway", {}).get("found") != "ready":
            assert gateway.poll() is None
        gateway.terminate()
    assert checks["summarizer"] == {
        "name": "summarizer",
        "ok": False,
        "found": "not running",
        "do": "start it: python -m services.summarizer",
    }


ENGINE = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.getcwd().encode())
    def log_message(self, *_): pass
if "--port" in sys.argv and sys.argv[sys.argv.index("--port") + 1] == "1":
    sys.exit("the port is taken")
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "version": 3}), flush=True)
server.serve_forever()
"""


def system_in(workspace: Path) -> Path:
    """A system with an engine that answers with its working directory."""
    directory = workspace / "ml" / "shop_churn"
    (directory / "vendor").mkdir(parents=True)
    (directory / "system.toml").write_text('format = 1\nname = "shop-churn"\n')
    for version, text in (("0.9.0", "raise SystemExit(1)"), ("0.10.0", ENGINE)):
        with zipfile.ZipFile(directory / "vendor" / f"mlsystem-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("mlsystem/__init__.py", "")
            wheel.writestr("mlsystem/__main__.py", text)
    return directory


@pytest.mark.parametrize("given", ["shop-churn", "ml/shop_churn"])
def test_a_delivered_system_is_served_from_its_own_engine(given: str, cli: Cli) -> None:
    """By name or path, by the newest engine in `vendor/`, in its own directory; Ctrl-C ends it."""
    directory = system_in(cli.workspace)
    with cli.started("serve", given, "--json") as serving:
        assert serving.stdout is not None
        about = json.loads(serving.stdout.readline())
        with urlopen(about["url"]) as answer:  # noqa: S310 - loopback
            assert answer.read().decode() == str(directory)
        serving.send_signal(signal.SIGINT)
        assert (serving.wait(20), about["version"], about["system_dir"]) == (0, 3, str(directory))
    with pytest.raises(ProcessLookupError):
        os.kill(about["pid"], 0)


def test_a_server_that_does_not_start_is_told(cli: Cli) -> None:
    """Its own words are on stderr."""
    system_in(cli.workspace)
    done = cli.process("serve", "shop-churn", "--port", "1", "--json")
    assert (done.code, done.object["error"].split("(")[0], "the port is taken" in done.stderr) == (
        1,
        "the server did not start ",
        True,
    )


def test_a_system_without_its_engine_is_told(cli: Cli) -> None:
    """With where it should be."""
    directory = system_in(cli.workspace)
    for wheel in (directory / "vendor").iterdir():
        wheel.unlink()
    done = cli.run("serve", "shop-churn", "--json")
    assert (done.code, f"{directory}/vendor holds no engine" in done.object["error"]) == (2, True)
