"""`make demo`: a request becomes a served model, on an example workspace in .demo/.

Copies an example, makes its data, hands one request to the mesh through its command line, shows the summary,
boots the system that was delivered and asks it for a prediction with a row copied from the CSV. What stands in
.demo/ is kept: the same request on the same data makes no second version, and the demo says so.
"""
# ruff: noqa: INP001 - a script

import argparse
import csv
import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parent
READY_WITHIN_S = 30.0
SERVED_OUTCOMES = ("success", "partial")


class DemoError(Exception):
    """Something that ends the demo; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Example:
    """A workspace that can be made, and what is asked of the mesh there."""

    name: str
    data: str
    """The table, relative to the workspace."""
    target: str
    """Its column with the outcome."""
    request: str


KNOWN = (
    Example(
        "checkout",
        "data/customer_churn.csv",
        "churned",
        "Predict which customers will have churned from data/customer_churn.csv; our checkout asks for one at a time.",
    ),
    Example(
        "wine",
        "data/wine.csv",
        "cultivar",
        "Predict the cultivar of a wine from data/wine.csv; the laboratory asks for one bottle at a time.",
    ),
)


def main() -> int:
    """Runs the demo: 0 when a delivered server has answered, else the exit code of `mlmesh run`."""
    given = _arguments()
    example = next(example for example in KNOWN if example.name == given.example)
    workspace = given.directory / example.name
    try:
        _make(example, workspace)
        before = _last(workspace)
        code, result = _run(example, workspace, given.time_budget)
        _tell_result(result, before)
        if result.get("outcome") not in SERVED_OUTCOMES:
            return code
        _remember(workspace, result)
        _ask_server(example, workspace, Path(result["system_dir"]))
        _tell_places(workspace, result)
    except DemoError as error:
        _say(f"\n{error}")
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From a request to a served model, on an example workspace.")
    parser.add_argument("example", nargs="?", default="checkout", choices=[example.name for example in KNOWN])
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="where workspaces are made")
    parser.add_argument("--time-budget", default="30s", help="how long to search for a model (default 30s)")
    given = parser.parse_args()
    given.directory = given.directory.resolve()
    return given


def _make(example: Example, workspace: Path) -> None:
    """Copies what is new or changed of the example, and makes its table unless it is there."""
    for source in sorted((EXAMPLES / example.name).rglob("*")):
        copy = workspace / source.relative_to(EXAMPLES / example.name)
        if source.is_dir() or source.suffix == ".pyc" or source.name == Path(example.data).name:
            continue
        if not copy.exists() or not filecmp.cmp(source, copy, shallow=False):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    if not (workspace / example.data).exists():
        subprocess.run(
            [sys.executable, str(workspace / "make_data.py"), str(workspace / example.data)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    _say(f"Workspace  {_short(workspace)}\nRequest    {example.request}\n")


def _run(example: Example, workspace: Path, time_budget: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON object of `mlmesh run`; its live view goes to the terminal."""
    command = ["run", example.request, "--workspace", str(workspace), "--accept-defaults", "--time-budget", time_budget]
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway.cli", *command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    output = _output(process)
    if process.returncode < 0:
        raise DemoError("Stopped. The task is kept: the same command goes on with it.")
    try:
        return process.returncode, cast("dict[str, Any]", json.loads(output))
    except ValueError as error:
        raise DemoError(
            f"mlmesh run ended with {process.returncode} and without a result. Look at"
            f" {_short(workspace / '.mlmesh' / 'logs')}, then try: {shlex.join([str(_program('mlmesh')), 'doctor'])}"
        ) from error


def _output(process: "subprocess.Popen[str]") -> str:
    """What the process writes. Ctrl-C reaches it too, and it knows what to do with it: wait for its end."""
    while True:
        try:
            return process.communicate()[0]
        except KeyboardInterrupt:
            continue


def _tell_result(result: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    _say(f"\n{result.get('summary') or result.get('reason') or result.get('error') or 'There is no summary.'}\n")
    version = result.get("version")
    if version is not None and version == before.get("version"):
        _say(f"No new version: data, spec and engine are those of version {version}, so it stands.\n")


def _ask_server(example: Example, workspace: Path, system: Path) -> None:
    """Boots the delivered server and asks it for a prediction with a row copied from the CSV."""
    with (workspace / example.data).open(encoding="utf-8", newline="") as file:
        *_, row = csv.DictReader(file)
    with _server(system, workspace.with_name(f"{workspace.name}.server.log")) as port:
        _say(f"The delivered server answers on port {port}. The last row of {example.data}, as it stands there:")
        _say(f"  {json.dumps(row)}")
        started = time.perf_counter()
        status, answer = _http(port, "POST", "/predict", {"rows": [row]})
        took_ms = (time.perf_counter() - started) * 1000
    if status != 200:
        raise DemoError(f"the server answered {status}: {json.dumps(answer)}")
    predicted = answer["predictions"][0]
    _say(f"  prediction    {predicted['prediction']}{_shares(predicted.get('probabilities') or {})}")
    _say(
        f"  true outcome  {row[example.target]}   (version {predicted['version']}, {took_ms:.1f} ms with this client)\n"
    )


def _shares(probabilities: Mapping[str, float]) -> str:
    return "".join(f"   {label} {share:.1%}" for label, share in probabilities.items())


@contextmanager
def _server(system: Path, log: Path) -> Generator[int]:
    """The port of the delivered server, started from the delivered wheel; stopped at the end. `log`: its stderr."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlsystem", "serve", "--port", "0"],
            cwd=system,
            env=_environment(system),
            stdout=subprocess.PIPE,
            stderr=output,
        )
    try:
        port = _port(process, log)
        _wait_until_ready(process, port, log)
        yield port
    finally:
        process.terminate()
        process.communicate()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """What the server's first line says, one JSON object."""
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise DemoError(f"the delivered server did not start: its words are in {_short(log)}")
    return cast("int", json.loads(line)["port"])


def _environment(system: Path) -> dict[str, str]:
    """The delivered wheel and nothing of this repository."""
    wheels = sorted((system / "vendor").glob("mlsystem-*.whl"))
    if not wheels:
        raise DemoError(f"there is no engine in {_short(system / 'vendor')}: remove {_short(system)} and run again")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": str(wheels[-1]), "PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "1"}


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if _http(port, "GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise DemoError(f"the delivered server was not ready within {READY_WITHIN_S:g} s: its words are in {_short(log)}")


def _http(port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and JSON answer, None for an answer that is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"content-type": "application/json"} if sent else {})
        response = connection.getresponse()
        text = response.read()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, None
    finally:
        connection.close()


def _tell_places(workspace: Path, result: Mapping[str, Any]) -> None:
    system = Path(result["system_dir"])
    mlmesh = os.path.relpath(_program("mlmesh"), workspace)
    documents = ", ".join(sorted(file.name for file in (system / "docs").glob("*.md")))
    trace = (
        "sent over OTLP"
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        else "set OTEL_EXPORTER_OTLP_ENDPOINT to send it"
    )
    _say("Where it is")
    _say(f"  system     {_short(system)}   (begin with README.md)")
    _say(f"  documents  {_short(system / 'docs')}   ({documents})")
    _say(f"  timeline   cd {_short(workspace)} && {mlmesh} show {result['task']}")
    _say(f"  trace      {result['trace_id']}   ({trace})")
    _say("\nWhat to type next")
    _say(f"  cd {_short(workspace)}")
    _say(f"  {mlmesh} serve {system.relative_to(workspace)}      # the server again, until Ctrl-C")
    _say(f"  {mlmesh} run 'your own request' --workspace ...   # your data, your questions answered")


def _last(workspace: Path) -> dict[str, Any]:
    """What the demo remembers of its last run in this workspace."""
    try:
        return cast("dict[str, Any]", json.loads(_memory(workspace).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _remember(workspace: Path, result: Mapping[str, Any]) -> None:
    told = {"task": result["task"], "version": result["version"]}
    _memory(workspace).write_text(json.dumps(told), encoding="utf-8")


def _memory(workspace: Path) -> Path:
    """Beside the workspace: what is in it belongs to the example."""
    return workspace.parent / f"{workspace.name}.json"


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _short(path: Path) -> str:
    """As a person in the current directory would type it."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
